#!/usr/bin/python3
"""Scaling experiments in one HDF5 file: collects what dtrain-bench --json wrote, and prints the table.

A JSON file is one run, and its name says which: strong-ranks0004-repeat1.json or weak-ranks0004-repeat1.json. Strong
scaling keeps the batch of all ranks, weak scaling the batch of each rank.
"""

import argparse
import datetime
import json
import os
import re
import socket
import sys
from pathlib import Path

try:
    import h5py
    import numpy as np
except ModuleNotFoundError as missing:
    sys.exit(f"scaling.py: the Python module {missing.name} is missing (Debian: apt-get install python3-h5py, and then "
             "/usr/bin/python3)")

FORMAT_VERSION = 1
MODES = ("strong", "weak")  # as numbers in the file: 0 and 1
CONFIGS = ("config", "simulated_config")  # attributes: of runs that were measured, and of simulated ones
CHECK = "simulation_check"  # attribute: a Markdown table
PHASES = ("fetch", "forward", "backward", "wait", "reduce", "update")
TYPES = {"mode": np.uint8, "ranks": np.int64, "nodes": np.int64, "batch_size": np.int64, "repeat": np.int64,
         "simulated": np.uint8, "platform": h5py.string_dtype(), "samples_per_second": np.float64,
         "step_seconds": np.float64, "samples_per_second_min": np.float64, "samples_per_second_max": np.float64,
         **{f"{phase}_seconds": np.float64 for phase in PHASES}}


class Problem(Exception):
    """What is wrong, in words for the user."""


def read_json(path, simulated, platform):
    """The run in a JSON file, and what it says of the network."""
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
               **{f"{phase}_seconds": bench["phases"][phase]["seconds"] for phase in PHASES}}
        network = {key: bench[key] for key in ("dtrain_version", "layers", "parameters")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Problem(f"{path}: not what dtrain-bench --json writes: {error!r}") from None
    if run["ranks"] != int(name[2]):
        raise Problem(f"{path}: holds a run on {run['ranks']} ranks")
    return run, network


def differing_batches(runs):
    """Where the batches of a mode are not what it says: in words, or None."""
    for mode in range(len(MODES)):
        batches = {run["batch_size"] / (run["ranks"] if MODES[mode] == "weak" else 1) for run in runs
                   if run["mode"] == mode}
        if len(batches) > 1:
            return (f"{MODES[mode]} scaling with batches {'per rank ' if mode else ''}of "
                    f"{' and '.join(f'{batch:g}' for batch in sorted(batches))}")
    return None


def read_file(path):
    """The runs in a file, the network they are of, and what is kept as text."""
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("kind") != "scaling" or file.attrs["format_version"] != FORMAT_VERSION:
                raise Problem(f"{path}: not a scaling experiment of format {FORMAT_VERSION}")
            columns = {name: file["runs"][name].asstr()[:] if name == "platform" else file["runs"][name][:]
                       for name in TYPES}
            network = {key: file.attrs[key] for key in ("dtrain_version", "layers", "parameters")}
            texts = {name: file.attrs[name] for name in (*CONFIGS, CHECK) if name in file.attrs}
    except (OSError, KeyError) as error:
        raise Problem(f"{path}: cannot read it as a scaling experiment: {error}") from None
    return [dict(zip(columns, values)) for values in zip(*columns.values())], network, texts


def write_file(path, runs, network, texts):
    temporary = path.with_name(path.name + ".tmp")
    with h5py.File(temporary, "w") as file:
        file.attrs.update({"format_version": FORMAT_VERSION, "kind": "scaling", **texts,
                           "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"), **network})
        for name, kind in TYPES.items():
            file.create_dataset(f"runs/{name}", data=[run[name] for run in runs], dtype=kind)
    os.replace(temporary, path)


