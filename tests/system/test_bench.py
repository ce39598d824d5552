"""dtrain-bench in its short form: what it says is complete and agrees with itself, and it writes nothing else.

How fast anything is depends on what else the machine does, so only what holds on a busy machine too is asked for.
"""

import json
import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

BLOCKS = 9
STEPS = 40
BATCH = 50
SETTINGS = {"data.train_samples": 1000, "training.batch_size": BATCH, "training.learning_rate": 0.1}  # no smaller batch
PARAMETERS = 784 * 16 + 16 + 16 * 16 + 16 + 16 * 10 + 10
# Forward, gradient of the weights, gradient of the inputs but the first.
FLOPS_PER_SAMPLE = 2 * (3 * (784 * 16 + 16 * 16 + 16 * 10) - 784 * 16)
SGEMM_FLOPS = 2 * 2048**3
PHASES = ["data", "forward", "backward", "reduce", "update", "wait"]
EXCHANGES = ["MPI_Allreduce", "node", "mpi"]
NUMBER = r"([\d.]+)"


class BenchTest(testing.DtrainTestCase):
    def measure(self, *arguments, ranks):
        """The figures of a run that went well, its text, and how many seconds it took."""
        before = testing.snapshot(self.folder)
        begin = time.monotonic()
        result = testing.run("dtrain-bench", *arguments, "--steps", STEPS, "--json=figures.json", ranks=ranks,
                             cwd=self.folder)
        seconds = time.monotonic() - begin
        self.assertEqual(result.code, testing.EXIT_OK, result)
        self.assertEqual(result.messages(), [])
        figures = json.loads((self.folder / "figures.json").read_text())
        (self.folder / "figures.json").unlink()
        self.assertEqual(testing.snapshot(self.folder), before, "wrote something besides its figures")
        return figures, result.stdout, seconds

    def check_spread(self, spread):
        self.assertEqual(list(spread), ["median", "min", "max"])
        self.assertGreater(spread["min"], 0)
        self.assertLessEqual(spread["min"], spread["median"])
        self.assertLessEqual(spread["median"], spread["max"])

    def check_steps(self, figures, ranks, seconds):
        rate, flops, peak, fraction = (figures[key] for key in ("samples_per_second", "flops", "peak_flops",
                                                                "fraction_of_peak"))
        for spread in (rate, flops, peak, fraction):
            self.check_spread(spread)
        for key in rate:
            self.assertAlmostEqual(flops[key], rate[key] * FLOPS_PER_SAMPLE, delta=1e-9 * flops[key])
        # The fraction is computed block by block.
        self.assertGreaterEqual(fraction["min"], 0.999 * flops["min"] / peak["max"])
        self.assertLessEqual(fraction["max"], 1.001 * flops["max"] / peak["min"])
        # The measured time must fit into the run.
        self.assertLess(BLOCKS * (STEPS * BATCH / rate["max"] + ranks * SGEMM_FLOPS / peak["max"]), seconds)

        phases = figures["phases"]
        self.assertEqual(list(phases), PHASES)
        for name, cost in phases.items():
            with self.subTest(name):
                self.assertIn(cost["slowest_rank"], range(ranks))
                self.assertLessEqual(cost["seconds"], cost["slowest_rank_seconds"] * 1.001)
                self.assertLessEqual(cost["slowest_rank_seconds"], ranks * cost["seconds"] * 1.001)
        per_step = sum(cost["seconds"] for cost in phases.values())
        self.assertGreater(per_step, 0.75 * BATCH / rate["max"], "a phase is missing")
        self.assertLess(per_step, 1.25 * BATCH / rate["min"], "phases overlap")

    def check_exchanges(self, figures, ranks):
        self.assertEqual(list(figures["exchanges"]), EXCHANGES)
        for name, exchange in figures["exchanges"].items():
            with self.subTest(name):
                self.check_spread(exchange["seconds"])
                self.assertIn(exchange["floats"], range(PARAMETERS, PARAMETERS + 64))  # padded, and a tail
                expected = 2 * (ranks - 1) / ranks * 4 * exchange["floats"] / exchange["seconds"]["median"]
                self.assertAlmostEqual(exchange["bus_bandwidth"], expected, delta=1e-9 * expected)

    def check_text(self, text, figures, ranks, nodes):
        def found(pattern):
            self.assertRegex(text, pattern)
            return [float(number) for number in re.search(pattern, text).groups()]

        def check_printed(label, spread, unit, digits):
            for printed, key in zip(found(rf"(?m)^{label} +{NUMBER} \({NUMBER} to {NUMBER}\)"), spread):
                self.assertAlmostEqual(printed, spread[key] / unit, delta=0.51 * 10**-digits)

        self.assertRegex(text, rf"(?m)^ranks +{ranks} ranks? on {nodes} nodes?, 1 thread each, 8 logical shards$")
        self.assertRegex(text, rf"(?m)^measured +{BLOCKS} blocks of {STEPS} steps$")
        check_printed("speed", figures["samples_per_second"], 1e3, 1)
        check_printed("arithmetic", figures["flops"], 1e9, 1)
        check_printed("peak", figures["peak_flops"], 1e9, 1)
        check_printed("fraction", figures["fraction_of_peak"], 1, 3)
        for name, cost in figures["phases"].items():
            mean, rank, slowest = found(rf"(?m)^{name} +{NUMBER} +(\d+) \({NUMBER}\)$")
            self.assertEqual(rank, cost["slowest_rank"])
            self.assertAlmostEqual(mean, cost["seconds"] * 1e6, delta=0.0051)
            self.assertAlmostEqual(slowest, cost["slowest_rank_seconds"] * 1e6, delta=0.0051)
        bare = figures["exchanges"]["MPI_Allreduce"]["seconds"]["median"]
        for name, exchange in figures["exchanges"].items():
            microseconds, bus, ratio = found(rf"(?m)^{name} +{NUMBER} +{NUMBER} +{NUMBER}$")
            self.assertAlmostEqual(microseconds, exchange["seconds"]["median"] * 1e6, delta=0.051)
            self.assertAlmostEqual(bus, exchange["bus_bandwidth"] / 1e9, delta=0.0051)
            self.assertAlmostEqual(ratio, bare / exchange["seconds"]["median"], delta=0.051)

    def test_figures(self):
        config = self.write_config(SETTINGS)
        for ranks, ranks_per_node in ((1, 0), (2, 0), (2, 1)):
            with self.subTest(ranks=ranks, ranks_per_node=ranks_per_node):
                nodes = 2 if ranks_per_node else 1
                figures, text, seconds = self.measure(config, f"--parallel.ranks_per_node={ranks_per_node}", ranks=ranks)
                said = {key: figures[key] for key in ("ranks", "nodes", "logical_shards", "layers", "batch_size",
                                                      "parameters", "flops_per_sample", "blocks", "steps_per_block")}
                self.assertEqual(said, {"ranks": ranks, "nodes": nodes, "logical_shards": 8,
                                        "layers": "dense 16 sigmoid, dense 16 sigmoid, dense 10 sigmoid",
                                        "batch_size": BATCH, "parameters": PARAMETERS,
                                        "flops_per_sample": FLOPS_PER_SAMPLE, "blocks": BLOCKS,
                                        "steps_per_block": STEPS})
                self.assertIn("OpenBLAS", figures["sgemm"])
                self.assertIn("fused multiply-add", figures["arithmetic"])
                self.assertRegex(figures["dtrain_version"], r"^\d+\.\d+\.\d+$")
                # More than the samples, and without the 50 MB of the sgemm.
                self.assertGreater(figures["resident_bytes"], 784 * 1000 / ranks)
                self.check_steps(figures, ranks, seconds)
                self.check_exchanges(figures, ranks)
                self.check_text(text, figures, ranks, nodes)

    def test_steps_only(self):
        config = self.write_config(SETTINGS)
        fingerprints = set()
        for ranks in (1, 2):
            figures, text, _ = self.measure(config, "--steps-only", "--blocks=2", ranks=ranks)
            self.assertEqual(figures["blocks"], 2)
            self.check_spread(figures["samples_per_second"])
            self.assertEqual(list(figures["phases"]), PHASES)
            for word in ("peak_flops", "fraction_of_peak", "sgemm", "exchanges"):
                self.assertNotIn(word, figures)
            for word in ("peak", "MPI_Allreduce"):
                self.assertNotIn(word, text)
            fingerprints.add(figures["fingerprint"])
        self.assertEqual(len(fingerprints), 1, "other weights on another number of ranks")
        figures, _, _ = self.measure(config, "--steps-only", "--blocks=3", ranks=1)
        self.assertNotIn(figures["fingerprint"], fingerprints, "more steps led to the same weights")

    def test_figures_that_cannot_be_written(self):
        config = self.write_config(SETTINGS)
        self.assert_refused("dtrain-bench", config, "--steps=1", "--json", "missing/figures.json",
                            code=testing.EXIT_BAD_OUTPUT, words=["missing/figures.json"])

    def test_command_line(self):
        config = self.write_config(SETTINGS)
        before = testing.snapshot(self.folder)
        for arguments, word in (([], "config"), ([config, "--steps", "0"], "--steps 0"),
                                ([config, "--steps=-3"], "--steps -3"), ([config, "--steps", "x"], "--steps x"),
                                ([config, "--steps", "3x"], "--steps 3x"), ([config, "--steps"], "--steps"),
                                ([config, "--blocks", "0"], "--blocks 0"), ([config, "--json"], "--json"),
                                ([config, "--json", "--steps=3"], "--json"),
                                ([config, "--check"], "--check"), ([config, "--training.epoks=3"], "epoks")):
            with self.subTest(arguments):
                self.assert_usage_error("dtrain-bench", *arguments, word=word)
        self.assert_usage_error("dtrain-bench", config, "--steps", "0", word="--steps 0", ranks=2)
        self.assert_usage_error("dtrain-bench", config, "--parallel.logical_shards=1", word="logical_shards", ranks=2)
        self.assertEqual(testing.snapshot(self.folder), before)

    def test_misspelled_options(self):
        config = self.write_config(SETTINGS)
        for program, arguments, option, meant in (
                ("dtrain", ["-help"], "-help", "--help"), ("dtrain", ["--hepl", config], "--hepl", "--help"),
                ("dtrain", [config, "--chekc"], "--chekc", "--check"), ("dtrain-bench", ["-help"], "-help", "--help"),
                ("dtrain-bench", [config, "--stesp=3"], "--stesp=3", "--steps"),
                ("dtrain-eval", ["-help"], "-help", "--help"),
                ("dtrain-eval", ["run", "--wrogn"], "--wrogn", "--wrong")):
            with self.subTest([program, *arguments]):
                result = testing.run(program, *arguments, cwd=self.folder)
                self.assertEqual(result.code, testing.EXIT_BAD_CONFIG, result)
                self.assertEqual(result.stderr, f"{program}: unknown option {option}; did you mean {meant}?\n")
        result = testing.run("dtrain", config, "--check", "--print-config", cwd=self.folder)
        self.assertEqual((result.code, result.stdout), (testing.EXIT_BAD_CONFIG, ""))
        self.assertEqual(result.stderr,
                         "dtrain: --check and --print-config exclude each other: give one of them\n")

    def test_help(self):
        result = testing.run("dtrain-bench", "--help", cwd=self.folder)
        self.assertEqual(result.code, testing.EXIT_OK, result)
        for word in ("usage:", "dtrain-bench CONFIG", "--steps", "--blocks", "--steps-only", "--json"):
            self.assertIn(word, result.stdout)


if __name__ == "__main__":
    testing.main()
