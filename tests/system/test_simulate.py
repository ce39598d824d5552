"""slurm/simulate.sh: the same steps on a simulated cluster, with the same bits, in a file with its own format."""

import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

SIMULATE = testing.SOURCE / "slurm/simulate.sh"
BATCH = 3  # samples of a rank
STEPS, BLOCKS = 2, 2
SETTINGS = {"training.batch_size": BATCH, "training.learning_rate": 0.1}


def simulate(folder, *arguments):
    result = subprocess.run([SIMULATE, *map(str, arguments)], cwd=folder, capture_output=True, text=True,
                            timeout=240, env={**testing.environment(), "DTRAIN_BIN": str(testing.BIN)})
    return testing.Result(result.returncode, result.stdout, result.stderr)


class SimulateTest(testing.DtrainTestCase):
    def setUp(self):
        super().setUp()
        if not (testing.SOURCE / "build/simulate/bin/dtrain-bench").exists():
            self.skipTest("the preset simulate is not built")

    def test_two_nodes(self):
        config = self.write_config(SETTINGS)
        before = set(os.listdir(self.folder))
        result = simulate(self.folder, config, "--ranks", "1 40", "--mode", "weak",
                          "--steps", STEPS, "--blocks", BLOCKS, "--repeats", 4, "--output", "scaling.h5")
        self.assertEqual(result.code, testing.EXIT_OK, result)
        self.assertEqual(set(os.listdir(self.folder)) - before, {"scaling.h5", "scaling.runs"})
        for ranks in (1, 2)[:os.cpu_count()]:
            self.assertRegex(result.stdout, rf"(?m)^\| {ranks} \| \d+ \| \d+ \| [+-][\d.]+ %")

        file = testing.read_h5(self.folder / "scaling.h5")
        self.assertIn(file.attributes["simulation_check"], result.stdout)
        self.assertNotIn("config", file.attributes, "only measured runs have this attribute")
        runs = file.datasets
        for column, values in {"ranks": ([1] * 4 + [40] * 4) * 2, "nodes": ([1] * 4 + [2] * 4) * 2,
                               "repeat": [1, 2, 3, 4] * 4,
                               "mode": [1] * 16, "simulated": [1] * 16,
                               "batch_size": ([BATCH] * 4 + [40 * BATCH] * 4) * 2,
                               "platform": [b"ethernet"] * 8 + [b"fat-tree"] * 8}.items():
            self.assertEqual(runs[f"/runs/{column}"].tolist(), values, column)

        # Two nodes have a network between them. Its latency bounds the exchange from below, whatever else disturbs.
        exchange = runs["/runs/reduce_seconds"] + runs["/runs/wait_seconds"]
        self.assertGreater(exchange[4:8].mean(), 40e-6, "two messages, one after the other")

        # One real rank takes the same steps.
        real = testing.run("dtrain-bench", config, "--steps-only", "--steps", STEPS, "--blocks", BLOCKS,
                           f"--training.batch_size={40 * BATCH}", "--parallel.logical_shards=40", "--json=real.json",
                           cwd=self.folder)
        self.assertEqual(real.code, testing.EXIT_OK, real)
        fingerprint = json.loads((self.folder / "real.json").read_text())["fingerprint"]
        for platform in ("fat-tree", "ethernet"):
            path = self.folder / "scaling.runs" / platform / "weak-ranks0040-repeat1.json"
            self.assertEqual(json.loads(path.read_text())["fingerprint"], fingerprint)

    def test_own_platform(self):
        """The platform needs no more hosts than there are nodes with ranks, and its latency shows in the times."""
        text = (SIMULATE.parent / "platforms/ethernet.xml").read_text()
        for shipped, own in (('radical="0-31"', 'radical="0-1"'), ('lat="12.5us"', 'lat="12.5ms"')):
            self.assertIn(shipped, text)
            text = text.replace(shipped, own)
        (self.folder / "small.xml").write_text(text)
        result = simulate(self.folder, self.write_config(SETTINGS), "--ranks", "2 4", "--mode", "weak", "--blocks", 1,
                          "--platform", "small.xml", "--ranks-per-node", 2, "--output", "scaling.h5")
        self.assertEqual(result.code, testing.EXIT_OK, result)
        runs = testing.read_h5(self.folder / "scaling.h5").datasets
        self.assertEqual((runs["/runs/ranks"].tolist(), runs["/runs/nodes"].tolist()), ([2, 4], [1, 2]))
        one_node, two_nodes = runs["/runs/reduce_seconds"] + runs["/runs/wait_seconds"]
        self.assertGreater(two_nodes, 40e-3, "two messages, one after the other")
        self.assertLess(one_node, 20e-3, "no message between nodes")

    def test_command_line(self):
        config = self.write_config(SETTINGS)
        before = testing.snapshot(self.folder)
        for arguments, word in (([], "config"), ([config, "--ranks", "0"], "0"), ([config, "--ranks", "2000"], "2000"),
                                ([config, "--ranks", ""], "numbers"),
                                ([config, "--mode", "weak", "--training.batch_size=100"], "training samples"),
                                ([config, "--repeats", "2 3"], "2 3"), ([config, "--repeats", ""], "number"),
                                ([config, "--mode", "fast"], "fast"),
                                ([config, "--platform", "moon"], "expected fat-tree, ethernet"),
                                ([config, "--ranks-per-node", "33"], "32 cores"),
                                ([config, "--steps"], "--steps"), ([config, "--speed", "3"], "--speed"),
                                (["missing.ini"], "missing.ini")):
            with self.subTest(arguments):
                result = simulate(self.folder, *arguments)
                self.assertEqual(result.code, testing.EXIT_BAD_CONFIG, result)
                self.assertIn(word, result.stderr)
        self.assertEqual(testing.snapshot(self.folder), before)


if __name__ == "__main__":
    testing.main()
