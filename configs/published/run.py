#!/usr/bin/env -S sh -c 'exec "${DTRAIN_PYTHON:-/usr/bin/python3}" -E "$0" "$@"'
"""Trains the networks of configs/published with several seeds, and prints published and measured test errors.

The measured error is the error after the last epoch; the test set does not select the epoch. Repeat the command after
an interruption: complete runs are kept, others resume.
"""

import argparse
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
         "nielsen-conv-shifted", "nielsen-conv-dropout", "lstm-rows", "best")


class Published(training.Row):
    def __init__(self, name, precision):
        file = HERE / f"{name}.ini"
        rounded = precision != "float32"
        super().__init__(file, f"{name}/{f'{precision}-' if rounded else ''}seed-",
                         {"training.precision": precision} if rounded else {})
        self.name = name
        text = file.read_text()
        self.network, self.source, self.error = (
            re.search(rf"^# {key}: (.*)$", text, re.MULTILINE)[1]
            for key in ("Network", "Source", "Published test error"))
        self.error = self.error.removesuffix(" %")

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
    training.add_arguments(parser, "runs/published")
    arguments = parser.parse_args()
    data_set = training.parse(parser, arguments)
    unknown = set(arguments.names) - set(ORDER)
    if unknown:
        parser.error(f"unknown name {', '.join(sorted(unknown))}: expected some of {', '.join(ORDER)}")
    if data_set != "MNIST":
        sys.exit(f"{training.PROGRAM}: {arguments.data} contains {data_set}: the published errors are for MNIST")
    rows = [Published(name, arguments.precision) for name in ORDER if not arguments.names or name in arguments.names]
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
