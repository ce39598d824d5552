"""Kills random ranks at random moments, every other time while a checkpoint is written. Then the run resumes with
another number of ranks and finishes. Its result is bitwise identical to that of an undisturbed run.

DTRAIN_KILLS sets the number of kills, DTRAIN_KILL_SEED their moments.
"""

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

KILLS = int(os.environ.get("DTRAIN_KILLS", 100 if testing.LONG else 6))
SEED = int(os.environ.get("DTRAIN_KILL_SEED", 1))

# Checkpoints every few steps, large enough that writing takes a while.
SETTINGS = {
    **testing.RELU_CROSS_ENTROPY,
    "model.layers": "dense 300 relu, dense 10",
    "training.optimizer": "momentum",
    "training.learning_rate": 0.001,
    "training.batch_size": 20,
    "training.epochs": 20,
    "output.checkpoint_every": "7 steps",
}
STEPS = 20 * 51
RANKS = (1, 2, 3, 4, 5, 8)


class KillTest(testing.DtrainTestCase):
    stuck_launches = 0

    def kill_once(self, moments, usual_seconds, *, while_writing):
        """Starts a run and kills one of its ranks. Returns whether it was killed before it finished."""
        ranks = moments.choice(RANKS)
        checkpoints = self.folder / "run" / "checkpoints"
        with testing.Process(testing.command("dtrain", self.write_config(SETTINGS), ranks=ranks),
                             self.folder) as process:
            if while_writing:
                target = moments.uniform(0, 0.9) * STEPS
                process.wait_until(lambda: testing.newest_step(self.folder / "run") >= target)
                victims = process.rank_pids()[:1]  # the one that writes
                process.wait_until(lambda: any(checkpoints.glob("*.tmp")))
            else:
                process.wait_until(process.rank_pids)
                time.sleep(moments.uniform(0, usual_seconds))
                victims = process.rank_pids()
            try:
                os.kill(moments.choice(victims), signal.SIGKILL)
            except (IndexError, ProcessLookupError):
                pass  # it has finished
            try:
                result = process.wait(30)
            except AssertionError:
                # If a rank dies while it connects to mpirun, mpirun and the ranks in MPI_Init wait for it forever.
                if "PMIX ERROR" not in process.result().stderr:
                    raise
                self.stuck_launches += 1
                return True
        self.assertIn(result.code, testing.codes_of_killed_rank() | {testing.EXIT_OK}, result)
        return result.code != testing.EXIT_OK

    def test_kills(self):
        moments = random.Random(SEED)
        begin = time.monotonic()
        undisturbed = self.train(SETTINGS, ranks=2, output="undisturbed")
        usual_seconds = time.monotonic() - begin
        fingerprints, before_any, half_written = [], 0, 0
        for kill in range(1, KILLS + 1):
            with self.case(kill=kill):
                run = self.folder / "run"
                while not self.kill_once(moments, usual_seconds, while_writing=kill % 2 == 0):
                    shutil.rmtree(run)  # it had finished before
                before_any += testing.newest_step(run) < 0
                half_written += any((run / "checkpoints").glob("*.tmp"))
                finished = self.train(SETTINGS, ranks=moments.choice(RANKS))
                fingerprints.append(finished.fingerprint())
                self.assert_same_result(finished, undisturbed)
                self.assertEqual(finished.files(), {"config.ini", "log.h5", "checkpoints/best.h5",
                                                    *(f"checkpoints/{path.name}" for path in finished.checkpoints())})
                self.assertEqual(*(testing.read_h5(run.folder / "checkpoints" / "best.h5").attributes["fingerprint"]
                                   for run in (finished, undisturbed)))
                self.assertEqual(len(finished.checkpoints()), 3)
        # Half of the kills happen while a checkpoint is written.
        print(f"{KILLS} kills, {before_any} before the first checkpoint, {half_written} while one was written, "
              f"{self.stuck_launches} with mpirun stuck in its launch; {len(fingerprints)} resumed and finished, "
              f"fingerprints {set(fingerprints)}, undisturbed {undisturbed.fingerprint()}", flush=True)
        self.assertGreaterEqual(half_written, KILLS // 6)


if __name__ == "__main__":
    testing.main()
