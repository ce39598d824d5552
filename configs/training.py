"""What the scripts that train whole tables share. A run is trained once: of one that is there only the log is read, and
one that was interrupted goes on."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src/report"))
from program import guard_output, needing  # noqa: E402

PROGRAM = Path(sys.argv[0]).name

with needing(PROGRAM, "python3-h5py"):
    import h5py
    import numpy as np

DIVERGED = 5  # exit code of dtrain


def add_arguments(parser, output):
    guard_output(PROGRAM)
    parser.add_argument("--seeds", type=int, default=3, help="seeds per row (3)")
    parser.add_argument("--ranks", type=int, default=2, help="MPI ranks (2); the results do not depend on it")
    parser.add_argument("--data", default="data/mnist", help="folder of MNIST (data/mnist)")
    parser.add_argument("--output", default=output, help=f"folder of the runs ({output})")
    parser.add_argument("--dtrain", default="build/release/bin/dtrain", help="the program (build/release/bin/dtrain)")


def parse(parser):
    """The arguments, once training can begin, and the name of the data set."""
    arguments = parser.parse_args()
    if arguments.seeds < 1:
        parser.error("at least one seed")
    if not shutil.which(ROOT / arguments.dtrain):
        parser.error(f"there is no program {arguments.dtrain}; README says how to build it")
    if os.geteuid() == 0:
        os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    check = subprocess.run([ROOT / arguments.dtrain, ROOT / "configs/mnist-800.ini",
                            f"--data.directory={arguments.data}", "--check"],
                           cwd=ROOT, stdout=subprocess.PIPE, text=True, errors="replace")
    if check.returncode != 0:
        sys.exit(check.returncode)
    return arguments, re.search(r"^data set +(.*?):", check.stdout, re.MULTILINE)[1]


def seeds(arguments):
    return range(1, arguments.seeds + 1)


class Row:
    """A row of a table: one config, trained with one seed after another."""

    def __init__(self, config, output, settings):
        """A run's folder is `output` with its seed behind."""
        self.config, self.output, self.settings = config, output, settings
        self.runs = []  # of each the columns of /epochs in its log, None if it diverged

    def train(self, seed, arguments):
        self.runs.append(train(self.config, f"{self.output}{seed}", {**self.settings, "model.seed": seed}, arguments))

    @property
    def diverged(self):
        return None in self.runs

    def accuracies(self):
        """On the test set after the last epoch, in per cent: the best epoch is not picked by the test set."""
        return [100 * run["test_accuracy"][-1] for run in self.runs]


def print_head(*names):
    print_row(*names)
    print(f"|{'---|' * len(names)}", flush=True)


def print_row(*cells):
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def train(config, output, options, arguments):
    """The columns of /epochs in the run's log; None if it diverged."""
    output = Path(arguments.output) / output
    options = {**options, "output.directory": output, "data.directory": arguments.data}
    command = ["mpirun", "--oversubscribe", "-np", str(arguments.ranks), arguments.dtrain, str(config),
               *(f"--{key}={value}" for key, value in options.items())]
    print(" ".join(command), file=sys.stderr, flush=True)
    code = subprocess.run(command, cwd=ROOT, stdout=sys.stderr).returncode
    if code == DIVERGED:
        return None
    if code != 0:
        sys.exit(f"dtrain ended with code {code}; the same command goes on from there")
    with h5py.File(ROOT / output / "log.h5") as log:
        return {name: column[:] for name, column in log["epochs"].items()}


def spread(values):
    """Mean, least and largest."""
    mean = f"{np.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.2f} to {max(values):.2f})"
