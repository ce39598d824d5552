"""configs/spoken_digits.py makes a data set that dtrain can train on. The test is skipped without espeak-ng."""

import os
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

SCRIPT = testing.SOURCE / "configs/spoken_digits.py"


def make(folder, *arguments, path=None):
    environment = {**os.environ, "PATH": path} if path else None
    return subprocess.run([sys.executable, SCRIPT, folder, *map(str, arguments)], env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=testing.TIMEOUT_SECONDS)


class SpokenDigitsTest(testing.DtrainTestCase):
    def made(self, name, *arguments):
        """The bytes of each file of a small data set, by name."""
        result = make(self.folder / name, "--train", 30, "--test", 12, *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("30 of 30", result.stderr)
        return {path.name: path.read_bytes() for path in (self.folder / name).iterdir()}

    @unittest.skipUnless(shutil.which("espeak-ng"), "espeak-ng is not installed")
    def test_a_small_set(self):
        files = self.made("one")
        self.assertEqual(files.keys(), {f"{part}-{kind}" for part in ("train", "t10k")
                                        for kind in ("images-idx3-float", "labels-idx1-ubyte")})
        samples = np.frombuffer(files["train-images-idx3-float"], ">f4", offset=16).reshape(30, 40, 24)
        np.testing.assert_allclose(samples.mean(axis=(0, 1)), 0, atol=1e-5)
        np.testing.assert_allclose(samples.std(axis=(0, 1)), 1, atol=1e-5)
        self.assertEqual(set(files["t10k-labels-idx1-ubyte"][8:]), set(range(10)))
        self.assertEqual(self.made("again"), files)
        self.assertNotEqual(self.made("another", "--seed", 2), files)

        trained = self.train({"data.directory": self.folder / "one", "model.layers": "dense 20 relu, dense 10",
                              "model.cost": "cross_entropy", "training.learning_rate": 0.1, "training.epochs": 40})
        self.assertEqual(trained.last_checkpoint().attributes["sample_shape"], "40 24")
        cost = trained.log().datasets["/epochs/train_cost"]
        self.assertLess(cost[-1], 0.3 * cost[0])

    def test_without_espeak(self):
        result = make(self.folder / "none", path=str(self.folder))
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, "espeak-ng is missing: apt-get install espeak-ng")
        self.assertFalse((self.folder / "none").exists())


if __name__ == "__main__":
    testing.main()
