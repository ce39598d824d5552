"""Repeating a command resumes from the last checkpoint.

DTRAIN_CHAIN_SEED sets the moments of the interruptions and the numbers of ranks.
"""

import math
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

SEED = int(os.environ.get("DTRAIN_CHAIN_SEED", 1))
INTERRUPTIONS = 8 if testing.LONG else 1
# Training time for each interruption. In this time a checkpoint is written and a signal arrives. If that takes longer,
# because other programs use the machine, the next time is tried.
LINK_SECONDS = (0.5, 2, 8) if testing.LONG else (0.2, 1, 5)


class ResumeTest(testing.DtrainTestCase):
    def test_resumed_equals_uninterrupted(self):
        for name, settings in {
                "sgd": {"training.learning_rate": 1.0},
                "lars, distorted": {**testing.RELU_CROSS_ENTROPY, **testing.DISTORTED, "training.optimizer": "lars",
                                    "training.warmup_epochs": 2.5},
                "nesterov": {**testing.RELU_CROSS_ENTROPY, "training.optimizer": "nesterov", "training.batch_size": 50},
        }.items():
            for ranks in (1, 3):
                with self.case(name, ranks=ranks):
                    settings = {**settings, "training.epochs": 2}
                    self.train(settings, ranks=ranks)
                    resumed = self.train(settings, "--training.epochs=4", ranks=ranks)
                    straight = self.train({**settings, "training.epochs": 4}, ranks=ranks, output="straight")
                    self.assert_same_result(resumed, straight)

    def test_resumed_within_an_epoch(self):
        """A checkpoint is sufficient, at any step."""
        settings = {"training.epochs": 3, "output.checkpoint_every": "7 steps", "output.keep_checkpoints": 100,
                    "training.optimizer": "adamw", "training.learning_rate": 0.01, "training.schedule": "cosine",
                    "training.warmup_epochs": 1.2}
        straight = self.train(settings, ranks=2)
        for kept in (7, 14, 28):
            with self.case(step=kept):
                checkpoints = self.folder / "run" / "checkpoints"
                checkpoints.mkdir(parents=True)
                name = f"step-{kept:08}.h5"
                (checkpoints / name).write_bytes((straight.folder / "checkpoints" / name).read_bytes())
                self.assert_same_result(self.train(settings, ranks=2), straight)

    def test_in_another_precision(self):
        """A changed key applies from the checkpoint on, and is named."""
        rounded = {"training.precision": "bfloat16", "parallel.compression": "bfloat16"}
        network = {"model.layers": "dense 48 sigmoid, dense 10 sigmoid"}
        first = self.train({"training.epochs": 1, **network})
        self.assertNotIn("changed ", first.result.stdout)
        second = self.train({"training.epochs": 2, **network, **rounded}, ranks=2)
        for key in rounded:
            self.assertRegex(second.result.stdout, rf"(?m)^changed +{key} = bfloat16, before (float32|none)$")
        self.assertRegex(second.result.stdout,
                         "(?m)^changed +rounding = .* in the order of .*, before fused multiply-add$")
        self.assertEqual(second.result.stdout.count("changed "), 3, second.result)
        straight = self.train({"training.epochs": 2, **network}, output="straight")
        self.assertNotEqual(second.fingerprint(), straight.fingerprint())
        cost = [run.log().datasets["/epochs/train_cost"] for run in (second, straight)]
        self.assertEqual(cost[0][0], cost[1][0])
        self.assertAlmostEqual(cost[0][1], cost[1][1], delta=0.01 * cost[1][1])

    def test_on_another_number_of_ranks(self):
        straight = self.train({"training.epochs": 4}, ranks=2, output="straight")
        self.train(ranks=3, output="resumed")
        resumed = self.train({"training.epochs": 4}, ranks=1, output="resumed")
        self.assert_same_result(resumed, straight)
        self.assertEqual(resumed.log().attributes["ranks"], 1)

    def test_half_written_files_of_a_killed_run_are_removed(self):
        trained = self.train(ranks=2)
        left = ("log.h5.tmp", "config.ini.tmp", "checkpoints/step-00000003.h5.tmp")
        others = {"notes.tmp", "checkpoints/step-3.h5.tmp", "checkpoints/step-00000003.h5.damaged"}
        for name in (*left, *others):
            (trained.folder / name).write_text("half")
        before = trained.files()
        self.train({"training.epochs": 3}, ranks=2)
        self.assertEqual(trained.files(), before - set(left) | {"checkpoints/step-00000048.h5"})

    def test_nothing_left_to_do(self):
        for ranks in (1, 3):
            with self.case(ranks=ranks):
                first = self.train(ranks=ranks)
                results = {path: path.read_bytes() for path in (first.folder / "log.h5", *first.checkpoints())}
                again = self.train(ranks=ranks)
                self.assertIn("nothing left to do", again.result.stdout + again.result.stderr)
                self.assertEqual({path: path.read_bytes() for path in results}, results)
                self.assertEqual(again.files(), first.files())

    def test_resume_never_starts_from_scratch(self):
        first = self.train({"training.epochs": 3}, ranks=2)
        earlier = {path.name: path.read_bytes() for path in
                   (*first.checkpoints(), first.folder / "checkpoints" / "best.h5", first.folder / "log.h5",
                    first.folder / "config.ini")}
        over = self.train({"training.epochs": 2, "output.resume": "never", "model.seed": 9}, ranks=2)
        aside = over.folder / "checkpoints-before-1"
        self.assertEqual({path.name: path.read_bytes() for path in aside.iterdir()}, earlier)
        log = (over.folder / "log.h5").read_bytes()
        for checkpoint in over.checkpoints():  # as if the run was killed before its first checkpoint
            checkpoint.unlink()
        over = self.train({"training.epochs": 2, "output.resume": "never", "model.seed": 9}, ranks=2)
        self.assertEqual((over.folder / "checkpoints-before-2" / "log.h5").read_bytes(), log)
        straight = self.train({"model.seed": 9}, ranks=2, output="straight")
        self.assertEqual(len(over.log().datasets["/epochs/epoch"]), 2)
        # A checkpoint of the earlier run must not be used as the newest one of this run.
        self.assert_same_result(over, straight)

    def test_resolved_config_repeats_the_run(self):
        trained = self.train({"training.batch_size": 64}, "--training.batch_size=100", "--model.seed=3", ranks=2)
        config = trained.folder / "config.ini"
        text = config.read_text()
        for line in ("batch_size = 100", "seed = 3", "optimizer = sgd", "logical_shards = 8", "[parallel]"):
            self.assertIn(line, text)
        repeated = self.folder / "repeated"
        result = testing.run("dtrain", config, f"--output.directory={repeated}", ranks=2, cwd=self.folder)
        self.assertEqual(result.code, 0, result)
        self.assertEqual((repeated / "config.ini").read_text(), text.replace(str(trained.folder), str(repeated)))
        self.assert_same_result(testing.Training(repeated, result), trained)

    def test_diverging_ends_with_a_message(self):
        """Bfloat16 numbers may become infinite first, in products and between nodes."""
        rounding = {"training.precision": "bfloat16", "parallel.compression": "bfloat16", "parallel.ranks_per_node": 1}
        for layers, more, ranks in (("dense 16 linear, dense 10 linear", {}, 1),
                                    ("dense 16 linear, dense 10 linear", {}, 3),
                                    ("dense 40 linear, dense 10 linear", rounding, 3),
                                    ("conv 5x5x5 stride 3 linear, conv 8x3x3 linear, dense 10 linear", rounding, 3)):
            with self.case(layers, ranks=ranks, **more):
                settings = {"model.layers": layers, "training.learning_rate": 1000, "training.epochs": 20, **more}
                diverged = self.train(settings, ranks=ranks, expect=testing.EXIT_DIVERGED)
                self.assert_one_message(diverged.result, testing.EXIT_DIVERGED)
                for path in diverged.checkpoints():
                    for name, values in testing.read_h5(path).datasets.items():
                        self.assertTrue(np.isfinite(values).all(), f"{path.name}: {name}")


