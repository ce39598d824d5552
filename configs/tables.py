#!/usr/bin/python3
"""Trains 784-800-10 in larger and larger batches, or with local SGD in longer and longer rounds, and prints a table.

What is trained already is not trained again; a run that was interrupted goes on.
"""

import argparse
import math
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs/mnist-800.ini"
EPOCHS = 20
BASE_BATCH, BASE_RATE = 64, 0.02
COMMON = {"training.epochs": EPOCHS, "training.schedule": "cosine", "output.checkpoint_every": f"{EPOCHS} epochs"}


def large_batch():
    """Goyal et al. 2017: the learning rate grows with the batch, after a warm-up; from some size on LARS.

    Only the first row has been trained so far: the rates of the others are where to begin.
    """
    columns = ("batch_size", "optimizer", "learning_rate", "warmup_epochs")
    recipes = [(batch, "momentum", BASE_RATE * batch / BASE_BATCH, 0 if batch == BASE_BATCH else 5)
               for batch in (64, 256, 1024, 2048, 4096)]
    recipes += [(batch, "lars", rate, 5) for batch, rate in ((4096, 20), (8192, 30), (16384, 40))]
    for recipe in recipes:
        yield dict(zip((f"training.{column}" for column in columns), recipe)), {}


def local_sgd():
    """Rounds of H steps; with momentum, twice as many numbers travel as there are parameters."""
    parameters, steps = 784 * 800 + 800 + 800 * 10 + 10, math.ceil(60000 / 256)
    for every in (1, 4, 16, 64):
        rounds, arenas = math.ceil(steps / every), 1 if every == 1 else 2
        yield ({"parallel.sync_every": every, "training.batch_size": 256, "training.optimizer": "momentum",
                "training.learning_rate": 0.05},
               {"MB per epoch and node, of 2 nodes": f"{4e-6 * parameters * arenas * rounds:.0f}"})


TABLES = {"large-batch": large_batch, "local-sgd": local_sgd}


def train(name, settings, seed, arguments):
    label = "-".join(f"{value:g}" if isinstance(value, (int, float)) else value for value in settings.values())
    output = Path(arguments.output) / name / f"{label}-seed-{seed}"
    options = {**COMMON, **settings, "model.seed": seed, "output.directory": output, "data.directory": arguments.data}
    command = ["mpirun", "--oversubscribe", "-np", str(arguments.ranks), arguments.dtrain, str(CONFIG),
               *(f"--{key}={value}" for key, value in options.items())]
    print(" ".join(command), file=sys.stderr, flush=True)
    code = subprocess.run(command, cwd=ROOT, stdout=sys.stderr).returncode
    if code == 5:
        return None
    if code != 0:
        sys.exit(f"dtrain ended with code {code}; the same command goes on from there")
    with h5py.File(ROOT / output / "log.h5") as log:
        return 100 * log["epochs/test_accuracy"][-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--seeds", type=int, default=3, help="seeds per row (3)")
    parser.add_argument("--ranks", type=int, default=2, help="MPI ranks (2); the results do not depend on it")
    parser.add_argument("--data", default="data/mnist", help="folder of MNIST (data/mnist)")
    parser.add_argument("--output", default="runs/tables", help="folder of the runs (runs/tables)")
    parser.add_argument("--dtrain", default="build/release/bin/dtrain", help="the program (build/release/bin/dtrain)")
    arguments = parser.parse_args()
    if os.geteuid() == 0:
        os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    for number, (settings, more) in enumerate(TABLES[arguments.table]()):
        if number == 0:
            names = [key.partition(".")[2] for key in settings] + list(more) + ["test accuracy, %"]
            print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}", flush=True)
        found = [train(arguments.table, settings, seed, arguments) for seed in range(1, arguments.seeds + 1)]
        accuracy = "diverged" if None in found else f"{np.mean(found):.2f}"
        if len(found) > 1 and None not in found:
            accuracy += f" ({min(found):.2f} to {max(found):.2f})"
        print(f"| {' | '.join(map(str, [*settings.values(), *more.values(), accuracy]))} |", flush=True)


if __name__ == "__main__":
    main()
