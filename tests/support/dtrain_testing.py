"""What the system tests share: a small data set, running the programs, reading what they write.

Environment: DTRAIN_BIN (folder with the programs), DTRAIN_MPIRUN (path of mpirun), DTRAIN_SOURCE (root of the
repository), DTRAIN_MNIST (folder with the real data set, optional), and DTRAIN_LONG (if set, tests of what has to hold
for every config and at every moment try many more of them; they then take many minutes).
"""

import contextlib
import dataclasses
import gzip
import hashlib
import os
import re
import signal
import struct
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

import h5py
import numpy as np

SOURCE = Path(os.environ.get("DTRAIN_SOURCE", Path(__file__).resolve().parents[2]))
BIN = Path(os.environ.get("DTRAIN_BIN", SOURCE / "build/release/bin"))
MPIRUN = os.environ.get("DTRAIN_MPIRUN", "mpirun")
MNIST = os.environ.get("DTRAIN_MNIST")
LONG = bool(os.environ.get("DTRAIN_LONG"))
TIMEOUT_SECONDS = 900 if LONG else 60

EXIT_OK = 0
EXIT_BAD_CONFIG = 2
EXIT_BAD_DATA = 3
EXIT_BAD_CHECKPOINT = 4
EXIT_DIVERGED = 5
EXIT_BAD_OUTPUT = 6
EXIT_RANK_LOST = 7
EXIT_STOPPED = 75

# Bad input is tried by the program alone and on several ranks.
BAD_INPUT_RANKS = (None, 4)

# Columns of the log that hold times, and therefore differ from run to run.
TIME_COLUMNS = ("/epochs/seconds", "/epochs/samples_per_second", "/ranks/")

TRAIN_SAMPLES = 1003
TEST_SAMPLES = 203
FILE_NAMES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}

# A network other than the default one, as settings of a config.
RELU_CROSS_ENTROPY = {"model.layers": "dense 24 relu, dense 10 linear", "model.cost": "cross_entropy",
                      "training.learning_rate": 0.05}

DISTORTED = {"augment.shift": 2, "augment.rotate": 10, "augment.scale": 0.1, "augment.shear": 0.1,
             "augment.elastic_alpha": 20}

# Configs that between them have every optimizer and cost, a schedule with warm-up, batches and shards that do not
# divide each other, and the 1003 samples, which neither divides.
CASES = {
    "sigmoid, quadratic, sgd": {"training.batch_size": 30, "training.learning_rate": 1.0},
    "convolutions, dropout, momentum, distorted": {
        **DISTORTED, "model.cost": "cross_entropy", "training.batch_size": 150, "training.optimizer": "momentum",
        "training.learning_rate": 0.02, "model.layers": "conv 5x5x5 pad 2 relu, maxpool 2, conv 7x3x3 stride 2 relu, "
                                                        "dropout 0.25, dense 24 relu, dense 10"},
    "lstm, batch smaller than the shards, nesterov": {"model.layers": "lstm 11, dense 10",
                                                      "model.cost": "cross_entropy", "training.batch_size": 5,
                                                      "training.epochs": 1, "training.optimizer": "nesterov",
                                                      "training.learning_rate": 0.001},
    "full batch, adamw, cosine, warm-up, 5 shards": {
        "training.batch_size": "all", "training.epochs": 5, "training.optimizer": "adamw",
        "training.learning_rate": 0.01, "training.weight_decay": 0.1, "training.schedule": "cosine",
        "training.warmup_epochs": 2, "parallel.logical_shards": 5},
    "wide layers, lars, 13 shards": {
        "model.layers": "dense 150 relu, dense 70 tanh, dense 10", "model.cost": "cross_entropy",
        "training.batch_size": 200, "training.optimizer": "lars", "training.learning_rate": 0.5,
        "training.weight_decay": 0.001, "parallel.logical_shards": 13},
    "fewer samples than shards, adam": {"data.train_samples": 6, "data.test_samples": 3, "training.batch_size": 4,
                                        "training.optimizer": "adam", "training.learning_rate": 0.01},
}

