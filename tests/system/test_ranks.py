"""The number of ranks does not change the result."""

import re
import sys
import unittest
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402


class NumberOfRanksTest(testing.DtrainTestCase):
    def test_ranks_do_not_change_the_result(self):
        """The short form takes every other split, and the others for the next config."""
        for number, (name, settings) in enumerate(testing.CASES.items()):
            with self.case(name):
                expected = self.train(settings, ranks=1, output="one")
                fingerprints = []
                splits = testing.splits_of(settings)
                for ranks, ranks_per_node in splits if testing.LONG else splits[number % 2::2]:
                    with self.case(name, ranks=ranks, ranks_per_node=ranks_per_node):
                        actual = self.train({**settings, "parallel.ranks_per_node": ranks_per_node}, ranks=ranks)
                        fingerprints.append(actual.fingerprint())
                        self.assert_same_result(actual, expected)
                print(f"{name}: {len(fingerprints)} runs, fingerprints {set(fingerprints)}", flush=True)

    def test_mpi_reducer_agrees_to_rounding(self):
        for ranks in (2, 3):
            actual = self.train({"parallel.reducer": "mpi"}, ranks=ranks)
            self.assert_same_result(actual, self.train(), tolerance=1e-4)

    def test_openblas_agrees_to_rounding(self):
        """50 steps of the whole training set, with OpenBLAS and MPI_Allreduce: the plainest trainer."""
        for layers in ("dense 24 tanh, dense 10", "lstm 11, dense 10"):
            settings = {"model.layers": layers, "model.cost": "cross_entropy", "training.batch_size": "all",
                        "training.epochs": 50, "training.learning_rate": 0.1, "training.optimizer": "momentum"}
            expected = self.train(settings, output=layers.partition(" ")[0])
            for ranks in (1, 2):
                with self.case(layers, ranks=ranks):
                    actual = self.train({**settings, "parallel.products": "openblas", "parallel.reducer": "mpi"},
                                        ranks=ranks)
                    self.assert_same_result(actual, expected, tolerance=1e-4)
                    self.assertRegex(actual.log().attributes["arithmetic"], "^OpenBLAS .*rounding")

    @unittest.skipUnless(testing.MNIST, "needs MNIST")
    def test_plainest_trainer_learns(self):
        settings = {"data.directory": testing.MNIST, "output.directory": self.folder / "run"}
        result = testing.run("dtrain", testing.SOURCE / "configs" / "mnist-openblas.ini",
                             *(f"--{key}={value}" for key, value in settings.items()), cwd=self.folder)
        self.assertEqual(result.code, testing.EXIT_OK, result)
        accuracy = testing.Training(self.folder / "run", result).log().datasets["/epochs/test_accuracy"]
        self.assertGreater(accuracy[-1], 0.93)

    def test_compressed_gradients(self):
        """They change the bits, but hardly what is learned. The other reducer and local SGD refuse them."""
        settings = {**testing.RELU_CROSS_ENTROPY, "training.epochs": 10}
        compressed = {**settings, "parallel.compression": "bfloat16"}
        expected = self.train(settings, output="exact")
        training = self.train(compressed, output="rounded")
        apart = self.train({**compressed, "parallel.ranks_per_node": 1}, ranks=5, output="rounded-apart")
        self.assert_same_result(apart, training)
        self.assertNotEqual(training.fingerprint(), expected.fingerprint())
        self.assertIn(", gradients rounded to bfloat16", training.result.stdout)
        accuracy, exact = (of.log().datasets["/epochs/test_accuracy"][-1] for of in (training, expected))
        self.assertGreater(accuracy, 0.8)
        self.assertAlmostEqual(accuracy, exact, delta=0.02)
        for key, value in (("parallel.reducer", "mpi"), ("parallel.sync_every", 4)):
            config = self.write_config({**compressed, key: value})
            self.assert_refused("dtrain", config, code=testing.EXIT_BAD_CONFIG,
                                words=["compression", f"{key.partition('.')[2]} = {value}"])

    def test_compressed_statistics(self):
        """Rounding does not spoil the running means of batch normalisation where means are far from 0."""
        arrays = {key: array if key.endswith("labels") else 1000 + array.astype(np.float32) / 255
                  for key, array in self.arrays.items()}
        testing.write_dataset(self.folder / "shifted", arrays)
        settings = {"data.directory": self.folder / "shifted", "model.cost": "cross_entropy", "training.epochs": 10,
                    "model.layers": "conv 8x4x4 stride 4, batchnorm relu, dense 10", "training.batch_size": 64,
                    "training.optimizer": "momentum", "training.learning_rate": 0.05}
        accuracies = [self.train({**settings, "parallel.compression": compression}, ranks=2, output=compression)
                      .log().datasets["/epochs/test_accuracy"][-1] for compression in ("none", "bfloat16")]
        self.assertGreater(accuracies[0], 0.8)
        self.assertAlmostEqual(*accuracies, delta=0.03)

    def test_small_last_batch(self):
        """A shard with a single value in it measures no variance."""
        settings = {"model.layers": "dense 8, batchnorm sigmoid, dense 10", "model.cost": "cross_entropy",
                    "training.batch_size": 100, "training.epochs": 1, "training.learning_rate": 1e-6}

        def variances(samples):
            checkpoint = self.train({**settings, "data.train_samples": samples}, output=f"samples{samples}")
            return checkpoint.last_checkpoint().datasets["/model/02_batchnorm/running_var"]

        self.assert_close(variances(901), variances(900), 0.03, "running variances")

    def test_without_mpirun(self):
        self.assert_same_result(self.train(ranks=None, output="alone"), self.train(output="one"))

    def test_compressed_data(self):
        testing.write_dataset(self.folder / "gz", self.arrays, compressed=True)
        compressed = self.train({"data.directory": self.folder / "gz"}, ranks=2, output="gz-run")
        self.assert_same_result(compressed, self.train(ranks=2, output="plain-run"))

    def test_floats_of_any_shape(self):
        """Floats are not scaled. Bytes, divided beforehand and given as floats, train to the same bits."""
        sequences = {key: array if key.endswith("labels") else
                     (array / np.float32(255)).astype(np.float32).reshape(-1, 7, 28, 4)
                     for key, array in self.arrays.items()}
        testing.write_dataset(self.folder / "floats", sequences)
        floats = self.train({"data.directory": self.folder / "floats"}, ranks=2, output="of-floats")
        self.assertEqual(floats.last_checkpoint().attributes["sample_shape"], "7 28 4")
        self.assert_same_result(floats, self.train(ranks=1, output="of-bytes"))
        evaluated = [re.sub("(?m)^data set .*$", "", testing.run("dtrain-eval", floats.checkpoints()[-1], *images,
                                                                 cwd=self.folder).stdout)
                     for images in ([], ["--images", self.folder / "floats" / "t10k-images-idx4-float",
                                         "--labels", self.folder / "floats" / testing.FILE_NAMES["test_labels"]])]
        self.assertIn("accuracy", evaluated[0])
        self.assertEqual(*evaluated)

    def test_it_learns(self):
        accuracy = self.train({"training.epochs": 10}, ranks=2).log().datasets["/epochs/test_accuracy"]
        self.assertGreater(accuracy[-1], 0.8)
        self.assertGreater(accuracy[-1], accuracy[0])

    def test_seed_decides(self):
        first, second = (self.train({"model.seed": seed}, output=f"seed-{seed}").last_checkpoint() for seed in (1, 2))
        weight = next(name for name in first.datasets if name.endswith("/weight"))
        self.assertFalse(np.array_equal(first.datasets[weight], second.datasets[weight]))


if __name__ == "__main__":
    testing.main()
