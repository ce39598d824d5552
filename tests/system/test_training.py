"""Training as a user runs it: its files, its output on the screen, and the output of --check."""

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

SEED_PARAMETERS = 13002  # 784 * 16 + 16 + 16 * 16 + 16 + 16 * 10 + 10


def steps_per_epoch(batch_size):
    return -(-testing.TRAIN_SAMPLES // batch_size)


class FilesTest(testing.DtrainTestCase):
    def test_log(self):
        epochs, ranks, batch_size = 3, 3, 64
        trained = self.train({"training.epochs": epochs, "training.batch_size": batch_size,
                              "training.learning_rate": 0.5}, ranks=ranks)
        log = trained.log()
        steps = steps_per_epoch(batch_size)
        floats, integers = "f", "iu"
        columns = {"epoch": integers, "step": integers, "train_cost": floats, "train_accuracy": floats,
                   "test_cost": floats,
                   "test_accuracy": floats, "learning_rate": floats, "seconds": floats, "samples_per_second": floats,
                   "fingerprint": integers}
        datasets = log.datasets
        self.assertEqual(set(datasets), {"/steps/cost", "/steps/accuracy", *(f"/epochs/{name}" for name in columns),
                                         *(f"/ranks/{phase}_seconds" for phase in
                                           ("compute", "reduce", "wait", "data"))})
        for name in ("/steps/cost", "/steps/accuracy"):
            self.assertEqual(datasets[name].shape, (epochs * steps,))
            self.assertEqual(datasets[name].dtype, np.float32)
        for name, kind in columns.items():
            with self.subTest(name):
                self.assertEqual(datasets[f"/epochs/{name}"].shape, (epochs,))
                self.assertIn(datasets[f"/epochs/{name}"].dtype.kind, kind)
        for name in ("compute_seconds", "reduce_seconds", "wait_seconds", "data_seconds"):
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
        self.assertTrue((trained.folder / "config.ini").read_text().endswith("\n" + attributes["config"]))
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

    def test_log_names_the_used_reducer(self):
        for reducer, used in (("auto", "node"), ("mpi", "mpi")):
            trained = self.train({"parallel.reducer": reducer}, ranks=2, output=f"with-{reducer}")
            self.assertEqual(trained.log().attributes["reducer"], used)

    def test_only_documented_files(self):
        for ranks in (None, 2):
            with self.case(ranks=ranks):
                trained = self.train(ranks=ranks)
                steps = steps_per_epoch(64)
                self.assertEqual(trained.files(), {"config.ini", "log.h5", f"checkpoints/step-{steps:08}.h5",
                                                   f"checkpoints/step-{2 * steps:08}.h5", "checkpoints/best.h5"})

    def test_zero_epochs_write_the_initial_network(self):
        untrained = self.train({"training.epochs": 0}, ranks=2)
        self.assertEqual([path.name for path in untrained.checkpoints()], ["step-00000000.h5"])
        checkpoint = untrained.last_checkpoint()
        self.assertEqual((checkpoint.attributes["epoch"], checkpoint.attributes["step"]), (0, 0))
        on = self.train(ranks=2)
        self.assert_same_result(on, self.train(ranks=2, output="straight"))

    def test_oldest_checkpoints_are_removed(self):
        steps = steps_per_epoch(64)
        for keep in (0, 1, 2):  # 0 keeps all, like [-0:]
            with self.case(keep=keep):
                trained = self.train({"training.epochs": 5, "output.keep_checkpoints": keep}, ranks=2)
                self.assertEqual([path.name for path in trained.checkpoints()],
                                 [f"step-{epoch * steps:08}.h5" for epoch in range(1, 6)][-keep:])

    def test_checkpoints_at_steps_and_at_the_end(self):
        trained = self.train({"output.checkpoint_every": "10 steps", "output.keep_checkpoints": 100}, ranks=2)
        self.assertEqual([path.name for path in trained.checkpoints()],
                         [f"step-{step:08}.h5" for step in (10, 20, 30, 32)])

    def test_disk_too_slow_for_the_checkpoints(self):
        """Checkpoints of 26 MB after every short step: some are dropped, with a warning, but never the last one."""
        settings = {"model.layers": "dense 4000 relu, dense 10", "model.cost": "cross_entropy",
                    "data.train_samples": 100, "training.batch_size": 2, "training.learning_rate": 0.001,
                    "training.optimizer": "momentum", "training.epochs": 1}
        hurried = self.train({**settings, "output.checkpoint_every": "1 steps", "output.keep_checkpoints": 100},
                             ranks=2)
        left_out = re.search(r"warning: (\d+) checkpoints? dropped: ", hurried.result.stderr)
        self.assertTrue(left_out, hurried.result)
        self.assertEqual(len(hurried.checkpoints()), 50 - int(left_out[1]))
        self.assert_same_result(hurried, self.train(settings, ranks=2, output="leisurely"))


class CheckTest(testing.DtrainTestCase):
    def test_check_shows_the_network_and_writes_nothing(self):
        config = self.write_config({"training.batch_size": 96})
        for ranks in (None, 1, 4):
            with self.case(ranks=ranks):
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

    def test_warns_of_unlikely_settings(self):
        with h5py.File(self.folder / "colours.h5", "w") as file:
            for part in ("train", "test"):
                file[f"{part}/samples"] = np.zeros((40, 12, 12, 3), np.uint8)
                file[f"{part}/labels"] = np.arange(40) % 4
        colours = {"data.source": "hdf5", "data.file": self.folder / "colours.h5"}
        for settings, words in (
                ({**colours, "model.layers": "conv 4x3x3 relu, dense 4"}, ("12 x 12 x 3", "transpose(0, 3, 1, 2)")),
                ({**colours, "model.layers": "dense 8 relu, dense 4"}, None),
                ({"model.layers": "dense 8, batchnorm relu, dense 10", "training.batch_size": 32}, ("4 samples",)),
                ({"model.layers": "dense 8, batchnorm relu, dense 10", "training.batch_size": 64}, None),
                ({"model.layers": "conv 4x3x3, batchnorm relu, dense 10", "training.batch_size": 32}, None)):
            config = self.write_config({"model.cost": "cross_entropy", "training.epochs": 1, "training.learning_rate": 0.01,
                                        "output.resume": "never", **settings})
            for options in (["--check"], []):
                with self.case(layers=settings["model.layers"], options=options):
                    result = testing.run("dtrain", config, *options, ranks=2, cwd=self.folder)
                    self.assertEqual(result.code, testing.EXIT_OK, result)
                    messages = result.messages()
                    self.assertEqual(len(messages), 1 if words else 0, result)
                    for word in words or ():
                        self.assertIn(word, messages[0])

    def test_running_values_are_no_parameters(self):
        config = self.write_config({"model.layers": "dense 100, batchnorm relu, dense 10", "training.batch_size": 64})
        result = testing.run("dtrain", config, "--check", cwd=self.folder)
        self.assertIn(": 200 parameters, 200 running values\n", result.stdout)
        counts = [int(count) for count in re.findall(r"(\d+) parameters,", result.stdout)]
        self.assertEqual(sum(counts[:-1]), counts[-1])

    def test_check_tells_which_layers_compute_in_bfloat16(self):
        for layers, rounding in (("conv 4x5x5 relu, conv 8x5x5 relu, dense 32 relu, dense 10", "-++-"),
                                 ("lstm 32, dense 10", "+-"), ("dense 16 sigmoid, dense 10", "--")):
            with self.case(layers=layers):
                config = self.write_config({"model.layers": layers, "training.precision": "bfloat16"})
                result = testing.run("dtrain", config, "--check", cwd=self.folder)
                self.assertEqual(result.code, 0, result)
                of_layers = re.findall(r"FLOPs forward(.*)$", result.stdout, re.MULTILINE)
                self.assertEqual(of_layers, [" in bfloat16" if sign == "+" else "" for sign in rounding])
                self.assertEqual("no layer is large enough for bfloat16" in result.stdout, "+" not in rounding)


class ScreenTest(testing.DtrainTestCase):
    # The run takes long enough for a progress bar.
    EPOCHS = 200
    SETTINGS = {"training.epochs": EPOCHS, "training.batch_size": 20, "output.checkpoint_every": f"{EPOCHS} epochs"}

    def test_lines_in_a_file(self):
        for ranks in (None, 1, 3):
            with self.case(ranks=ranks):
                trained = self.train(self.SETTINGS, ranks=ranks)
                output = trained.result.stdout
                self.assertNotRegex(output + trained.result.stderr, r"[\x00-\x08\x0b-\x1f\x7f]")
                self.assertEqual(trained.result.messages(), [])
                lines = output.splitlines()
                epochs = [re.match(r"\W*epoch\W*(\d+)\b", line, re.IGNORECASE) for line in lines]
                self.assertEqual([int(found[1]) for found in epochs if found], list(range(1, self.EPOCHS + 1)))
                self.assertRegex(output, r"13[,' ]?002\b")
                self.assertIn("unknown IDX data", output)
                for word in ("rank", "node", "thread"):
                    self.assertRegex(output, rf"(?i){word}")
                summary = "\n".join(lines[-8:])
                for word in ("accuracy", "samples/s", "reduc"):
                    self.assertRegex(summary, rf"(?i){word}")

    def test_progress_bar_on_a_terminal(self):
        config = self.write_config(self.SETTINGS)
        # MPICH gives its ranks pipes, even on a terminal: they print lines.
        for ranks in (None, 2) if testing.is_open_mpi() else (None,):
            with self.case(ranks=ranks):
                code, output = self.run_on_terminal(testing.command("dtrain", config, "--output.resume=never",
                                                                    ranks=ranks))
                self.assertEqual(code, 0, output)
                self.assertRegex(output, r"\r[^\r\n]", "no line is redrawn")
                self.assertRegex(output, r"(?i)epoch\W*1\b")

    def run_on_terminal(self, words):
        terminal, program_side = pty.openpty()
        fcntl.ioctl(program_side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        environment = {**testing.environment(), "TERM": "xterm"}
        with subprocess.Popen(words, cwd=self.folder, env=environment, stdin=program_side, stdout=program_side,
                              stderr=program_side, start_new_session=True) as process:
            os.close(program_side)
            output = b""
            try:
                while piece := os.read(terminal, 65536):
                    output += piece
            except OSError:
                pass  # Linux reports in this way that the other side is closed
            code = process.wait(timeout=30)
        os.close(terminal)
        return code, output.decode(errors="replace")


if __name__ == "__main__":
    testing.main()
