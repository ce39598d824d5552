"""Too little memory on one rank: the run succeeds, or it ends with exit code 2 and one message, wherever memory runs
out. Also: places where shared memory is limited."""

import re
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

MEGABYTE = 1 << 20

# One rank gets the limit. malloc must take memory as needed, not 64 MB at once for every thread, so that the memory
# needed to start MPI hardly varies.
WRAPPER = """#!/bin/sh
if [ "${{OMPI_COMM_WORLD_RANK:-$PMI_RANK}}" = {rank} ]; then
    export MALLOC_ARENA_MAX=1
    ulimit -v {kilobytes}
fi
ulimit -c 0
exec "$@"
"""

WIDE = {"model.layers": "dense 20000 relu, dense 10"}
NARROW = {"model.layers": "dense 30 relu, dense 10"}

# Program, ranks, limited rank, settings, and the megabytes that the run needs in addition to starting MPI.
CASES = {
    "two nodes, the last rank": ("dtrain", 4, 3, {**WIDE, "parallel.ranks_per_node": 2}, 900),
    "two nodes, the first rank": ("dtrain", 4, 0, {**WIDE, "parallel.ranks_per_node": 2}, 1150),
    "one node": ("dtrain", 3, 1, WIDE, 900),
    "reducer = mpi": ("dtrain", 3, 2, {**WIDE, "parallel.reducer": "mpi"}, 550),
    "all samples in a batch": ("dtrain", 2, 1, {**NARROW, "data.train_samples": 100000, "training.batch_size": "all"},
                               650),
    "convolutions": ("dtrain", 2, 1, {"model.layers": "conv 16x5x5 pad 2 relu, maxpool 2, dense 500 relu, dense 10",
                                      "training.batch_size": 200}, 450),
    "local SGD": ("dtrain", 2, 1, {"model.layers": "dense 4000 relu, dense 10", "parallel.sync_every": 4}, 550),
    "dtrain-bench": ("dtrain-bench", 2, 1, {"model.layers": "dense 8000 relu, dense 10"}, 900),
}


def started(result):
    """Whether MPI started. With too little memory it fails or crashes at its start and prints where. Its
    parser of messages ends the process with code 2, as dtrain does."""
    if "opal_show_help_yy" in result.stderr:
        return False
    return result.code in {testing.EXIT_OK, testing.EXIT_BAD_CONFIG} or not re.search(
        "mpi_init|mca_base_component_repository_open: unable to open", result.stderr, re.IGNORECASE)


class LimitsTest(testing.DtrainTestCase):
    def limited(self, program, ranks, victim, megabytes, *arguments):
        wrapper = self.folder / "limited.sh"
        wrapper.write_text(WRAPPER.format(rank=victim, kilobytes=megabytes * MEGABYTE // 1024))
        wrapper.chmod(0o755)
        words = testing.command(program, *arguments, ranks=ranks)
        words.insert(words.index(str(testing.BIN / program)), str(wrapper))
        with testing.Process(words, self.folder) as process:
            return process.wait(testing.TIMEOUT_SECONDS)

    def min_to_start(self, program):
        """Megabytes that are enough to start MPI: the minimum found, plus 10. The measured call has no config."""
        low, high = 50, 800
        while high - low > 10:
            middle = (low + high) // 2
            low, high = (low, middle) if started(self.limited(program, 4, 3, middle)) else (middle, high)
        return high + 10

    def test_too_little_memory(self):
        start = {program: self.min_to_start(program) for program in ("dtrain", "dtrain-bench")}
        all_codes = set()
        for name, (program, ranks, victim, settings, span) in CASES.items():
            arguments = ("--steps=1", "--blocks=1") if program == "dtrain-bench" else ()
            codes = set()
            for fraction in [i / 19 for i in range(20)] if testing.LONG else [0.5]:
                megabytes = start[program] + int(span * fraction)
                with self.case(name, megabytes=megabytes):
                    config = self.write_config({
                        "data.source": "synthetic", "data.train_samples": 400, "data.test_samples": 100,
                        "training.epochs": 1, "training.learning_rate": 0.01, "parallel.stall_timeout": 0, **settings})
                    result = self.limited(program, ranks, victim, megabytes, config, *arguments)
                    if not started(result):
                        continue  # more than the minimum that was found, but too little this time
                    codes.add(result.code)
                    if result.code != testing.EXIT_OK:
                        self.assertEqual(result.code, testing.EXIT_BAD_CONFIG, result)
                        lines = [line for line in result.messages() if line.startswith("dtrain")]
                        self.assertEqual(len(lines), 1, result)
                        self.assertRegex(lines[0], rf"^{program}: (rank {victim} on \S+: .*out of memory|"
                                                  rf"out of memory: rank {victim} needs about )")
            all_codes |= codes
            if testing.LONG:
                with self.subTest("some limits are too small and some suffice", case=name):
                    self.assertEqual(codes, {testing.EXIT_OK, testing.EXIT_BAD_CONFIG})
        self.assertIn(testing.EXIT_BAD_CONFIG, all_codes, "no limit was too small")


NAMESPACES = ["unshare", "--mount", "--ipc"]


def may_make_namespaces():
    return subprocess.run([*NAMESPACES, "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"], capture_output=True,
                          check=False).returncode == 0


@unittest.skipUnless(may_make_namespaces(), "needs to be root, and the right to make namespaces")
class SharedMemoryTest(testing.DtrainTestCase):
    def run_in_namespace(self, script, *overrides, ranks=4, wrapper=()):
        """Runs `script` in new namespaces, then the program. `wrapper` comes between it and mpirun."""
        config = self.write_config({"model.layers": "dense 800 relu, dense 10", "data.train_samples": 128})
        words = testing.command("dtrain", config, *overrides, ranks=ranks)
        words[-2 - len(overrides):-2 - len(overrides)] = wrapper
        with testing.Process([*NAMESPACES, "sh", "-ec", f'{script}; exec "$@"', "sh", *words], self.folder) as process:
            return process.wait(testing.TIMEOUT_SECONDS)

    def test_small_dev_shm(self):
        """As in containers: dtrain's windows, Open MPI's messages and Open MPI's shared windows do not need
        /dev/shm."""
        for reducer in ("node", "mpi"):
            with self.case(reducer):
                result = self.run_in_namespace("mount -t tmpfs -o size=1m tmpfs /dev/shm; export OMPI_MCA_osc=^sm",
                                               f"--parallel.reducer={reducer}")
                self.assertEqual((result.code, result.messages()), (testing.EXIT_OK, []), result)

    def test_limit_of_the_system(self):
        limit = "echo 1000000 > /proc/sys/kernel/shmmax"
        self.assert_one_message(self.run_in_namespace(limit), testing.EXIT_BAD_CONFIG,
                                " MB of shared memory: Invalid argument.", "kernel.shmmax", "parallel.reducer = mpi")
        result = self.run_in_namespace(limit, "--parallel.reducer=mpi")
        self.assertEqual(result.code, testing.EXIT_OK, result)

    def test_a_container_for_each_rank(self):
        wrapper = ("unshare", "--ipc")
        self.assert_one_message(self.run_in_namespace("true", ranks=2, wrapper=wrapper), testing.EXIT_BAD_CONFIG,
                                "cannot share memory", "--ipc=host", "parallel.ranks_per_node = 1")
        result = self.run_in_namespace("true", "--parallel.ranks_per_node=1", ranks=2, wrapper=wrapper)
        self.assertEqual(result.code, testing.EXIT_OK, result)


if __name__ == "__main__":
    testing.main()
