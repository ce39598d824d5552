#!/usr/bin/env -S sh -c 'exec "${DTRAIN_PYTHON:-/usr/bin/python3}" -E "$0" "$@"'
"""Compares samples per second of dtrain and PyTorch for the same training steps.

  tests/bench/compare_pytorch.py --data data/mnist [--rounds 5] [--networks 784-800-10,...] [--json FILE]

Needs the release build, Debian's python3-torch, and an idle machine with two cores. Without PyTorch the program prints
a message and ends with code 77. Both sides train with ReLU, cross-entropy and plain SGD, and with one BLAS thread per
process. Ratios are taken within a round, and medians over the rounds. Prints a Markdown table.
"""

import os
import socket
import tempfile

import comparing
from comparing import testing


def mpirun(ranks):
    # No --oversubscribe, which the tests use: with it Open MPI yields instead of spinning.
    return [testing.MPIRUN, "-np", str(ranks)]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Comparison(comparing.Comparison):
    """dtrain and PyTorch, each on one and on two ranks."""
    columns = {"dtrain_1": "dtrain np=1", "dtrain_2": "dtrain np=2", "pytorch_1": "PyTorch, 1 process",
               "pytorch_2": "PyTorch DDP, 2"}
    scale, unit = 1e-3, "k samples/s"
    ratios = {
        "to_best": ("np=2 / better", lambda r: r["dtrain_2"] / max(r["pytorch_1"], r["pytorch_2"])),
        "to_ddp": ("np=2 / DDP", lambda r: r["dtrain_2"] / r["pytorch_2"]),
        "efficiency": ("np=2 / (2 x np=1)", lambda r: r["dtrain_2"] / (2 * r["dtrain_1"])),
        "fraction": ("fraction of peak, np=1", lambda r: r["fraction"]),
    }

    def dtrain(self, network, ranks):
        return self.sides.dtrain(network, self.options.shards or ranks, mpirun(ranks))

    def pytorch(self, network, ranks):
        return self.sides.pytorch(network, [] if ranks == 1 else mpirun(ranks),
                                  {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())})

    def turns(self, network):
        return {"dtrain_1": lambda: self.dtrain(network, 1), "pytorch_1": lambda: self.pytorch(network, 1),
                "dtrain_2": lambda: self.dtrain(network, 2), "pytorch_2": lambda: self.pytorch(network, 2)}

    def values(self, results):
        return {**{key: results[key]["samples_per_second"]["median"] for key in self.columns},
                "fraction": results["dtrain_1"]["fraction_of_peak"]["median"]}


def main():
    parser = comparing.option_parser(__doc__.splitlines()[0], list(comparing.NETWORKS))
    parser.add_argument("--shards", type=comparing.whole_number(2), metavar="N",
                        help="logical shards (default: the number of ranks)")
    options = comparing.parse_options(parser)
    with tempfile.TemporaryDirectory(prefix="dtrain-compare-") as folder:
        comparison = Comparison(options, folder)
        comparison.measure()
    dtrain, pytorch = comparison.last_round["dtrain_1"], comparison.last_round["pytorch_1"]
    print(f"dtrain {dtrain['dtrain_version']} ({dtrain['arithmetic']}, "
          f"{f'{options.shards} logical shards' if options.shards else 'one logical shard per rank'}), PyTorch "
          f"{pytorch['torch_version']} ({', '.join(pytorch['blas']) or 'no BLAS library'}), {os.cpu_count()} cores; "
          f"peak: {dtrain['sgemm']}. Thousands of samples per second, rounds: {options.rounds}; medians, and for "
          f"ratios also min and max.\n")
    print(comparison.table("k/s"))
    comparison.write_json(logical_shards=options.shards or "ranks")


if __name__ == "__main__":
    main()
