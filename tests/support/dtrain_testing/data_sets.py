"""IDX files, and a small data set for learning."""

import gzip
import struct
from pathlib import Path

import numpy as np

TRAIN_SAMPLES = 1003
TEST_SAMPLES = 203
FILE_NAMES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


def idx_bytes(array, *, magic=None, dimensions=None):
    """`array` as an IDX file of float32, if it contains floats, or of bytes. `magic` and `dimensions` replace the true
    values."""
    floats = array.dtype.kind == "f"
    dimensions = array.shape if dimensions is None else dimensions
    magic = (0x0D00 if floats else 0x0800) + len(dimensions) if magic is None else magic
    elements = np.ascontiguousarray(array, ">f4" if floats else np.uint8).tobytes()
    return struct.pack(f">I{len(dimensions)}I", magic, *dimensions) + elements


def read_idx(path):
    data = Path(path).read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    rank = data[3]
    shape = struct.unpack_from(f">{rank}I", data, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def file_name(key, array):
    """The file name for `array`, which is written for `key` of FILE_NAMES."""
    stem = FILE_NAMES[key].partition("-idx")[0]
    return f"{stem}-idx{array.ndim}-{'float' if array.dtype.kind == 'f' else 'ubyte'}"


def find_idx(directory, key):
    plain = Path(directory) / FILE_NAMES[key]
    return plain if plain.exists() else plain.with_name(plain.name + ".gz")


def synthetic_digits(seed=7):
    """Ten blurred random patterns with noise. A network learns them, but not perfectly in a few epochs."""
    random = np.random.default_rng(seed)
    patterns = np.kron(random.uniform(0, 160, (10, 7, 7)), np.ones((4, 4)))

    def split(samples):
        labels = random.integers(0, 10, samples).astype(np.uint8)
        images = patterns[labels] + random.normal(0, 60, (samples, 28, 28))
        return np.clip(images, 0, 255).astype(np.uint8), labels

    train_images, train_labels = split(TRAIN_SAMPLES)
    test_images, test_labels = split(TEST_SAMPLES)
    return {"train_images": train_images, "train_labels": train_labels,
            "test_images": test_images, "test_labels": test_labels}


def write_dataset(directory, arrays, *, compressed=False):
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for key, array in arrays.items():
        data = idx_bytes(array)
        name = file_name(key, array)
        if compressed:
            (directory / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (directory / name).write_bytes(data)
