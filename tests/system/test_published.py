"""The networks of configs/published reach the published errors: all networks in the long form, the fastest one in the
short form. Both forms check all configs. The other tables show the accuracies in the logs of their runs."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402
import numpy as np  # noqa: E402

PUBLISHED = testing.SOURCE / "configs/published"


class PublishedTest(testing.DtrainTestCase):
    def test_configs_are_valid(self):
        configs = sorted(PUBLISHED.glob("*.ini"))
        self.assertGreater(len(configs), 10)
        for config in configs:
            with self.case(config.name):
                result = testing.run("dtrain", config, f"--data.directory={self.data}", "--check", cwd=self.folder)
                self.assertEqual(result.code, testing.EXIT_OK, result)
                self.assertIn(f"runs/published/{config.stem}/seed-1", result.stdout)

    def run_script(self, data, *arguments, script=PUBLISHED / "run.py"):
        return subprocess.run(
            [sys.executable, script, "--data", data, "--output", self.folder / "trained", "--dtrain",
             testing.BIN / "dtrain", *arguments],
            capture_output=True, text=True, env=testing.environment(), check=False)

    @unittest.skipUnless(testing.MNIST, "DTRAIN_MNIST does not name a folder with the MNIST files")
    def test_published_errors(self):
        result = self.run_script(testing.MNIST, *([] if testing.LONG else ["--seeds", "1", "linear"]))
        print(result.stdout, flush=True)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, r"\| `linear` .*\| 12.0 \| 7\.\d\d ")

    def test_tables(self):
        """Each row shows the accuracy in the log of its run, and a second call trains nothing."""
        arguments = ("local-sgd", "--seeds", "1", "--epochs", "2")
        result = self.run_script(self.data, *arguments, script=testing.SOURCE / "configs/tables.py")
        self.assertEqual(result.returncode, 0, result.stderr)
        rows = re.findall(r"^\| (\d+) \|.*\| ([\d.]+) \|$", result.stdout, re.MULTILINE)
        self.assertEqual([int(every) for every, _ in rows], [1, 4, 16, 64], result.stdout)
        for every, accuracy in rows:
            folder, = (self.folder / "trained/local-sgd").glob(f"{every}-*-seed-1")
            log = testing.read_h5(folder / "log.h5").datasets
            self.assertEqual(f"{100 * log['/epochs/test_accuracy'][-1]:.2f}", accuracy)
        before = testing.snapshot(self.folder)
        again = self.run_script(self.data, *arguments, script=testing.SOURCE / "configs/tables.py")
        self.assertEqual(again.stdout, result.stdout)
        self.assertEqual(testing.snapshot(self.folder), before)

    def log_of(self, run):
        return testing.read_h5(self.folder / f"trained/rates/{run}-seed-1" / "log.h5")

    def test_rates(self):
        """The best rate is the one with the best validation accuracy, and lies within the grid if it can."""
        config = self.write_config({"training.learning_rate": 0.1, "training.epochs": 2})
        arguments = ("rates", config, "--seeds", "1", "--validation", "200", "--ranks", "1")
        result = self.run_script(self.data, *arguments, script=testing.SOURCE / "configs/tables.py")
        self.assertEqual(result.returncode, 0, result.stderr)
        rows = re.findall(r"^\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", result.stdout, re.MULTILINE)
        rates = [float(rate) for rate, _, _ in rows]
        self.assertEqual(rates[:5], [0.01, 0.032, 0.1, 0.32, 1.0], result.stdout)
        self.assertGreater(len(rates), 5, "the best rate is above 1, so the grid must be extended")
        for rate, validation, test in rows:
            log = self.log_of(f"run-{float(rate):g}-validation_samples-200").datasets
            self.assertEqual(f"{100 * log['/epochs/validation_accuracy'].max():.2f}", validation)
            epoch = np.lexsort((log["/epochs/validation_cost"], -log["/epochs/validation_accuracy"]))[0]
            self.assertEqual(f"{100 * log['/epochs/test_accuracy'][epoch]:.2f}", test)
        best, = re.findall(r"^best: --training.learning_rate=(.*)$", result.stdout, re.MULTILINE)
        self.assertEqual(dict((rate, validation) for rate, validation, _ in rows)[best],
                         max((validation for _, validation, _ in rows), key=float))

    def test_changed_config(self):
        """A run with other settings is not shown as the result of these."""
        arguments = ("rates", self.write_config({"training.epochs": 1}), "--seeds", "1", "--validation", "200",
                     "--ranks", "1", "--rates", "1")
        script = testing.SOURCE / "configs/tables.py"
        self.assertEqual(self.run_script(self.data, *arguments, script=script).returncode, 0)
        self.write_config({"training.epochs": 1, "training.weight_decay": 0.5})
        refused = self.run_script(self.data, *arguments, script=script)
        self.assertEqual((refused.returncode, refused.stdout), (1, ""))
        self.assertIn("has a run with other settings (training.weight_decay = 0.5, before 0)", refused.stderr)

    def test_given_rates(self):
        """With an option for dtrain, which decides the folder of a run too."""
        config = self.write_config({"training.epochs": 1})
        script = testing.SOURCE / "configs/tables.py"
        arguments = ("rates", config, "--seeds", "1", "--validation", "200", "--ranks", "1", "--rates", "0.25", "0.5")
        result = self.run_script(self.data, *arguments, "--training.batch_size=50", script=script)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(re.findall(r"^\| ([\d.]+) \|", result.stdout, re.MULTILINE), ["0.25", "0.5"])
        for rate in ("0.25", "0.5"):
            log = self.log_of(f"run-{rate}-validation_samples-200-batch_size-50")
            self.assertIn(f"learning_rate = {rate}\n", log.attributes["config"])
            self.assertIn("batch_size = 50\n", log.attributes["config"])
        before = testing.snapshot(self.folder)
        for wrong in (["--trainingbatch_size=50"], ["more"], ["--training.batchsize=50"], ["--validation=0"],
                      ["--data.validation_samples=0"], ["--model.seed=7"], ["--output.directory=other"],
                      ["--data.directory=other"], ["--training.learning_rate=0.1"],
                      ["--training.epochs=2", "--epochs=3"]):
            with self.case(wrong[0]):
                refused = self.run_script(self.data, *arguments, *wrong, script=script)
                self.assertEqual(refused.returncode, testing.EXIT_BAD_CONFIG, refused.stderr)
                self.assertIn(wrong[0].partition("=")[0].lstrip("-"), refused.stderr.splitlines()[-1])
        self.assertEqual(testing.snapshot(self.folder), before, "trained before it refused")

    def test_equal_accuracies(self):
        """The lower validation cost decides, not the order of the rates."""
        config = self.write_config({"training.epochs": 1})
        for rates in (("1e-6", "2e-6"), ("2e-6", "1e-6")):
            result = self.run_script(self.data, "rates", config, "--seeds", "1", "--validation", "1", "--ranks", "1",
                                     "--rates", *rates, script=testing.SOURCE / "configs/tables.py")
            self.assertEqual(result.returncode, 0, result.stderr)
            logs = {rate: self.log_of(f"run-{float(rate):g}-validation_samples-1").datasets for rate in rates}
            self.assertEqual(len({log["/epochs/validation_accuracy"][0] for log in logs.values()}), 1)
            lowest = min(rates, key=lambda rate: logs[rate]["/epochs/validation_cost"][0])
            self.assertIn(f"best: --training.learning_rate={float(lowest):g}", result.stdout)

    def test_interrupted(self):
        """Ctrl-C reaches the training too, which writes a checkpoint. The next call resumes it."""
        config = self.write_config({"training.epochs": 100000})
        words = [sys.executable, testing.SOURCE / "configs/tables.py", "rates", config, "--seeds", "1", "--ranks", "1",
                 "--validation", "200", "--rates", "1", "--data", self.data, "--output", self.folder / "trained",
                 "--dtrain", testing.BIN / "dtrain"]
        with open(self.folder / "messages", "w+") as messages:
            with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=messages, env=testing.environment(),
                                  start_new_session=True) as process:
                try:
                    while "epoch  " not in (self.folder / "messages").read_text() and process.poll() is None:
                        time.sleep(0.05)
                    os.killpg(process.pid, signal.SIGINT)
                    code = process.wait(60)
                finally:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
        text = (self.folder / "messages").read_text()
        self.assertEqual(code, 130, text)
        self.assertNotIn("Traceback", text)
        self.assertIn("tables.py: interrupted. Repeat this command to resume\n", text)
        self.assertTrue(list(self.folder.glob("trained/rates/*/checkpoints/step-*.h5")))

    def test_only_for_their_data(self):
        for name, data_set in (("linear", "MNIST"), ("fashion-100", "Fashion-MNIST")):
            with self.case(name):
                result = self.run_script(self.data, "--fashion", self.data, "--seeds", "1", name)
                self.assertEqual(result.returncode, 1)
                self.assertRegex(result.stderr, f"the data are .*published error of {name} is for {data_set}\n")
        result = self.run_script(self.data, "--fashion", "absent", "--seeds", "1", "fashion-100")
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, "^run.py: no folder .*absent, which fashion-100 needs")


if __name__ == "__main__":
    testing.main()
