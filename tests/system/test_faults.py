"""Ranks that die or stall, and output folders that are in use: one message, and nothing hangs."""

import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

ENDLESS = {"training.epochs": 1000000, "output.checkpoint_every": "1000000 epochs"}


class FaultsTest(testing.DtrainTestCase):
    def start(self, settings, ranks):
        return testing.Process(testing.command("dtrain", self.write_config({**ENDLESS, **settings}), ranks=ranks),
                               self.folder)

    def test_dead_rank(self):
        for victim in (0, 2):
            with self.case("killed", rank=victim), self.start({}, 3) as process:
                process.wait_for(r"epoch +2/")
                os.kill(process.rank_pids()[victim], signal.SIGKILL)
                result = process.wait(10)
                self.assertIn(result.code, testing.codes_of_killed_rank(), result)
                self.assertRegex(result.stderr + result.stdout, testing.report_of_killed_rank(victim))

    def test_rank_ended_by_a_signal_whose_number_is_an_exit_code(self):
        """The exit code says that a rank was lost. So jobs are requeued."""
        for number in (signal.SIGQUIT, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT):
            with self.case(number.name), self.start({}, 2) as process:
                process.wait_for(r"epoch +2/")
                os.kill(process.rank_pids()[1], number)
                result = process.wait(10)
                self.assertIn(result.code, testing.codes_of_killed_rank(number), result)
                if not testing.is_open_mpi():
                    self.assertRegex(result.stderr, rf"(?m)^dtrain: rank 1 on \S+: ended by signal {int(number)}, ")

    def assert_stall_is_reported(self, pattern, victim, ranks, **settings):
        """Stops a rank and checks that exactly one message reports it, and that it contains `pattern`."""
        settings = {f"parallel.{key}": value for key, value in {"stall_timeout": 2, **settings}.items()}
        with self.case("stopped", rank=victim, **settings), self.start(settings, ranks) as process:
            process.wait_for(r"epoch +2/")
            os.kill(process.rank_pids()[victim], signal.SIGSTOP)
            result = process.wait(20)
            self.assertEqual(result.code, testing.EXIT_RANK_LOST, result)
            self.assertRegex(result.stderr, rf"dtrain: {pattern} for 2 seconds, "
                                           r".*last seen in step \d+, phase [a-z][a-z (),-]+\. ")
            lines = [line for line in result.messages() if line.startswith("dtrain: ")]
            self.assertEqual(len(lines), 1, result)

    def test_stalled_rank(self):
        for reducer in ("node", "mpi"):
            for victim in (0, 1):
                self.assert_stall_is_reported(rf"rank {victim} on \S+ .*made no progress", victim, 3, reducer=reducer)

    def test_stalled_rank_alone_on_its_node(self):
        for ranks, ranks_per_node, victim, reducer in ((2, 1, 0, "node"), (2, 1, 1, "mpi"), (3, 2, 2, "node")):
            self.assert_stall_is_reported(rf"all ranks on (\S+) have waited for another node \(rank {victim} on \1\)",
                                      victim, ranks, ranks_per_node=ranks_per_node, reducer=reducer)

    def test_job_stopped_for_a_while(self):
        with self.start({"parallel.stall_timeout": 1}, 3) as process:
            process.wait_for(r"epoch +2/")
            pids = process.rank_pids()
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(2.5)
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            time.sleep(2.5)
            os.kill(pids[0], signal.SIGTERM)
            self.assertEqual(process.wait(30).code, testing.EXIT_STOPPED)

    def test_second_run_in_the_same_folder(self):
        with self.start({}, 2) as process:
            process.wait_for(r"epoch +1/")
            result = testing.run("dtrain", self.write_config(ENDLESS), ranks=2, cwd=self.folder)
            self.assert_one_message(result, testing.EXIT_BAD_OUTPUT, "in use by another run")
            os.kill(process.rank_pids()[0], signal.SIGTERM)
            self.assertEqual(process.wait(30).code, testing.EXIT_STOPPED)

    def test_divergence(self):
        for ranks in (1, 3):
            with self.case("diverged", ranks=ranks):
                settings = {"model.layers": "dense 16 linear, dense 10 linear", "training.epochs": 3,
                            "training.learning_rate": 0.001, "output.checkpoint_every": "5 steps"}
                self.train(settings, ranks=ranks, output=f"run-{ranks}")
                kept = sorted((self.folder / f"run-{ranks}/checkpoints").iterdir())[-1]
                before = kept.read_bytes()
                config = self.write_config({**settings, "training.epochs": 100, "training.learning_rate": 1e6,
                                            "output.directory": f"run-{ranks}"})
                result = testing.run("dtrain", config, ranks=ranks, cwd=self.folder)
                self.assert_one_message(result, testing.EXIT_DIVERGED, "step", "learning rate 1000000")
                self.assertEqual(kept.read_bytes(), before)


if __name__ == "__main__":
    testing.main()
