"""What the Python programs of this repository share, before any other module is loaded."""

import contextlib
import io
import os
import signal
import sys

EXIT_USAGE = 2
EXIT_BAD_OUTPUT = 6


def fail(program, code, problem):
    if sys.stderr is not None:
        print(f"{program}: {problem}", file=sys.stderr, flush=True)
    sys.exit(code)


@contextlib.contextmanager
def needing(program, *packages):
    """Where modules are imported that Debian's `packages` have: ends the program where one is missing, or is there for
    another Python or NumPy, in whatever way that shows."""
    try:
        yield
    except (ImportError, AttributeError, RuntimeError, ValueError) as error:
        while error.__cause__:
            error = error.__cause__
        fail(program, EXIT_USAGE, f"{(str(error).strip() or repr(error)).splitlines()[0]}; this wants Debian's modules (apt-get install "
                                  f"{' '.join(packages)}), /usr/bin/python3, and no others from PYTHONPATH or pip")


class _Output(io.FileIO):
    def __init__(self, descriptor, when_it_fails):
        super().__init__(descriptor, "wb", closefd=False)
        self._when_it_fails = when_it_fails

    def write(self, data):
        try:
            return super().write(data)
        except OSError as error:
            self._when_it_fails(error)
            return len(data)


def guard_output(program):
    """From now on standard output that takes no more ends the program at once, with code 6 and a message, as SIGPIPE
    does silently where the reader has left; what standard error does not take is lost."""
    def end(error):
        if sys.stderr is not None:
            print(f"{program}: cannot write to standard output: {error.strerror}", file=sys.stderr)
        os._exit(EXIT_BAD_OUTPUT)

    def text(output, line_buffering):
        return io.TextIOWrapper(io.BufferedWriter(output), "utf-8", "backslashreplace", line_buffering=line_buffering)

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if sys.stdout is None:  # where a file that is opened would take its place
        fail(program, EXIT_BAD_OUTPUT, "standard output is closed")
    if sys.stderr is not None:
        sys.stderr = text(_Output(2, lambda error: None), line_buffering=True)
    sys.stdout = text(_Output(1, end), line_buffering=sys.stdout.isatty())