DEEP = "dense 2500 relu, dense 2000 relu, dense 1500 relu, dense 1000 relu, dense 500 relu, dense 10"
# Networks so large that BLAS takes its packed kernels, on real images.
if LONG and MNIST:
    CASES |= {name: {"data.directory": MNIST, "data.test_samples": 500, **settings} for name, settings in {
        "784-16-16-10, whole epochs": {"training.batch_size": 32, "training.learning_rate": 3.0},
        "784-800-10, batches of 256, lars": {
            "model.layers": "dense 800 relu, dense 10", "model.cost": "cross_entropy", "data.train_samples": 5000,
            "training.batch_size": 256, "training.optimizer": "lars", "training.learning_rate": 1},
        "784-800-10, batches of 250, nesterov, 5 shards, distorted": {**DISTORTED,
            "model.layers": "dense 800 relu, dense 10", "model.cost": "cross_entropy", "data.train_samples": 3001,
            "training.batch_size": 250, "training.optimizer": "nesterov", "training.learning_rate": 0.01,
            "parallel.logical_shards": 5},
        "784-800-10, batches of 37, adamw, cosine, warm-up, quadratic, 13 shards": {
            "model.layers": "dense 800 tanh, dense 10 sigmoid", "data.train_samples": 1499,
            "training.batch_size": 37, "training.optimizer": "adamw", "training.learning_rate": 0.001,
            "training.schedule": "cosine", "training.warmup_epochs": 0.3, "parallel.logical_shards": 13},
        "784-2500-2000-1500-1000-500-10, batches of 256, momentum": {
            "model.layers": DEEP, "model.cost": "cross_entropy", "data.train_samples": 1000,
            "training.batch_size": 256, "training.optimizer": "momentum", "training.learning_rate": 0.01},
        "784-2500-2000-1500-1000-500-10, batches of 250, sgd, 13 shards": {
            "model.layers": DEEP, "model.cost": "cross_entropy", "data.train_samples": 750, "training.epochs": 1,
            "training.batch_size": 250, "training.learning_rate": 0.05, "parallel.logical_shards": 13},
    }.items()}

# Ranks, and how many of them count as a node (0: all, as they share a machine): 1, 2, 1 + 1, 3, 2 + 1, 5, 2 + 2 + 1,
# 8, 3 + 3 + 2.
SPLITS = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 2), (5, 0), (5, 2), (8, 0), (8, 3))


def splits_of(settings):
    """The splits that have a logical shard for every rank."""
    return [split for split in SPLITS if split[0] <= settings.get("parallel.logical_shards", 8)]


def idx_bytes(array, *, magic=None, dimensions=None):
    """`array` as an IDX file of float32, if it has floats, or of bytes; `magic` and `dimensions` replace what is
    true."""
    floats = array.dtype.kind == "f"
    dimensions = array.shape if dimensions is None else dimensions
    magic = (0x0D00 if floats else 0x0800) + len(dimensions) if magic is None else magic
    elements = np.ascontiguousarray(array, ">f4" if floats else np.uint8).tobytes()
    return struct.pack(f">I{len(dimensions)}I", magic, *dimensions) + elements


