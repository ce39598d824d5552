"""Compares training and evaluation with the same formulas in NumPy double precision."""

import sys
import unittest
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import bfloat16_network  # noqa: E402
import dtrain_testing as testing  # noqa: E402
from reference_network import ReferenceNetwork  # noqa: E402

STEPS = 50
TOLERANCE = 1e-4

SIGMOID_QUADRATIC = {"model.layers": "dense 16 sigmoid, dense 16 sigmoid, dense 10 sigmoid",
                     "model.cost": "quadratic"}
RELU_CROSS_ENTROPY = {"model.layers": "dense 16 relu, dense 16 relu, dense 10 linear", "model.cost": "cross_entropy"}
TANH_CROSS_ENTROPY = {"model.layers": "dense 20 tanh, dense 10", "model.cost": "cross_entropy"}


def descent(model, optimizer, learning_rate, **more):
    return {**model, "training.optimizer": optimizer, "training.learning_rate": learning_rate,
            **{f"training.{key}": value for key, value in more.items()}}


CASES = {
    "sigmoid, quadratic, sgd": descent(SIGMOID_QUADRATIC, "sgd", 1.0),
    "relu, cross-entropy, sgd": descent(RELU_CROSS_ENTROPY, "sgd", 0.1),
    "sigmoid, quadratic, momentum": descent(SIGMOID_QUADRATIC, "momentum", 0.3, momentum=0.8),
    "relu, cross-entropy, nesterov": descent(RELU_CROSS_ENTROPY, "nesterov", 0.02, momentum=0.9),
    "tanh, cross-entropy, sgd, weight decay": descent(TANH_CROSS_ENTROPY, "sgd", 0.1, weight_decay=0.05),
    "sigmoid, quadratic, nesterov, weight decay": descent(SIGMOID_QUADRATIC, "nesterov", 0.2, momentum=0.7,
                                                          weight_decay=0.01),
    "sigmoid, quadratic, adam, weight decay": descent(SIGMOID_QUADRATIC, "adam", 0.01, momentum=0.8, weight_decay=0.01),
    "tanh, cross-entropy, adamw, cosine, warm-up": descent(
        TANH_CROSS_ENTROPY, "adamw", 0.01, weight_decay=0.5, schedule="cosine", warmup_epochs=7),
    "tanh, cross-entropy, lars, weight decay": descent(TANH_CROSS_ENTROPY, "lars", 1.5, momentum=0.6,
                                                       weight_decay=0.05),
    "sigmoid, quadratic, lars, step, warm-up": descent(
        SIGMOID_QUADRATIC, "lars", 2.0, schedule="step", decay_epochs=20, decay_factor=0.3, warmup_epochs=3),
}


def rates_of(settings):
    """The learning rate of each full-batch step. A step is an epoch."""
    epochs = np.arange(STEPS)
    decays = epochs / settings.get("training.decay_epochs", 10)
    factor = settings.get("training.decay_factor", 0.1)
    schedule = {"constant": np.ones(STEPS), "step": factor ** np.floor(decays), "exponential": factor**decays,
                "cosine": (1 + np.cos(np.pi * epochs / STEPS)) / 2}[settings.get("training.schedule", "constant")]
    warm_up = np.minimum((epochs + 1) / max(settings.get("training.warmup_epochs", 0), 1), 1)
    return settings["training.learning_rate"] * schedule * warm_up


def network_of(checkpoint, settings):
    layers = [layer.split() for layer in settings["model.layers"].split(",")]
    activations = [words[2] if len(words) > 2 else "linear" for words in layers]  # dense N [activation]
    return ReferenceNetwork.from_checkpoint(checkpoint.datasets, activations, settings["model.cost"])


