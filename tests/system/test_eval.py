"""dtrain-eval against a forward pass in NumPy double precision from the weights of the checkpoint."""

import re
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402
from reference_network import ReferenceNetwork, inputs_of  # noqa: E402

PRINTED = 0.6e-4  # accuracy is printed as a percentage with two decimals
NETWORKS = {
    "quadratic": ("dense 16 sigmoid, dense 10 sigmoid", ["sigmoid", "sigmoid"]),
    "cross_entropy": ("dense 24 relu, dense 12 tanh, dense 10 linear", ["relu", "tanh", "linear"]),
}


def numbers(line):
    return [float(text) for text in re.findall(r"[-+]?\d+\.?\d*(?:e[-+]?\d+)?", line)]


def confusion_matrix(output):
    """The ten lines that begin with a class and go on with ten counts."""
    rows = [numbers(line) for line in output.splitlines() if re.match(r"\s*\d[\s|:]", line)]
    rows = [row for row in rows if len(row) >= 11]
    assert [row[0] for row in rows] == list(range(10)), output
    return np.array([row[1:11] for row in rows], int)


def value_after(word, output):
    found = re.search(rf"(?i)\b{word}\b[^\d\n]*([\d.]+(?:e[-+]?\d+)?)\s*(%?)", output)
    assert found, f"no {word} in\n{output}"
    return float(found[1]) / (100 if found[2] else 1)


class EvalTest(testing.DtrainTestCase):
    def checkpoint_and_reference(self, cost, **more):
        layers, activations = NETWORKS[cost]
        trained = self.train({"model.layers": layers, "model.cost": cost, "training.learning_rate": 0.2, **more},
                             ranks=2, output=cost)
        network = ReferenceNetwork.from_checkpoint(trained.last_checkpoint().datasets, activations, cost)
        return trained, network

    def evaluate(self, *arguments):
        result = testing.run("dtrain-eval", *arguments, cwd=self.folder)
        self.assertEqual(result.code, testing.EXIT_OK, result)
        self.assertEqual(result.messages(), [])
        return result.stdout

    def check_evaluation(self, output, network, images, labels):
        cost, accuracy, confusion = network.evaluate(images, labels)
        self.assertAlmostEqual(value_after("accuracy", output), accuracy, delta=PRINTED)
        self.assertAlmostEqual(value_after("cost", output), cost, delta=1e-4 * cost)
        np.testing.assert_array_equal(confusion_matrix(output), confusion)

    def test_as_many_samples_as_the_config_says(self):
        trained, network = self.checkpoint_and_reference("cross_entropy", **{"data.test_samples": 50})
        self.check_evaluation(self.evaluate(trained.checkpoints()[-1]), network, self.arrays["test_images"][:50],
                              self.arrays["test_labels"][:50])

    def test_labelled(self):
        for cost in NETWORKS:
            with self.subTest(cost):
                trained, network = self.checkpoint_and_reference(cost)
                checkpoint = trained.checkpoints()[-1]
                before = testing.snapshot(self.folder)
                self.check_evaluation(self.evaluate(checkpoint), network,
                                      self.arrays["test_images"], self.arrays["test_labels"])
                files = {key: self.data / testing.FILE_NAMES[key] for key in testing.FILE_NAMES}
                output = self.evaluate(checkpoint, "--images", files["train_images"], "--labels", files["train_labels"])
                self.check_evaluation(output, network, self.arrays["train_images"], self.arrays["train_labels"])
                self.assertEqual(testing.snapshot(self.folder), before)

    def test_compressed_files(self):
        trained, network = self.checkpoint_and_reference("quadratic")
        testing.write_dataset(self.folder / "gz", self.arrays, compressed=True)
        images, labels = (testing.find_idx(self.folder / "gz", key) for key in ("test_images", "test_labels"))
        output = self.evaluate(trained.checkpoints()[-1], "--images", images, "--labels", labels)
        self.check_evaluation(output, network, self.arrays["test_images"], self.arrays["test_labels"])

    def test_agrees_with_the_log(self):
        trained, _ = self.checkpoint_and_reference("cross_entropy")
        log, output = trained.log().datasets, self.evaluate(trained.checkpoints()[-1])
        self.assertAlmostEqual(value_after("accuracy", output), log["/epochs/test_accuracy"][-1], delta=PRINTED)
        cost = log["/epochs/test_cost"][-1]
        self.assertAlmostEqual(value_after("cost", output), cost, delta=1e-4 * cost)

    def test_training_images_alone_are_distorted(self):
        """The log's figures are those of the test images as they are, and of training on others than these."""
        layers, _ = NETWORKS["quadratic"]
        plain = self.train({"model.layers": layers, "training.learning_rate": 0.2}, ranks=2, output="plain")
        distorted, network = self.checkpoint_and_reference("quadratic", **testing.DISTORTED)
        self.assertNotEqual(plain.fingerprint(), distorted.fingerprint())
        cost, accuracy, _ = network.evaluate(self.arrays["test_images"], self.arrays["test_labels"])
        log = distorted.log().datasets
        self.assertAlmostEqual(log["/epochs/test_cost"][-1], cost, delta=1e-5 * cost)
        self.assertAlmostEqual(log["/epochs/test_accuracy"][-1], accuracy, delta=1e-9)

    def test_unlabelled(self):
        for cost in NETWORKS:
            with self.subTest(cost):
                trained, network = self.checkpoint_and_reference(cost)
                images = self.arrays["test_images"]
                outputs = network.forward(inputs_of(images))[-1]
                output = self.evaluate(trained.checkpoints()[-1], "--images",
                                       self.data / testing.FILE_NAMES["test_images"])
                rows = [numbers(line) for line in output.splitlines() if re.match(r"\s*\d", line)]
                self.assertEqual(len(rows), len(images), output)
                rows = np.array([row[-2:] for row in rows])
                np.testing.assert_array_equal(rows[:, 0], outputs.argmax(axis=1))
                np.testing.assert_allclose(rows[:, 1], outputs.max(axis=1), rtol=0, atol=1e-3)

    def test_command_line(self):
        for arguments, word in (([], "checkpoint"), (["a.h5", "--colour"], "--colour"), (["a.h5", "b.h5"], "b.h5"),
                                (["a.h5", "--images"], "--images"), (["a.h5", "--labels", "l"], "--images")):
            with self.subTest(arguments):
                self.assert_usage_error("dtrain-eval", *arguments, word=word)

    def test_bad_data(self):
        trained, _ = self.checkpoint_and_reference("quadratic")
        checkpoint = trained.checkpoints()[-1]
        small = self.folder / "small"
        small.write_bytes(testing.idx_bytes(self.arrays["test_images"][:, :27, :27]))
        images, labels = (self.data / testing.FILE_NAMES[key] for key in ("test_images", "train_labels"))
        cases = {
            "images missing": (["--images", small / "none"], [small / "none"]),
            "images that do not fit": (["--images", small], [small, 27, 28]),
            "other number of labels": (["--images", images, "--labels", labels],
                                       [labels, testing.TRAIN_SAMPLES, testing.TEST_SAMPLES]),
        }
        for name, (arguments, words) in cases.items():
            with self.subTest(name):
                self.assert_refused("dtrain-eval", checkpoint, *arguments, code=testing.EXIT_BAD_DATA, words=words)


if __name__ == "__main__":
    testing.main()
