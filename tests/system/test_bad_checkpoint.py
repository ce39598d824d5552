"""Damaged checkpoints: dtrain-eval refuses them with code 4. A run resumes from an older one, if there is one."""

import ctypes
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

SPREAD_OFFSETS = 40  # flipped bytes, distributed over a file


def flipped(data, offset):
    copy = bytearray(data)
    copy[offset] ^= 0x01
    return bytes(copy)


class Xxh128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


def digest_of(data):
    xxh128 = ctypes.CDLL("libxxhash.so.0").XXH3_128bits
    xxh128.argtypes, xxh128.restype = (ctypes.c_char_p, ctypes.c_size_t), Xxh128
    digest = xxh128(data, len(data))
    return f"{digest.high:016x}{digest.low:016x}"


def sealed(data):
    """`data` of a checkpoint, with the digest in its first line recomputed from the index. So this digest does not
    reveal a change."""
    line, content = data.split(b"\n", 1)
    index = content[:content.find(b"\nend\n") + len(b"\nend\n")]
    line, count = re.subn(rb"\b[0-9a-f]{32}$", digest_of(index).encode(), line)
    assert count == 1, line
    return line + b"\n" + content


class Index:
    """The index of a checkpoint, which can be edited."""

    def __init__(self, data):
        self._data = data
        self._begin = data.index(b"\n") + 1
        self._end = data.index(b"\nend\n") + len(b"\nend\n")
        self.text = data[self._begin:self._end]

    def dataset(self, path):
        """The words of its line: dataset, type, shape, path, bytes per piece, then offset and digest of each piece."""
        return re.search(rb"^dataset \S+ \S+ %s .*$" % path.encode(), self.text, re.MULTILINE)[0].decode().split()

    def set_dataset(self, path, words):
        self.replace(" ".join(self.dataset(path)) + "\n", f"{' '.join(words)}\n" if words else "")

    def _place_of_text(self, name):
        """Where the line of the attribute begins, and where its text begins and ends."""
        line = re.search(rb"^attribute text %s (\d+)\n" % name.encode(), self.text, re.MULTILINE)
        return line.start(), line.end(), line.end() + int(line[1])

    def text_of(self, name):
        _, begin, end = self._place_of_text(name)
        return self.text[begin:end].decode()

    def set_text(self, name, value):
        begin, _, end = self._place_of_text(name)
        new = b"" if value is None else f"attribute text {name} {len(value)}\n{value}\n".encode()
        self.text = self.text[:begin] + new + self.text[end + 1:]

    def replace(self, old, new):
        assert self.text.count(old.encode()) == 1, old
        self.text = self.text.replace(old.encode(), new.encode())

    def file(self):
        """The checkpoint with this index and a correct digest. Everything else stays in its place."""
        user_block = self._data.index(b"\x89HDF\r\n\x1a\n")
        head = self._data[:self._begin] + self.text
        assert len(head) <= user_block
        return sealed(head.ljust(user_block, b"\0") + self._data[user_block:])


