#!/usr/bin/python3
"""dtrain and PyTorch side by side: samples per second of the same descent steps, in turns within one run.

  tests/bench/compare_pytorch.py --data data/mnist [--rounds 5] [--networks 784-800-10,...] [--json FILE]

Wants the release build, Debian's python3-torch, and a machine with two cores and nothing else to do. Without PyTorch it
says so and ends with code 77. Both sides train with ReLU, cross-entropy and plain SGD, one BLAS thread per process.
Ratios are taken within a round, and medians over rounds; the table is Markdown.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

EXIT_SKIPPED = 77
PYTORCH_STEP = Path(__file__).resolve().with_name("pytorch_step.py")
RUN_TIMEOUT_SECONDS = 600


@dataclasses.dataclass
class Network:
    """What both sides train."""
    layers: str
    batch: int
    learning_rate: float = 0.05


LENET = ("conv 6x5x5 pad 2 relu, maxpool 2, conv 16x5x5 relu, maxpool 2, dense 120 relu, dense 84 relu, "
         "dense 10")
NETWORKS = {
    "784-16-16-10": Network("dense 16 relu, dense 16 relu, dense 10", 128),
    "784-100-10": Network("dense 100 relu, dense 10", 128),
    "784-800-10": Network("dense 800 relu, dense 10", 256),
    "784-2500-2000-1500-1000-500-10": Network(testing.DEEP, 256, 0.01),
    "LeNet-5": Network(LENET, 64),
    "LeNet-5 in large batches": Network(LENET, 256),
    "LSTM 128 over rows": Network("lstm 128, dense 10", 128),
}

# Measurements of a round, in their order, with the names of the table's columns.
RATES = {"dtrain_1": "dtrain np=1", "dtrain_2": "dtrain np=2", "pytorch_1": "PyTorch, 1 process",
         "pytorch_2": "PyTorch DDP, 2"}
RATIOS = {
    "to_best": ("np=2 / better", lambda r: r["dtrain_2"] / max(r["pytorch_1"], r["pytorch_2"])),
    "to_ddp": ("np=2 / DDP", lambda r: r["dtrain_2"] / r["pytorch_2"]),
    "efficiency": ("np=2 / (2 x np=1)", lambda r: r["dtrain_2"] / (2 * r["dtrain_1"])),
    "share": ("share of ceiling, np=1", lambda r: r["share"]),
}


def run(words, environment):
    """Standard output of a program, which has to end well."""
    result = subprocess.run(words, env={**testing.environment(), **environment}, stdin=subprocess.DEVNULL,
                            capture_output=True, text=True, timeout=RUN_TIMEOUT_SECONDS)
    if result.returncode != 0:
        sys.exit(f"{Path(sys.argv[0]).name}: {' '.join(words)}: exit code {result.returncode}\n{result.stderr}")
    return result.stdout


def mpirun(ranks):
    # Not --oversubscribe as in the tests: it makes Open MPI yield instead of spin.
    return [testing.MPIRUN, "-np", str(ranks)]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Sides:
    """The figures of both sides, started by the words `launcher`."""

    def __init__(self, options, folder):
        self.options, self.folder = options, folder

    def dtrain(self, network, shards, launcher):
        config, figures = self.folder / "bench.ini", self.folder / "figures.json"
        config.write_text(testing.ini({
            "data.directory": self.options.data, "model.layers": network.layers, "model.cost": "cross_entropy",
            "training.batch_size": network.batch, "training.optimizer": "sgd",
            "training.learning_rate": network.learning_rate, "parallel.logical_shards": shards}))
        run([*launcher, str(self.options.bin / "dtrain-bench"), str(config), "--json", str(figures)], {})
        return json.loads(figures.read_text())

    def pytorch(self, network, launcher, environment):
        words = [*launcher, sys.executable, str(PYTORCH_STEP), network.layers, "--batch", str(network.batch),
                 "--learning-rate", str(network.learning_rate), "--data", str(self.options.data)]
        return json.loads(run(words, environment))


class Comparison:
    def __init__(self, options, folder):
        self.shards, self.sides = options.shards, Sides(options, folder)

    def dtrain(self, network, ranks):
        return self.sides.dtrain(network, self.shards or ranks, mpirun(ranks))

    def pytorch(self, network, ranks):
        return self.sides.pytorch(network, [] if ranks == 1 else mpirun(ranks),
                                  {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())})

    def round(self, name, backwards):
        """Figures of each side on one and on two ranks; every other round goes backwards, so that none is favoured."""
        network = NETWORKS[name]
        turns = [("dtrain_1", lambda: self.dtrain(network, 1)), ("pytorch_1", lambda: self.pytorch(network, 1)),
                 ("dtrain_2", lambda: self.dtrain(network, 2)), ("pytorch_2", lambda: self.pytorch(network, 2))]
        figures = {key: measure() for key, measure in (reversed(turns) if backwards else turns)}
        values = {key: figures[key]["samples_per_second"]["median"] for key in RATES}
        values["share"] = figures["dtrain_1"]["share_of_ceiling"]["median"]
        values |= {key: ratio(values) for key, (_, ratio) in RATIOS.items()}
        return figures, values


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def table(results):
    """Medians in Markdown; ratios with the least and the largest of the rounds."""
    heads = ["network, batch", *(f"{head}, k/s" for head in RATES.values()), *(head for head, _ in RATIOS.values())]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name, result in results.items():
        cells = [f"{name}, {NETWORKS[name].batch}"]
        cells += [f"{result[key]['median'] / 1e3:.4g}" for key in RATES]
        cells += ["{median:.2f} ({min:.2f} to {max:.2f})".format(**result[key]) for key in RATIOS]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def whole_number(least):
    def parse(text):
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text}: expected a whole number from {least}")
        return int(text)
    return parse


def network_names(text):
    names = text.split(",")
    for name in names:
        if name not in NETWORKS:
            raise argparse.ArgumentTypeError(f"{name}: expected some of {', '.join(NETWORKS)}")
    return names


def option_parser(description, networks):
    """What every comparison can be told; `networks` are compared unless it is told others."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=whole_number(1), default=3, help="measurements of each (3)")
    parser.add_argument("--networks", type=network_names, default=networks, metavar="NAME,...",
                        help=f"some of {', '.join(NETWORKS)} (%(default)s)")
    parser.add_argument("--bin", type=Path, default=testing.BIN, help="folder of dtrain-bench (build/release/bin)")
    parser.add_argument("--data", type=Path, default=testing.MNIST, help="folder of MNIST ($DTRAIN_MNIST)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes the figures of every round to FILE")
    return parser


