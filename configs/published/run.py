#!/usr/bin/python3
"""Trains the networks of configs/published with several seeds and prints what was published beside what was measured.

What is trained already, in the output folders of the configs, is not trained again; a run that was interrupted goes on.
The measured figure is the test error after the last epoch, the best epoch not being picked by the test set.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# In the order of the sources.
ORDER = ("linear", "lecun-300", "lecun-500-150", "lenet5", "lenet5-distorted", "simard-800", "simard-800-affine",
         "simard-800-elastic", "simard-conv", "nielsen-30", "nielsen-100", "nielsen-100-cross-entropy", "nielsen-conv",
         "nielsen-conv-shifted", "nielsen-conv-dropout", "lstm-rows", "best")


class Row:
    def __init__(self, name):
        self.name = name
        self.file = HERE / f"{name}.ini"
        text = self.file.read_text()
        self.network, self.source, published = (
            re.search(rf"^# {key}: (.*)$", text, re.MULTILINE)[1] for key in ("Network", "Source", "Published test error"))
        self.published = published.removesuffix(" %")
        self.errors = []
        self.seconds = []

    def train(self, seed, arguments):
        output = Path(arguments.output) / self.name / f"seed-{seed}"
        command = ["mpirun", "--oversubscribe", "-np", str(arguments.ranks), arguments.dtrain, str(self.file),
                   f"--model.seed={seed}", f"--output.directory={output}", f"--data.directory={arguments.data}"]
        print(" ".join(command), file=sys.stderr, flush=True)
        subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
        with h5py.File(ROOT / output / "log.h5") as log:
            self.errors.append(100 * (1 - log["epochs/test_accuracy"][-1]))
            self.seconds.append(log["epochs/seconds"][:].sum())

    def measured(self):
        if len(self.errors) == 1:
            return f"{self.errors[0]:.2f}"
        return f"{np.mean(self.errors):.2f} ({min(self.errors):.2f} to {max(self.errors):.2f})"

    def is_met(self):
        return np.mean(self.errors) <= float(self.published) + 1e-9


def require_mnist(arguments):
    check = subprocess.run([arguments.dtrain, str(HERE / "linear.ini"), f"--data.directory={arguments.data}", "--check"],
                           cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if check.returncode != 0:
        sys.exit(check.returncode)
    name = re.search(r"^data set +(.*?):", check.stdout, re.MULTILINE)[1]
    if name != "MNIST":
        sys.exit(f"{arguments.data} holds {name}, and the published figures are for MNIST")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="configs to run: " + ", ".join(ORDER))
    parser.add_argument("--seeds", type=int, default=3, help="seeds per network (3)")
    parser.add_argument("--ranks", type=int, default=2, help="MPI ranks (2); the results do not depend on it")
    parser.add_argument("--data", default="data/mnist", help="folder of MNIST (data/mnist)")
    parser.add_argument("--output", default="runs/published", help="folder of the runs (runs/published)")
    parser.add_argument("--dtrain", default="build/release/bin/dtrain", help="the program (build/release/bin/dtrain)")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(ORDER)
    if unknown or arguments.seeds < 1:
        parser.error(f"no config named {', '.join(sorted(unknown))}; there are {', '.join(ORDER)}" if unknown else "at least one seed")
    if os.geteuid() == 0:
        os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    require_mnist(arguments)
    rows = [Row(name) for name in ORDER if not arguments.names or name in arguments.names]
    try:
        for seed in range(1, arguments.seeds + 1):  # every network once before any a second time
            for row in rows:
                row.train(seed, arguments)
    except subprocess.CalledProcessError as error:
        sys.exit(f"dtrain ended with code {error.returncode}; the same command goes on from there")
    print("| config | network | source | published error, % | measured error, % | seeds | seconds |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(f"| `{row.name}` | {row.network} | {row.source} | {row.published} | {row.measured()} "
              f"| {len(row.errors)} | {min(row.seconds):.0f} |")
    missed = [row.name for row in rows if not row.is_met()]
    if missed:
        sys.exit(f"above the published error: {', '.join(missed)}")


if __name__ == "__main__":
    main()
