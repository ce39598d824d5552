"""Damaged checkpoints: dtrain-eval refuses them with code 4; a run falls back on an older one, if there is any."""

import ctypes
import os
import re
import sys
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

USER_BLOCK = 512
SPREAD_OFFSETS = 40  # flipped bytes all over a file


def flipped(data, offset):
    copy = bytearray(data)
    copy[offset] ^= 0x01
    return bytes(copy)


class Xxh128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


def sealed(data):
    """`data` of a checkpoint with the digest in its user block set to what follows it, so that a change is not
    noticed by that alone."""
    xxh128 = ctypes.CDLL("libxxhash.so.0").XXH3_128bits
    xxh128.argtypes, xxh128.restype = (ctypes.c_char_p, ctypes.c_size_t), Xxh128
    content = data[USER_BLOCK:]
    digest = xxh128(content, len(content))
    label, count = re.subn(rb"\b[0-9a-f]{32}\b", f"{digest.high:016x}{digest.low:016x}".encode(), data[:USER_BLOCK])
    assert count == 1, data[:USER_BLOCK]
    return label + content


def data_offsets(path):
    """Of each dataset, where its first, a middle and its last byte lie in the file."""
    offsets, content = {}, path.read_bytes()
    with h5py.File(path, "r") as file:
        def visit(name, item):
            if isinstance(item, h5py.Dataset) and item.size > 0:
                values = item[()].tobytes()
                # HDF5 counts the offset with or without the user block, as its version has it.
                first = content.index(values, item.id.get_chunk_info(0).byte_offset)
                offsets[name] = [first, first + len(values) // 2, first + len(values) - 1]
        file.visititems(visit)
    return offsets


class BadCheckpointTest(testing.DtrainTestCase):
    def setUp(self):
        super().setUp()
        self.settings = {"training.optimizer": "momentum", "training.learning_rate": 0.1}
        self.trained = self.train(self.settings)
        self.path = self.trained.checkpoints()[-1]
        self.whole = self.path.read_bytes()
        for older in self.trained.checkpoints()[:-1]:
            older.unlink()

    def crude_damages(self):
        return {
            "truncated": self.whole[:len(self.whole) // 2],
            "last byte missing": self.whole[:-1],
            "only a signature": self.whole[:8],
            "empty": b"",
            "no HDF5": b"step,cost\n1,0.5\n" * 1000,
        }

    def edited(self, edit):
        """The checkpoint written anew with a change, all checksums being right."""
        self.path.write_bytes(self.whole)
        copy = self.folder / "copy.h5"
        with h5py.File(self.path, "r") as file, h5py.File(copy, "w", userblock_size=USER_BLOCK) as new:
            for name in file:
                file.copy(name, new)
            new.attrs.update(file.attrs)
            edit(new)
        content = copy.read_bytes()
        copy.unlink()
        return sealed(self.whole[:USER_BLOCK] + content[USER_BLOCK:])

    def replace(self, part, change):
        """Replaces the first dataset /model/*/`part` by `change` of its values."""
        def edit(file):
            name = next(f"/model/{layer}/{part}" for layer in sorted(file["model"]))
            values = change(file[name][()])
            del file[name]
            if values is not None:
                file.create_dataset(name, data=values, fletcher32=True)
        return edit

    def wrong_contents(self):
        def without(attribute):
            return lambda file: file.attrs.__delitem__(attribute)

        edits = {
            "weight of another shape": self.replace("weight", lambda w: w[:, :-1]),
            "weight transposed": self.replace("weight", lambda w: w.T),
            "bias too long": self.replace("bias", lambda b: np.append(b, b)),
            "weight of text": self.replace("weight", lambda w: np.full(w.shape, b"x")),
            "no weight": self.replace("weight", lambda w: None),
            "no model": lambda file: file.__delitem__("model"),
            "no config": without("config"),
            "config that is none": lambda file: file.attrs.modify("config", "[model]\nlayers = many\n"),
            "negative step": lambda file: file.attrs.modify("step", -1),
            "more steps than costs": lambda file: file.attrs.modify("step", file.attrs["step"] + 1),
            "no format version": without("format_version"),
            "a later format": lambda file: file.attrs.modify("format_version", 1000),
        }
        return {name: self.edited(edit) for name, edit in edits.items()}

    def eval_refused(self):
        self.assert_refused("dtrain-eval", self.path, code=testing.EXIT_BAD_CHECKPOINT, words=[self.path.name])

    def resume_refused(self, *overrides, ranks=None, most_warnings=0):
        """There may be a warning where the checkpoint is damaged, so that the program looks for an older one."""
        try:
            self.assert_refused("dtrain", self.folder / "run.ini", "--training.epochs=3", *overrides, ranks=ranks,
                                code=testing.EXIT_BAD_CHECKPOINT, words=["checkpoint"], most_warnings=most_warnings)
        finally:
            for path in set(self.trained.checkpoints()) - {self.path}:
                path.unlink()  # of a run that went on

    def test_rewritten_checkpoint_is_whole(self):
        """What the edits damage is good by itself."""
        good = testing.run("dtrain-eval", self.path, cwd=self.folder)
        self.assertEqual(good.code, testing.EXIT_OK, good)
        self.path.write_bytes(self.edited(lambda file: None))
        self.assertEqual(testing.run("dtrain-eval", self.path, cwd=self.folder), good)

    def test_nothing_whole_left(self):
        for name, content in {**self.crude_damages(), **self.wrong_contents()}.items():
            self.path.write_bytes(content)
            with self.subTest(f"{name}, dtrain-eval"):
                self.eval_refused()
            for ranks in testing.BAD_INPUT_RANKS:
                with self.subTest(f"{name}, dtrain", ranks=ranks):
                    self.resume_refused(ranks=ranks, most_warnings=1)

    def test_flipped_byte_in_a_dataset(self):
        """Below the digest of the file, the checksums of HDF5 find it as well."""
        for number, (name, offsets) in enumerate(data_offsets(self.path).items()):
            with self.subTest(name):
                self.path.write_bytes(sealed(flipped(self.whole, offsets[number % len(offsets)])))
                self.resume_refused(most_warnings=1)
            if name.startswith("model/"):
                for offset in offsets:
                    for seal in (bytes, sealed):
                        with self.subTest(name, offset=offset, digest=seal.__name__):
                            self.path.write_bytes(seal(flipped(self.whole, offset)))
                            self.eval_refused()

    def test_flipped_byte_anywhere(self):
        """It is found, or it lies where nothing is stored and changes nothing."""
        good = testing.run("dtrain-eval", self.path, cwd=self.folder)
        self.assertEqual(good.code, testing.EXIT_OK, good)
        found = 0
        for offset in np.linspace(0, len(self.whole) - 1, SPREAD_OFFSETS, dtype=int):
            with self.subTest(offset=offset):
                self.path.write_bytes(flipped(self.whole, offset))
                result = testing.run("dtrain-eval", self.path, cwd=self.folder)
                if result.code == testing.EXIT_OK:
                    self.assertEqual(result, good)
                else:
                    self.assert_one_message(result, testing.EXIT_BAD_CHECKPOINT, self.path.name, program="dtrain-eval")
                    found += 1
        self.assertGreater(found, SPREAD_OFFSETS // 4)

    def test_no_crash_over_damage_that_hdf5_has_to_find(self):
        for offset in np.linspace(USER_BLOCK, len(self.whole) - 1, SPREAD_OFFSETS, dtype=int):
            with self.subTest(offset=offset):
                self.path.write_bytes(sealed(flipped(self.whole, offset)))
                result = testing.run("dtrain-eval", self.path, cwd=self.folder)
                # A flipped bit in the text of the config may name another folder of data.
                codes = (testing.EXIT_OK, testing.EXIT_BAD_DATA, testing.EXIT_BAD_CHECKPOINT)
                self.assertIn(result.code, codes, result)
                self.assertEqual(len(result.messages()), 0 if result.code == testing.EXIT_OK else 1, result)

    def test_no_checkpoint_at_all(self):
        for path in (self.folder / "none.h5", self.folder, self.trained.folder / "log.h5"):
            with self.subTest(path.name):
                self.assert_refused("dtrain-eval", path, code=testing.EXIT_BAD_CHECKPOINT, words=[path])

    def test_checkpoint_of_another_config(self):
        for override in ("--model.layers=dense 16 sigmoid, dense 10 sigmoid",
                         "--model.layers=dense 16 sigmoid, dense 17 sigmoid, dense 10 sigmoid",
                         "--parallel.logical_shards=4", "--model.seed=2", "--training.optimizer=sgd"):
            for ranks in testing.BAD_INPUT_RANKS:
                with self.subTest(override, ranks=ranks):
                    self.resume_refused(override, ranks=ranks)


class FallingBackTest(testing.DtrainTestCase):
    def test_older_checkpoint_is_used(self):
        settings = {"output.keep_checkpoints": 2}
        straight = self.train({**settings, "training.epochs": 4}, ranks=2, output="straight")
        for name, damage in {
                "truncated": lambda data, offset: data[:-100],
                "flipped byte": flipped,
                "empty": lambda data, offset: b"",
                "no HDF5": lambda data, offset: b"x" * len(data),
        }.items():
            with self.case(name):
                trained = self.train(settings, ranks=2)
                newest = trained.checkpoints()[-1]
                self.assertEqual(newest.name, "step-00000032.h5")
                weight_offset = next(places[1] for name, places in data_offsets(newest).items()
                                     if name.endswith("weight"))
                damaged = damage(newest.read_bytes(), weight_offset)
                newest.write_bytes(damaged)

                resumed = self.train(settings, "--training.epochs=4", ranks=2)
                output = resumed.result.stdout + resumed.result.stderr
                warnings = [line for line in output.splitlines() if newest.name in line]
                self.assertEqual(len(warnings), 1, resumed.result)
                self.assertRegex(warnings[0], "(?i)warning")
                # It is kept beside the two of this run, one of which took its place for a while.
                kept = newest.with_name(newest.name + ".damaged")
                self.assertIn(kept.name, warnings[0])
                self.assertEqual(kept.read_bytes(), damaged)
                self.assertEqual({path.name for path in newest.parent.iterdir()},
                                 {"step-00000048.h5", "step-00000064.h5", kept.name})
                self.assert_same_result(resumed, straight)

    def test_one_that_cannot_be_read(self):
        for name, obstruct in {"a folder": Path.mkdir, "a link in a circle": lambda path: path.symlink_to(path.name),
                               "may not be read": lambda path: path.touch(mode=0)}.items():
            if name == "may not be read" and os.geteuid() == 0:
                continue  # root may read everything
            with self.case(name):
                straight = self.train({"training.epochs": 3}, ranks=2, output="straight")
                trained = self.train(ranks=2)
                newest = trained.checkpoints()[-1]
                newest.unlink()
                obstruct(newest)
                resumed = self.train({"training.epochs": 3}, ranks=2)
                self.assertIn(f"warning: cannot read {newest}", resumed.result.stderr)
                self.assertTrue(os.path.lexists(newest.with_name(newest.name + ".damaged")))
                self.assertIn("resumed     after epoch 1,", resumed.result.stdout)
                self.assert_same_result(resumed, straight)


if __name__ == "__main__":
    testing.main()
