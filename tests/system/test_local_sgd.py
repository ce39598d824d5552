"""Local SGD: logical shards train separately and are averaged every few steps."""

import sys
import unittest
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402
from reference_network import ReferenceNetwork  # noqa: E402

SETTINGS = {"model.layers": "dense 12 tanh, dense 10", "model.cost": "cross_entropy", "training.learning_rate": 0.1,
            "training.epochs": 3, "training.batch_size": 40}


class LocalSgdTest(testing.DtrainTestCase):
    def test_one_shard_is_plain_descent(self):
        """With one shard there is nothing to average: the bits are those of training without local SGD."""
        for optimizer in ("sgd", "momentum", "adam"):
            with self.case(optimizer=optimizer):
                settings = {**SETTINGS, "training.optimizer": optimizer, "training.learning_rate": 0.02,
                            "parallel.logical_shards": 1}
                plain = self.train(settings, output=f"plain-{optimizer}")
                local = self.train({**settings, "parallel.sync_every": 3}, output=f"local-{optimizer}")
                self.assert_same_result(local, plain)

    def test_same_bits_on_any_number_of_ranks(self):
        settings = {**SETTINGS, "training.optimizer": "momentum", "training.clip_norm": 0.5, "parallel.logical_shards": 6,
                    "parallel.sync_every": 4}
        one = self.train(settings, output="one")
        for ranks in (2, 3, 5):
            with self.case(ranks=ranks):
                self.assert_same_result(self.train(settings, ranks=ranks, output=f"ranks-{ranks}"), one)
        with self.case("two nodes"):
            self.assert_same_result(
                self.train(settings, "--parallel.ranks_per_node=2", ranks=3, output="nodes"), one)
        with self.case("resumed on other ranks"):
            self.train(settings, "--training.epochs=1", ranks=3, output="resumed")
            self.assert_same_result(self.train(settings, ranks=2, output="resumed"), one)

    def test_agrees_with_numpy(self):
        """All samples of a shard are equal, so their order does not matter: each shard trains on one sample. The
        parameters of all shards are averaged after every third step and after the last step of an epoch."""
        shards, steps, every = 4, 8, 3
        images, labels = self.arrays["train_images"], self.arrays["train_labels"]
        chosen = [np.flatnonzero(labels == digit)[:1] for digit in range(shards)]
        rows = np.repeat(chosen, 2 * steps)  # two samples of each shard in each step
        alike = self.folder / "alike"
        testing.write_dataset(alike, {**self.arrays, "train_images": images[rows], "train_labels": labels[rows]})
        settings = {**SETTINGS, "data.directory": alike, "training.epochs": 1, "training.batch_size": 2 * shards,
                    "parallel.logical_shards": shards, "parallel.sync_every": every}
        start = self.train(settings, "--training.epochs=0", ranks=2).last_checkpoint()
        trained = self.train(settings, ranks=2)

        def network_of(checkpoint):
            return ReferenceNetwork.from_checkpoint(checkpoint.datasets, ["tanh", "linear"], "cross_entropy")

        networks = [network_of(start) for _ in range(shards)]
        costs, accuracies = np.zeros((2, steps))
        for step in range(steps):
            for network, row in zip(networks, chosen):
                rates = [SETTINGS["training.learning_rate"]]
                accuracies[step] += network.evaluate(images[row], labels[row])[1] / shards
                costs[step] += network.descend(images[row], labels[row], rates, optimizer="sgd")[0] / shards
            if (step + 1) % every == 0 or step + 1 == steps:
                for tensors in zip(*(network.parameters for network in networks)):
                    mean = np.mean(tensors, axis=0)
                    for tensor in tensors:
                        tensor[...] = mean
        self.assert_close(trained.log().datasets["/steps/cost"], costs, 1e-4, "/steps/cost")
        self.assert_close(trained.log().datasets["/steps/accuracy"], accuracies, 1e-4, "/steps/accuracy")
        for actual, expected in zip(network_of(trained.last_checkpoint()).parameters, networks[0].parameters):
            self.assert_close(actual, expected, 1e-4, "parameters")

    def test_check(self):
        """The checks also work on ranks whose slices contain other values than parameters or states."""
        settings = {**SETTINGS, "model.layers": "dense 2500 relu, dense 10", "training.optimizer": "adam",
                    "parallel.sync_every": 4}
        for ranks in (1, 3):
            with self.case(ranks=ranks):
                result = testing.run("dtrain", self.write_config(settings), "--check", ranks=ranks, cwd=self.folder)
                self.assertEqual(result.code, testing.EXIT_OK, result)

    def test_refuses_lars(self):
        config = self.write_config({**SETTINGS, "training.optimizer": "lars", "parallel.sync_every": 2})
        self.assert_refused("dtrain", config, code=testing.EXIT_BAD_CONFIG, words=["sync_every", "lars"])


if __name__ == "__main__":
    testing.main()
