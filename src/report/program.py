"""What the Python programs of this repository share, before any other module is loaded."""

import contextlib
import io
import os
import signal
import sys

EXIT_USAGE = 2
EXIT_BAD_OUTPUT = 6


def fail(program, code, problem):
    print(f"{program}: {problem}", file=sys.stderr, flush=True)
    sys.exit(code)


@contextlib.contextmanager
def needing(program, *packages):
    """Where modules are imported that Debian's `packages` have: ends the program where one is missing, or is there for
    another Python or NumPy, in whatever way that shows."""
    try:
        yield
    except Exception as error:
        while error.__cause__:
            error = error.__cause__
        fail(program, EXIT_USAGE, f"{str(error).strip().splitlines()[0]}; this wants Debian's modules (apt-get install "
                                  f"{' '.join(packages)}), /usr/bin/python3, and no others from PYTHONPATH or pip")


class _Output(io.FileIO):
    def __init__(self, program):
        super().__init__(1, "wb", closefd=False)
        self._program = program

    def write(self, data):
        try:
            return super().write(data)
        except OSError as error:
            print(f"{self._program}: cannot write to standard output: {error.strerror}", file=sys.stderr, flush=True)
            os._exit(EXIT_BAD_OUTPUT)


def guard_output(program):
    """From now on standard output that takes no more ends the program at once, with code 6 and a message, as SIGPIPE
    does silently where the reader has left."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if sys.stdout is None:  # where a file that is opened would take its place
        fail(program, EXIT_BAD_OUTPUT, "standard output is closed")
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(_Output(program)), "utf-8", "backslashreplace",
                                  line_buffering=sys.stdout.isatty())
