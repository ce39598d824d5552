"""HDF5 data sets: the same training as with IDX files, and one message about data that are missing or damaged."""

import os
import re
import signal
import sys
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

SETTINGS = {"data.source": "hdf5", "data.directory": "nowhere"}
COMPRESSED = {"compression": "gzip", "shuffle": True}  # h5py cuts images into chunks of parts of images


class Hdf5DataTest(testing.DtrainTestCase):
    def write(self, name="data.h5", samples="u1", labels="i8", replaced=None, **options):
        """Writes the small data set as one file. `replaced` has other datasets, or None for one that is missing."""
        arrays = {f"{part}/{kind}": self.arrays[f"{part}_{key}"].astype(dtype) for part in ("train", "test")
                  for kind, key, dtype in (("samples", "images", samples), ("labels", "labels", labels))}
        with h5py.File(self.folder / name, "w") as file:
            for path, array in {**arrays, **(replaced or {})}.items():
                if array is not None:
                    file.create_dataset(path, data=array, **options)
        return self.folder / name

    def settings(self, file, **settings):
        return {**SETTINGS, "data.file": file, **settings}

    def test_trains_as_idx_files_do(self):
        for data_settings in ({}, {"data.validation_samples": 77, "data.train_samples": 900, "data.test_samples": 150}):
            with self.case(**data_settings):
                expected = self.train(data_settings, output="idx")
                forms = ((None, {}), (1, COMPRESSED), (2, {}), (3, COMPRESSED), (5, {}))
                for ranks, options in forms if testing.LONG or not data_settings else forms[3:4]:
                    with self.subTest(ranks=ranks, **options):
                        file = self.write(**options)
                        trained = self.train(self.settings(file, **data_settings), ranks=ranks, output=f"run{ranks}")
                        self.assert_same_result(trained, expected)
                        self.assertRegex(trained.log().attributes["dataset"], r"^HDF5 data \(hash [0-9a-f]{16}-")

    def test_floats_train_as_idx_files_of_floats_do(self):
        floats = {key: array.astype(np.float32) / 100 - 1 if "images" in key else array
                  for key, array in self.arrays.items()}
        testing.write_dataset(self.folder / "floats", floats)
        expected = self.train({"data.directory": self.folder / "floats"}, output="idx")
        for dtype in ("<f4", ">f4"):
            file = self.write(replaced={f"{part}/samples": floats[f"{part}_images"].astype(dtype)
                                        for part in ("train", "test")}, **COMPRESSED)
            with self.subTest(dtype):
                self.assert_same_result(self.train(self.settings(file), ranks=3, output=f"run{dtype[0] == '>'}"),
                                        expected)

    def test_same_bits_on_any_ranks_and_after_kills(self):
        """With batch normalisation, clipped gradients and a validation set."""
        settings = self.settings(self.write(**COMPRESSED), **{
            "model.layers": "conv 8x3x3, batchnorm relu, maxpool 2, dense 100, batchnorm relu, dense 10",
            "model.cost": "cross_entropy", "data.validation_samples": 100, "training.clip_norm": 0.2,
            "training.learning_rate": 0.1, "training.epochs": 4, "training.batch_size": 64,
            "output.checkpoint_every": "5 steps"})
        undisturbed = self.train(settings, ranks=2, output="undisturbed")
        for ranks, readers in ((1, 1), (3, 0), (5, 2), (8, 1)):
            with self.subTest(ranks=ranks, readers=readers):
                trained = self.train({**settings, "data.readers": readers}, ranks=ranks, output=f"ranks{ranks}")
                self.assert_same_result(trained, undisturbed)
        for before, after in ((3, 2), (2, 3)) if testing.LONG else ((3, 2),):
            with self.subTest(before=before, after=after):
                output = f"run{before}"
                config = self.write_config({**settings, "output.directory": self.folder / output}, output)
                with testing.Process(testing.command("dtrain", config, ranks=before), self.folder) as process:
                    process.wait_until(lambda: testing.newest_step(self.folder / output) >= 10)
                    os.kill(process.rank_pids()[-1], signal.SIGKILL)
                    self.assertIn(process.wait(30).code, testing.codes_of_killed_rank())
                resumed = self.train(settings, ranks=after, output=output)
                self.assertIn("resumed", resumed.result.stdout)
                self.assert_same_result(resumed, undisturbed)
        print(f"fingerprint {undisturbed.fingerprint()} on 1, 2, 3, 5, 8 ranks and after kills", flush=True)

    def test_resumes_with_the_same_data_only(self):
        settings = self.settings(self.write())
        self.train(settings, ranks=2)
        # Another file with the same contents is the same data, also with other storage and types of labels.
        again = self.write("again.h5", labels="u2", **COMPRESSED)
        self.train({**settings, "data.file": again, "data.test_samples": 100}, "--training.epochs=3", ranks=3)
        images = self.arrays["train_images"].copy()
        images[1002, 27, 27] ^= 1
        config = self.write_config(self.settings(self.write("changed.h5", replaced={"train/samples": images})))
        self.assert_refused("dtrain", config, "--training.epochs=4", code=testing.EXIT_BAD_CHECKPOINT, ranks=2,
                            words=["cannot resume", "HDF5 data"])

    def test_evaluation_and_report(self):
        trained = self.train(self.settings(self.write(**COMPRESSED)), ranks=2)
        accuracy = re.findall(r"test accuracy +([\d.]+) %", trained.result.stdout)[-1]
        evaluated = testing.run("dtrain-eval", trained.folder, "--show", 1, cwd=self.folder)
        self.assertEqual(evaluated.code, testing.EXIT_OK, evaluated)
        shown = testing.run("dtrain-eval", trained.folder, cwd=self.folder)
        self.assertIn(f"accuracy   {accuracy} % ", shown.stdout)
        page = self.folder / "report.html"
        reported = testing.run("dtrain-report", trained.folder, "-o", page, cwd=self.folder)
        self.assertEqual(reported.code, testing.EXIT_OK, reported)
        self.assertIn("HDF5 data", page.read_text())
        self.assertNotIn("evaluation-failed", page.read_text())
        (self.folder / "data.h5").rename(self.folder / "moved.h5")
        self.assert_refused("dtrain-eval", trained.folder, code=testing.EXIT_BAD_DATA,
                            words=["data.h5", "data.file =", "--data"])
        moved = testing.run("dtrain-eval", trained.folder, "--data", "moved.h5", cwd=self.folder)
        expected = re.sub(r"(?m)^data set   .*$", "data set   moved.h5", shown.stdout)
        self.assertEqual((moved.code, moved.stdout), (testing.EXIT_OK, expected), moved)

    def test_never_replaces_a_data_file(self):
        trained = self.train(self.settings(self.write()))
        self.assert_refused("dtrain-eval", trained.folder, "--record", "data.h5", code=testing.EXIT_BAD_OUTPUT,
                            words=["data.h5", "not an evaluation file"])

    def test_warns_of_a_file_that_is_not_used(self):
        config = self.write_config({"data.file": "data.h5"})
        for words in ([config], [config, "--check"]):
            result = testing.run("dtrain", *words, ranks=2, cwd=self.folder)
            self.assertEqual(result.code, testing.EXIT_OK, result)
            warning, = result.messages()
            self.assertIn("dtrain: warning: data.file = data.h5 is not used, because data.source = idx", warning)

    def test_check(self):
        config = self.write_config(self.settings(self.write()))
        result = testing.run("dtrain", config, "--check", ranks=3, cwd=self.folder)
        self.assertEqual(result.code, testing.EXIT_OK, result)
        self.assertIn("1003 training and 203 test samples of 28 x 28", result.stdout)
        self.assert_refused("dtrain", config, "--check", "--data.train_samples=1004", code=testing.EXIT_BAD_CONFIG,
                            words=["train_samples", "at most 1003", "data.h5"], ranks=2)

    def refused(self, file, *words):
        config = self.write_config(self.settings(file))
        for ranks in testing.BAD_INPUT_RANKS:
            with self.subTest(ranks=ranks):
                self.assert_refused("dtrain", config, code=testing.EXIT_BAD_DATA, words=words, ranks=ranks)

    def test_bad_datasets(self):
        labels = self.arrays["train_labels"].astype(np.int64)
        images = self.arrays["train_images"]
        negative, eleven, nan = labels.copy(), labels.copy(), images.astype(np.float32)
        negative[700], eleven[1002], nan[900, 3, 3] = -1, 11, np.nan
        for name, replaced, words in (
                ("missing", {"test/labels": None}, ["the file has no /test/labels"]),
                ("float64", {"train/samples": images / 255}, ["/train/samples", "float64", 'astype("float32")']),
                ("labels of floats", {"train/labels": labels / 1}, ["/train/labels", "float64", 'astype("uint8")']),
                ("negative", {"train/labels": negative}, ["/train/labels", "sample 700 has label -1"]),
                ("eleven", {"train/labels": eleven}, ["/train/labels", "sample 1002 has label 11", "10 classes"]),
                ("nan", {"train/samples": nan}, ["/train/samples", "sample 900 has a value that is not finite"]),
                ("fewer labels", {"train/labels": labels[:-3]}, ["/train/labels", "1000 labels", "1003 samples"]),
                ("labels as a column", {"train/labels": labels[:, None]}, ["/train/labels", "one dimension"]),
                ("other shape", {"test/samples": self.arrays["test_images"][:, :27]}, ["28 x 28", "27 x 28"]),
                ("lzf", {}, ["/train/samples", "(lzf)", 'compression="gzip"'])):
            with self.case(name):
                options = {"compression": "lzf"} if name == "lzf" else {}
                self.refused(self.write(replaced=replaced, **options), self.folder / "data.h5", *words)

    def test_open_for_writing(self):
        file = self.write()
        with h5py.File(file, "a"):
            self.refused(file, file, "another program has this file open for writing")
        self.train(self.settings(file))

    def test_damaged_files(self):
        whole = self.write(**COMPRESSED).read_bytes()
        middle = whole[:len(whole) // 2] + bytes(200) + whole[len(whole) // 2 + 200:]
        for name, content in (("truncated", whole[:-500]), ("half", whole[:len(whole) // 2]), ("short", whole[:50]),
                              ("empty", b""), ("text", b"no data\n"), ("zeros in a chunk", middle)):
            with self.case(name):
                (self.folder / "damaged.h5").write_bytes(content)
                self.refused(self.folder / "damaged.h5", self.folder / "damaged.h5")
        self.refused(self.folder / "none.h5", "none.h5", "no such file", "data.file")
        self.refused(self.folder, self.folder, "not a file")


if __name__ == "__main__":
    testing.main()
