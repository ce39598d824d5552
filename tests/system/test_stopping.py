"""A run that is asked to stop ends with a checkpoint, and resumes from it with the same result."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

RANKS = 3
MPIRUN = None  # receives the signal

# If SIGTERM ends mpirun, its exit code is 1, regardless of the ranks.
CASES = [
    (signal.SIGTERM, 0, {testing.EXIT_STOPPED}),
    (signal.SIGTERM, RANKS - 1, {testing.EXIT_STOPPED}),
    (signal.SIGUSR1, 0, {testing.EXIT_STOPPED}),
    (signal.SIGUSR1, 1, {testing.EXIT_STOPPED}),
    (signal.SIGUSR1, MPIRUN, {testing.EXIT_STOPPED}),
    (signal.SIGTERM, MPIRUN, {testing.EXIT_STOPPED, 1}),
]

SETTINGS = {
    **testing.RELU_CROSS_ENTROPY,
    "training.optimizer": "momentum",
    "training.learning_rate": 0.001,
    "training.epochs": 1000000,
    # Many steps per epoch, so there are few lines: while mpirun ends a job, it reads no output for two seconds.
    "training.batch_size": 2,
    # The only checkpoint is the one that the signal requests.
    "output.checkpoint_every": "1000000 epochs",
}


class StoppingTest(testing.DtrainTestCase):
    def stop(self, signal_number, receiver, *, ranks, expected_codes):
        """Starts a practically endless run, stops it after its first epoch, and returns its result."""
        config = self.write_config(SETTINGS)
        with testing.Process(testing.command("dtrain", config, ranks=ranks), self.folder) as process:
            process.wait_for(r"(?im)^\W*epoch\W*1\b")
            pid = process.popen.pid if receiver is MPIRUN else process.rank_pids()[receiver]
            os.kill(pid, signal_number)
            result = process.wait(30)
        self.assertIn(result.code, expected_codes, result)
        return testing.Training(self.folder / "run", result)

    def check_resumes(self, stopped, *, ranks):
        self.assertEqual(len(stopped.checkpoints()), 1)
        checkpoint = stopped.last_checkpoint().attributes
        self.assertEqual(stopped.files() - {"checkpoints/best.h5"},
                         {"config.ini", "log.h5", f"checkpoints/{stopped.checkpoints()[0].name}"})
        self.assertGreater(checkpoint["step"], 0)
        epochs = f"--training.epochs={checkpoint['epoch'] + 2}"
        resumed = self.train(SETTINGS, epochs, ranks=ranks)
        undisturbed = self.train(SETTINGS, epochs, ranks=ranks, output="undisturbed")
        self.assert_same_result(resumed, undisturbed)

    def test_signals(self):
        for signal_number, receiver, codes in CASES:
            to = "mpirun" if receiver is MPIRUN else f"rank {receiver}"
            with self.case(f"{signal_number.name} to {to}"):
                stopped = self.stop(signal_number, receiver, ranks=RANKS, expected_codes=codes)
                self.check_resumes(stopped, ranks=RANKS)

    def test_without_mpirun(self):
        for signal_number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
            with self.case(signal_number.name):
                stopped = self.stop(signal_number, MPIRUN, ranks=None, expected_codes={testing.EXIT_STOPPED})
                self.assertIn("same command", stopped.result.stdout + stopped.result.stderr)
                self.check_resumes(stopped, ranks=None)

    def test_stopping_twice(self):
        first = self.stop(signal.SIGTERM, 0, ranks=2, expected_codes={testing.EXIT_STOPPED})
        step = first.last_checkpoint().attributes["step"]
        config = self.write_config(SETTINGS)
        with testing.Process(testing.command("dtrain", config, ranks=2), self.folder) as process:
            process.wait_for(r"(?im)^\W*epoch\W*\d+\b")
            os.kill(process.rank_pids()[1], signal.SIGTERM)
            result = process.wait(30)
        self.assertEqual(result.code, testing.EXIT_STOPPED, result)
        second = testing.Training(self.folder / "run", result)
        self.assertGreater(second.last_checkpoint().attributes["step"], step)
        for path in second.checkpoints()[:-1]:
            path.unlink()
        self.check_resumes(second, ranks=2)


class BeforeTrainingTest(testing.DtrainTestCase):
    def test_reading_a_config_from_an_idle_pipe_can_be_interrupted(self):
        """As with a pipe whose writer has died."""
        os.mkfifo(self.folder / "pipe.ini")
        with testing.Process(testing.command("dtrain", self.folder / "pipe.ini"), self.folder) as process:
            time.sleep(1)
            self.assertIsNone(process.popen.poll())
            os.kill(process.popen.pid, signal.SIGTERM)
            self.assertEqual(process.popen.wait(10), -signal.SIGTERM)

    def test_calls_that_need_no_mpi_do_not_start_it(self):
        config = self.write_config({})
        # A value that Open MPI refuses at its start, and one that MPICH refuses
        without = {**testing.environment(), "OMPI_MCA_pml": "none-such", "MPIR_CVAR_ASYNC_PROGRESS": "none-such"}
        for words, starts in (((config,), True), (("--help",), False), (("--version",), False),
                              ((config, "--print-config", "--model.seed=7"), False)):
            with self.subTest(" ".join(map(str, words))):
                result = subprocess.run(testing.command("dtrain", *words), env=without, capture_output=True, text=True,
                                        cwd=self.folder, timeout=60, check=False)
                self.assertEqual(result.returncode != 0, starts, result)

    def test_only_one_rank_prints(self):
        for words in (("--version",), (self.write_config({}), "--print-config")):
            result = testing.run("dtrain", *words, ranks=3, cwd=self.folder)
            alone = testing.run("dtrain", *words, cwd=self.folder)
            self.assertEqual((result.code, result.stdout), (testing.EXIT_OK, alone.stdout))


if __name__ == "__main__":
    testing.main()
