"""Shared start-up code of the Python programs. It is loaded before any other module.

The first line of each script starts the Python that DTRAIN_PYTHON names. The option -E ignores PYTHONPATH, which may
name modules of another Python.
"""

import contextlib
import io
import os
import signal
import sys

EXIT_USAGE = 2
EXIT_BAD_OUTPUT = 6
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def fail(program, code, problem):
    if sys.stderr is not None:
        print(f"{program}: {problem}", file=sys.stderr, flush=True)
    sys.exit(code)


def end_by_signals(code_of=lambda number: 128 + number):
    """From now on, the first signal that asks the program to end raises SystemExit, so that files and processes that it
    made go too. Returns a list that is not empty after that: Python ignores an exception in a destructor."""
    signals = []

    def end(number, _):
        if not signals:
            signals.append(number)
            sys.exit(code_of(number))

    for number in ENDING_SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP to outlive the terminal
            signal.signal(number, end)
    return signals


@contextlib.contextmanager
def signals_held():
    """Context in which the signals that end the program wait. Processes and threads started in it inherit that."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def needing(program, *packages):
    """Context for imports from Debian's `packages`. Ends the program with a message if a module is missing or was
    built for another Python or NumPy, which may raise any of these exceptions."""
    try:
        yield
    except (ImportError, AttributeError, RuntimeError, ValueError) as error:
        while error.__cause__:
            error = error.__cause__
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        fail(program, EXIT_USAGE, f"{reason}, in {sys.executable}. Debian: apt-get install {' '.join(packages)}, for "
                                  "/usr/bin/python3 without other versions from pip. Without root, or with another "
                                  "Python: set DTRAIN_PYTHON as in slurm/README.md, Python")


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
    """From now on, a failed write to standard output ends the program with a message and code 6. If the reader has
    closed the pipe, SIGPIPE ends the program silently. Failed writes to standard error are ignored."""
    def end(error):
        if sys.stderr is not None:
            print(f"{program}: cannot write to standard output: {error.strerror}", file=sys.stderr)
        os._exit(EXIT_BAD_OUTPUT)

    def text(output, line_buffering):
        return io.TextIOWrapper(io.BufferedWriter(output), "utf-8", "backslashreplace", line_buffering=line_buffering)

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if sys.stdout is None:  # then the next opened file would get descriptor 1
        fail(program, EXIT_BAD_OUTPUT, "standard output is closed")
    if sys.stderr is not None:
        sys.stderr = text(_Output(2, lambda error: None), line_buffering=True)
    sys.stdout = text(_Output(1, end), line_buffering=sys.stdout.isatty())
