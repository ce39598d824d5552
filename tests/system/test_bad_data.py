"""Missing or damaged data: exit code 3, one message that names the file, nothing written."""

import gzip
import os
import struct
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

TRAIN_SAMPLES = 60
TEST_SAMPLES = 30


def flipped(data, offset):
    copy = bytearray(data)
    copy[offset] ^= 0x10
    return bytes(copy)


def with_label(labels, index, value):
    copy = labels.copy()
    copy[index] = value
    return testing.idx_bytes(copy)


def with_value(images, index, value):
    floats = images.astype(np.float32)
    floats[index, 5, 5] = value
    return testing.idx_bytes(floats)


def damages(arrays):
    """{name of the damage: (files of the data set to replace, None if the file is missing, and further words of the
    message)}"""
    images, labels = arrays["train_images"], arrays["train_labels"]
    image_file, label_file = testing.idx_bytes(images), testing.idx_bytes(labels)
    packed, stored = gzip.compress(image_file), gzip.compress(image_file, compresslevel=0)
    most = 0xFFFFFFFF
    return {
        "no training images": ({"train_images": None}, []),
        "no test labels": ({"test_labels": None}, []),
        "truncated images": ({"train_images": image_file[:-1]}, []),
        "truncated test images": ({"test_images": testing.idx_bytes(arrays["test_images"])[:-784]}, []),
        "truncated labels": ({"train_labels": label_file[:-5]}, []),
        "half a header": ({"train_images": image_file[:10]}, []),
        "empty file": ({"train_labels": b""}, []),
        "bytes after the data": ({"train_images": image_file + b"\0"}, []),
        "truncated gz": ({"train_images": packed[:len(packed) // 2]}, []),
        "gz without its checksum": ({"train_images": packed[:-8]}, []),
        "flipped byte in the gz": ({"train_images": flipped(packed, len(packed) // 2)}, []),
        "flipped pixel that only the checksum shows": ({"train_images": flipped(stored, len(stored) // 2)}, []),
        "flipped checksum": ({"train_images": flipped(packed, -6)}, []),
        "gz of half a file": ({"train_images": gzip.compress(image_file[:20000])}, []),
        "labels in place of images": ({"train_images": label_file}, []),
        "not an IDX file": ({"train_images": b"P5 28 28 255\n" + bytes(60 * 784)}, []),
        "bytes declared as floats": ({"train_images": testing.idx_bytes(images, magic=0x0D03)}, []),
        "doubles": ({"train_images": testing.idx_bytes(images, magic=0x0E03)}, ["0x0e"]),
        "labels of floats": ({"train_labels": testing.idx_bytes(labels.astype(np.float32))}, []),
        "a value that is not finite": ({"train_images": with_value(images, 41, np.nan)}, [41]),
        "a test value that is not finite": ({"test_images": with_value(arrays["test_images"], 3, -np.inf)}, [3]),
        "fewer labels": ({"train_labels": testing.idx_bytes(labels[:-3])}, [TRAIN_SAMPLES, TRAIN_SAMPLES - 3]),
        "more labels": ({"train_labels": testing.idx_bytes(np.append(labels, labels))},
                        [TRAIN_SAMPLES, 2 * TRAIN_SAMPLES]),
        "label 10": ({"train_labels": with_label(labels, 17, 10)}, [17, 10]),
        "test label 255": ({"test_labels": with_label(arrays["test_labels"], 29, 255)}, [29, 255]),
        "no samples": ({"train_images": testing.idx_bytes(images[:0]), "train_labels": testing.idx_bytes(labels[:0])},
                       []),
        "no test samples": ({"test_images": testing.idx_bytes(images[:0]),
                             "test_labels": testing.idx_bytes(labels[:0])}, []),
        "images without pixels": ({"train_images": testing.idx_bytes(images[:, :0])}, []),
        "dimensions beyond 64 bits": ({"train_images": testing.idx_bytes(images, dimensions=(most, most, most))}, []),
        # Their product, 2^64, is 0 in 64 bits.
        "dimensions whose product wraps around to 0": (
            {"train_images": struct.pack(">I4I", 0x0804, 1 << 31, 1 << 31, 4, 1)}, []),
        "more samples than fit into memory": (
            {"train_images": testing.idx_bytes(images, dimensions=(most, 28, 28)),
             "train_labels": testing.idx_bytes(labels, dimensions=(most,))}, []),
    }


class BadDataTest(testing.DtrainTestCase):
    def setUp(self):
        super().setUp()
        limits = {"train": TRAIN_SAMPLES, "test": TEST_SAMPLES}
        self.arrays = {key: array[:limits[key.partition("_")[0]]] for key, array in self.arrays.items()}

    def write_damaged(self, replacements):
        """Writes the small data set with some files replaced. Returns the folder."""
        folder = self.folder / "data"
        testing.write_dataset(folder, self.arrays)
        for key, content in replacements.items():
            path = folder / testing.FILE_NAMES[key]
            path.unlink()
            packed = path.with_name(path.name + ".gz")
            packed.unlink(missing_ok=True)
            if content is not None:
                (packed if content.startswith(b"\x1f\x8b") else path).write_bytes(content)
        return folder

    def refused(self, config, *arguments, words):
        for ranks in testing.BAD_INPUT_RANKS:
            with self.subTest(ranks=ranks):
                self.assert_refused("dtrain", config, *arguments, code=testing.EXIT_BAD_DATA, words=words, ranks=ranks)

    def test_damaged_files(self):
        for name, (replacements, words) in damages(self.arrays).items():
            with self.subTest(name):
                config = self.write_config({"data.directory": self.write_damaged(replacements)})
                # If two files are damaged, the message may name either.
                file = os.path.commonprefix([testing.FILE_NAMES[key] for key in replacements])
                self.refused(config, words=[file, *words])
            for path in (self.folder / "data").iterdir():
                path.unlink()

    def test_valid_files_are_accepted(self):
        """Without damage, the files of the other tests are valid."""
        for ranks in testing.BAD_INPUT_RANKS:
            self.train({"data.directory": self.write_damaged({})}, ranks=ranks)

    def test_test_images_of_another_size(self):
        folder = self.write_damaged({"test_images": testing.idx_bytes(self.arrays["test_images"][:, :27, :27])})
        self.refused(self.write_config({"data.directory": folder}), words=["27", "28"])

    def test_folder(self):
        self.refused(self.write_config({"data.directory": self.folder / "none"}), words=[self.folder / "none"])
        config = self.write_config({})
        self.refused(config, f"--data.directory={config}", words=[config])

    def test_two_files_of_samples(self):
        folder = self.write_damaged({})
        (folder / "t10k-images-idx3-float.gz").write_bytes(b"")
        self.refused(self.write_config({"data.directory": folder}),
                     words=["t10k-images-idx3-ubyte", "t10k-images-idx3-float.gz"])

    def test_file_that_is_a_folder(self):
        folder = self.write_damaged({"train_images": None})
        (folder / testing.FILE_NAMES["train_images"]).mkdir()
        self.refused(self.write_config({"data.directory": folder}), words=["train-images"])

    def test_check_refuses_too(self):
        folder = self.write_damaged({"train_labels": with_label(self.arrays["train_labels"], 59, 11)})
        self.refused(self.write_config({"data.directory": folder}), "--check", words=["train-labels", 59, 11])

    def test_an_earlier_run_is_unchanged(self):
        folder = self.write_damaged({})
        self.train({"data.directory": folder}, ranks=2)
        (folder / testing.FILE_NAMES["test_labels"]).unlink()
        self.refused(self.folder / "run.ini", "--training.epochs=5", words=["t10k-labels"])


if __name__ == "__main__":
    testing.main()
