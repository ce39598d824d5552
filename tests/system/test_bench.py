"""dtrain-bench in its short form: its results are complete and consistent, and it writes no other files.

Speed depends on what else the machine does. So the tests check only what also holds on a busy machine.
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
SETTINGS = {"data.train_samples": 1000, "training.batch_size": BATCH, "training.learning_rate": 0.1}  # no partial batch
PARAMETERS = 784 * 16 + 16 + 16 * 16 + 16 + 16 * 10 + 10
# Forward, gradient of the weights, gradient of the inputs except the first layer's.
FLOPS_PER_SAMPLE = 2 * (3 * (784 * 16 + 16 * 16 + 16 * 10) - 784 * 16)
SGEMM_FLOPS = 2 * 2048**3
PHASES = ["data", "forward", "backward", "reduce", "update", "wait"]
EXCHANGES = ["MPI_Allreduce", "node", "mpi"]
NUMBER = r"([\d.]+)"


class BenchTest(testing.DtrainTestCase):
    def measure(self, *arguments, ranks):
        """The results of a successful run, its text, and its time in seconds."""
        before = testing.snapshot(self.folder)
        begin = time.monotonic()
        result = testing.run("dtrain-bench", *arguments, "--steps", STEPS, "--json=results.json", ranks=ranks,
                             cwd=self.folder)
        seconds = time.monotonic() - begin
        self.assertEqual(result.code, testing.EXIT_OK, result)
        self.assertEqual(result.messages(), [])
        results = json.loads((self.folder / "results.json").read_text())
        (self.folder / "results.json").unlink()
        self.assertEqual(testing.snapshot(self.folder), before, "wrote other files than its results")
        return results, result.stdout, seconds

    def check_spread(self, spread):
        self.assertEqual(list(spread), ["median", "min", "max"])
        self.assertGreater(spread["min"], 0)
        self.assertLessEqual(spread["min"], spread["median"])
        self.assertLessEqual(spread["median"], spread["max"])

    def check_steps(self, results, ranks, seconds):
        rate, flops, peak, fraction = (results[key] for key in ("samples_per_second", "flops", "peak_flops",
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

        phases = results["phases"]
        self.assertEqual(list(phases), PHASES)
        for name, cost in phases.items():
            with self.subTest(name):
                self.assertIn(cost["slowest_rank"], range(ranks))
                self.assertLessEqual(cost["seconds"], cost["slowest_rank_seconds"] * 1.001)
                self.assertLessEqual(cost["slowest_rank_seconds"], ranks * cost["seconds"] * 1.001)
        per_step = sum(cost["seconds"] for cost in phases.values())
        self.assertGreater(per_step, 0.75 * BATCH / rate["max"], "a phase is missing")
        self.assertLess(per_step, 1.25 * BATCH / rate["min"], "phases overlap")

    def check_products(self, results, text):
        rounded = results["bfloat16"]
        for key in rounded["peak_flops"]:
            self.assertGreater(rounded["peak_flops"][key], 0)
        self.assertGreaterEqual(rounded["fraction_of_peak"]["min"],
                                0.999 * results["flops"]["min"] / rounded["peak_flops"]["max"])
        self.assertIn(f"({rounded['unit']}); the float32 steps of this config have", text)
        self.assertEqual({key: list(values) for key, values in results["alternatives"].items()},
                         {"products": ["openblas"], "precision": ["bfloat16"]})
        for key, values in results["alternatives"].items():
            for value, measured in values.items():
                self.check_spread(measured["samples_per_second"])
                self.check_spread(measured["ratio"])
                self.assertIn(f" samples/s with {key} = {value}; this config is ", text)

    def check_exchanges(self, results, ranks):
        self.assertEqual(list(results["exchanges"]), EXCHANGES)
        for name, exchange in results["exchanges"].items():
            with self.subTest(name):
                self.check_spread(exchange["seconds"])
                self.assertIn(exchange["floats"], range(PARAMETERS, PARAMETERS + 64))  # with padding and a tail
                expected = 2 * (ranks - 1) / ranks * 4 * exchange["floats"] / exchange["seconds"]["median"]
                self.assertAlmostEqual(exchange["bus_bandwidth"], expected, delta=1e-9 * expected)

    def check_text(self, text, results, ranks, nodes):
        def found(pattern):
            self.assertRegex(text, pattern)
            return [float(number) for number in re.search(pattern, text).groups()]

        def check_printed(label, spread, unit, digits):
            for printed, key in zip(found(rf"(?m)^{label} +{NUMBER} \({NUMBER} to {NUMBER}\)"), spread):
                self.assertAlmostEqual(printed, spread[key] / unit, delta=0.51 * 10**-digits)

        self.assertRegex(text, rf"(?m)^ranks +{ranks} ranks? on {nodes} nodes?, 1 thread each, 8 logical shards$")
        self.assertRegex(text, rf"(?m)^measured +{BLOCKS} blocks of {STEPS} steps$")
        median = results["samples_per_second"]["median"]
        unit, digits, letter = (1e6, 2, " M") if median >= 1e6 else (1e3, 1, " k") if median >= 1e3 else (1, 0, "")
        check_printed("speed", results["samples_per_second"], unit, digits)
        self.assertRegex(text, rf"(?m)^speed .*\){letter} samples/s, ")
        check_printed("arithmetic", results["flops"], 1e9, 1)
        check_printed("peak", results["peak_flops"], 1e9, 1)
        check_printed("fraction", results["fraction_of_peak"], 1, 3)
        for name, cost in results["phases"].items():
            mean, rank, slowest = found(rf"(?m)^{name} +{NUMBER} +(\d+) \({NUMBER}\)$")
            self.assertEqual(rank, cost["slowest_rank"])
            self.assertAlmostEqual(mean, cost["seconds"] * 1e6, delta=0.0051)
            self.assertAlmostEqual(slowest, cost["slowest_rank_seconds"] * 1e6, delta=0.0051)
        bare = results["exchanges"]["MPI_Allreduce"]["seconds"]["median"]
        for name, exchange in results["exchanges"].items():
            microseconds, bus, ratio = found(rf"(?m)^{name} +{NUMBER} +{NUMBER} +{NUMBER}$")
            self.assertAlmostEqual(microseconds, exchange["seconds"]["median"] * 1e6, delta=0.051)
            self.assertAlmostEqual(bus, exchange["bus_bandwidth"] / 1e9, delta=0.0051)
            self.assertAlmostEqual(ratio, bare / exchange["seconds"]["median"], delta=0.051)

    def test_results(self):
        config = self.write_config(SETTINGS)
        for ranks, ranks_per_node in ((1, 0), (2, 0), (2, 1)):
            with self.subTest(ranks=ranks, ranks_per_node=ranks_per_node):
                nodes = 2 if ranks_per_node else 1
                results, text, seconds = self.measure(config, f"--parallel.ranks_per_node={ranks_per_node}",
                                                     ranks=ranks)
                facts = {key: results[key] for key in ("ranks", "nodes", "logical_shards", "layers", "batch_size",
                                                       "parameters", "flops_per_sample", "blocks", "steps_per_block")}
                self.assertEqual(facts, {"ranks": ranks, "nodes": nodes, "logical_shards": 8,
                                         "layers": "dense 16 sigmoid, dense 16 sigmoid, dense 10 sigmoid",
                                         "batch_size": BATCH, "parameters": PARAMETERS,
                                         "flops_per_sample": FLOPS_PER_SAMPLE, "blocks": BLOCKS,
                                         "steps_per_block": STEPS})
                self.assertIn("OpenBLAS", results["sgemm"])
                self.assertIn("fused multiply-add", results["arithmetic"])
                self.assertRegex(results["dtrain_version"], r"^\d+\.\d+\.\d+$")
                # More than the samples alone, but without the 50 MB of the sgemm.
                self.assertGreater(results["resident_bytes"], 784 * 1000 / ranks)
                self.check_steps(results, ranks, seconds)
                self.check_products(results, text)
                self.check_exchanges(results, ranks)
                self.check_text(text, results, ranks, nodes)

    def test_bfloat16(self):
        config = self.write_config({**SETTINGS, "training.precision": "bfloat16"})
        results, _, _ = self.measure(config, "--blocks=2", ranks=2)
        self.assertEqual({key: list(values) for key, values in results["alternatives"].items()},
                         {"precision": ["float32"]})
        self.assertIn("bfloat16 products", results["arithmetic"])

    def test_leaves_out_what_the_config_excludes(self):
        """Micro-batches of 8 exclude bfloat16, and OpenBLAS does too."""
        for settings, alternatives in (({"training.micro_batch": 8}, {"products": ["openblas"]}),
                                       ({"parallel.products": "openblas"}, {"products": ["exact"]})):
            with self.subTest(settings):
                config = self.write_config({**SETTINGS, **settings})
                results, _, _ = self.measure(config, "--blocks=2", ranks=2)
                self.assertEqual({key: list(values) for key, values in results["alternatives"].items()}, alternatives)

    def test_steps_only(self):
        config = self.write_config(SETTINGS)
        fingerprints = set()
        for ranks in (1, 2):
            results, text, _ = self.measure(config, "--steps-only", "--blocks=2", ranks=ranks)
            self.assertEqual(results["blocks"], 2)
            self.check_spread(results["samples_per_second"])
            self.assertEqual(list(results["phases"]), PHASES)
            for word in ("peak_flops", "fraction_of_peak", "sgemm", "bfloat16", "alternatives", "exchanges"):
                self.assertNotIn(word, results)
            for word in ("peak", "MPI_Allreduce"):
                self.assertNotIn(word, text)
            fingerprints.add(results["fingerprint"])
        self.assertEqual(len(fingerprints), 1, "the weights depend on the number of ranks")
        results, _, _ = self.measure(config, "--steps-only", "--blocks=3", ranks=1)
        self.assertNotIn(results["fingerprint"], fingerprints, "more steps led to the same weights")

    def test_results_that_cannot_be_written(self):
        config = self.write_config(SETTINGS)
        self.assert_refused("dtrain-bench", config, "--steps=1", "--json", "missing/results.json",
                            code=testing.EXIT_BAD_OUTPUT, words=["missing/results.json"])

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