class ReferenceTest(testing.DtrainTestCase):
    def check_descent(self, settings, arrays, *, ranks):
        """Both programs train on the complete training set, from the checkpoint of an untrained network. Returns the
        parameters of both at the end."""
        settings = {**settings, "training.batch_size": "all", "training.epochs": STEPS}
        start = self.train(settings, "--training.epochs=0", ranks=ranks).last_checkpoint()
        trained = self.train(settings, ranks=ranks)
        end, log = trained.last_checkpoint(), trained.log().datasets
        self.assertEqual(start.attributes["step"], 0)
        self.assertEqual(end.attributes["step"], STEPS)

        network = network_of(start, settings)
        rates = rates_of(settings)
        self.assert_close(log["/epochs/learning_rate"], rates, 1e-12, "/epochs/learning_rate")
        costs = network.descend(
            arrays["train_images"], arrays["train_labels"], rates, optimizer=settings["training.optimizer"],
            momentum=settings.get("training.momentum", 0.9), weight_decay=settings.get("training.weight_decay", 0.0))
        self.assertLess(costs[-1], costs[0])
        self.assert_close(log["/steps/cost"], costs, TOLERANCE, "/steps/cost")
        test_cost, test_accuracy, _ = network.evaluate(arrays["test_images"], arrays["test_labels"])
        self.assert_close(log["/epochs/test_cost"][-1], test_cost, TOLERANCE, "/epochs/test_cost")
        self.assertAlmostEqual(log["/epochs/test_accuracy"][-1], test_accuracy, delta=1.5 / len(arrays["test_labels"]))
        return network_of(end, settings).parameters, network.parameters

    def test_full_batch_descent(self):
        for ranks, (name, settings) in enumerate(CASES.items()):
            ranks = 1 + ranks % 3
            with self.case(name, ranks=ranks):
                parameters = self.check_descent(settings, self.arrays, ranks=ranks)
                for number, (actual, expected) in enumerate(zip(*parameters)):
                    self.assert_close(actual, expected, TOLERANCE, f"parameters {number}")

    @unittest.skipUnless(testing.MNIST, "DTRAIN_MNIST does not name a folder with the MNIST files")
    def test_full_batch_descent_on_mnist(self):
        samples = {"train": 10000, "test": 2000}
        arrays = {key: testing.read_idx(testing.find_idx(testing.MNIST, key))[:samples[key.partition("_")[0]]]
                  for key in testing.FILE_NAMES}
        for name in ("sigmoid, quadratic, sgd", "relu, cross-entropy, sgd"):
            with self.case(name):
                settings = {**CASES[name], "data.directory": testing.MNIST,
                            "data.train_samples": samples["train"], "data.test_samples": samples["test"]}
                # With many samples, some input of a ReLU is so close to 0 that single precision rounds it to the other
                # side. This changes a few small biases more than the rest (in PyTorch as well). The distance between
                # all parameters still distinguishes rounding from a wrong formula.
                actual, expected = (np.concatenate([p.ravel() for p in parameters])
                                    for parameters in self.check_descent(settings, arrays, ranks=2))
                self.assertLess(np.linalg.norm(actual - expected), TOLERANCE * np.linalg.norm(expected))

    def test_bfloat16_gradients(self):
        """They are those of rounded factors. The sums in float32 add 2^-24, and move an activation or a derivative in
        10^4 across the middle between two numbers, which changes it by 2^-8. Unrounded gradients differ by about 2^-9,
        by which each factor is rounded at most."""
        samples = 300
        arrays = [self.arrays[key][:samples] for key in ("train_images", "train_labels")]
        for name, layers in bfloat16_network.NETWORKS.items():
            with self.case(name):
                start, cost, gradients = self.first_step({
                    "model.layers": layers, "model.cost": "cross_entropy", "data.train_samples": samples,
                    "training.precision": "bfloat16"})
                errors = {}
                for rounded in (True, False):
                    expected_cost, expected = bfloat16_network.gradients(layers, start.datasets, *arrays,
                                                                         rounded=rounded)
                    self.assertEqual(gradients.keys(), expected.keys())
                    errors[rounded] = {path: np.linalg.norm(gradients[path] - expected[path]) /
                                       np.linalg.norm(expected[path]) for path in expected}
                    self.assertAlmostEqual(cost, expected_cost, delta=(2e-6 if rounded else 2e-4) * cost)
                for path, error in errors[True].items():
                    self.assertLess(error, 2**-12, path)
                    self.assertLess(error, errors[False][path] / 8, path)
                    self.assertLess(errors[False][path], 2**-7, path)

    def test_every_sample_counts_once_per_epoch(self):
        """The step is too small to change a weight. So an epoch's costs, weighted by batch size, give the cost of the
        complete set, which is also the cost in the log. Test samples are counted once as well."""
        for ranks, batch_size in ((1, 30), (2, 64), (3, 5), (5, 100), (8, 1003), (7, 7)):
            settings = descent(RELU_CROSS_ENTROPY, "sgd", 1e-30, batch_size=batch_size, epochs=2)
            with self.case(ranks=ranks, batch_size=batch_size):
                trained = self.train(settings, ranks=ranks)
                network = network_of(trained.last_checkpoint(), settings)
                train_cost, train_accuracy, _ = network.evaluate(self.arrays["train_images"],
                                                                 self.arrays["train_labels"])
                test_cost, test_accuracy, _ = network.evaluate(self.arrays["test_images"], self.arrays["test_labels"])

                starts = np.arange(0, testing.TRAIN_SAMPLES, batch_size)
                sizes = np.minimum(batch_size, testing.TRAIN_SAMPLES - starts)
                log = trained.log().datasets
                costs = log["/steps/cost"].astype(np.float64).reshape(2, len(sizes))
                self.assert_close(costs @ sizes / sizes.sum(), [train_cost] * 2, 1e-5, "weighted step costs")
                self.assert_close(log["/epochs/train_cost"], [train_cost] * 2, 1e-5, "/epochs/train_cost")
                right = log["/steps/accuracy"].astype(np.float64).reshape(2, len(sizes)) * sizes
                self.assert_close(right, np.round(right), 1e-5, "counts of correct samples")
                for found in (right.sum(axis=1) / sizes.sum(), log["/epochs/train_accuracy"]):
                    self.assert_close(found, [train_accuracy] * 2, 1e-5, "training accuracy")
                self.assert_close(log["/epochs/test_cost"], [test_cost] * 2, 1e-5, "/epochs/test_cost")
                self.assert_close(log["/epochs/test_accuracy"], [test_accuracy] * 2, 1e-5, "/epochs/test_accuracy")
                if len(sizes) > 1:
                    self.assertFalse(np.array_equal(*costs), "both epochs went through the samples in the same order")


if __name__ == "__main__":
    testing.main()
