#!/usr/bin/env -S sh -c 'exec "${DTRAIN_PYTHON:-/usr/bin/python3}" -E "$0" "$@"'
"""Trains a network several times and prints a Markdown table.

large-batch, local-sgd: 784-800-10 with increasing batches, or with increasing rounds of local SGD. The tables are in
configs/README.md.
rates CONFIG: finds the best learning rate for a config, by its accuracy on a validation set. Options for dtrain, such
as --training.batch_size=256, apply to all its runs.

Repeat the command after an interruption: complete runs are kept, others resume.
"""

import argparse
import math
import re
import subprocess
from pathlib import Path

import training

CONFIG = training.ROOT / "configs/mnist-800.ini"
BASE_BATCH, BASE_RATE = 64, 0.1
WARMUP_EPOCHS = 5


def large_batch():
    """The learning rate is proportional to the batch, after a warm-up (Goyal et al. 2017). For batches from 2048 the
    optimizer is LARS (You et al. 2017), with the best of five learning rates for one seed, by a validation set."""
    columns = ("batch_size", "optimizer", "learning_rate", "warmup_epochs")
    recipes = [(batch, "momentum", BASE_RATE * batch / BASE_BATCH, 0 if batch == BASE_BATCH else WARMUP_EPOCHS)
               for batch in (64, 256, 1024)]
    recipes += [(batch, "lars", rate, WARMUP_EPOCHS)
                for batch, rate in ((2048, 20), (4096, 30), (8192, 30), (16384, 30))]
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


def learning_rate_of(config, options, arguments):
    printed = subprocess.run([arguments.dtrain, config, *options, "--print-config"], cwd=training.ROOT,
                             stdout=subprocess.PIPE, text=True, check=True)
    return float(next(line.split("=")[1] for line in printed.stdout.splitlines() if line.startswith("learning_rate")))


def best_on_grid(start, score):
    """Tries rates from a tenth to ten times `start`. If the best one is at an end, the grid is extended there."""
    def rate(exponent):
        return float(f"{start * 10 ** (exponent / 2):.2g}")

    tried = [0, -1, 1, -2, 2]
    best = max(tried, key=lambda exponent: score(rate(exponent)))  # of equal ones the one nearest to `start`
    while best in (min(tried), max(tried)) and abs(best) < 6 and score(rate(best)) > training.NO_SCORE:
        tried.append(best + (1 if best > 0 else -1))
        best = max((best, tried[-1]), key=lambda exponent: score(rate(exponent)))
    return rate(best)


def key_and_value(option):
    return option.removeprefix("--").split("=", 1)


def refuse_own_keys(parser, options, arguments):
    """Ends the program over an option for a key that the script itself sets in every run."""
    own = {"data.validation_samples": "--validation", "model.seed": "--seeds", "output.directory": "--output"}
    if arguments.data:
        own["data.directory"] = "--data"
    if arguments.epochs:
        own["training.epochs"] = "--epochs"
    if arguments.rates:
        own["training.learning_rate"] = "--rates"
    for key, _ in map(key_and_value, options):
        if key in own:
            parser.error(f"--{key}: the script sets this key in every run; use {own[key]} alone")


def print_rates(config, options, arguments):
    settings = {"data.validation_samples": arguments.validation}
    if arguments.epochs:
        settings |= {"training.epochs": arguments.epochs}
    settings |= dict(map(key_and_value, options))
    label = "-".join(f"{key.partition('.')[2]}-{value}" for key, value in settings.items())  # other runs, other folders
    label = re.sub(r"[^\w.-]+", "_", label)
    rows = {}

    def score(rate):
        if rate not in rows:
            rows[rate] = training.Row(config, f"rates/{config.stem}-{rate:g}-{label}-seed-",
                                      {**settings, "training.learning_rate": rate}, arguments.data)
            for seed in training.seeds(arguments):
                rows[rate].train(seed, arguments)
        return rows[rate].score()

    best = max(arguments.rates, key=score) if arguments.rates else \
        best_on_grid(learning_rate_of(config, options, arguments), score)
    training.print_head("learning_rate", "validation accuracy of the best epoch, %", "test accuracy of this epoch, %")
    for rate, row in sorted(rows.items()):
        training.print_row(f"{rate:g}", *(["diverged"] * 2 if row.diverged else
                                          (training.spread(row.accuracies_of_best(part))
                                           for part in ("validation", "test"))))
    if not rows[best].diverged:
        print(f"\nbest: --training.learning_rate={best:g}")


def print_table(table, arguments):
    common = {"training.epochs": arguments.epochs or 20, "training.schedule": "cosine",
              "output.checkpoint_every": f"{arguments.epochs or 20} epochs"}
    for number, (settings, more) in enumerate(table()):
        if number == 0:
            training.print_head(*(key.partition(".")[2] for key in settings), *more, "test accuracy, %")
        row = training.Row(CONFIG, f"{arguments.table}/{label_of(settings)}-epochs-{arguments.epochs or 20}-seed-",
                           {**common, **settings}, arguments.data)
        for seed in training.seeds(arguments):
            row.train(seed, arguments)
        training.print_row(*settings.values(), *more.values(),
                           "diverged" if row.diverged else training.spread(row.accuracies()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=(*TABLES, "rates"), help="the table to print")
    parser.add_argument("config", nargs="?", type=Path, help="the config, for rates only")
    parser.add_argument("--epochs", type=int, help="epochs of every run (default: 20; rates: those of the config)")
    parser.add_argument("--validation", type=int, default=5000,
                        help="rates: validation samples, taken from the training set (default: %(default)s)")
    parser.add_argument("--rates", type=float, nargs="+", metavar="RATE",
                        help="rates: tries these learning rates (default: from a tenth to ten times the config's, and "
                             "more while the best one is at an end)")
    training.add_arguments(parser, "runs/tables")
    arguments, options = parser.parse_known_args()
    if wrong := [option for option in options if arguments.table != "rates" or not re.match(r"--\w+\.\w+=", option)]:
        parser.error(f"unrecognized argument {wrong[0]}")
    if arguments.epochs is not None and arguments.epochs < 1:
        parser.error("--epochs must be at least 1")
    if arguments.validation < 1:
        parser.error("--validation must be at least 1")
    refuse_own_keys(parser, options, arguments)
    if (arguments.table == "rates") != (arguments.config is not None):
        parser.error("give a config with rates, and only there")
    training.parse(parser, arguments)
    config = arguments.config.resolve() if arguments.config else CONFIG
    validation = [f"--data.validation_samples={arguments.validation}"] if arguments.table == "rates" else []
    training.data_set(config, arguments.data, arguments, [*options, *validation])
    if arguments.table == "rates":
        print_rates(config, options, arguments)
    else:
        print_table(TABLES[arguments.table], arguments)


if __name__ == "__main__":
    main()
