"""Training as a user runs it: any number of ranks, log and checkpoints, running on, output on the screen."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import unittest
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

SEED_LAYERS = "dense 16 sigmoid, dense 16 sigmoid, dense 10 sigmoid"
SEED_PARAMETERS = 13002  # 784 * 16 + 16 + 16 * 16 + 16 + 16 * 10 + 10

RELU_CROSS_ENTROPY = {"model.layers": "dense 24 relu, dense 10 linear", "model.cost": "cross_entropy",
                      "training.learning_rate": 0.05}

# Each trains on 1003 samples, which neither the shards nor the batches divide.
CASES = {
    "sigmoid, quadratic, sgd": {"training.batch_size": 30, "training.learning_rate": 1.0},
    "relu, cross-entropy, momentum": {**RELU_CROSS_ENTROPY, "training.batch_size": 64,
                                      "training.optimizer": "momentum", "training.learning_rate": 0.02},
    "batch smaller than the shards, nesterov": {**RELU_CROSS_ENTROPY, "training.batch_size": 5, "training.epochs": 1,
                                                "training.optimizer": "nesterov", "training.learning_rate": 0.001},
    "full batch, weight decay": {"training.batch_size": "all", "training.epochs": 5,
                                 "training.weight_decay": 0.001},
    "fewer samples than shards": {"data.train_samples": 6, "data.test_samples": 3, "training.batch_size": 4},
}


def steps_per_epoch(batch_size, samples=testing.TRAIN_SAMPLES):
    return -(-samples // batch_size)


class NumberOfRanksTest(testing.DtrainTestCase):
    def test_ranks_do_not_change_the_result(self):
        for name, settings in CASES.items():
            expected = self.train(settings, output="one")
            for ranks in (2, 3, 5, 8):
                with self.subTest(name, ranks=ranks):
                    actual = self.train(settings, ranks=ranks, output="several")
                    self.assert_same_result(actual, expected, testing.RANK_COUNT_TOLERANCE)
                    self.forget(actual)
            self.forget(expected)

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


class FilesTest(testing.DtrainTestCase):
    def test_log(self):
        epochs, ranks, batch_size = 3, 3, 64
        trained = self.train({"training.epochs": epochs, "training.batch_size": batch_size,
                              "training.learning_rate": 0.5}, ranks=ranks)
        log = trained.log()
        steps = steps_per_epoch(batch_size)
        floats, integers = "f", "iu"
        columns = {"epoch": integers, "step": integers, "train_cost": floats, "test_cost": floats,
                   "test_accuracy": floats, "learning_rate": floats, "seconds": floats, "samples_per_second": floats}
        datasets = log.datasets
        self.assertEqual(set(datasets), {"/steps/cost", *(f"/epochs/{name}" for name in columns),
                                         "/ranks/compute_seconds", "/ranks/reduce_seconds", "/ranks/data_seconds"})
        self.assertEqual(datasets["/steps/cost"].shape, (epochs * steps,))
        self.assertEqual(datasets["/steps/cost"].dtype, np.float32)
        for name, kind in columns.items():
            with self.subTest(name):
                self.assertEqual(datasets[f"/epochs/{name}"].shape, (epochs,))
                self.assertIn(datasets[f"/epochs/{name}"].dtype.kind, kind)
        for name in ("compute_seconds", "reduce_seconds", "data_seconds"):
            with self.subTest(name):
                values = datasets[f"/ranks/{name}"]
                self.assertEqual(values.shape, (epochs, ranks))
                self.assertEqual(values.dtype, np.float64)
                self.assertTrue((values >= 0).all())
        self.assertEqual(list(datasets["/epochs/epoch"]), [1, 2, 3])
        self.assertEqual(list(datasets["/epochs/step"]), [steps, 2 * steps, 3 * steps])
        self.assertEqual(list(datasets["/epochs/learning_rate"].astype(np.float32)), [0.5] * epochs)
        self.assertTrue((datasets["/epochs/seconds"] > 0).all())
        self.assertTrue((datasets["/epochs/samples_per_second"] > 0).all())

        attributes = log.attributes
        self.assertLessEqual({"format_version", "dtrain_version", "created", "ranks", "nodes", "parameters", "dataset",
                              "config"}, set(attributes))
        self.assertEqual(attributes["ranks"], ranks)
        self.assertEqual(attributes["nodes"], 1)
        self.assertEqual(attributes["parameters"], SEED_PARAMETERS)
        self.assertIn("unknown IDX data", attributes["dataset"])
        self.assertRegex(attributes["created"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
        self.assertIn("batch_size = 64", attributes["config"])

    @unittest.skipUnless(testing.MNIST, "DTRAIN_MNIST does not name a folder with the MNIST files")
    def test_mnist_is_recognised(self):
        trained = self.train({"data.directory": testing.MNIST, "training.epochs": 1, "training.batch_size": 1000},
                             ranks=2)
        self.assertEqual(trained.log().attributes["dataset"], "MNIST")
        self.assertRegex(trained.result.stdout, r"\bMNIST\b")

    def test_checkpoint(self):
        trained = self.train({"training.optimizer": "momentum", "training.learning_rate": 0.1, "model.seed": 5},
                             ranks=2)
        steps = 2 * steps_per_epoch(64)
        self.assertEqual(trained.checkpoints()[-1].name, f"step-{steps:08}.h5")
        checkpoint = trained.last_checkpoint()
        attributes = checkpoint.attributes
        for name, value in {"epoch": 2, "step": steps, "seed": 5, "logical_shards": 8}.items():
            self.assertEqual(attributes[name], value, name)
        self.assertLessEqual({"format_version", "config"}, set(attributes))
        self.assertEqual(attributes["config"], (trained.folder / "config.ini").read_text())
        self.assertNotIn("ranks", attributes)

        weights = sorted(name for name in checkpoint.datasets if name.startswith("/model/"))
        self.assertEqual(len(weights), 6)
        shapes = {"weight": [(16, 784), (16, 16), (10, 16)], "bias": [(16,), (16,), (10,)]}
        for part, expected in shapes.items():
            names = [name for name in weights if re.fullmatch(rf"/model/\d\d_dense/{part}", name)]
            self.assertEqual([checkpoint.datasets[name].shape for name in names], expected)
            self.assertEqual({checkpoint.datasets[name].dtype for name in names}, {np.dtype(np.float32)})
        self.assertTrue(any(name.startswith("/optimizer/") for name in checkpoint.datasets))

        log = trained.log().datasets
        for name, values in log.items():
            if name.startswith(("/steps/", "/epochs/")):
                with self.subTest(name):
                    self.assert_close(checkpoint.datasets[name], values, 0, name)

        with h5py.File(trained.checkpoints()[-1], "r") as file:
            file.visititems(lambda name, item: self.assertTrue(
                isinstance(item, h5py.Group) or item.fletcher32, f"{name} has no checksum"))

    def test_h5dump_reads_log_and_checkpoints(self):
        trained = self.train(ranks=2)
        for path in (trained.folder / "log.h5", *trained.checkpoints()):
            with self.subTest(path.name):
                dump = subprocess.run(["h5dump", path], capture_output=True, text=True, timeout=30, check=False)
                self.assertEqual((dump.returncode, dump.stderr), (0, ""))
                self.assertIn('ATTRIBUTE "config"', dump.stdout)

    def test_nothing_but_the_files_of_the_contract(self):
        for ranks in (None, 2):
            with self.subTest(ranks=ranks):
                trained = self.train(ranks=ranks)
                steps = steps_per_epoch(64)
                self.assertEqual(trained.files(), {"config.ini", "log.h5", f"checkpoints/step-{steps:08}.h5",
                                                   f"checkpoints/step-{2 * steps:08}.h5"})
                self.forget(trained)

    def test_no_epochs_write_the_initial_network(self):
        untrained = self.train({"training.epochs": 0}, ranks=2)
        self.assertEqual([path.name for path in untrained.checkpoints()], ["step-00000000.h5"])
        checkpoint = untrained.last_checkpoint()
        self.assertEqual((checkpoint.attributes["epoch"], checkpoint.attributes["step"]), (0, 0))
        on = self.train(ranks=2)
        self.assert_same_result(on, self.train(ranks=2, output="straight"))

    def test_oldest_checkpoints_are_removed(self):
        steps = steps_per_epoch(64)
        for keep in (1, 2):
            with self.subTest(keep=keep):
                trained = self.train({"training.epochs": 5, "output.keep_checkpoints": keep}, ranks=2)
                self.assertEqual([path.name for path in trained.checkpoints()],
                                 [f"step-{epoch * steps:08}.h5" for epoch in range(1, 6)][-keep:])
                self.forget(trained)

    def test_checkpoints_at_steps_and_at_the_end(self):
        trained = self.train({"output.checkpoint_every": "10 steps", "output.keep_checkpoints": 100}, ranks=2)
        self.assertEqual([path.name for path in trained.checkpoints()],
                         [f"step-{step:08}.h5" for step in (10, 20, 30, 32)])


class RunningOnTest(testing.DtrainTestCase):
    def test_resumed_equals_uninterrupted(self):
        for name, settings in {
                "sgd": {"training.learning_rate": 1.0},
                "momentum": CASES["relu, cross-entropy, momentum"],
                "nesterov": {**RELU_CROSS_ENTROPY, "training.optimizer": "nesterov", "training.batch_size": 50},
        }.items():
            for ranks in (1, 3):
                with self.subTest(name, ranks=ranks):
                    settings = {**settings, "training.epochs": 2}
                    self.train(settings, ranks=ranks, output="resumed")
                    resumed = self.train(settings, "--training.epochs=4", ranks=ranks, output="resumed")
                    straight = self.train({**settings, "training.epochs": 4}, ranks=ranks, output="straight")
                    self.assert_same_result(resumed, straight)
                    self.forget(resumed)
                    self.forget(straight)

    def test_resumed_within_an_epoch(self):
        """A checkpoint is all that is needed, wherever it was taken."""
        settings = {"training.epochs": 3, "output.checkpoint_every": "7 steps", "output.keep_checkpoints": 100}
        straight = self.train(settings, ranks=2, output="straight")
        for kept in (7, 14, 28):
            with self.subTest(step=kept):
                resumed = self.folder / "resumed" / "checkpoints"
                resumed.mkdir(parents=True)
                name = f"step-{kept:08}.h5"
                (resumed / name).write_bytes((straight.folder / "checkpoints" / name).read_bytes())
                training = self.train(settings, ranks=2, output="resumed")
                self.assert_same_result(training, straight)
                self.forget(training)

    def test_on_another_number_of_ranks(self):
        straight = self.train({"training.epochs": 4}, ranks=2, output="straight")
        self.train(ranks=3, output="resumed")
        resumed = self.train({"training.epochs": 4}, ranks=1, output="resumed")
        self.assert_same_result(resumed, straight, testing.RANK_COUNT_TOLERANCE)
        self.assertEqual(resumed.log().attributes["ranks"], 1)

    def test_nothing_left_to_do(self):
        for ranks in (1, 3):
            with self.subTest(ranks=ranks):
                first = self.train(ranks=ranks)
                results = {path: path.read_bytes() for path in (first.folder / "log.h5", *first.checkpoints())}
                again = self.train(ranks=ranks)
                self.assertIn("nothing left to do", again.result.stdout + again.result.stderr)
                self.assertEqual({path: path.read_bytes() for path in results}, results)
                self.assertEqual(again.files(), first.files())
                self.forget(again)

    def test_resume_never_starts_over(self):
        self.train({"training.epochs": 3}, ranks=2)
        over = self.train({"training.epochs": 2, "output.resume": "never", "model.seed": 9}, ranks=2)
        straight = self.train({"model.seed": 9}, ranks=2, output="straight")
        self.assertEqual(len(over.log().datasets["/epochs/epoch"]), 2)
        # A checkpoint of the run before must not be taken for the newest of this one.
        self.assert_same_result(over, straight)

    def test_resolved_config_repeats_the_run(self):
        trained = self.train({"training.batch_size": 64}, "--training.batch_size=100", "--model.seed=3", ranks=2)
        config = trained.folder / "config.ini"
        text = config.read_text()
        for line in ("batch_size = 100", "seed = 3", "optimizer = sgd", "logical_shards = 8", "[parallel]"):
            self.assertIn(line, text)
        repeated = self.folder / "repeated"
        result = testing.run("dtrain", config, f"--output.directory={repeated}", ranks=2, cwd=self.folder)
        self.assertEqual(result.code, 0, result)
        self.assertEqual((repeated / "config.ini").read_text(), text.replace(str(trained.folder), str(repeated)))
        self.assert_same_result(testing.Training(repeated, result), trained)

    def test_diverging_ends_with_a_message(self):
        settings = {**RELU_CROSS_ENTROPY, "training.learning_rate": 1e6, "training.epochs": 20}
        for ranks in (1, 3):
            with self.subTest(ranks=ranks):
                diverged = self.train(settings, ranks=ranks, expect=testing.EXIT_DIVERGED)
                self.assert_one_message(diverged.result, testing.EXIT_DIVERGED)
                for path in diverged.checkpoints():
                    for name, values in testing.read_h5(path).datasets.items():
                        self.assertTrue(np.isfinite(values).all(), f"{path.name}: {name}")
                if diverged.folder.exists():
                    self.forget(diverged)


class CheckTest(testing.DtrainTestCase):
    def test_check_shows_the_network_and_writes_nothing(self):
        config = self.write_config({"training.batch_size": 96})
        for ranks in (None, 1, 4):
            with self.subTest(ranks=ranks):
                before = testing.snapshot(self.folder)
                result = testing.run("dtrain", config, "--check", "--model.seed=77", ranks=ranks, cwd=self.folder)
                self.assertEqual(result.code, 0, result)
                self.assertEqual(testing.snapshot(self.folder), before)
                self.assertEqual(result.messages(), [])
                self.assertRegex(result.stdout, r"13[,' ]?002\b")
                for number in (12560, 272, 170):  # parameters of the layers
                    self.assertRegex(result.stdout.replace(",", ""), rf"\b{number}\b")
                self.assertIn("batch_size = 96", result.stdout)
                self.assertIn("seed = 77", result.stdout)
                self.assertRegex(result.stdout, r"(?i)flop")
                self.assertRegex(result.stdout, r"(?i)memory")


class ScreenTest(testing.DtrainTestCase):
    def test_lines_in_a_file(self):
        for ranks in (None, 1, 3):
            with self.subTest(ranks=ranks):
                trained = self.train({"training.epochs": 4}, ranks=ranks)
                output = trained.result.stdout
                self.assertNotRegex(output + trained.result.stderr, r"[\x00-\x08\x0b-\x1f\x7f]")
                self.assertEqual(trained.result.messages(), [])
                lines = output.splitlines()
                for epoch in range(1, 5):
                    found = [line for line in lines if re.match(rf"\W*epoch\W*{epoch}\b", line, re.IGNORECASE)]
                    self.assertEqual(len(found), 1, f"lines of epoch {epoch} in\n{output}")
                self.assertRegex(output, r"13[,' ]?002\b")
                self.assertIn("unknown IDX data", output)
                for word in ("rank", "node", "thread"):
                    self.assertRegex(output, rf"(?i){word}")
                summary = "\n".join(lines[-8:])
                for word in ("accuracy", "samples/s", "reduc"):
                    self.assertRegex(summary, rf"(?i){word}")
                self.forget(trained)

    def test_progress_bar_on_a_terminal(self):
        config = self.write_config({"training.epochs": 300, "training.batch_size": 20,  # takes long enough to be drawn
                                    "output.checkpoint_every": "300 epochs"})
        for ranks in (None, 2):
            with self.subTest(ranks=ranks):
                code, output = self.run_on_terminal(testing.command("dtrain", config, "--output.resume=never",
                                                                    ranks=ranks))
                self.assertEqual(code, 0, output)
                self.assertRegex(output, r"\r[^\r\n]", "no line is drawn over another")
                self.assertRegex(output, r"(?i)epoch\W*1\b")

    def run_on_terminal(self, words):
        terminal, program_side = pty.openpty()
        fcntl.ioctl(program_side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        with subprocess.Popen(words, cwd=self.folder, env=testing.environment(), stdin=program_side,
                              stdout=program_side, stderr=program_side, start_new_session=True) as process:
            os.close(program_side)
            output = b""
            try:
                while piece := os.read(terminal, 65536):
                    output += piece
            except OSError:
                pass  # how Linux says that the other side is closed
            code = process.wait(timeout=30)
        os.close(terminal)
        return code, output.decode(errors="replace")


if __name__ == "__main__":
    testing.main()
