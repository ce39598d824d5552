"""The validation set, the best checkpoint and early stopping."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

HELD_OUT = 130
SETTINGS = {"data.validation_samples": HELD_OUT, "training.epochs": 5, "training.learning_rate": 1.0,
            "output.keep_checkpoints": 0}


def scores(file):
    """(accuracy, -cost) of each epoch on the validation set: the best one is the maximum."""
    return list(zip(file.datasets["/epochs/validation_accuracy"], -file.datasets["/epochs/validation_cost"]))


class ValidationTest(testing.DtrainTestCase):
    def without_held_out(self):
        """The data set without the validation samples, and these as a pair of files."""
        kept = {key: array[:-HELD_OUT] if key.startswith("train") else array for key, array in self.arrays.items()}
        testing.write_dataset(self.folder / "kept", kept)
        for key, array in self.arrays.items():
            if key.startswith("train"):
                (self.folder / key).write_bytes(testing.idx_bytes(array[-HELD_OUT:]))
        images, labels = (next(key for key in self.arrays if key.startswith("train") and word in key)
                          for word in ("images", "labels"))
        return self.folder / "kept", self.folder / images, self.folder / labels

    def test_validation_samples_are_not_trained_on(self):
        kept, images, labels = self.without_held_out()
        trained = self.train(SETTINGS, ranks=2)
        alone = self.train({**SETTINGS, "data.directory": kept, "data.validation_samples": 0}, output="alone")
        self.assertEqual(trained.fingerprint(), alone.fingerprint())
        log = trained.log()
        for epoch, checkpoint in enumerate(trained.checkpoints()):
            evaluated = testing.run("dtrain-eval", checkpoint, "--images", images, "--labels", labels)
            self.assertIn(f"accuracy   {100 * log.datasets['/epochs/validation_accuracy'][epoch]:.2f} %",
                          evaluated.stdout)
            self.assertIn(f"cost       {log.datasets['/epochs/validation_cost'][epoch]:.6f}", evaluated.stdout)
        self.assertNotIn("/epochs/validation_cost", alone.log().datasets)

    def test_the_same_on_any_number_of_ranks(self):
        expected = self.train(SETTINGS, output="one")
        for ranks in (2, 5):
            with self.case(ranks=ranks):
                self.assert_same_result(self.train(SETTINGS, ranks=ranks), expected)

    def test_best_checkpoint(self):
        trained = self.train({**SETTINGS, "training.learning_rate": 4.0})
        found = scores(trained.log())
        best = testing.read_h5(trained.folder / "checkpoints" / "best.h5")
        epoch = found.index(max(found)) + 1
        self.assertEqual(best.attributes["epoch"], epoch)
        same = testing.read_h5(trained.checkpoints()[epoch - 1])
        self.assertEqual(best.attributes["fingerprint"], same.attributes["fingerprint"])
        for name, values in same.datasets.items():
            self.assert_close(best.datasets[name], values, 0, name)
        self.assertRegex(trained.result.stdout, rf"best +\S+best\.h5 \(epoch {epoch}, by validation accuracy\)")
        columns = trained.log().datasets
        for part, word in (("validation", "best "), ("test", "")):
            accuracy = 100 * columns[f"/epochs/{part}_accuracy"]
            self.assertRegex(trained.result.stdout, rf"{part} +accuracy {accuracy[-1]:.2f} % "
                                                    rf"\({word}{accuracy[epoch - 1]:.2f} % after epoch {epoch}\)")
        evaluated = testing.run("dtrain-eval", trained.folder, "--best")
        self.assertIn(f"best.h5 after epoch {epoch}", evaluated.stdout)

    def test_best_checkpoint_by_test_samples(self):
        trained = self.train({**SETTINGS, "data.validation_samples": 0})
        self.assertRegex(trained.result.stdout, r"best +\S+best\.h5 \(epoch \d, by test accuracy\)")
        accuracy = trained.log().datasets["/epochs/test_accuracy"]
        best = testing.read_h5(trained.folder / "checkpoints" / "best.h5")
        self.assertEqual(accuracy[best.attributes["epoch"] - 1], accuracy.max())

    def test_no_best_checkpoint(self):
        trained = self.train({**SETTINGS, "output.keep_best": "false"})
        self.assertFalse((trained.folder / "checkpoints" / "best.h5").exists())
        self.assertNotIn("best.h5", trained.result.stdout)
        for path, words in ((trained.folder, ("no best.h5", "keep_best")),
                            (trained.checkpoints()[-1], ("--best needs the folder of a run",)),
                            (trained.folder / "missing", ("No such file",))):
            self.assert_refused("dtrain-eval", path, "--best", code=testing.EXIT_BAD_CHECKPOINT, words=(path, *words))

    def test_best_is_known_after_a_resume(self):
        """A run that resumes before and after its best epoch has the best checkpoint of an uninterrupted one."""
        settings = {**SETTINGS, "training.learning_rate": 4.0}
        straight = self.train(settings, output="straight")
        for epochs in (1, 2, 4):
            with self.case(epochs=epochs):
                self.train({**settings, "training.epochs": epochs}, ranks=2)
                resumed = self.train(settings, ranks=3)
                self.assert_same_result(resumed, straight)
                pair = [testing.read_h5(run.folder / "checkpoints" / "best.h5") for run in (resumed, straight)]
                self.assertEqual(*(best.attributes["fingerprint"] for best in pair))

    def best_of(self, run):
        """The epoch of best.h5, whose network must be the one of that epoch in the log. None without the file."""
        path = run.folder / "checkpoints" / "best.h5"
        if not path.exists():
            self.assertNotIn("best.h5 (epoch", run.result.stdout)
            return None
        best = testing.read_h5(path)
        epoch = int(best.attributes["epoch"])
        fingerprint = run.log().datasets["/epochs/fingerprint"][epoch - 1]
        self.assertEqual(best.attributes["fingerprint"], f"{fingerprint:016x}")
        return epoch

    def test_best_file_after_a_run_without_it(self):
        """No epoch after the first start is better, since the learning rate is tiny."""
        without = {**SETTINGS, "output.keep_best": "false", "training.epochs": 3}
        first = self.train(without)
        found = scores(first.log())
        epoch = found.index(max(found)) + 1
        for ranks in (1, 2):
            with self.case("its checkpoint is there", ranks=ranks):
                self.train(without, ranks=ranks)
                resumed = self.train({**SETTINGS, "training.epochs": 5, "training.learning_rate": 1e-30}, ranks=ranks)
                self.assertNotIn("is lost", resumed.result.stderr)
                self.assertEqual(self.best_of(resumed), epoch)
                self.assertIn(f"best.h5 (epoch {epoch}, by validation accuracy)", resumed.result.stdout)
        with self.case("its checkpoint is lost"):
            self.train({**without, "training.epochs": 4, "training.learning_rate": 1e-30})
            first = self.train({**without, "training.epochs": 5, "training.learning_rate": 1e-30})
            for checkpoint in first.checkpoints()[:-1]:
                checkpoint.unlink()
            resumed = self.train({**SETTINGS, "training.epochs": 6, "training.learning_rate": 1e-30})
            self.assertIn("warning: the network after epoch 1, the best one so far, is lost", resumed.result.stderr)
            self.assertIsNone(self.best_of(resumed))
            better = self.train({**SETTINGS, "training.epochs": 9, "training.learning_rate": 1.0})
            self.assertIn(f"best.h5 (epoch {self.best_of(better)}, by validation accuracy)", better.result.stdout)

    def test_resumes_from_the_best_checkpoint_if_it_is_the_only_one(self):
        undisturbed = self.train(SETTINGS, output="undisturbed")
        trained = self.train({**SETTINGS, "training.epochs": 3})
        for checkpoint in trained.checkpoints():
            checkpoint.unlink()
        epoch = scores(trained.log()).index(max(scores(trained.log()))) + 1
        resumed = self.train(SETTINGS, ranks=2)
        self.assertIn(f"\nresumed     after epoch {epoch}, step ", resumed.result.stdout)
        self.assert_same_result(resumed, undisturbed)

    def test_a_file_that_is_no_checkpoint_stays(self):
        best = self.folder / "run" / "checkpoints" / "best.h5"
        best.parent.mkdir(parents=True)
        best.write_text("my notes")
        trained = self.train({**SETTINGS, "training.epochs": 1})
        self.assertIn(f"\nmoved       {best}, which is no checkpoint, to {best}.damaged\n", trained.result.stdout)
        self.assertEqual(best.with_name("best.h5.damaged").read_text(), "my notes")
        self.assertEqual(testing.read_h5(best).attributes["epoch"], 1)

    def test_best_file_of_an_abandoned_path(self):
        """The newer checkpoints are deleted, to try another learning rate."""
        settings = {**SETTINGS, "training.epochs": 3}
        first = self.train(settings)
        self.assertGreater(self.best_of(first), 1)
        for checkpoint in first.checkpoints()[1:]:
            checkpoint.unlink()
        other = self.train({**settings, "training.learning_rate": 1e-30})
        self.assertIn("best.h5 (epoch 1, by validation accuracy)", other.result.stdout)
        self.assertEqual(self.best_of(other), 1)
        self.assertNotIn("is lost", other.result.stderr)

    def test_patience(self):
        # A constant network: no epoch after the first one is better.
        settings = {**SETTINGS, "training.learning_rate": 1e-30, "training.epochs": 50, "training.patience": 3}
        trained = self.train(settings, ranks=2)
        self.assertEqual(len(trained.log().datasets["/epochs/epoch"]), 4)
        self.assertRegex(trained.result.stdout, "ended early no better validation accuracy in 3 epochs after epoch 1")
        with self.subTest("repeated"):
            repeated = self.train(settings, ranks=2)
            self.assertIn("nothing left to do: no better validation accuracy in 3 epochs", repeated.result.stdout)
        with self.subTest("with more patience"):
            self.train({**settings, "training.patience": 5}, ranks=1)
            self.assertEqual(len(trained.log().datasets["/epochs/epoch"]), 6)
        with self.subTest("resumed within it"):
            checkpoints = trained.checkpoints()
            for checkpoint in checkpoints[2:]:
                checkpoint.unlink()
            self.train({**settings, "training.patience": 3}, ranks=3)
            self.assertEqual(len(trained.log().datasets["/epochs/epoch"]), 4)

    def test_report(self):
        trained = self.train(SETTINGS)
        page = self.folder / "report.html"
        result = testing.run("dtrain-report", trained.folder, "-o", page)
        self.assertEqual(result.code, testing.EXIT_OK, result)
        text = page.read_text()
        self.assertIn("validation accuracy", text)
        self.assertIn("validation, after the epoch", text)

    def test_refused(self):
        samples = testing.TRAIN_SAMPLES
        for value in (samples, samples + 1):
            config = self.write_config({**SETTINGS, "data.validation_samples": value})
            self.assert_refused("dtrain", config, code=testing.EXIT_BAD_CONFIG, ranks=2,
                                words=("[data] validation_samples", f"less than {samples}"))
        self.train(SETTINGS)
        config = self.write_config({**SETTINGS, "data.validation_samples": HELD_OUT + 1})
        self.assert_refused("dtrain", config, code=testing.EXIT_BAD_CHECKPOINT, words=("validation_samples = 130",))


if __name__ == "__main__":
    testing.main()
