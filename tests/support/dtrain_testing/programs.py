"""Running the programs and reading their output."""

import dataclasses
import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from .constants import BIN, MPIRUN, TIMEOUT_SECONDS

SLOW = r"dtrain: warning: (\d+ ranks? .*shares? .*, so training will be slow|exchanging gradients takes longer)"
# mpirun sometimes prints this about a rank that ends with an error: https://github.com/open-mpi/ompi/issues/2004
LIBEVENT = r"\[warn\] Epoll "
# mpirun prints this if a rank ends while it passes on a message of that rank.
ORTE = r"\[\S+:\d+\] \[\[\d+,\d+\],\d+\] ORTE_ERROR_LOG: "


@dataclasses.dataclass
class Result:
    code: int
    stdout: str
    stderr: str

    def __str__(self):
        return f"exit code {self.code}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"

    def messages(self):
        """The lines on stderr, without mpirun's own output, such as banners framed in dashes, and without warnings
        about speed: tests start more ranks than there are cores, with small batches."""
        lines, in_banner = [], False
        for line in self.stderr.splitlines():
            if re.fullmatch(r"-{20,}", line):
                in_banner = not in_banner
            elif line.strip() and not in_banner and not re.match(f"{SLOW}|{LIBEVENT}|{ORTE}", line):
                lines.append(line)
        return lines


def environment():
    return {**os.environ,
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "OMPI_MCA_hwloc_base_binding_policy": "none"}


def command(program, *arguments, ranks=None):
    """If `ranks` is None, the program runs alone, without mpirun."""
    launcher = [] if ranks is None else [MPIRUN, "--oversubscribe", "-np", str(ranks)]
    return [*launcher, str(BIN / program), *map(str, arguments)]


class Process:
    """A running program. Its output goes to files, so a stray rank cannot fill up a pipe or keep it open."""

    def __init__(self, words, cwd):
        self._stdout, self._stderr = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        self.popen = subprocess.Popen(words, cwd=cwd, env=environment(), stdin=subprocess.DEVNULL,
                                      stdout=self._stdout, stderr=self._stderr)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.popen.poll() is None:
            pids = [self.popen.pid, *self.rank_pids()]
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            self.popen.wait()
        self._stdout.close()
        self._stderr.close()

    @staticmethod
    def _text(file):
        # pread does not move the offset, which is shared with the writing program.
        return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")

    def result(self):
        return Result(self.popen.poll(), self._text(self._stdout), self._text(self._stderr))

    def wait(self, timeout):
        try:
            self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.popen.args}: no end within {timeout} s\n{self.result()}") from None
        return self.result()

    def wait_until(self, condition, timeout=30):
        """Waits until `condition` holds. Returns whether it holds before the program ends."""
        end = time.monotonic() + timeout
        while not condition():
            if self.popen.poll() is not None:
                return False
            if time.monotonic() > end:
                raise AssertionError(f"{self.popen.args}: waited in vain for {timeout} s\n{self.result()}")
            time.sleep(0.0005)
        return True

    def wait_for(self, pattern, timeout=30):
        """Waits until stdout contains `pattern`."""
        end = time.monotonic() + timeout
        while not re.search(pattern, self.result().stdout):
            if self.popen.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"{self.popen.args}: {pattern!r} did not appear\n{self.result()}")
            time.sleep(0.01)

    def rank_pids(self):
        """Process ids of the ranks that this mpirun started, in rank order."""
        pids = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
                if parent == self.popen.pid:
                    variables = (stat.parent / "environ").read_bytes().split(b"\0")
                    rank = next(int(v.partition(b"=")[2]) for v in variables
                                if v.startswith(b"OMPI_COMM_WORLD_RANK="))
                    pids.append((rank, int(stat.parent.name)))
            except (OSError, StopIteration):
                continue  # it has ended, or is not a rank
        return [pid for _, pid in sorted(pids)]


def run(program, *arguments, ranks=None, cwd=None, timeout=TIMEOUT_SECONDS):
    with Process(command(program, *arguments, ranks=ranks), cwd) as process:
        return process.wait(timeout)
