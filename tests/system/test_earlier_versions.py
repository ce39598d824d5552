"""Today's programs read the runs of earlier versions, with the same results. tests/support/earlier_versions has the
output folders of runs of one epoch.

To add one, train a network of a few weights with the program of that version, and add its settings below. Pack the
folder by `tar --owner=0 --group=0 --mtime=@0 -cJf NAME.tar.xz -C FOLDER .`.
"""

import re
import sys
import tarfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402
from page_reading import Page  # noqa: E402

FOLDER = Path(__file__).resolve().parents[1] / "support" / "earlier_versions"
SETTINGS = {"data.source": "synthetic", "data.directory": "data/mnist", "data.train_samples": 64,
            "data.test_samples": 16, "model.cost": "cross_entropy", "training.batch_size": 16}
# The settings of each run, and the fingerprint that its version computed after three epochs.
RUNS = {
    # Commit 13d9ec3: index version 2; with blas_threads and node_ranks, without micro_batch and products.
    "before-renamed-keys": ({"model.layers": "maxpool 7, conv 2x2x2 relu, dense 10", "training.optimizer": "adam",
                             "training.learning_rate": 0.03}, "7d9a90b6079049cb"),
    # Commit 3c14ce8: without precision and compression.
    "before-precision": ({"model.layers": "lstm 2, dense 10", "training.optimizer": "momentum",
                          "training.learning_rate": 0.1}, "cb999db3869758f9"),
    # Format version 4: with statistics of batch normalisation, a validation set and best.h5.
    "version-4": ({"model.layers": "conv 2x5x5 stride 2, batchnorm relu, maxpool 4, dense 10",
                   "data.train_samples": 80, "data.validation_samples": 16, "training.batch_size": 32,
                   "training.optimizer": "momentum", "training.learning_rate": 0.05, "training.clip_norm": 1,
                   "parallel.logical_shards": 4}, "82667af829c86c87"),
}
# Keys that a version did not have.
MISSING = {"before-renamed-keys": ("precision", "compression", "clip_norm"),
           "before-precision": ("precision", "compression", "clip_norm"), "version-4": ()}


class EarlierVersionsTest(testing.DtrainTestCase):
    def unpack(self, name):
        with tarfile.open(FOLDER / f"{name}.tar.xz") as archive:
            archive.extractall(self.folder / name)
        return testing.Training(self.folder / name, None)

    def resume(self, name, *overrides, ranks):
        run = self.train({**SETTINGS, **RUNS[name][0], "training.epochs": 3}, *overrides, ranks=ranks, output=name)
        self.assertRegex(run.result.stdout, r"\nresumed     after epoch 1, step \d\n")
        return run

    def test_all_are_tested(self):
        self.assertEqual({path.name for path in FOLDER.iterdir()}, {f"{name}.tar.xz" for name in RUNS})

    def test_evaluated(self):
        for name in RUNS:
            with self.case(name):
                run = self.unpack(name)
                epochs = run.log().datasets
                result = testing.run("dtrain-eval", run.folder, cwd=self.folder)
                self.assertEqual((result.code, result.stderr), (testing.EXIT_OK, ""), result)
                self.assertIn(f"\naccuracy   {100 * epochs['/epochs/test_accuracy'][0]:.2f} % ", result.stdout)
                self.assertIn(f"\ncost       {epochs['/epochs/test_cost'][0]:.6f}\n", result.stdout)

    def test_resumed(self):
        """A key that the version did not have means what it does by default."""
        for name, (_, fingerprint) in RUNS.items():
            with self.case(name):
                before = self.unpack(name).log()
                for key in MISSING[name]:
                    self.assertNotRegex(before.attributes["config"], f"(?m)^{key} ")
                run = self.resume(name, ranks=2)
                self.assertNotIn("changed ", run.result.stdout)
                self.assertEqual(run.fingerprint(), fingerprint)
                after = run.log()
                for column in ("/steps/cost", "/steps/accuracy", "/epochs/test_cost", "/epochs/fingerprint"):
                    self.assert_close(after.datasets[column][:len(before.datasets[column])],
                                      before.datasets[column], 0, column)
                for key in MISSING[name]:
                    self.assertRegex(after.attributes["config"], f"(?m)^{key} = (float32|none|0)$")

    def test_best_is_kept(self):
        """The best epoch of the earlier version counts when a run resumes, and its file can be evaluated."""
        run = self.unpack("version-4")
        best = testing.run("dtrain-eval", run.folder, "--best", cwd=self.folder)
        self.assertEqual(best.code, testing.EXIT_OK, best)
        resumed = self.resume("version-4", "--training.learning_rate=1e-9", ranks=None)
        epochs = resumed.log().datasets
        scores = list(zip(-epochs["/epochs/validation_accuracy"], epochs["/epochs/validation_cost"]))
        epoch = scores.index(min(scores)) + 1
        self.assertIn(f"/best.h5 (epoch {epoch}, by validation accuracy)", resumed.result.stdout)
        file = testing.read_h5(resumed.folder / "checkpoints" / "best.h5")
        self.assertEqual((file.attributes["epoch"], file.attributes["fingerprint"]),
                         (epoch, f"{epochs['/epochs/fingerprint'][epoch - 1]:016x}"))

    def test_resumed_in_another_precision(self):
        self.unpack("before-precision")
        run = self.resume("before-precision", "--training.precision=bfloat16", "--parallel.compression=bfloat16",
                          ranks=None)
        self.assertEqual(re.findall(r"(?m)^changed +(.*)$", run.result.stdout),
                         ["training.precision = bfloat16, before float32",
                          "parallel.compression = bfloat16, before none"])
        self.assertNotEqual(run.fingerprint(), RUNS["before-precision"][1])

    def test_reported(self):
        """From the log of one, and from the checkpoint of the other."""
        log, checkpoint, version_4 = (self.unpack(name) for name in RUNS)
        page = self.folder / "page.html"
        result = testing.run("dtrain-report", log.folder, checkpoint.checkpoints()[-1], version_4.folder, "-o", page, cwd=self.folder)
        self.assertEqual(result.code, testing.EXIT_OK, result)
        self.assertEqual([line for line in result.messages() if not line.endswith(" ...")], [])  # progress
        text = Page(page.read_text(encoding="utf-8")).text
        for run in (log, checkpoint, version_4):
            self.assertIn(run.fingerprint(), text)

    def test_exported(self):
        """dtrain-export also compares the fingerprint with the weights."""
        for name in RUNS:
            with self.case(name):
                result = testing.run("dtrain-export", self.unpack(name).folder, "-o", "x.safetensors", cwd=self.folder)
                self.assertEqual(result.code, testing.EXIT_OK, result)

    def test_compared_with_a_run_of_today(self):
        """A key that the version did not have, or called by another name, is no difference."""
        for name, (settings, _) in RUNS.items():
            with self.case(name):
                earlier = self.unpack(name)
                today = self.train({**SETTINGS, **settings, "training.epochs": 1}, ranks=None, output="today")
                page = self.folder / "page.html"
                result = testing.run("dtrain-report", earlier.folder, today.folder, "-o", page, cwd=self.folder)
                self.assertEqual(result.code, testing.EXIT_OK, result)
                tables = Page(page.read_text(encoding="utf-8")).tables
                self.assertNotIn("differing", tables)  # the table of many settings
                settings = tables["runs"][0][3:-1]
                self.assertEqual([name for name in settings if "." in name], [])  # a key of the config has a dot


if __name__ == "__main__":
    testing.main()
