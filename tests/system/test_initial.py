"""A run that starts from the weights of another one: model.initial."""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

SETTINGS = {"training.optimizer": "adam", "training.learning_rate": 0.01, "training.epochs": 2}


class InitialTest(testing.DtrainTestCase):
    def setUp(self):
        super().setUp()
        self.first = self.train(SETTINGS, output="first")

    def initial(self, value):
        return {**SETTINGS, "model.seed": 9, "model.initial": value}

    def test_starts_from_the_weights(self):
        checkpoint = self.first.checkpoints()[0]
        expected = testing.read_h5(checkpoint)
        start = self.train(self.initial(checkpoint), "--training.epochs=0", ranks=3, output="start")
        self.assertIn(f"initial     weights of {checkpoint}, after epoch 1", start.result.stdout)
        found = start.last_checkpoint()
        self.assertEqual(found.attributes["fingerprint"], expected.attributes["fingerprint"])
        self.assertEqual((found.attributes["epoch"], found.attributes["step"]), (0, 0))
        for name, values in found.datasets.items():
            if name.startswith("/optimizer/"):
                self.assertFalse(np.any(values), f"{name} is not zero")
        first_epoch = self.train(self.initial(self.first.folder), output="on").log().datasets["/epochs/train_cost"][0]
        self.assertLess(first_epoch, 0.8 * self.first.log().datasets["/epochs/train_cost"][0])

    def test_the_same_on_any_number_of_ranks(self):
        one = self.train(self.initial(self.first.folder), output="one")
        self.assertNotEqual(one.fingerprint(), self.first.fingerprint())
        for ranks, nodes in ((2, 0), (3, 2)):
            with self.subTest(ranks=ranks):
                settings = {**self.initial(self.first.folder), "parallel.ranks_per_node": nodes}
                self.assert_same_result(self.train(settings, ranks=ranks, output=f"ranks-{ranks}"), one)

    def test_a_resumed_run_reads_its_own_checkpoint(self):
        straight = self.train(self.initial(self.first.folder), output="straight")
        settings = self.initial(self.first.folder)
        self.train(settings, "--training.epochs=1", output="resumed")
        self.first.folder.rename(self.folder / "moved")
        resumed = self.train(settings, output="resumed", ranks=2)
        self.assertNotIn("initial  ", resumed.result.stdout)
        self.assert_same_result(resumed, straight)

    def test_a_resumed_run_still_says_where_it_began(self):
        """With another value of the key, too: the path of the training must not begin with a random network."""
        self.train(self.initial(self.first.folder), "--training.epochs=1", output="resumed")
        for epochs, value in enumerate(("random", self.folder / "none"), start=2):
            with self.subTest(value):
                resumed = self.train(self.initial(value), f"--training.epochs={epochs}", output="resumed")
                self.assertNotIn("changed ", resumed.result.stdout)
                for config in (resumed.last_checkpoint().attributes["config"], resumed.log().attributes["config"],
                               (resumed.folder / "config.ini").read_text(encoding="utf-8")):
                    self.assertIn(f"\ninitial = {self.first.folder}\n", config)

    def test_refused(self):
        other = self.train({**SETTINGS, "model.layers": "dense 7 sigmoid, dense 10"}, output="other")
        between = self.train({**SETTINGS, "model.layers": "dense 16 sigmoid, dropout 0.5, dense 10"}, output="between")
        for what, value, words in (("other shapes", other.folder, ("/model/01_dense/weight has shape", "expected 16 x ")),
                                   ("another place", between.folder, ("/model/02_dense/weight is missing",
                                                                      "[model] layers = dense 16")),
                                   ("nothing there", self.folder / "none", (str(self.folder / "none"),)),
                                   ("no checkpoint", self.folder, ("no valid checkpoint in this folder",)),
                                   ("a log", self.first.folder / "log.h5", ("expected a checkpoint",))):
            for option in ((), ("--check",)):
                with self.subTest(what, option=option):
                    config = self.write_config(self.initial(value), output="refused")
                    self.assert_refused("dtrain", config, *option, code=testing.EXIT_BAD_CHECKPOINT, words=words,
                                        ranks=2)
                    self.assertFalse((self.folder / "refused").exists())
        config = self.write_config(self.initial("Random"), output="refused")
        self.assert_refused("dtrain", config, code=testing.EXIT_BAD_CONFIG, words=("initial", "did you mean random?"))


if __name__ == "__main__":
    testing.main()
