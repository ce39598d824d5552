"""The base class of the test cases: training, and assertions about runs and messages."""

import contextlib
import dataclasses
import tempfile
import unittest
from pathlib import Path

import numpy as np

from .configs import ini
from .constants import EXIT_BAD_CONFIG, EXIT_OK, LONG
from .data_sets import synthetic_digits, write_dataset
from .files import read_h5, snapshot
from .programs import Result, run

# Bad input is tried with the program alone and on several ranks.
BAD_INPUT_RANKS = (None, 4 if LONG else 2)

# Columns of the log that contain times and therefore differ between runs.
TIME_COLUMNS = ("/epochs/seconds", "/epochs/samples_per_second", "/ranks/")


@dataclasses.dataclass
class Training:
    """A finished run: its output folder and the output of the program."""
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


class DtrainTestCase(unittest.TestCase):
    """Each test has its own folder, `self.folder`. The data set is shared and only read."""

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
        """A subTest with its own folder, so that a failed case leaves no files to the next."""
        outer = self.folder
        with self.subTest(*message, **parameters), tempfile.TemporaryDirectory(prefix="dtrain-test-") as folder:
            self.folder = Path(folder)
            try:
                yield
            finally:
                self.folder = outer

    def write_config(self, settings, output="run"):
        """The path of a config with `settings`, and with values for a short run otherwise."""
        values = {"data.directory": self.data, "training.epochs": 2, "training.batch_size": 64,
                  "output.directory": self.folder / output, **settings}
        path = self.folder / f"{output}.ini"
        path.write_text(ini(values))
        return path

    def train(self, settings=None, *overrides, ranks=None, output="run", expect=EXIT_OK):
        settings = {"output.directory": self.folder / output, **(settings or {})}
        config = self.write_config(settings, output)
        result = run("dtrain", config, *overrides, ranks=ranks, cwd=self.folder)
        self.assertEqual(result.code, expect, result)
        return Training(Path(settings["output.directory"]), result)

    def first_step(self, settings):
        """Trains one step on all samples. Returns the checkpoint before it, and the step's cost and gradients, by path
        in the checkpoint. The step is so long that the weights after it have the digits of the gradients."""
        rate = 1000
        settings = {**settings, "training.batch_size": "all", "training.learning_rate": rate, "training.epochs": 1}
        start = self.train(settings, "--training.epochs=0", ranks=None, output="start").last_checkpoint()
        trained = self.train(settings, ranks=None, output="end")
        end = trained.last_checkpoint().datasets
        gradients = {name: (weights.astype(np.float64) - end[name]) / rate
                     for name, weights in start.datasets.items() if name.startswith("/model/")}
        return start, trained.log().datasets["/steps/cost"][0], gradients

    def assert_close(self, actual, expected, tolerance, what):
        """Checks shapes, and that differences are at most `tolerance` times the maximum. 0 means bitwise equal."""
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
        self.assertLessEqual(error, tolerance * scale, f"{what}: the error is {error:.3g}, the maximum {scale:.3g}")

    def assert_same_result(self, actual, expected, tolerance=0):
        """Checks that two trainings have the same cost log, weights and optimizer state."""
        pairs = [(actual.log(), expected.log()), (actual.last_checkpoint(), expected.last_checkpoint())]
        self.assertEqual(actual.checkpoints()[-1].name, expected.checkpoints()[-1].name)
        skipped = TIME_COLUMNS if tolerance == 0 else (*TIME_COLUMNS, "/epochs/fingerprint")
        if tolerance == 0:
            self.assertEqual(*(checkpoint.attributes["fingerprint"] for checkpoint in pairs[1]))
        for actual_file, expected_file in pairs:
            self.assertEqual(actual_file.datasets.keys(), expected_file.datasets.keys())
            for name, values in expected_file.datasets.items():
                if not name.startswith(skipped):
                    self.assert_close(actual_file.datasets[name], values, tolerance, name)

    def assert_one_message(self, result, code, *words, program="dtrain", max_warnings=0):
        """Checks the exit code, and that stderr has one message with all `words`, after at most `max_warnings`
        warnings."""
        self.assertEqual(result.code, code, result)
        *before, message = result.messages() or [""]
        self.assertLessEqual(len(before), max_warnings, result)
        for line in before:
            self.assertTrue(line.startswith(f"{program}: warning: "), result)
        self.assertRegex(message, rf"^{program}: (?!warning)", result)
        for word in words:
            self.assertIn(str(word), message)

    def assert_refused(self, program, *arguments, code, words, ranks=None, max_warnings=0):
        """Checks that the program prints one message, ends with `code`, and changes nothing in self.folder."""
        before = snapshot(self.folder)
        result = run(program, *arguments, ranks=ranks, cwd=self.folder)
        self.assert_one_message(result, code, *words, program=program, max_warnings=max_warnings)
        self.assertEqual(snapshot(self.folder), before)
        return result

    def assert_usage_error(self, program, *arguments, word, ranks=None):
        """Checks that the program prints one message, perhaps followed by its usage."""
        result = run(program, *arguments, ranks=ranks, cwd=self.folder)
        self.assertEqual(result.code, EXIT_BAD_CONFIG, result)
        messages = [line for line in result.messages() if line.startswith(f"{program}: ")]
        self.assertEqual(messages, result.messages()[:1], result)
        self.assertIn(word, messages[0])


def main():
    unittest.main(verbosity=2)  # prints which tests are skipped, and why
