"""Kills random ranks at random moments, again and again, each time going on with another number of ranks: in the end
the weights are those of an undisturbed run.

DTRAIN_KILLS sets the number of kills (default 6), DTRAIN_KILL_SEED the moments.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

KILLS = int(os.environ.get("DTRAIN_KILLS", 6))
SEED = int(os.environ.get("DTRAIN_KILL_SEED", 1))
KILLS_PER_RUN = 5

# Checkpoints every few steps, so that many kills fall into the writing of one.
SETTINGS = {
    **testing.RELU_CROSS_ENTROPY,
    "model.layers": "dense 300 relu, dense 10",
    "training.optimizer": "momentum",
    "training.learning_rate": 0.001,
    "training.batch_size": 20,
    "training.epochs": 40,
    "output.checkpoint_every": "7 steps",
}


class KillTest(testing.DtrainTestCase):
    def result_of(self, training):
        checkpoint = training.last_checkpoint()
        return (checkpoint.attributes["step"], checkpoint.attributes["fingerprint"],
                checkpoint.datasets["/steps/cost"].tobytes(), checkpoint.datasets["/epochs/fingerprint"].tobytes())

    def kill_once(self, config, moments):
        """Whether the run was killed before it was through."""
        ranks = moments.choice((1, 2, 3, 4, 5, 8))
        with testing.Process(testing.command("dtrain", config, ranks=ranks), self.folder) as process:
            process.wait_for(r"\A", timeout=30)
            while not process.rank_pids() and process.popen.poll() is None:
                time.sleep(0.001)
            time.sleep(moments.uniform(0.1, 1.2))
            pids = process.rank_pids()
            if not pids:
                return False
            try:
                os.kill(moments.choice(pids), signal.SIGKILL)
            except ProcessLookupError:
                return False
            result = process.wait(20)
            self.assertIn(result.code, {testing.EXIT_RANK_LOST, 128 + signal.SIGKILL, 0}, result)
            return result.code != 0

    def test_kills(self):
        moments = random.Random(SEED)
        expected = self.result_of(self.train(SETTINGS, ranks=2, output="undisturbed"))
        kills, run = 0, 0
        while kills < KILLS:
            run += 1
            config = self.write_config({**SETTINGS, "output.directory": f"run-{run}"})
            here = 0
            while here < min(KILLS_PER_RUN, KILLS - kills):
                if not self.kill_once(config, moments):
                    break
                here += 1
            kills += here
            finished = self.train(SETTINGS, ranks=moments.choice((1, 2, 3, 5)), output=f"run-{run}")
            self.assertEqual(self.result_of(finished), expected, f"after {kills} kills")
            left = {path.name for path in (self.folder / f"run-{run}/checkpoints").iterdir()}
            self.assertTrue(all(name.endswith((".h5", ".h5.tmp")) for name in left), left)
        print(f"{kills} kills over {run} runs", flush=True)


if __name__ == "__main__":
    testing.main()
