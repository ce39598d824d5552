#!/usr/bin/env -S sh -c 'exec "${DTRAIN_PYTHON:-/usr/bin/python3}" -E "$0" "$@"'
"""Trains the networks of configs/published with several seeds, and prints published and measured test errors.

The measured error is the error after the last epoch; the test set does not select the epoch. Repeat the command after
an interruption: complete runs are kept, others resume.
"""

import argparse
import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import training  # noqa: E402
import numpy as np  # noqa: E402

# In the order of the publications.
ORDER = ("linear", "lecun-300", "lecun-500-150", "lenet5", "lenet5-distorted", "simard-800", "simard-800-affine",
         "simard-800-elastic", "simard-conv", "nielsen-30", "nielsen-100", "nielsen-100-cross-entropy", "nielsen-conv",
         "nielsen-conv-shifted", "nielsen-conv-dropout", "fashion-100", "fashion-256-128-64", "fashion-conv", "lstm-rows",
         "best")


class Published(training.Row):
    def __init__(self, name, arguments):
        file = HERE / f"{name}.ini"
        rounded = arguments.precision != "float32"
        self.name = name
        head = dict(re.findall(r"^# ([\w -]+): (.*)$", file.read_text(), re.MULTILINE))
        self.network, self.source = head["Network"], head["Source"]
        self.error = head["Published test error"].removesuffix(" %")
        self.data_set = head.get("Data set", "MNIST")
        super().__init__(file, f"{name}/{f'{arguments.precision}-' if rounded else ''}seed-",
                         {"training.precision": arguments.precision} if rounded else {},
                         arguments.data if self.data_set == "MNIST" else arguments.fashion)

    def require_data(self, arguments):
        """Ends the program if the data are not those of the published error."""
        if self.data_set != "MNIST" and not Path(self.data).is_dir():
            sys.exit(f"{training.PROGRAM}: no folder {self.data}, which {self.name} needs. Install the package "
                     "dataset-fashion-mnist, give --fashion, or name other rows")
        found = training.data_set(self.config, self.data, arguments)
        if found != self.data_set:
            sys.exit(f"{training.PROGRAM}: the data are {found}, and the published error of {self.name} is for "
                     f"{self.data_set}")

    def train(self, seed, arguments):
        super().train(seed, arguments)
        if self.diverged:
            sys.exit(f"{training.PROGRAM}: {self.name} diverged")

    def errors(self):
        return [100 - accuracy for accuracy in self.accuracies()]

    def is_met(self):
        return np.mean(self.errors()) <= float(self.error) + 1e-9

    def print(self):
        seconds = min(run["seconds"].sum() for run in self.runs)
        training.print_row(f"`{self.name}`", self.network, self.source, self.error, training.spread(self.errors()),
                           len(self.runs), f"{seconds:.0f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="train only these: " + ", ".join(ORDER))
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"),
                        help="training.precision of all runs (default: %(default)s)")
    parser.add_argument("--fashion", type=os.path.abspath, default="/usr/share/datasets/fashion-mnist", metavar="FOLDER",
                        help="folder of Fashion-MNIST, for the rows fashion-... (default: %(default)s)")
    training.add_arguments(parser, "runs/published")
    arguments = parser.parse_args()
    training.parse(parser, arguments)
    unknown = set(arguments.names) - set(ORDER)
    if unknown:
        parser.error(f"unknown name {', '.join(sorted(unknown))}: expected some of {', '.join(ORDER)}")
    rows = [Published(name, arguments) for name in ORDER if not arguments.names or name in arguments.names]
    for row in {row.data_set: row for row in rows}.values():
        row.require_data(arguments)
    for seed in training.seeds(arguments):  # so that early results cover all networks
        for row in rows:
            row.train(seed, arguments)
    training.print_head("config", "network", "source", "published error, %", "measured error, %", "seeds", "seconds")
    for row in rows:
        row.print()
    missed = [row.name for row in rows if not row.is_met()]
    if missed:
        sys.exit(f"{training.PROGRAM}: above the published error: {', '.join(missed)}")


if __name__ == "__main__":
    main()
