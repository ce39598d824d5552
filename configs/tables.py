#!/usr/bin/env -S sh -c 'exec "${DTRAIN_PYTHON:-/usr/bin/python3}" -E "$0" "$@"'
"""Trains 784-800-10 with increasing batches or increasing rounds of local SGD, and prints a Markdown table.

The tables are in configs/README.md. Repeat the command after an interruption: complete runs are kept, others resume.
"""

import argparse
import math

import training

CONFIG = training.ROOT / "configs/mnist-800.ini"
BASE_BATCH, BASE_RATE = 64, 0.1
WARMUP_EPOCHS = 5


def large_batch():
    """The learning rate is proportional to the batch, after a warm-up (Goyal et al. 2017). For batches from 2048 the
    optimizer is LARS (You et al. 2017), with the best of a few learning rates for one seed."""
    columns = ("batch_size", "optimizer", "learning_rate", "warmup_epochs")
    recipes = [(batch, "momentum", BASE_RATE * batch / BASE_BATCH, 0 if batch == BASE_BATCH else WARMUP_EPOCHS)
               for batch in (64, 256, 1024)]
    recipes += [(batch, "lars", rate, WARMUP_EPOCHS)
                for batch, rate in ((2048, 20), (4096, 30), (8192, 25), (16384, 20))]
    for recipe in recipes:
        yield dict(zip((f"training.{column}" for column in columns), recipe)), {}


def local_sgd():
    """Rounds of H steps. With momentum, each exchange has two floats per parameter."""
    parameters, steps = 784 * 800 + 800 + 800 * 10 + 10, math.ceil(60000 / 256)
    for every in (1, 4, 16, 64):
        rounds, arenas = math.ceil(steps / every), 1 if every == 1 else 2
        yield ({"parallel.sync_every": every, "training.batch_size": 256, "training.optimizer": "momentum",
                "training.learning_rate": 0.05},
               {"MB per epoch and node, of 2 nodes": f"{4e-6 * parameters * arenas * rounds:.0f}"})


TABLES = {"large-batch": large_batch, "local-sgd": local_sgd}


def label_of(settings):
    return "-".join(f"{value:g}" if isinstance(value, (int, float)) else value for value in settings.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=TABLES, help="the table to print")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of every run (default: %(default)s)")
    training.add_arguments(parser, "runs/tables")
    arguments, _ = training.parse(parser)
    if arguments.epochs < 1:
        parser.error("--epochs must be at least 1")
    common = {"training.epochs": arguments.epochs, "training.schedule": "cosine",
              "output.checkpoint_every": f"{arguments.epochs} epochs"}
    for number, (settings, more) in enumerate(TABLES[arguments.table]()):
        if number == 0:
            training.print_head(*(key.partition(".")[2] for key in settings), *more, "test accuracy, %")
        row = training.Row(CONFIG, f"{arguments.table}/{label_of(settings)}-epochs-{arguments.epochs}-seed-",
                           {**common, **settings})
        for seed in training.seeds(arguments):
            row.train(seed, arguments)
        training.print_row(*settings.values(), *more.values(),
                           "diverged" if row.diverged else training.spread(row.accuracies()))


if __name__ == "__main__":
    main()