class ChainTest(testing.DtrainTestCase):
    """Runs that are interrupted repeatedly and resumed with other numbers of ranks and other nodes."""

    def settings_of_chain(self, settings, link_seconds):
        """The settings with as many epochs as the interruptions need on this machine, and the number of steps."""
        probe = self.train({**settings, "training.epochs": 2}, ranks=2, output="probe").log().datasets
        steps_per_epoch = int(probe["/epochs/step"][0])
        link = max(3, link_seconds * steps_per_epoch / probe["/epochs/seconds"][1])
        epochs = math.ceil(link * (INTERRUPTIONS + 1) / steps_per_epoch)
        return {**settings, "training.epochs": epochs, "training.learning_rate": 0.001,
                "output.checkpoint_every": f"{max(1, int(link / 40))} steps"}, epochs * steps_per_epoch

    def interrupt(self, config, split, target, moments, kinds):
        """Runs until there is a new checkpoint of step `target` or later, and a little longer. Returns the kind of
        interruption, or None if the run finished before."""
        ranks, ranks_per_node = split
        folder = self.folder / "chain"
        target = max(target, testing.newest_step(folder) + 1)
        words = testing.command("dtrain", config, f"--parallel.ranks_per_node={ranks_per_node}", ranks=ranks)
        with testing.Process(words, self.folder) as process:
            process.wait_until(lambda: len(process.rank_pids()) == ranks)
            pids = process.rank_pids()
            process.wait_until(lambda: testing.newest_step(folder) >= target, timeout=testing.TIMEOUT_SECONDS)
            time.sleep(moments.uniform(0, 0.003))
            how = moments.choice(kinds)
            try:
                os.kill(moments.choice(pids), how)
            except (IndexError, ProcessLookupError):
                pass  # it has finished
            result = process.wait(testing.TIMEOUT_SECONDS)
        codes = testing.codes_of_killed_rank() if how == signal.SIGKILL else {testing.EXIT_STOPPED}
        self.assertIn(result.code, codes | {testing.EXIT_OK}, result)
        return how.name if result.code != testing.EXIT_OK else None

    def check_chain(self, settings, link_seconds, moments):
        """Returns the number of interruptions, which is smaller than INTERRUPTIONS if the run finished before."""
        settings, steps = self.settings_of_chain(settings, link_seconds)
        splits, kinds = testing.splits_of(settings), (signal.SIGUSR1, signal.SIGTERM, signal.SIGKILL)
        if "parallel.compression" in settings:  # only nodes exchange compressed gradients
            splits, kinds = [split for split in splits if split[1] > 0], (signal.SIGKILL,)
        undisturbed = self.train(settings, ranks=2, output="undisturbed")
        config = self.write_config(settings, output="chain")
        links = []
        for number in range(INTERRUPTIONS):
            split = moments.choice([other for other in splits if not links or other != links[-1][0]])
            target = (number + moments.random()) * steps / (INTERRUPTIONS + 1)
            links.append((split, self.interrupt(config, split, target, moments, kinds)))
            if links[-1][1] is None:
                break
        ranks, ranks_per_node = moments.choice([other for other in splits if other != links[-1][0]])
        finished = self.train({**settings, "parallel.ranks_per_node": ranks_per_node}, ranks=ranks, output="chain")
        print(f"{links}, then {(ranks, ranks_per_node)}", flush=True)
        self.assert_same_result(finished, undisturbed)
        return sum(how is not None for _, how in links)

    def test_chains(self):
        moments = random.Random(SEED)
        for name, settings in testing.CASES.items():
            print(name, flush=True)
            for link_seconds in LINK_SECONDS:
                interruptions = INTERRUPTIONS  # an error is reported once
                with self.case(name, link_seconds=link_seconds):
                    interruptions = self.check_chain(settings, link_seconds, moments)
                if interruptions > INTERRUPTIONS // 2:
                    break
            with self.subTest(name):
                self.assertGreater(interruptions, INTERRUPTIONS // 2)


if __name__ == "__main__":
    testing.main()