def data_offsets(path):
    """For each dataset, the offsets of its first, a middle and its last byte in the file. Also checks that the index
    and h5py agree on each dataset."""
    offsets, content = {}, path.read_bytes()
    index = Index(content)
    with h5py.File(path, "r") as file:
        def visit(name, item):
            if isinstance(item, h5py.Dataset):
                _, kind, shape, _, _, *pieces = index.dataset("/" + name)
                assert item.dtype == np.dtype("<" + kind) and "x".join(map(str, item.shape)) == shape, name
                values = item[()].tobytes()
                assert len(pieces) == (2 if values else 0), pieces
                if values:
                    first = int(pieces[0])
                    assert content[first:first + len(values)] == values, name
                    offsets[name] = [first, first + len(values) // 2, first + len(values) - 1]
        file.visititems(visit)
    return offsets


class BadCheckpointTest(testing.DtrainTestCase):
    def setUp(self):
        super().setUp()
        self.settings = {"training.optimizer": "momentum", "training.learning_rate": 0.1}
        self.trained = self.train(self.settings)
        self.path = self.trained.checkpoints()[-1]
        self.valid = self.path.read_bytes()
        for older in self.trained.checkpoints()[:-1]:
            older.unlink()

    def crude_damages(self):
        return {
            "truncated": self.valid[:len(self.valid) // 2],
            "last byte missing": self.valid[:-1],
            "only a signature": self.valid[:8],
            "empty": b"",
            "no HDF5": b"step,cost\n1,0.5\n" * 1000,
        }

    def edited(self, edit):
        """The checkpoint with a change of its index and a correct digest."""
        index = Index(self.valid)
        edit(index)
        return index.file()

    @staticmethod
    def with_key(key, value):
        """An edit of the config."""
        def edit(index):
            config, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", index.text_of("config"))
            assert count == 1, key
            index.set_text("config", config)
        return edit

    def wrong_contents(self):
        weight = "/model/01_dense/weight"
        header, kind, shape, path, piece, offset, _ = Index(self.valid).dataset(weight)
        outputs, inputs = map(int, shape.split("x"))

        def weight_is(kind, shape, path, piece, offset):
            size = min(int(piece), math.prod(map(int, shape.split("x"))) * int(kind[1:]))
            data = self.valid[int(offset):int(offset) + size]
            words = (header, kind, shape, path, piece, offset, digest_of(data))
            return lambda index: index.set_dataset(weight, words)

        def with_layers(layers):
            return self.with_key("layers", layers)

        step = len(h5py.File(self.path, "r")["steps/cost"])
        edits = {
            "weight of another shape": weight_is(kind, f"{outputs}x{inputs - 1}", path, piece, offset),
            "weight transposed": weight_is(kind, f"{inputs}x{outputs}", path, piece, offset),
            "weight beyond the end": weight_is(kind, shape, path, piece, str(len(self.valid) - 1)),
            "weight of a huge shape": weight_is(kind, "1048576x1048576", path, piece, offset),
            "weight of an overflowing shape": weight_is(kind, f"{2**32}x{2**32}", path, piece, offset),
            "weight of doubles": weight_is("f8", shape, path, str(2 * int(piece)), "0"),
            "weight of another name": weight_is(kind, shape, path + "s", piece, offset),
            "no weight": lambda index: index.set_dataset(weight, ()),
            "weight twice": lambda index: index.replace("end\n", " ".join(index.dataset(weight)) + "\nend\n"),
            "no end": lambda index: index.replace("\nend\n", "\n"),
            "no config": lambda index: index.set_text("config", None),
            "text that is not a config": with_layers("many"),
            "config of huge layers": with_layers("dense 1048576 sigmoid, dense 1048576 sigmoid, dense 10 sigmoid"),
            "config of other layers": with_layers("dense 10 sigmoid"),
            "no sample shape": lambda index: index.set_text("sample_shape", None),
            "huge sample shape": lambda index: index.set_text("sample_shape", f"{2**32} {2**32}"),
            "negative step": lambda index: index.replace(f"attribute i8 step {step}\n", "attribute i8 step -1\n"),
            "step of another type": lambda index: index.replace("attribute i8 step", "attribute u8 step"),
            "more steps than costs": lambda index: index.replace(f" step {step}\n", f" step {step + 1}\n"),
            "epochs with other numbers": lambda index: index.set_dataset(
                "/epochs/epoch", [*index.dataset("/epochs/epoch")[:5], *index.dataset("/epochs/step")[5:]]),
            "no format version": lambda index: index.replace("attribute i8 format_version 4\n", ""),
            "a later format": lambda index: index.replace("format_version 4", "format_version 1000"),
        }
        return {name: self.edited(edit) for name, edit in edits.items()}

    def eval_refused(self):
        self.assert_refused("dtrain-eval", self.path, code=testing.EXIT_BAD_CHECKPOINT, words=[self.path.name])

    def resume_refused(self, *overrides, ranks=None, max_warnings=0):
        """If the checkpoint is damaged there may be a warning, because the program looks for an older one."""
        try:
            self.assert_refused("dtrain", self.folder / "run.ini", "--training.epochs=3", *overrides, ranks=ranks,
                                code=testing.EXIT_BAD_CHECKPOINT, words=["checkpoint"], max_warnings=max_warnings)
        finally:
            for path in set(self.trained.checkpoints()) - {self.path}:
                path.unlink()  # of a run that continued

    def test_rewritten_checkpoint_is_valid(self):
        """Without an edit, the rewritten checkpoint is valid."""
        self.assertEqual(self.edited(lambda index: None), self.valid)

    def test_names_of_a_later_version(self):
        """dtrain-eval does not take them for others. A run that resumes has names of its own."""
        for key, name in (("precision", "float99"), ("cost", "hinge"), ("source", "tape")):
            with self.case(key):
                self.path.write_bytes(self.edited(self.with_key(key, name)))
                self.assert_refused("dtrain-eval", self.path, code=testing.EXIT_BAD_CHECKPOINT,
                                    words=[self.path.name, f"{key} = {name}"])

    def test_checkpoint_of_an_earlier_version(self):
        digest = b"0123456789abcdef" * 2
        label = b"dtrain: XXH3-128 of everything after these 512 bytes: " + digest + b"\n"
        self.path.write_bytes(label.ljust(512, b"\0") + self.valid[512:])
        self.assert_refused("dtrain-eval", self.path, code=testing.EXIT_BAD_CHECKPOINT, words=["earlier version"])
        self.resume_refused()

    def test_no_valid_checkpoint_left(self):
        for name, content in {**self.crude_damages(), **self.wrong_contents()}.items():
            self.path.write_bytes(content)
            self.path.with_name("best.h5").write_bytes(content)
            with self.subTest(f"{name}, dtrain-eval"):
                self.eval_refused()
            for ranks in testing.BAD_INPUT_RANKS:
                with self.subTest(f"{name}, dtrain", ranks=ranks):
                    self.resume_refused(ranks=ranks, max_warnings=2)

    def test_only_the_best_checkpoint_is_valid(self):
        best = testing.read_h5(self.path.with_name("best.h5")).attributes
        self.path.write_bytes(b"")
        result = testing.run("dtrain", self.folder / "run.ini", "--training.epochs=3", cwd=self.folder)
        self.assertEqual(result.code, testing.EXIT_OK, result)
        self.assertIn(f"\nresumed     after epoch {best['epoch']}, step {best['step']}\n", result.stdout)
        self.assertIn("trying an older checkpoint", result.stderr)

    def test_fewer_epochs_than_its_steps_make(self):
        """Only a run knows how many steps an epoch has."""
        def forget_epochs(index):
            for path in re.findall(rb"(?m)^dataset \S+ \S+ (/epochs/\S+) ", index.text):
                words = index.dataset(path.decode())
                index.set_dataset(path.decode(), [*words[:2], "0", *words[3:5]])
            index.replace("attribute i8 epoch 2\n", "attribute i8 epoch 0\n")

        self.path.write_bytes(self.edited(forget_epochs))
        self.evaluate()
        for ranks in testing.BAD_INPUT_RANKS:
            with self.subTest(ranks=ranks):
                self.resume_refused(ranks=ranks)

    def test_flipped_byte_in_a_dataset(self):
        """The digest of the dataset shows it. For other programs the checksums of HDF5 do."""
        for name, offsets in data_offsets(self.path).items():
            for offset in offsets:
                with self.subTest(name, offset=offset):
                    self.path.write_bytes(flipped(self.valid, offset))
                    self.eval_refused()
                    with h5py.File(self.path, "r") as file, self.assertRaises(OSError):
                        _ = file[name][()]

    def test_flipped_byte_anywhere(self):
        """The file is refused, or dtrain does not read this byte."""
        evaluated = self.evaluate()
        outcomes = set()
        for offset in np.linspace(0, len(self.valid) - 1, SPREAD_OFFSETS, dtype=int):
            with self.subTest(offset=offset):
                self.path.write_bytes(flipped(self.valid, offset))
                result = testing.run("dtrain-eval", self.path, cwd=self.folder)
                outcomes.add(result.code)
                if result.code == testing.EXIT_OK:
                    self.assertEqual(result.stdout, evaluated)
                else:
                    self.assert_one_message(result, testing.EXIT_BAD_CHECKPOINT, self.path.name, program="dtrain-eval")
        self.assertEqual(outcomes, {testing.EXIT_OK, testing.EXIT_BAD_CHECKPOINT})

    def evaluate(self):
        result = testing.run("dtrain-eval", self.path, cwd=self.folder)
        self.assertEqual(result.code, testing.EXIT_OK, result)
        return result.stdout

    def test_opened_for_writing_by_other_programs(self):
        """A change that does not touch the values is not damage."""
        evaluated = self.evaluate()

        def open_by_h5py(path):
            h5py.File(path, "a").close()

        def add_by_h5py(path):
            with h5py.File(path, "a") as file:
                file.attrs["note"] = 3000 * "x"
                file["notes/values"] = np.arange(1000)

        def clear(path):
            subprocess.run(["h5clear", "-s", path], check=True, timeout=30)

        for change in (open_by_h5py, add_by_h5py, clear):
            with self.subTest(change.__name__):
                self.path.write_bytes(self.valid)
                change(self.path)
                self.assertNotEqual(self.path.read_bytes(), self.valid)
                self.assertEqual(self.evaluate(), evaluated)
        resumed = self.train(self.settings, "--training.epochs=3")
        self.assertNotIn("warning", resumed.result.stderr)
        self.assertIn("resumed     after epoch 2,", resumed.result.stdout)

    def test_values_changed_or_moved_by_other_programs(self):
        def change_by_h5py(path):
            with h5py.File(path, "a") as file:
                file["model/01_dense/bias"][0] = 7

        def repack(path):
            subprocess.run(["h5repack", path, path.with_suffix(".new")], check=True, timeout=30)
            path.with_suffix(".new").replace(path)

        for change, words in ((change_by_h5py, ["1 of its", "/model/01_dense/bias"]), (repack, ["h5repack"])):
            with self.subTest(change.__name__):
                self.path.write_bytes(self.valid)
                change(self.path)
                self.assert_refused("dtrain-eval", self.path, code=testing.EXIT_BAD_CHECKPOINT,
                                    words=[*words, "put back the file that dtrain wrote"])

    def test_no_crash_over_a_flipped_byte_of_the_index(self):
        begin, end = self.valid.index(b"\n") + 1, self.valid.index(b"\nend\n")
        for offset in np.linspace(begin, end, SPREAD_OFFSETS, dtype=int):
            with self.subTest(offset=offset):
                self.path.write_bytes(sealed(flipped(self.valid, offset)))
                result = testing.run("dtrain-eval", self.path, cwd=self.folder)
                # A flipped bit in the text of the config may change the data folder.
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
                # It is kept in addition to the two of this run. One of these had its file name for a while.
                kept = newest.with_name(newest.name + ".damaged")
                self.assertIn(kept.name, warnings[0])
                self.assertEqual(kept.read_bytes(), damaged)
                self.assertEqual({path.name for path in newest.parent.iterdir()},
                                 {"step-00000048.h5", "step-00000064.h5", "best.h5", kept.name})
                self.assert_same_result(resumed, straight)

    def test_one_that_cannot_be_read(self):
        for name, obstruct in {"a folder": Path.mkdir, "a circular link": lambda path: path.symlink_to(path.name),
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
