#!/usr/bin/env -S sh -c 'exec "${DTRAIN_PYTHON:-/usr/bin/python3}" -E "$0" "$@"'
"""Collects the JSON files of dtrain-bench in one HDF5 file, and prints its table.

Each JSON file is one run. Its name gives the kind of run: strong-ranks0004-repeat1.json or weak-ranks0004-repeat1.json.
Strong scaling keeps the global batch constant, weak scaling the batch per rank.
"""

import argparse
import json
import re
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src/report"))
from program import EXIT_BAD_OUTPUT, fail, guard_output, needing  # noqa: E402

PROGRAM = "scaling.py"

with needing(PROGRAM, "python3-h5py"):
    import scaling_file
    from hdf5 import Unreadable
    from scaling_file import CHECK, CONFIGS, MODES, NETWORK, PHASES


class Problem(Exception):
    """An error with a message for the user."""


def phase_seconds(phases, name):
    """Seconds per step of a phase. Older versions of dtrain-bench called the phase data "fetch"."""
    return phases["fetch" if name == "data" and "data" not in phases else name]["seconds"]


def read_json(path, simulated, platform):
    """The run in a JSON file, and the attributes of its network."""
    name = re.fullmatch(r"(strong|weak)-ranks(\d+)-repeat(\d+)\.json", Path(path).name)
    if not name:
        raise Problem(f"{path}: expected a name like strong-ranks0004-repeat1.json")
    try:
        bench = json.loads(Path(path).read_text())
        rate = bench["samples_per_second"]
        run = {"mode": MODES.index(name[1]), "ranks": bench["ranks"], "nodes": bench["nodes"],
               "batch_size": bench["batch_size"], "repeat": int(name[3]), "simulated": int(simulated),
               "platform": platform, "samples_per_second": rate["median"],
               "step_seconds": bench["batch_size"] / rate["median"], "samples_per_second_min": rate["min"],
               "samples_per_second_max": rate["max"],
               **{f"{phase}_seconds": phase_seconds(bench["phases"], phase) for phase in PHASES}}
        network = {key: bench[key] for key in NETWORK}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Problem(f"{path}: not a file of dtrain-bench --json: {error!r}") from None
    if run["ranks"] != int(name[2]):
        raise Problem(f"{path}: the name does not match the content, a run on {run['ranks']} ranks")
    return run, network


def differing_batches(runs):
    """A description of batches that differ within a mode, or None."""
    for mode in range(len(MODES)):
        batches = {run["batch_size"] / (run["ranks"] if MODES[mode] == "weak" else 1) for run in runs
                   if run["mode"] == mode}
        if len(batches) > 1:
            return (f"{MODES[mode]} scaling with batches {'per rank ' if mode else ''}of "
                    f"{' and '.join(f'{batch:g}' for batch in sorted(batches))}")
    return None


def collect(arguments):
    output = Path(arguments.output)
    runs, networks = zip(*(read_json(path, arguments.simulated, arguments.platform) for path in arguments.json))
    network = networks[0]
    for path, other in zip(arguments.json, networks):
        if other != network:
            raise Problem(f"{path}: the network or the version of dtrain differs from {arguments.json[0]}")
    if problem := differing_batches(runs):
        raise Problem(f"{problem}: these are runs of different experiments, or a batch exceeds the training set")
    texts = {}
    if arguments.config:
        texts[CONFIGS[arguments.simulated]] = Path(arguments.config).read_text(errors="replace")
    if arguments.check:
        texts[CHECK] = arguments.check
    runs = list(runs)
    if output.exists():
        earlier = scaling_file.read(output)
        if earlier.attributes["layers"] != network["layers"]:
            raise Problem(f"{output}: contains runs of another network, {earlier.attributes['layers']}. "
                          "Choose another --output")
        texts = {name: earlier.attributes[name] for name in (*CONFIGS, CHECK) if name in earlier.attributes} | texts
        here = (int(arguments.simulated), arguments.platform)
        runs += [run for run in earlier.runs() if (run["simulated"], run["platform"]) != here]
        if problem := differing_batches(runs):
            print(f"{PROGRAM}: warning: {output}: contains {problem}; these runs are not comparable", file=sys.stderr)
    runs.sort(key=lambda run: (run["simulated"], run["platform"], run["mode"], run["ranks"], run["repeat"]))
    try:
        scaling_file.write(PROGRAM, output, runs, network | texts)
    except OSError as error:
        fail(PROGRAM, EXIT_BAD_OUTPUT, f"cannot write {output}: {error.strerror or error}")


def value_of(point, value, digits):
    """`value` at the mean rate; with several repeats also at the min and max of the rate."""
    texts = [f"{value * rate / point.rate:.{digits}f}" for rate in (point.rate, point.low, point.high)]
    return texts[0] if point.repeats == 1 else "{} ({} to {})".format(*texts)


def table_of(columns):
    """Lines of a Markdown table. Speed-ups are relative to the run on the fewest ranks of the same kind."""
    lines = ["| mode | ranks | nodes | batch | samples/s | speed-up | efficiency | compute | reduce | wait | data |",
             "|---|---|---|---|---|---|---|---|---|---|---|"]
    for series in sorted(scaling_file.series_of(columns), key=lambda one: (one.simulated, one.platform)):
        for point in series.points:
            seconds, total = point.phases, sum(point.phases.values())
            groups = [seconds["forward"] + seconds["backward"] + seconds["update"], seconds["reduce"], seconds["wait"],
                      seconds["data"]]
            cells = [series.mode + (f", simulated on {series.platform}" if series.simulated else ""), point.ranks,
                     "/".join(map(str, point.nodes)), "/".join(map(str, point.batch_sizes)),
                     value_of(point, point.rate, 0), f"{point.speed_up:.2f}", value_of(point, point.efficiency, 3),
                     *(f"{100 * group / total:.1f} %" for group in groups)]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def table(arguments):
    experiment = scaling_file.read(arguments.file)
    columns, attributes = experiment.columns, experiment.attributes
    measured = ", ".join(sorted(set(columns["platform"][columns["simulated"] == 0])))
    print(f"{attributes['layers']}: {attributes['parameters']} parameters"
          f"{'; measured on ' if measured else ''}{measured}\n")
    print("\n".join(table_of(columns)))
    if CHECK in attributes:
        print(f"\nSimulated and real runs compared:\n\n{attributes[CHECK]}")


def main():
    guard_output(PROGRAM)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("collect", help="put runs into FILE; they replace earlier runs of the same platform")
    command.add_argument("--output", required=True, metavar="FILE", help="the HDF5 file; created if missing")
    command.add_argument("--simulated", action="store_true", help="the runs are simulated")
    command.add_argument("--platform", default=socket.gethostname(), help="name of the machine (default: this host)")
    command.add_argument("--config", metavar="FILE", help="the config of the runs, stored with them")
    command.add_argument("--check", metavar="TABLE", help="comparison of simulated and real runs, stored with them")
    command.add_argument("json", nargs="+", metavar="JSON")
    command.set_defaults(run=collect)
    command = commands.add_parser("table", help="print the speed-ups and efficiencies in FILE")
    command.add_argument("file", metavar="FILE")
    command.set_defaults(run=table)
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except (Problem, Unreadable) as problem:
        sys.exit(f"{PROGRAM}: {problem}")
    except OSError as error:
        sys.exit(f"{PROGRAM}: {error.filename}: {error.strerror}")


if __name__ == "__main__":
    main()
