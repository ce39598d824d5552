"""Reads HDF5 files that may be damaged, of another program, or malicious."""

import multiprocessing
import os
import re
import resource

import h5py
import numpy as np

from program import signals_held

MAX_CPU_SECONDS = 120  # for reading a file apart


class Unreadable(Exception):
    """A file or folder cannot be used. The text names it and gives the reason."""


class Unusable(Unreadable):
    """The file is not damaged, but this program cannot use it, for example because a later version wrote it."""


def attributes_of(file):
    plain = {}
    for key, value in file.attrs.items():
        value = value.decode(errors="replace") if isinstance(value, bytes) else value
        plain[key] = value.item() if isinstance(value, np.generic) else value
    return plain


def column_of(file, path, dimensions=1, kinds="iuf"):
    """The dataset at `path`; its values are not read yet."""
    dataset = file.get(path)
    if not isinstance(dataset, h5py.Dataset):
        raise Unreadable(f"lacks {path}")
    if dataset.ndim != dimensions or dataset.dtype.kind not in kinds:
        raise Unreadable(f"{path} has the wrong type or shape: {dataset.dtype} of shape {dataset.shape}")
    # dtrain does not compress, so a dataset larger than its storage is damaged. Memory must not be allocated for it.
    if dataset.dtype.kind in "iuf" and dataset.nbytes > max(1 << 24, dataset.id.get_storage_size()):
        raise Unreadable(f"{path} claims to be larger than the file")
    return dataset


def opened(path):
    """Opens `path` as HDF5. Raises Unreadable, whose text begins with the path."""
    try:
        return h5py.File(path, "r", locking=False)
    except FileNotFoundError:
        raise Unreadable(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path}: not a readable HDF5 file ({reason(error)})") from None


def reason(error):
    """The message of HDF5, shortened."""
    text = str(error.args[0] if error.args else error)
    return re.sub(r"^.*?\((.*)\)$", r"\1", text, flags=re.DOTALL) if "(" in text else text


def reading(path, read):
    """Returns read(open file). Any error in the file becomes Unreadable, whose text begins with the path."""
    with opened(path) as file:
        try:
            return read(file)
        except Unreadable as error:
            raise type(error)(f"{path}: {error}") from None
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, MemoryError) as error:
            raise Unreadable(f"{path}: is damaged ({reason(error)})") from None


def reading_apart(path, read):
    """reading(path, read) in a process of its own."""
    return apart(path, lambda: reading(path, read))


def apart(path, work):
    """work(), which reads `path`, in a process of its own: some damaged files crash the HDF5 library, or it never
    ends."""
    processes = multiprocessing.get_context("fork")
    receiver, sender = processes.Pipe(duplex=False)
    child = processes.Process(target=_work_and_send, args=(sender, work))
    try:
        with signals_held():  # so that the process is known when a signal ends the program
            child.start()
        sender.close()
        result = receiver.recv()
    except EOFError:
        raise Unreadable(f"{path}: is damaged (the HDF5 library crashed or did not end)") from None
    finally:
        receiver.close()
        if child.pid is not None:
            child.kill()  # it is done, or it may never be
            child.join()
    if isinstance(result, Exception):
        raise result
    return result


def _work_and_send(sender, work):
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the C library reports a crash there
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_SECONDS, MAX_CPU_SECONDS))
    try:
        sender.send(work())
    except Exception as error:
        sender.send(error)


def require_version(attributes, *versions):
    if attributes.get("format_version") not in versions:
        raise Unusable(f"is not a file of this version of dtrain: format_version is "
                       f"{attributes.get('format_version', 'missing')}, this program reads {' and '.join(map(str, versions))}")


def values_of(file, path, dimensions=1):
    """The numbers at `path`. Infinite values become NaN, which stands for a missing value."""
    values = column_of(file, path, dimensions)[()]
    return np.where(np.isfinite(values), values, np.nan) if values.dtype.kind == "f" else values
