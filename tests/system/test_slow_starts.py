"""If the start of a run makes it slow or harms it, the run prints one warning and continues."""

import os
import re
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

CORES = sorted(os.sched_getaffinity(0))


def preloading(library):
    path = testing.BIN.parent / "lib" / f"lib{library}.so"
    return "env", f"LD_PRELOAD={path}", "ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0"


class SlowStartsTest(testing.DtrainTestCase):
    def warnings(self, ranks, *launcher, settings=None):
        """The warnings of a run whose ranks are started by `launcher`."""
        program = testing.command("dtrain", self.write_config(settings or {}), ranks=ranks)
        words = [*program[:-2], *launcher, *program[-2:]]
        with testing.Process(words, self.folder) as process:
            result = process.wait(testing.TIMEOUT_SECONDS)
        self.assertEqual(result.code, testing.EXIT_OK, result)
        return re.findall(r"^dtrain: warning: (.*)$", result.stderr, re.MULTILINE)

    def warning(self, *arguments, **more):
        """The only warning."""
        warnings = self.warnings(*arguments, **more)
        self.assertEqual(len(warnings), 1, warnings)
        return warnings[0]

    @unittest.skipIf(len(CORES) < 2, "needs two cores")
    def test_ranks_bound_to_one_core(self):
        warning = self.warning(2, "taskset", "-c", str(CORES[0]))
        self.assertRegex(warning, rf"^2 ranks share 1 of the \d+ cores on \S+ \(core {CORES[0]}\), ")
        self.assertIn("Remove what binds them (not mpirun: taskset", warning)

    def test_more_ranks_than_cores(self):
        warning = self.warning(3, "taskset", "-c", ",".join(map(str, CORES[:2])))
        self.assertRegex(warning, r"^3 ranks share .* cores? on \S+.*, so training will be slow\. ")

    @unittest.skipIf(len(CORES) < 2, "needs two cores")
    def test_more_threads_than_cores(self):
        warning = self.warning(2, "taskset", "-c", ",".join(map(str, CORES[:2])),
                             settings={"parallel.threads": 2, "training.epochs": 1})
        self.assertRegex(warning, r"^2 ranks with 2 threads each share ")
        self.assertIn("Set parallel.threads = 1", warning)

    @unittest.skipIf(len(CORES) < 2, "needs two cores")
    def test_no_warning(self):
        """Two ranks with a core each, and enough work for both."""
        for ranks in (2, None):
            with self.case(ranks=ranks):
                self.assertEqual(self.warnings(ranks, settings={"training.batch_size": "all"}), [])

    @unittest.skipIf(len(CORES) < 2, "needs two cores")
    def test_batch_too_small_for_the_ranks(self):
        warning = self.warning(2, *preloading("slow_exchange"),
                             settings={"parallel.reducer": "mpi", "training.batch_size": 8})
        self.assertRegex(warning, r"^exchanging gradients takes longer than computing them: \d+ us and \d+ us of a "
                                  r"step\. Raise training\.batch_size, or use at most 1 rank,")

    def test_a_file_system_without_locks(self):
        warning = self.warning(None, *preloading("no_locks"))
        self.assertRegex(warning, r"/run is on a file system without locks: another run could write")


if __name__ == "__main__":
    testing.main()