def parse_options(parser):
    """Ends the program where it cannot compare."""
    options = parser.parse_args()
    if not options.data:
        parser.error("no data set: give --data or set DTRAIN_MNIST")
    options.data = options.data.resolve()
    options.bin = options.bin.resolve()
    if not (options.bin / "dtrain-bench").exists():
        parser.error(f"no dtrain-bench in {options.bin}: build it, or give --bin")
    if importlib.util.find_spec("torch") is None:
        skip(f"{sys.executable} has no PyTorch (Debian: python3-torch)")
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return options


def skip(reason):
    print(f"{Path(sys.argv[0]).name}: skipped: {reason}", file=sys.stderr)
    sys.exit(EXIT_SKIPPED)


def main():
    parser = option_parser(__doc__.splitlines()[0], list(NETWORKS))
    parser.add_argument("--shards", type=whole_number(2), metavar="N", help="logical shards (number of ranks)")
    options = parse_options(parser)

    rounds = {name: [] for name in options.networks}
    with tempfile.TemporaryDirectory(prefix="dtrain-compare-") as folder:
        comparison = Comparison(options, Path(folder))
        for number in range(options.rounds):
            for name in options.networks:
                figures, values = comparison.round(name, backwards=number % 2 == 1)
                rounds[name].append((figures, values))
                print(f"round {number + 1} of {options.rounds}, {name}: "
                      + ", ".join(f"{head} {values[key] / 1e3:.4g}" for key, head in RATES.items()) + " k samples/s",
                      file=sys.stderr, flush=True)

    results = {name: {key: spread([values[key] for _, values in done]) for key in (*RATES, *RATIOS)}
               for name, done in rounds.items()}
    dtrain, pytorch = figures["dtrain_1"], figures["pytorch_1"]
    print(f"dtrain {dtrain['dtrain_version']} ({dtrain['arithmetic']}, "
          f"{f'{options.shards} logical shards' if options.shards else 'a logical shard per rank'}), PyTorch "
          f"{pytorch['torch_version']} ({', '.join(pytorch['blas']) or 'no BLAS library'}), {os.cpu_count()} cores; "
          f"ceiling: {dtrain['sgemm']}. Thousands of samples per second, rounds: {options.rounds}; medians, and for "
          f"ratios least and most.\n")
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps({
            "rounds": options.rounds, "logical_shards": options.shards or "ranks", "cores": os.cpu_count(),
            "networks": {name: {**results[name], "rounds": [figures for figures, _ in done]}
                         for name, done in rounds.items()}}, indent=2) + "\n")


if __name__ == "__main__":
    main()