def read_idx(path):
    data = Path(path).read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    rank = data[3]
    shape = struct.unpack_from(f">{rank}I", data, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def file_name(key, array):
    """What `array`, which is written for `key` of FILE_NAMES, has to be called."""
    stem = FILE_NAMES[key].partition("-idx")[0]
    return f"{stem}-idx{array.ndim}-{'float' if array.dtype.kind == 'f' else 'ubyte'}"


def find_idx(directory, key):
    plain = Path(directory) / FILE_NAMES[key]
    return plain if plain.exists() else plain.with_name(plain.name + ".gz")


def synthetic_digits(seed=7):
    """Ten blurred random patterns with noise on them: learnable, but not to perfection in a few epochs."""
    random = np.random.default_rng(seed)
    patterns = np.kron(random.uniform(0, 160, (10, 7, 7)), np.ones((4, 4)))

    def split(samples):
        labels = random.integers(0, 10, samples).astype(np.uint8)
        images = patterns[labels] + random.normal(0, 60, (samples, 28, 28))
        return np.clip(images, 0, 255).astype(np.uint8), labels

    train_images, train_labels = split(TRAIN_SAMPLES)
    test_images, test_labels = split(TEST_SAMPLES)
    return {"train_images": train_images, "train_labels": train_labels,
            "test_images": test_images, "test_labels": test_labels}


def write_dataset(directory, arrays, *, compressed=False):
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for key, array in arrays.items():
        data = idx_bytes(array)
        name = file_name(key, array)
        if compressed:
            (directory / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (directory / name).write_bytes(data)


SLOW = r"dtrain: warning: (\d+ ranks? .*on .*: they take turns|exchanging gradients takes longer)"


@dataclasses.dataclass
class Result:
    code: int
    stdout: str
    stderr: str

    def __str__(self):
        return f"exit code {self.code}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"

    def messages(self):
        """What stderr says, without the banners that mpirun frames in dashes, and without warnings of what is slow:
        tests start more ranks than there are cores, with small batches."""
        lines, in_banner = [], False
        for line in self.stderr.splitlines():
            if re.fullmatch(r"-{20,}", line):
                in_banner = not in_banner
            elif line.strip() and not in_banner and not re.match(SLOW, line):
                lines.append(line)
        return lines


def environment():
    return {**os.environ,
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "OMPI_MCA_orte_execute_quiet": "1",
            "OMPI_MCA_hwloc_base_binding_policy": "none"}


def command(program, *arguments, ranks=None):
    """`ranks` = None runs the program by itself, without mpirun."""
    launcher = [] if ranks is None else [MPIRUN, "--oversubscribe", "-np", str(ranks)]
    return [*launcher, str(BIN / program), *map(str, arguments)]


class Process:
    """A running program, whose output goes to files, so that no pipe can fill up or be kept open by a stray rank."""

    def __init__(self, words, cwd):
        self._stdout, self._stderr = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        self.popen = subprocess.Popen(words, cwd=cwd, env=environment(), stdin=subprocess.DEVNULL,
                                      stdout=self._stdout, stderr=self._stderr)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.popen.poll() is None:
            pids = [self.popen.pid, *self.rank_pids()]
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            self.popen.wait()
        self._stdout.close()
        self._stderr.close()

    @staticmethod
    def _text(file):
        # pread leaves the offset alone, which the writing program shares.
        return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")

    def result(self):
        return Result(self.popen.poll(), self._text(self._stdout), self._text(self._stderr))

    def wait(self, timeout):
        try:
            self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.popen.args}: no end within {timeout} s\n{self.result()}") from None
        return self.result()

    def wait_until(self, condition, timeout=30):
        """Waits until `condition` holds; returns whether it does before the program ends."""
        end = time.monotonic() + timeout
        while not condition():
            if self.popen.poll() is not None:
                return False
            if time.monotonic() > end:
                raise AssertionError(f"{self.popen.args}: waited in vain for {timeout} s\n{self.result()}")
            time.sleep(0.0005)
        return True

    def wait_for(self, pattern, timeout=30):
        """Waits until stdout contains `pattern`."""
        end = time.monotonic() + timeout
        while not re.search(pattern, self.result().stdout):
            if self.popen.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"{self.popen.args}: {pattern!r} did not appear\n{self.result()}")
            time.sleep(0.01)

    def rank_pids(self):
        """Process ids of the ranks that mpirun started here, in rank order."""
        pids = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
                if parent == self.popen.pid:
                    variables = (stat.parent / "environ").read_bytes().split(b"\0")
                    rank = next(int(v.partition(b"=")[2]) for v in variables
                                if v.startswith(b"OMPI_COMM_WORLD_RANK="))
                    pids.append((rank, int(stat.parent.name)))
            except (OSError, StopIteration):
                continue  # ended meanwhile, or no rank
        return [pid for _, pid in sorted(pids)]


def run(program, *arguments, ranks=None, cwd=None, timeout=TIMEOUT_SECONDS):
    with Process(command(program, *arguments, ranks=ranks), cwd) as process:
        return process.wait(timeout)


@dataclasses.dataclass
class H5:
    """Everything in an HDF5 file: datasets by full path, attributes of the root by name, of groups by full path."""
    datasets: dict
    attributes: dict


def read_h5(path):
    datasets, attributes = {}, {}
    with h5py.File(path, "r") as file:
        def visit(name, item):
            if isinstance(item, h5py.Dataset):
                datasets["/" + name] = item[()]
            attributes.update({f"/{name}/{key}": value for key, value in item.attrs.items()})
        file.visititems(visit)
        attributes.update(file.attrs)
    attributes = {key: value.decode() if isinstance(value, bytes) else value for key, value in attributes.items()}
    return H5(datasets, attributes)


def newest_step(folder):
    """The step of the newest checkpoint in the output folder of a run, -1 where there is none."""
    return max((int(path.name[5:-3]) for path in (Path(folder) / "checkpoints").glob("step-*.h5")), default=-1)


def snapshot(folder):
    """The whole tree below `folder`; equal snapshots mean that nothing was made, removed, changed or replaced."""
    tree = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file():
            status = path.stat()
            tree[str(path)] = (status.st_ino, status.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        else:
            tree[str(path)] = None
    return tree


@dataclasses.dataclass
class Training:
    """A finished run: its output folder and what the program said."""
    folder: Path
    result: Result

    def fingerprint(self):
        return self.last_checkpoint().attributes["fingerprint"]

    def log(self):
        return read_h5(self.folder / "log.h5")

    def checkpoints(self):
        """Paths of the checkpoints, oldest first."""
        return sorted((self.folder / "checkpoints").glob("step-*.h5"))

    def last_checkpoint(self):
        return read_h5(self.checkpoints()[-1])

    def files(self):
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}


def ini(settings):
    """{"section.key": value} as INI text."""
    sections = {}
    for name, value in settings.items():
        section, _, key = name.partition(".")
        sections.setdefault(section, []).append(f"{key} = {value}\n")
    return "\n".join(f"[{section}]\n{''.join(lines)}" for section, lines in sections.items())