def collect(arguments):
    output = Path(arguments.output)
    runs, networks = zip(*(read_json(path, arguments.simulated, arguments.platform) for path in arguments.json))
    network = networks[0]
    for path, other in zip(arguments.json, networks):
        if other != network:
            raise Problem(f"{path}: of another network or version than {arguments.json[0]}")
    if problem := differing_batches(runs):
        raise Problem(f"{problem}: runs of different sweeps, or fewer training samples than a batch")
    texts = {CONFIGS[arguments.simulated]: Path(arguments.config).read_text()} if arguments.config else {}
    if arguments.check:
        texts[CHECK] = arguments.check
    runs = list(runs)
    if output.exists():
        earlier, earlier_network, earlier_texts = read_file(output)
        if earlier_network["layers"] != network["layers"]:
            raise Problem(f"{output}: holds a scaling experiment with another network: {earlier_network['layers']}")
        texts = earlier_texts | texts
        here = (int(arguments.simulated), arguments.platform)
        runs += [run for run in earlier if (run["simulated"], run["platform"]) != here]
        if problem := differing_batches(runs):
            print(f"scaling.py: warning: {output}: holds {problem}, which do not compare", file=sys.stderr)
    runs.sort(key=lambda run: (run["simulated"], run["platform"], run["mode"], run["ranks"], run["repeat"]))
    write_file(output, runs, network, texts)


def spread(values, digits):
    values = np.asarray(values)
    text = f"{values.mean():.{digits}f}"
    return text if len(values) == 1 else f"{text} ({values.min():.{digits}f} to {values.max():.{digits}f})"


def table_of(runs):
    """Lines of a Markdown table. The baseline of a speed-up is the smallest number of ranks of the same kind."""
    lines = ["| mode | ranks | nodes | batch | samples/s | speed-up | efficiency | compute | reduce | wait | data |",
             "|---|---|---|---|---|---|---|---|---|---|---|"]
    groups = {}
    for run in runs:
        group = run["simulated"], run["platform"], run["mode"]
        groups.setdefault(group, {}).setdefault(run["ranks"], []).append(run)
    for (simulated, platform, mode), by_ranks in sorted(groups.items()):
        smallest = min(by_ranks)
        rate_per_rank = np.mean([run["samples_per_second"] for run in by_ranks[smallest]]) / smallest
        for ranks, repeats in sorted(by_ranks.items()):
            efficiencies = np.array([run["samples_per_second"] for run in repeats]) / ranks / rate_per_rank
            seconds = {phase: np.mean([run[f"{phase}_seconds"] for run in repeats]) for phase in PHASES}
            total = sum(seconds.values())
            shares = [seconds["forward"] + seconds["backward"] + seconds["update"], seconds["reduce"], seconds["wait"],
                      seconds["fetch"]]
            cells = [MODES[mode] + (f", simulated on {platform}" if simulated else ""), ranks,
                     "/".join(map(str, sorted({run["nodes"] for run in repeats}))), repeats[0]["batch_size"],
                     spread([run["samples_per_second"] for run in repeats], 0),
                     f"{efficiencies.mean() * ranks:.2f}", spread(efficiencies, 3),
                     *(f"{100 * share / total:.1f} %" for share in shares)]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def table(arguments):
    runs, network, texts = read_file(Path(arguments.file))
    measured = ", ".join(sorted({run["platform"] for run in runs if not run["simulated"]}))
    print(f"{network['layers']}: {network['parameters']} parameters{'; measured on ' if measured else ''}{measured}\n")
    print("\n".join(table_of(runs)))
    if CHECK in texts:
        print(f"\nSimulated runs beside real ones:\n\n{texts[CHECK]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("collect", help="puts the runs in JSON files into FILE, in place of what it holds of "
                                                  "the same platform")
    command.add_argument("--output", required=True, metavar="FILE", help="the HDF5 file; made if it is missing")
    command.add_argument("--simulated", action="store_true", help="the runs are simulated ones")
    command.add_argument("--platform", default=socket.gethostname(), help="where they ran (this host's name)")
    command.add_argument("--config", metavar="FILE", help="the config of the runs, to be kept with them")
    command.add_argument("--check", metavar="TABLE", help="simulated runs beside real ones, to be kept with them")
    command.add_argument("json", nargs="+", metavar="JSON")
    command.set_defaults(run=collect)
    command = commands.add_parser("table", help="prints the speed-ups and efficiencies in FILE")
    command.add_argument("file", metavar="FILE")
    command.set_defaults(run=table)
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except Problem as problem:
        sys.exit(f"scaling.py: {problem}")


if __name__ == "__main__":
    main()
