"""Running the programs and reading their output."""

import contextlib
import dataclasses
import functools
import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from .constants import BIN, EXIT_RANK_LOST, LONG, MPIRUN, SOURCE, TIMEOUT_SECONDS

SLOW = r"dtrain: warning: (\d+ ranks? .*shares? .*, so training will be slow|exchanging gradients takes longer)"

# What MPI libraries and their mpirun print on stderr by themselves, besides banners framed in dashes (Open MPI) or
# equals signs (MPICH).
MPI_LINE = re.compile("|".join([
    # about a rank that ends with an error: https://github.com/open-mpi/ompi/issues/2004
    r"\[warn\] Epoll ",
    # Open MPI's log: [host:process] ..., also ORTE_ERROR_LOG and PMIX ERROR
    r"\[[^][\s]+:\d+\] ",
    r"PMIX ERROR: ",
    # Open MPI 5 on hosts with unusual network interfaces; the lines of several ranks may be mixed
    r".*mca_btl_tcp_proc_create_interface_graph\]",
    r"Unable to find reachable pairing between local and remote interfaces",
    # MPICH: what ended a rank, and its stack
    r"\[(mpiexec|proxy)\S*@",
    r"application called MPI_Abort\(",
    r"YOUR APPLICATION TERMINATED WITH THE EXIT STRING: ",
    r"This typically refers to a problem with your application\.",
    r"Please see the FAQ page for debugging suggestions",
    r"Abort\(\d+\) on node \d+",
]))


@dataclasses.dataclass
class Result:
    code: int
    stdout: str
    stderr: str

    def __str__(self):
        return f"exit code {self.code}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"

    def messages(self):
        """The lines on stderr, without those of MPI, and without warnings about speed: tests start more ranks than
        there are cores, with small batches."""
        return [line for line in without_mpi(self.stderr).splitlines() if line.strip() and not re.match(SLOW, line)]


def without_mpi(text):
    """`text` from stderr without what MPI and mpirun print by themselves."""
    lines, frame = [], None
    for line in text.splitlines(keepends=True):
        if re.fullmatch(r"-{20,}|={20,}", line.strip()):
            frame = None if frame == line[0] else frame or line[0]
        elif frame is None and not MPI_LINE.match(line):
            lines.append(line)
    return "".join(lines)


def accept_signals():
    """In a new process: accepts the signals that it ignores if the tests run in the background or under nohup."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def environment():
    """The environment of all programs. It allows root to use mpirun, and more ranks than cores."""
    lines = (SOURCE / "tests/support/mpi-environment").read_text().splitlines()
    return {**os.environ, **dict(line.split("=", 1) for line in lines if re.match("[A-Z]", line))}


@functools.cache
def starts_several_programs():
    """Whether mpirun starts several programs as one job. That of Open MPI 5.0.7 crashes, whatever the programs are."""
    words = [MPIRUN, "-np", "1", "true", ":", "-np", "1", "true"]
    return subprocess.run(words, env=environment(), capture_output=True, check=False).returncode == 0


@functools.cache
def is_open_mpi():
    """Whether mpirun is that of Open MPI, not of MPICH. The mpiexec of Open MPI 4 calls itself OpenRTE."""
    text = subprocess.run([MPIRUN, "--version"], capture_output=True, text=True, check=False).stdout
    return re.search(r"Open MPI|OpenRTE", text) is not None


def codes_of_killed_rank(by=signal.SIGKILL):
    """The exit codes that mpirun may return if a signal ended a rank. Either another rank reports it first, or mpirun
    does: Open MPI's returns 128 + signal. MPICH's returns the signal, and combines the codes of all ranks by a bitwise
    OR. A rank replaces signals whose numbers are exit codes by SIGKILL. That also holds for a signal by which MPICH
    itself ends another rank: UCX may call abort()."""
    if is_open_mpi():
        return {EXIT_RANK_LOST, 128 + by}
    return {EXIT_RANK_LOST, int(signal.SIGKILL), EXIT_RANK_LOST | signal.SIGKILL}


def report_of_killed_rank(rank):
    """A regular expression for what reports on stdout or stderr that SIGKILL ended this rank."""
    by_dtrain = rf"dtrain: rank {rank} on \S+ .*died, last seen in step \d+"
    # MPICH's mpirun may kill the other ranks before they report anything, and it does not name the rank.
    return by_dtrain if is_open_mpi() else rf"{by_dtrain}|EXIT STRING: Killed \(signal 9\)"


def command(program, *arguments, ranks=None):
    """If `ranks` is None, the program runs alone, without mpirun."""
    launcher = [] if ranks is None else [MPIRUN, "-np", str(ranks)]
    return [*launcher, str(BIN / program), *map(str, arguments)]


class Process:
    """A running program. Its output goes to files, so a stray rank cannot fill up a pipe or keep it open."""

    def __init__(self, words, cwd, variables=None):
        """`variables` are added to the environment."""
        self._stdout, self._stderr = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        self.popen = subprocess.Popen(words, cwd=cwd, env={**environment(), **(variables or {})},
                                      stdin=subprocess.DEVNULL, stdout=self._stdout, stderr=self._stderr,
                                      preexec_fn=accept_signals)

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
        """Process ids of the ranks that this mpirun started, in rank order. Between mpirun and a rank may be a proxy
        (MPICH)."""
        parents, ranks = {}, {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it has ended
                pid = int(stat.parent.name)
                parents[pid] = int(stat.read_text().rpartition(")")[2].split()[1])
                rank = re.search(rb"(?:^|\0)(?:OMPI_COMM_WORLD|PMI)_RANK=(\d+)\0",
                                 (stat.parent / "environ").read_bytes())
                if rank:
                    ranks[pid] = int(rank[1])
        found = {}
        for pid, rank in ranks.items():
            parent = parents[pid]
            if self.popen.pid in (parent, parents.get(parent)) and parent not in ranks:
                found[rank] = pid
        return [found[rank] for rank in sorted(found)]


def run(program, *arguments, ranks=None, cwd=None, timeout=TIMEOUT_SECONDS):
    # After an error, the mpirun of Open MPI 4 waits up to two seconds for ranks that end by themselves.
    at_once = {} if LONG else {"OMPI_MCA_odls_base_sigkill_timeout": "0"}
    with Process(command(program, *arguments, ranks=ranks), cwd, at_once) as process:
        return process.wait(timeout)