class DtrainTestCase(unittest.TestCase):
    """Each test has a folder of its own, `self.folder`; the data set is shared and only read."""

    @classmethod
    def setUpClass(cls):
        shared = tempfile.TemporaryDirectory(prefix="dtrain-data-")
        cls.addClassCleanup(shared.cleanup)
        cls.data = Path(shared.name)
        cls.arrays = synthetic_digits()
        write_dataset(cls.data, cls.arrays)

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="dtrain-test-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    @contextlib.contextmanager
    def case(self, *message, **parameters):
        """A subTest with a folder of its own, so that one failing leaves nothing to the next."""
        outer = self.folder
        with self.subTest(*message, **parameters), tempfile.TemporaryDirectory(prefix="dtrain-test-") as folder:
            self.folder = Path(folder)
            try:
                yield
            finally:
                self.folder = outer

    def write_config(self, settings, output="run"):
        """The path of a config with `settings` and, for the rest, a quick run."""
        values = {"data.directory": self.data, "training.epochs": 2, "training.batch_size": 64,
                  "output.directory": self.folder / output, **settings}
        path = self.folder / f"{output}.ini"
        path.write_text(ini(values))
        return path

    def train(self, settings=None, *overrides, ranks=1, output="run", expect=EXIT_OK):
        settings = {"output.directory": self.folder / output, **(settings or {})}
        config = self.write_config(settings, output)
        result = run("dtrain", config, *overrides, ranks=ranks, cwd=self.folder)
        self.assertEqual(result.code, expect, result)
        return Training(Path(settings["output.directory"]), result)

    def assert_close(self, actual, expected, tolerance, what):
        """Equal shapes, and differences up to `tolerance` times the largest value; 0 means bit for bit."""
        actual, expected = np.asarray(actual), np.asarray(expected)
        self.assertEqual(actual.shape, expected.shape, what)
        if tolerance == 0:
            self.assertEqual(actual.dtype, expected.dtype, what)
            self.assertEqual(actual.tobytes(), expected.tobytes(), f"{what} differs in its bits")
            return
        actual, expected = actual.astype(np.float64), expected.astype(np.float64)
        self.assertTrue(np.isfinite(actual).all(), f"{what} is not finite")
        scale = np.max(np.abs(expected), initial=0)
        error = np.max(np.abs(actual - expected), initial=0)
        self.assertLessEqual(error, tolerance * scale, f"{what}: off by {error:.3g} where values reach {scale:.3g}")

    def assert_same_result(self, actual, expected, tolerance=0):
        """The same cost log, weights and optimizer state in two trainings."""
        pairs = [(actual.log(), expected.log()), (actual.last_checkpoint(), expected.last_checkpoint())]
        self.assertEqual(actual.checkpoints()[-1].name, expected.checkpoints()[-1].name)
        if tolerance == 0:
            self.assertEqual(*(checkpoint.attributes["fingerprint"] for checkpoint in pairs[1]))
        for actual_file, expected_file in pairs:
            self.assertEqual(actual_file.datasets.keys(), expected_file.datasets.keys())
            for name, values in expected_file.datasets.items():
                if not name.startswith(TIME_COLUMNS):
                    self.assert_close(actual_file.datasets[name], values, tolerance, name)

    def assert_one_message(self, result, code, *words, program="dtrain", most_warnings=0):
        """The exit code, and one message on stderr that contains all `words`, maybe after a few warnings."""
        self.assertEqual(result.code, code, result)
        *before, message = result.messages() or [""]
        self.assertLessEqual(len(before), most_warnings, result)
        for line in before:
            self.assertTrue(line.startswith(f"{program}: warning: "), result)
        self.assertRegex(message, rf"^{program}: (?!warning)", result)
        for word in words:
            self.assertIn(str(word), message)

    def assert_refused(self, program, *arguments, code, words, ranks=None, most_warnings=0):
        """The program says one message, ends with `code`, and leaves everything in self.folder as it is."""
        before = snapshot(self.folder)
        result = run(program, *arguments, ranks=ranks, cwd=self.folder)
        self.assert_one_message(result, code, *words, program=program, most_warnings=most_warnings)
        self.assertEqual(snapshot(self.folder), before)
        return result

    def assert_usage_error(self, program, *arguments, word, ranks=None):
        """One message, which may be followed by how the program is used."""
        result = run(program, *arguments, ranks=ranks, cwd=self.folder)
        self.assertEqual(result.code, EXIT_BAD_CONFIG, result)
        said = [line for line in result.messages() if line.startswith(f"{program}: ")]
        self.assertEqual(said, result.messages()[:1], result)
        self.assertIn(word, said[0])


def main():
    unittest.main(verbosity=2)  # names the tests that are skipped, and why
