"""Shared code of the comparisons of dtrain with PyTorch: networks, starting both sides, rounds, the table.

Ratios are taken within a round, and medians over the rounds. Every other round runs in reverse order, so that the order
does not favour one side.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

EXIT_SKIPPED = 77
PYTORCH_STEP = Path(__file__).resolve().with_name("pytorch_step.py")
RUN_TIMEOUT_SECONDS = 600


@dataclasses.dataclass
class Network:
    """A network that both sides train."""
    layers: str
    batch: int
    learning_rate: float = 0.05


LENET = ("conv 6x5x5 pad 2 relu, maxpool 2, conv 16x5x5 relu, maxpool 2, dense 120 relu, dense 84 relu, "
         "dense 10")
NETWORKS = {
    "784-16-16-10": Network("dense 16 relu, dense 16 relu, dense 10", 128),
    "784-100-10": Network("dense 100 relu, dense 10", 128),
    "784-800-10": Network("dense 800 relu, dense 10", 256),
    "784-2500-2000-1500-1000-500-10": Network(testing.DEEP, 256, 0.01),
    "LeNet-5": Network(LENET, 64),
    "LeNet-5 in large batches": Network(LENET, 256),
    "LSTM 128 over rows": Network("lstm 128, dense 10", 128),
}


def run(words, environment):
    """Standard output of a program. A failure of the program ends this one."""
    result = subprocess.run(words, env={**testing.environment(), **environment}, stdin=subprocess.DEVNULL,
                            capture_output=True, text=True, timeout=RUN_TIMEOUT_SECONDS)
    if result.returncode != 0:
        sys.exit(f"{Path(sys.argv[0]).name}: {' '.join(words)}: exit code {result.returncode}\n{result.stderr}")
    return result.stdout


class Sides:
    """Runs dtrain-bench or PyTorch with the command prefix `launcher`, and returns its results."""

    def __init__(self, options, folder):
        self.options, self.folder = options, Path(folder)

    def dtrain(self, network, shards, launcher):
        config, results = self.folder / "bench.ini", self.folder / "results.json"
        config.write_text(testing.ini({
            "data.directory": self.options.data, "model.layers": network.layers, "model.cost": "cross_entropy",
            "training.batch_size": network.batch, "training.optimizer": "sgd",
            "training.learning_rate": network.learning_rate, "parallel.logical_shards": shards}))
        run([*launcher, str(self.options.bin / "dtrain-bench"), str(config), "--json", str(results)], {})
        return json.loads(results.read_text())

    def pytorch(self, network, launcher, environment):
        words = [*launcher, sys.executable, str(PYTORCH_STEP), network.layers, "--batch", str(network.batch),
                 "--learning-rate", str(network.learning_rate), "--data", str(self.options.data)]
        return json.loads(run(words, environment))


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


class Comparison:
    """Rounds of measurements of each network. Derived classes define the measurements."""
    columns = {}  # key of a value: heading of its column
    scale, unit = 1, ""  # of the columns, and of the progress messages
    ratios = {}  # key: heading of its column, and function of the values

    def __init__(self, options, folder):
        self.options, self.sides = options, Sides(options, folder)
        self.rounds = {name: [] for name in options.networks}  # results and values of each round
        self.last_round = {}  # its results

    def turns(self, network):
        """{key: function that measures it}, in the order of measurement."""
        raise NotImplementedError

    def values(self, results):
        """{key: number}, without the ratios."""
        raise NotImplementedError

    def summary(self, values):
        return ", ".join(f"{head} {values[key] * self.scale:.4g}" for key, head in self.columns.items()) + \
            f" {self.unit}"

    def measure(self):
        for number in range(self.options.rounds):
            for name, done in self.rounds.items():
                turns = list(self.turns(NETWORKS[name]).items())
                self.last_round = {key: turn() for key, turn in (reversed(turns) if number % 2 == 1 else turns)}
                values = self.values(self.last_round)
                values |= {key: ratio(values) for key, (_, ratio) in self.ratios.items()}
                done.append((self.last_round, values))
                print(f"round {number + 1} of {self.options.rounds}, {name}: {self.summary(values)}", file=sys.stderr,
                      flush=True)

    def results(self):
        """The spread of each value of each network."""
        return {name: {key: spread([values[key] for _, values in done]) for key in done[0][1]}
                for name, done in self.rounds.items()}

    def table(self, short_unit):
        """A Markdown table of medians; ratios also have the min and max of the rounds."""
        heads = ["network, batch", *(f"{head}, {short_unit}" for head in self.columns.values()),
                 *(head for head, _ in self.ratios.values())]
        lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        for name, result in self.results().items():
            cells = [f"{name}, {NETWORKS[name].batch}"]
            cells += [f"{result[key]['median'] * self.scale:.4g}" for key in self.columns]
            cells += ["{median:.2f} ({min:.2f} to {max:.2f})".format(**result[key]) for key in self.ratios]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def write_json(self, **facts):
        """Writes every round's results, if the options ask for them."""
        if self.options.json:
            networks = {name: {**result, "rounds": [results for results, _ in self.rounds[name]]}
                        for name, result in self.results().items()}
            self.options.json.write_text(json.dumps({"rounds": self.options.rounds, **facts, "cores": os.cpu_count(),
                                                     "networks": networks}, indent=2) + "\n")


def whole_number(minimum):
    def parse(text):
        if not text.isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"{text}: expected a whole number from {minimum}")
        return int(text)
    return parse


def network_names(text):
    names = text.split(",")
    for name in names:
        if name not in NETWORKS:
            raise argparse.ArgumentTypeError(f"{name}: expected some of {', '.join(NETWORKS)}")
    return names


def option_parser(description, networks):
    """The options of every comparison. `networks` are the default networks."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=whole_number(1), default=3, help="measurements of each (default: %(default)s)")
    parser.add_argument("--networks", type=network_names, default=networks, metavar="NAME,...",
                        help=f"some of {', '.join(NETWORKS)} (default: {', '.join(networks)})")
    parser.add_argument("--bin", type=Path, default=testing.BIN, help="folder of dtrain-bench (default: %(default)s)")
    parser.add_argument("--data", type=Path, default=testing.MNIST, help="folder of MNIST (default: $DTRAIN_MNIST)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results of every round to FILE")
    return parser


def parse_options(parser):
    """The options. Ends the program if it cannot compare."""
    options = parser.parse_args()
    if not options.data:
        parser.error("no data set: give --data or set DTRAIN_MNIST")
    options.data = options.data.resolve()
    options.bin = options.bin.resolve()
    if not (options.bin / "dtrain-bench").exists():
        parser.error(f"no dtrain-bench in {options.bin}: build it, or give --bin")
    if importlib.util.find_spec("torch") is None:
        skip(f"{sys.executable} has no PyTorch (Debian: python3-torch)")
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return options


def skip(reason):
    print(f"{Path(sys.argv[0]).name}: skipped: {reason}", file=sys.stderr)
    sys.exit(EXIT_SKIPPED)
