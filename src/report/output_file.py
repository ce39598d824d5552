"""Writes the file that a program makes for its user: completely or not at all, and never over a foreign file."""

import os
import tempfile

from program import EXIT_BAD_OUTPUT, fail


def require_replaceable(program, path, is_own, own):
    """Ends the program if a file at `path` exists and is_own(path) is false. `own` names the files that it may replace,
    such as "a page"."""
    try:
        if path.exists() and not (path.is_file() and is_own(path)):
            fail(program, EXIT_BAD_OUTPUT, f"{path} exists and is not {own} of {program}, which replaces only its own "
                                           "files. Choose another name, or remove the file")
    except OSError as error:
        _fail_to_write(program, path, error)


def write(program, path, contents):
    """replace(), but a failure ends the program with a message."""
    try:
        replace(program, path, contents)
    except OSError as error:
        _fail_to_write(program, path, error)


def replace(program, path, contents):
    """Replaces the file at `path`, or the one that a link there names, by the bytes `contents`. If that fails, raises
    OSError and leaves it unchanged."""
    path = os.path.realpath(path)
    file = tempfile.NamedTemporaryFile(dir=os.path.dirname(path), prefix=f".{program}.", delete=False)
    try:
        with file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(file.name, 0o666 & ~mask)
        os.replace(file.name, path)
    except BaseException:
        os.unlink(file.name)
        raise


def _fail_to_write(program, path, error):
    fail(program, EXIT_BAD_OUTPUT, f"cannot write {path}: {error.strerror}")
