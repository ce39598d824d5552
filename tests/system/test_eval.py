"""Compares dtrain-eval with a forward pass in NumPy double precision from the weights of the checkpoint."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402
from reference_network import COSTS, ReferenceNetwork, inputs_of, one_hot, softmax  # noqa: E402

PRINTED = 0.6e-4  # accuracy is printed as a percentage with two decimals
NETWORKS = {
    "quadratic": ("dense 16 sigmoid, dense 10 sigmoid", ["sigmoid", "sigmoid"]),
    "cross_entropy": ("dense 24 relu, dense 12 tanh, dense 10 linear", ["relu", "tanh", "linear"]),
}


def numbers(line):
    return [float(text) for text in re.findall(r"[-+]?\d+\.?\d*(?:e[-+]?\d+)?", line)]


def confusion_matrix(output):
    """The ten lines that consist of a class and ten counts."""
    rows = [numbers(line) for line in output.splitlines() if re.match(r"\s*\d[\s|:]", line)]
    rows = [row for row in rows if len(row) >= 11]
    assert [row[0] for row in rows] == list(range(10)), output
    return np.array([row[1:11] for row in rows], int)


def value_after(word, output):
    found = re.search(rf"(?i)\b{word}\b[^\d\n]*([\d.]+(?:e[-+]?\d+)?)\s*(%?)", output)
    assert found, f"no {word} in\n{output}"
    return float(found[1]) / (100 if found[2] else 1)


class EvalTestCase(testing.DtrainTestCase):
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


class EvalTest(EvalTestCase):
    def test_number_of_samples_of_the_config(self):
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

    def test_other_data_sets(self):
        """The test set of a folder of IDX files or of an HDF5 file. The numbers of samples of the config do not matter."""
        trained, network = self.checkpoint_and_reference("quadratic", **{"data.test_samples": 50})
        swapped = {f"{part}_{key}": self.arrays[f"{other}_{key}"][:400]
                   for part, other in (("train", "test"), ("test", "train")) for key in ("images", "labels")}
        testing.write_dataset(self.folder / "swapped", swapped)
        with h5py.File(self.folder / "swapped.h5", "w") as file:
            for key, array in swapped.items():
                file[key.replace("_", "/").replace("images", "samples")] = array
        for name in ("swapped", "swapped.h5"):
            with self.subTest(name):
                self.check_evaluation(self.evaluate(trained.folder, "--data", name), network, swapped["test_images"],
                                      swapped["test_labels"])
                self.evaluate(trained.folder, "--data", name, "--record", "e.h5", "--surface", 5)
                record = testing.read_h5(self.folder / "e.h5")
                self.assertEqual((record.attributes["dataset"], record.attributes["/surface/set"]), (name, "training"))

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

    def test_outputs_in_bfloat16(self):
        """They are those of training: their cost is the cost in the log. Outputs in float32 differ visibly."""
        trained, network = self.checkpoint_and_reference("quadratic", **{
            "training.precision": "bfloat16", "model.layers": "dense 48 sigmoid, dense 10 sigmoid"})
        self.evaluate(trained.checkpoints()[-1], "--record", self.folder / "evaluation.h5")
        outputs = testing.read_h5(self.folder / "evaluation.h5").datasets["/samples/output"].astype(float)
        targets = np.eye(10)[self.arrays["test_labels"]]
        cost = np.square(outputs - targets).sum(axis=1).mean()
        self.assertAlmostEqual(cost, trained.log().datasets["/epochs/test_cost"][-1], delta=1e-7 * cost)
        unrounded = network.evaluate(self.arrays["test_images"], self.arrays["test_labels"])[0]
        self.assertGreater(abs(unrounded - cost), 1e-6 * cost)

    def test_folders_stand_for_their_newest_checkpoint(self):
        trained = self.train({"training.learning_rate": 0.2})
        newest = self.evaluate(trained.checkpoints()[-1])
        for path in (trained.folder, trained.folder / "checkpoints"):
            self.assertEqual(self.evaluate(path), newest)
        earlier = self.evaluate(trained.checkpoints()[-2])
        self.assertNotEqual(earlier, newest)
        trained.checkpoints()[-1].write_bytes(b"damaged")
        result = testing.run("dtrain-eval", trained.folder, cwd=self.folder)
        self.assertEqual((result.code, result.stdout), (testing.EXIT_OK, earlier), result)
        self.assertRegex(result.stderr, "^dtrain-eval: warning: .*trying an older checkpoint\n$")
        self.assert_refused("dtrain-eval", self.data, code=testing.EXIT_BAD_CHECKPOINT,
                            words=[self.data, "no valid checkpoint in this folder"])

    def test_only_training_images_are_distorted(self):
        """The log has the accuracy and cost of undistorted test images, but of training on distorted images."""
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
                                (["a.h5", "--images"], "--images"), (["a.h5", "--labels", "l"], "--images"),
                                (["a.h5", "--images", "i", "--data", "d"], "--data"),
                                *((["a.h5", "--show", count], "--show") for count in ("0", "-1", "two", "3x", "")),
                                *((["a.h5", "--record", "e.h5", "--surface", points], "--surface")
                                  for points in ("4", "501", "-5", "x")),
                                (["a.h5", "--show"], "--show"), (["a.h5", "--wrong"], "--show"),
                                (["a.h5", "--surface", "9"], "--record"),
                                (["a.h5", "--images", "i", "--record", "e.h5"], "--labels"),
                                (["a.h5", "--images", "i", "--show", "3", "--wrong"], "--labels")):
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
            "data set missing": (["--data", "nowhere"], ["nowhere"]),
            "folder without data": (["--data", trained.folder], [trained.folder, "t10k-images"]),
            "other number of labels": (["--images", images, "--labels", labels],
                                       [labels, testing.TRAIN_SAMPLES, testing.TEST_SAMPLES]),
        }
        for name, (arguments, words) in cases.items():
            with self.subTest(name):
                self.assert_refused("dtrain-eval", checkpoint, *arguments, code=testing.EXIT_BAD_DATA, words=words)

    def test_record_that_cannot_be_written(self):
        trained, _ = self.checkpoint_and_reference("quadratic")
        checkpoint = trained.checkpoints()[-1]
        link = self.folder / "link.h5"
        link.symlink_to(checkpoint)
        for code, file in ((testing.EXIT_BAD_OUTPUT, self.folder / "absent" / "e.h5"),
                           (testing.EXIT_BAD_OUTPUT, self.folder)):
            with self.subTest(file):
                self.assert_refused("dtrain-eval", checkpoint, "--record", file, code=code, words=[file])
        for file in (checkpoint, link, self.data / testing.FILE_NAMES["test_labels"]):
            with self.subTest(file):
                before = testing.snapshot(self.folder), testing.snapshot(self.data)
                self.assert_refused("dtrain-eval", checkpoint, "--record", file, code=testing.EXIT_BAD_OUTPUT,
                                    words=[file, "not an evaluation file"])
                self.assertEqual((testing.snapshot(self.folder), testing.snapshot(self.data)), before)


class ShowTest(EvalTestCase):
    def shown(self, output):
        """(sample, label, prediction) of each drawing."""
        heads = re.findall(r"sample (\d+): (\d)(?:, predicted (\d)  ✗ wrong|  ✓)", output)
        return [(int(sample), int(label), int(prediction or label)) for sample, label, prediction in heads]

    def test_first_and_most_wrong(self):
        trained, network = self.checkpoint_and_reference("cross_entropy", **{"training.epochs": 1})
        checkpoint, labels = trained.checkpoints()[-1], self.arrays["test_labels"]
        strengths = softmax(network.forward(inputs_of(self.arrays["test_images"]))[-1])
        predictions = strengths.argmax(axis=1)
        output = self.evaluate(checkpoint, "--show", "5")
        self.assertEqual(self.shown(output), [(n, labels[n], predictions[n]) for n in range(5)])
        self.assertNotIn("\x1b", output)
        self.assertNotIn("accuracy", output)
        bars = re.findall(r"^.{28}   +(\d) .* (\d\.\d{4})(?: [◀◁].*)?$", output, re.M)
        self.assertEqual([int(digit) for digit, _ in bars], 5 * list(range(10)))
        np.testing.assert_allclose([float(value) for _, value in bars], strengths[:5].ravel(), rtol=0, atol=1e-4)

        wrong = np.flatnonzero(predictions != labels)
        self.assertGreater(len(wrong), 5)
        excess = strengths[wrong].max(axis=1) - strengths[wrong, labels[wrong]]
        worst = wrong[np.argsort(-excess, kind="stable")]
        output = self.evaluate(checkpoint, "--show", "1000", "--wrong")
        self.assertIn(f"{len(wrong)} of {len(labels)} samples", output)
        self.assertEqual(self.shown(output), [(n, labels[n], predictions[n]) for n in worst])

    def test_unlabelled_and_on_a_terminal(self):
        trained, _ = self.checkpoint_and_reference("quadratic")
        words = testing.command("dtrain-eval", trained.checkpoints()[-1], "--show", 1, "--images",
                                self.data / testing.FILE_NAMES["test_images"])
        for no_color, coloured in (("", True), ("1", False)):
            with self.subTest(NO_COLOR=no_color):
                ours, theirs = pty.openpty()
                environment = {**os.environ, "TERM": "xterm", "NO_COLOR": no_color}
                with subprocess.Popen(words, stdout=theirs, env=environment) as process:
                    os.close(theirs)
                    output = b""
                    try:
                        while piece := os.read(ours, 65536):
                            output += piece
                    except OSError:  # a terminal reports its end in this way
                        pass
                os.close(ours)
                self.assertEqual(process.returncode, 0)
                self.assertIn(b"sample 0: predicted ", output)
                self.assertEqual(b"\x1b[38;5;" in output, coloured)


class RecordTest(EvalTestCase):
    def record(self, checkpoint, *arguments, warnings=0):
        file = self.folder / "evaluation.h5"
        result = testing.run("dtrain-eval", checkpoint, "--record", file, *arguments, cwd=self.folder)
        self.assertEqual(result.code, testing.EXIT_OK, result)
        self.assertEqual(len(result.messages()), warnings, result)
        return testing.read_h5(file), result

    @staticmethod
    def vector(datasets, group):
        """The tensors of a group as one vector, in the order of ReferenceNetwork.parameters."""
        layers = sorted({name.rpartition("/")[0] for name in datasets if name.startswith(group + "/")})
        return np.concatenate([datasets[f"{layer}/{part}"].astype(np.float64).ravel()
                               for layer in layers for part in ("weight", "bias")])

    def check_samples(self, file, network):
        images, labels = self.arrays["test_images"], self.arrays["test_labels"]
        values = network.forward(inputs_of(images))
        strengths = softmax(values[-1]) if network.cost == "cross_entropy" else values[-1]
        predictions = strengths.argmax(axis=1)
        self.assert_close(file.datasets["/samples/output"], strengths, 1e-5, "outputs")
        np.testing.assert_array_equal(file.datasets["/samples/label"], labels)
        np.testing.assert_array_equal(file.datasets["/samples/prediction"], predictions)
        cost, accuracy, _ = network.evaluate(images, labels)
        self.assertAlmostEqual(file.attributes["cost"], cost, delta=1e-5 * cost)
        self.assertEqual(file.attributes["accuracy"], accuracy)

        first = [np.flatnonzero(labels == digit)[0] for digit in range(10)]
        np.testing.assert_array_equal(file.datasets["/shown/index"], first)
        self.assert_close(file.datasets["/shown/image"], images[first] / 255, 1e-7, "images")
        for number, activations in enumerate(values[1:], 1):
            name = f"/shown/layers/{number:02}_dense"
            self.assert_close(file.datasets[name], activations[first], 1e-5, name)

        wrong = file.datasets["/wrong/index"]
        excess = strengths.max(axis=1) - strengths[np.arange(len(labels)), labels]
        self.assertEqual(len(wrong), min(25, np.count_nonzero(excess)))
        np.testing.assert_allclose(excess[wrong], np.sort(excess)[::-1][:len(wrong)], rtol=0, atol=1e-5)
        self.assert_close(file.datasets["/wrong/image"], images[wrong] / 255, 1e-7, "wrong images")

    def check_surface(self, file, network, path):
        """`path`: one vector of parameters for each point, the end last."""
        surface = {name.removeprefix("/surface/"): values for name, values in file.datasets.items()}
        direction_x, direction_y = (self.vector(file.datasets, f"/surface/direction_{axis}") for axis in "xy")
        for product, expected in ((direction_x @ direction_x, 1), (direction_y @ direction_y, 1),
                                  (direction_x @ direction_y, 0)):
            self.assertAlmostEqual(product, expected, delta=1e-6)
        differences = np.array(path) - path[-1]
        for axis, direction in (("x", direction_x), ("y", direction_y)):
            self.assert_close(surface[f"path_{axis}"], differences @ direction, 1e-5, f"path_{axis}")
            self.assertEqual(surface[f"path_{axis}"][-1], 0)
            self.assertEqual(np.count_nonzero(surface[axis] == 0), 1)
            self.assertGreater(surface[axis][-1], surface[f"path_{axis}"].max())
            self.assertLess(surface[axis][0], surface[f"path_{axis}"].min())

        inputs, targets = inputs_of(self.arrays["train_images"]), one_hot(self.arrays["train_labels"])

        def cost_at(parameters):
            sizes = np.cumsum([tensor.size for tensor in network.parameters])[:-1]
            parts = [part.reshape(like.shape) for part, like in zip(np.split(parameters, sizes), network.parameters)]
            moved = ReferenceNetwork(parts, network.activations, network.cost)
            return COSTS[network.cost](moved.forward(inputs)[-1], targets)[0]

        np.testing.assert_allclose(surface["path_cost"], [cost_at(point) for point in path], rtol=1e-5)
        expected = [[cost_at(path[-1] + x * direction_x + y * direction_y) for x in surface["x"]] for y in surface["y"]]
        np.testing.assert_allclose(surface["cost"], expected, rtol=1e-4)
        centre = surface["cost"][np.flatnonzero(surface["y"] == 0)[0], np.flatnonzero(surface["x"] == 0)[0]]
        self.assertEqual(centre, surface["path_cost"][-1])
        self.assertEqual((file.attributes["/surface/samples"], file.attributes["/surface/set"]),
                         (testing.TRAIN_SAMPLES, "training"))
        return surface, differences, direction_x

    def test_agrees_with_numpy(self):
        for cost in NETWORKS:
            with self.case(cost):
                trained, network = self.checkpoint_and_reference(
                    cost, **{"training.epochs": 4, "output.keep_checkpoints": 0})
                untrained, _ = self.checkpoint_and_reference(
                    cost, **{"training.epochs": 0, "output.directory": self.folder / "untrained"})
                files = [*untrained.checkpoints(), *trained.checkpoints()]
                file, _ = self.record(files[-1], "--surface", 9)
                self.check_samples(file, network)
                path = [self.vector(testing.read_h5(checkpoint).datasets, "/model") for checkpoint in files]
                surface, differences, direction_x = self.check_surface(file, network, path)
                self.assertEqual([f"step-{step:08}.h5" for step in surface["path_step"]], [path.name for path in files])
                self.assertEqual(file.attributes["/surface/directions"], "pca")
                _, values, vectors = np.linalg.svd(differences, full_matrices=False)
                np.testing.assert_allclose(surface["explained"], values[:2]**2 / np.sum(values**2), rtol=1e-5)
                self.assertAlmostEqual(abs(vectors[0] @ direction_x), 1, delta=1e-5)

    def test_same_bytes_again_and_with_one_point_only(self):
        trained, _ = self.checkpoint_and_reference("quadratic", **{"training.epochs": 0})
        checkpoint = trained.checkpoints()[-1]
        file, _ = self.record(checkpoint, "--surface", 5)
        first = (self.folder / "evaluation.h5").read_bytes()
        self.record(checkpoint, "--surface", 5)
        self.assertEqual((self.folder / "evaluation.h5").read_bytes(), first)
        self.assertEqual(file.attributes["/surface/directions"], "random")
        self.assertEqual(list(file.datasets["/surface/path_step"]), [0])
        self.assertEqual(file.attributes["kind"], "evaluation")
        self.assertEqual(file.attributes["checkpoint"], str(checkpoint))

    def test_other_samples_and_no_surface(self):
        trained, network = self.checkpoint_and_reference("quadratic")
        images, labels = (self.data / testing.FILE_NAMES[key] for key in ("train_images", "train_labels"))
        file, result = self.record(trained.checkpoints()[-1], "--images", images, "--labels", labels, "--surface", 0)
        self.check_evaluation(result.stdout, network, self.arrays["train_images"], self.arrays["train_labels"])
        self.assertFalse([name for name in file.datasets if name.startswith("/surface")])
        np.testing.assert_array_equal(file.datasets["/samples/label"], self.arrays["train_labels"])
        self.assertEqual(file.attributes["dataset"], str(images))

    def test_layers_of_samples_side_by_side(self):
        trained = self.train({"model.layers": "conv 3x5x5 relu, maxpool 2, dropout 0.2, dense 10",
                              "model.cost": "cross_entropy", "training.learning_rate": 0.05}, ranks=2)
        file, _ = self.record(trained.checkpoints()[-1], "--surface", 0)
        images = file.datasets["/shown/image"].astype(np.float64)
        weight, bias = (trained.last_checkpoint().datasets[f"/model/01_conv/{name}"] for name in ("weight", "bias"))
        windows = np.lib.stride_tricks.sliding_window_view(images, (5, 5), axis=(1, 2))
        maps = np.maximum(np.einsum("nhwij,cij->nchw", windows, weight[:, 0]) + bias[:, None, None], 0)
        layers = [file.datasets[f"/shown/layers/{number:02}_{name}"]
                  for number, name in enumerate(("conv", "maxpool", "dropout", "dense"), 1)]
        pooled = maps.reshape(10, 3, 12, 2, 12, 2).max(axis=(3, 5))
        for layer, expected in zip(layers, (maps, pooled, pooled)):
            self.assert_close(layer, expected, 1e-5, "a layer")
        self.assert_close(softmax(layers[3].astype(np.float64)),
                          file.datasets["/samples/output"][file.datasets["/shown/index"]], 1e-5, "outputs")

    def test_long_paths_are_thinned(self):
        trained, _ = self.checkpoint_and_reference("quadratic", **{
            "training.epochs": 1, "training.batch_size": 8, "output.checkpoint_every": "1 steps",
            "output.keep_checkpoints": 0})
        file, _ = self.record(trained.checkpoints()[-1], "--surface", 5)
        steps = file.datasets["/surface/path_step"]
        self.assertEqual(list(steps), [0, *(1 + i * 125 // 100 for i in range(100)), 126])

    def test_checkpoints_that_do_not_belong_to_the_path(self):
        trained, _ = self.checkpoint_and_reference("quadratic", **{"training.epochs": 3})
        first, second, last = trained.checkpoints()
        first.write_bytes(first.read_bytes()[:-100])
        other, _ = self.checkpoint_and_reference("cross_entropy", **{"output.directory": self.folder / "other"})
        second.write_bytes(other.checkpoints()[1].read_bytes())
        file, result = self.record(last, "--surface", 5, warnings=2)
        for line, name in zip(result.messages(), (first, second)):
            self.assertTrue(line.startswith(f"dtrain-eval: warning: {name}: "), line)
        self.assertEqual(list(file.datasets["/surface/path_step"]), [0, int(last.name[5:-3])])
        self.assertEqual(file.attributes["/surface/directions"], "random")


if __name__ == "__main__":
    testing.main()
