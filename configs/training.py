"""Functions for the scripts that train all rows of a table. Complete runs are only read, interrupted runs resume."""

import math
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src/report"))
from program import end_by_signals, guard_output, needing  # noqa: E402

PROGRAM = Path(sys.argv[0]).name

with needing(PROGRAM, "python3-h5py"):
    import h5py
    import numpy as np
    import runs

NO_SCORE = (-math.inf, -math.inf)
DIVERGED, INTERRUPTED = 5, (7, 75)  # exit codes of dtrain
# Keys that may differ between a run and its repetition: they do not change the result.
FREE_KEYS = ("output.", "data.directory", "data.file", "parallel.threads", "parallel.ranks_per_node",
             "parallel.stall_timeout", "parallel.check_every", "training.micro_batch")


def add_arguments(parser, output):
    guard_output(PROGRAM)
    parser.add_argument("--seeds", type=int, default=3, help="seeds per row (default: %(default)s)")
    parser.add_argument("--ranks", type=int, default=2, help="MPI ranks (default: %(default)s)")
    # The defaults are in the repository, and what the user types is relative to the working directory.
    parser.add_argument("--data", type=os.path.abspath, help="folder of the data set (default: the config's)")
    parser.add_argument("--output", type=os.path.abspath, default=ROOT / output,
                        help=f"folder of the runs (default: {output} of the repository)")
    parser.add_argument("--dtrain", type=os.path.abspath, default=ROOT / "build/release/bin/dtrain",
                        help="the program (default: build/release/bin/dtrain of the repository)")


def parse(parser, arguments):
    """Ends the program if training cannot start."""
    end_by_signals()
    if arguments.seeds < 1:
        parser.error("--seeds must be at least 1")
    if not shutil.which(arguments.dtrain):
        parser.error(f"no program {arguments.dtrain}: build the preset release, or give --dtrain")
    # More ranks than cores, in Open MPI 4 and 5. MPICH always allows this.
    os.environ.update(OMPI_MCA_rmaps_base_oversubscribe="1", PRTE_MCA_rmaps_default_mapping_policy=":oversubscribe")
    if os.geteuid() == 0:
        os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")


def data_set(config, data, arguments, options=()):
    """The name of the data set in the folder `data`, or of the config's if it is None. Ends the program if the config,
    the options or the data are bad."""
    check = subprocess.run([arguments.dtrain, config, *data_options(data), *options, "--check"], cwd=ROOT,
                           stdout=subprocess.PIPE, text=True, errors="replace")
    if check.returncode != 0:
        sys.exit(check.returncode)
    return re.search(r"^data set +(.*?):", check.stdout, re.MULTILINE)[1]


def data_options(data):
    return [f"--data.directory={data}"] if data else []


def seeds(arguments):
    return range(1, arguments.seeds + 1)


class Row:
    """A row of a table: one config, trained with several seeds."""

    def __init__(self, config, output, settings, data=None):
        """The folder of a run is `output` followed by the seed. `data` is a folder; None leaves it to the config."""
        self.config, self.output, self.settings, self.data = config, output, settings, data
        self.runs = []  # for each seed the columns of /epochs in the log, or None if it diverged

    def train(self, seed, arguments):
        options = {**self.settings, "model.seed": seed}
        self.runs.append(train(self.config, self.data, f"{self.output}{seed}", options, arguments))

    def accuracies_of_best(self, part):
        """The accuracies of the best epochs on the validation or test set, in per cent. The validation set decides."""
        return [100 * run[f"{part}_accuracy"][epoch] for run, epoch in zip(self.runs, self._best_epochs())]

    def _best_epochs(self):
        return [np.lexsort((run["validation_cost"], -run["validation_accuracy"]))[0] for run in self.runs]

    def score(self):
        """A better row is larger: the validation accuracy of the best epochs decides, then their validation cost."""
        if self.diverged:
            return NO_SCORE
        best = list(zip(self.runs, self._best_epochs()))
        return tuple(sum(sign * run[f"validation_{column}"][epoch] for run, epoch in best)
                     for column, sign in (("accuracy", 1), ("cost", -1)))

    @property
    def diverged(self):
        return None in self.runs

    def accuracies(self):
        """Test accuracies after the last epoch, in per cent. The test set does not select the epoch."""
        return [100 * run["test_accuracy"][-1] for run in self.runs]


def print_head(*names):
    print_row(*names)
    print(f"|{'---|' * len(names)}", flush=True)


def print_row(*cells):
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def require_same_settings(folder, command):
    """Ends the program if the folder has a run with other settings: it would not be trained again."""
    if not (folder / "log.h5").exists():
        return
    printed = subprocess.run([*command, "--print-config"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    wanted = runs.parse_config(printed.stdout)
    with h5py.File(folder / "log.h5") as log:
        found = runs.parse_config(str(log.attrs["config"]))
    changed = [f"{key} = {wanted.get(key)}, before {found.get(key)}" for key in sorted(wanted.keys() | found.keys())
               if not key.startswith(FREE_KEYS) and wanted.get(key) != found.get(key)]
    if changed:
        sys.exit(f"{PROGRAM}: {folder} has a run with other settings ({'; '.join(changed)}). Move it away, or give "
                 "another --output")


def run_to_its_end(command):
    """The exit code of the command, and whether Ctrl-C came meanwhile. The command gets Ctrl-C too, and is not killed:
    it writes a checkpoint."""
    interrupts = []
    before = signal.signal(signal.SIGINT, lambda *_: interrupts.append(True))
    try:
        return subprocess.run(command, cwd=ROOT, stdout=sys.stderr).returncode, bool(interrupts)
    finally:
        signal.signal(signal.SIGINT, before)


def train(config, data, output, options, arguments):
    """The columns of /epochs in the log of the run, or None if it diverged."""
    output = Path(arguments.output) / output
    options = {**options, "output.directory": output}
    command = [arguments.dtrain, str(config), *data_options(data), *(f"--{key}={value}" for key, value in options.items())]
    require_same_settings(output, command)
    command = ["mpirun", "-np", str(arguments.ranks), *map(str, command)]
    print(" ".join(command), file=sys.stderr, flush=True)
    code, is_interrupted = run_to_its_end(command)
    if is_interrupted:
        print(f"{PROGRAM}: interrupted. Repeat this command to resume", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    if code == DIVERGED:
        return None
    if code != 0:
        again = ". Repeat this command to resume" if code in INTERRUPTED or code < 0 or code > 128 else ""
        sys.exit(f"{PROGRAM}: dtrain ended with code {code}{again}")
    with h5py.File(output / "log.h5") as log:
        return {name: column[:] for name, column in log["epochs"].items()}


def spread(values):
    """Mean, min and max, as text."""
    mean = f"{np.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.2f} to {max(values):.2f})"
