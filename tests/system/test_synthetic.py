"""Synthetic digits: training and evaluation without a data folder."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

SYNTHETIC = {"data.source": "synthetic", "data.directory": "nowhere", "data.train_samples": 1003,
             "data.test_samples": 501}


class SyntheticTest(testing.DtrainTestCase):
    def test_ranks_do_not_change_the_result(self):
        expected = self.train(SYNTHETIC, ranks=None, output="alone")
        self.assertIn("data set    synthetic digits: 1003 training and 501 test samples of 28 x 28",
                      expected.result.stdout)
        self.assertEqual(expected.log().attributes["dataset"], "synthetic digits")
        for ranks, ranks_per_node in ((2, 0), (3, 0), (3, 2), (5, 2)):
            with self.case(ranks=ranks, ranks_per_node=ranks_per_node):
                trained = self.train({**SYNTHETIC, "parallel.ranks_per_node": ranks_per_node}, ranks=ranks)
                self.assert_same_result(trained, expected)

    def test_evaluated_as_trained(self):
        """The config of the README, shortened: the network learns, and dtrain-eval generates the same test set."""
        config = testing.SOURCE / "configs" / "synthetic.ini"
        result = testing.run("dtrain", config, "--training.epochs=2", f"--output.directory={self.folder / 'run'}",
                             ranks=2, cwd=self.folder)
        self.assertEqual(result.code, testing.EXIT_OK, result)
        self.assertIn("60000 training and 10000 test samples", result.stdout)
        accuracy = float(re.findall(r"test accuracy +([\d.]+) %", result.stdout)[-1])
        self.assertGreater(accuracy, 90)
        evaluated = testing.run("dtrain-eval", max((self.folder / "run" / "checkpoints").iterdir()), cwd=self.folder)
        self.assertEqual(evaluated.code, testing.EXIT_OK, evaluated)
        self.assertIn(f"accuracy   {accuracy:.2f} %", evaluated.stdout)

    def test_a_run_resumes_only_with_the_same_data(self):
        self.train(SYNTHETIC)
        self.train(SYNTHETIC, "--training.epochs=3", ranks=3)
        config = self.write_config({**SYNTHETIC, "data.directory": self.data})
        self.assert_refused("dtrain", config, "--data.source=idx", "--data.test_samples=0",
                            code=testing.EXIT_BAD_CHECKPOINT, words=["data set = synthetic digits"], ranks=2)

    def test_too_many(self):
        config = self.write_config(SYNTHETIC)
        for key in ("data.train_samples", "data.test_samples"):
            for arguments in ([], ["--check"]):
                self.assert_refused("dtrain", config, f"--{key}=1099511627776", *arguments, ranks=2,
                                    code=testing.EXIT_BAD_CONFIG, words=[key, "1099511627776", "at most", "memory"])

    def test_too_few_classes(self):
        config = self.write_config({**SYNTHETIC, "model.layers": "dense 9 sigmoid"})
        self.assert_refused("dtrain", config, ranks=2, code=testing.EXIT_BAD_CONFIG, words=["layers", "10", "9"])

    def test_check(self):
        result = testing.run("dtrain", self.write_config(SYNTHETIC), "--check", ranks=3, cwd=self.folder)
        self.assertEqual(result.code, testing.EXIT_OK, result)
        self.assertIn("source = synthetic", result.stdout)
        self.assertIn("synthetic digits: 1003 training", result.stdout)


if __name__ == "__main__":
    testing.main()
