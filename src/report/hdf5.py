"""Reading HDF5 files that may be damaged, foreign or hostile."""

import re

import h5py
import numpy as np


class Unreadable(Exception):
    """A file or folder that cannot be used; the text names it and says why."""


def attributes_of(file):
    plain = {}
    for key, value in file.attrs.items():
        value = value.decode(errors="replace") if isinstance(value, bytes) else value
        plain[key] = value.item() if isinstance(value, np.generic) else value
    return plain


def column_of(file, path, dimensions=1, kinds="iuf"):
    """The dataset at `path`, unread."""
    dataset = file.get(path)
    if not isinstance(dataset, h5py.Dataset):
        raise Unreadable(f"has no {path}")
    if dataset.ndim != dimensions or dataset.dtype.kind not in kinds:
        raise Unreadable(f"{path} is not what it should be: {dataset.dtype} of shape {dataset.shape}")
    # dtrain compresses nothing, so that a size that the file does not bear out is no size to make room for.
    if dataset.dtype.kind in "iuf" and dataset.nbytes > max(1 << 24, dataset.id.get_storage_size()):
        raise Unreadable(f"{path} claims to be larger than the file")
    return dataset


def opened(path):
    """`path` as HDF5, by a name that errors begin with."""
    try:
        return h5py.File(path, "r", locking=False)
    except FileNotFoundError:
        raise Unreadable(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path}: is no readable HDF5 file ({reason(error)})") from None


def reason(error):
    """What HDF5 said, in short."""
    text = str(error.args[0] if error.args else error)
    return re.sub(r"^.*?\((.*)\)$", r"\1", text, flags=re.DOTALL) if "(" in text else text


def reading(path, read):
    """What `read` makes of the open file; all that may be wrong with it becomes Unreadable with its name."""
    with opened(path) as file:
        try:
            return read(file)
        except Unreadable as error:
            raise Unreadable(f"{path}: {error}") from None
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, MemoryError) as error:
            raise Unreadable(f"{path}: is damaged ({reason(error)})") from None


def require_version(attributes, version):
    if attributes.get("format_version") != version:
        raise Unreadable(f"is not of dtrain, or of another version of it: format_version is "
                         f"{attributes.get('format_version', 'missing')}, this program reads {version}")


def values_of(file, path, dimensions=1):
    """The numbers at `path`; those that are infinite count as absent."""
    values = column_of(file, path, dimensions)[()]
    return np.where(np.isfinite(values), values, np.nan) if values.dtype.kind == "f" else values
