"""The number of ranks changes nothing about the result."""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

# Each trains on 1003 samples, which neither the shards nor the batches divide.
CASES = {
    "sigmoid, quadratic, sgd": {"training.batch_size": 30, "training.learning_rate": 1.0},
    "relu, cross-entropy, momentum": {**testing.RELU_CROSS_ENTROPY, "training.batch_size": 64,
                                      "training.optimizer": "momentum", "training.learning_rate": 0.02},
    "batch smaller than the shards, nesterov": {**testing.RELU_CROSS_ENTROPY, "training.batch_size": 5,
                                                "training.epochs": 1, "training.optimizer": "nesterov",
                                                "training.learning_rate": 0.001},
    "full batch, weight decay": {"training.batch_size": "all", "training.epochs": 5,
                                 "training.weight_decay": 0.001},
    "wide layers": {"model.layers": "dense 150 relu, dense 70 tanh, dense 10", "model.cost": "cross_entropy",
                    "training.batch_size": 200, "training.learning_rate": 0.05},
    "fewer samples than shards": {"data.train_samples": 6, "data.test_samples": 3, "training.batch_size": 4},
}


# Ranks, and how many of them count as a node (0: all, as they share a machine): 2 x 1, 2 x 2, 3 + 2, 4 x 2.
SPLITS = ((2, 0), (3, 0), (5, 0), (8, 0), (2, 1), (4, 2), (5, 3), (8, 2))


class NumberOfRanksTest(testing.DtrainTestCase):
    def test_ranks_do_not_change_the_result(self):
        for name, settings in CASES.items():
            with self.case(name):
                expected = self.train(settings)
                for ranks, node_ranks in SPLITS:
                    with self.case(name, ranks=ranks, node_ranks=node_ranks):
                        actual = self.train({**settings, "parallel.node_ranks": node_ranks}, ranks=ranks)
                        self.assert_same_result(actual, expected)

    def test_mpi_reducer_agrees_to_rounding(self):
        for ranks in (2, 3):
            actual = self.train({"parallel.reducer": "mpi"}, ranks=ranks)
            self.assert_same_result(actual, self.train(), tolerance=1e-4)

    def test_without_mpirun(self):
        self.assert_same_result(self.train(ranks=None, output="alone"), self.train(output="one"))

    def test_compressed_data(self):
        testing.write_dataset(self.folder / "gz", self.arrays, compressed=True)
        compressed = self.train({"data.directory": self.folder / "gz"}, ranks=2, output="gz-run")
        self.assert_same_result(compressed, self.train(ranks=2, output="plain-run"))

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
