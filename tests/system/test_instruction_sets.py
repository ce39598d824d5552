"""One program for every CPU: kernels are chosen at run time, every choice gives the same bits, and no other code needs
more than the baseline of the CPU family."""

import os
import platform
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

CASES = {name: {**testing.CASES[name], "data.train_samples": 200, "data.test_samples": 100}
         for name in ("sigmoid, quadratic, sgd, validation", "convolutions, dropout, momentum, distorted",
                      "lstm, batch smaller than the shards, nesterov, clipped", "wide layers, lars, clipped, 13 shards",
                      "fewer samples than shards, adam")}
# The reference is slow.
ROUNDED_CASES = {name: {**settings, "data.train_samples": 60, "data.test_samples": 20, "training.epochs": 1}
                 for name, settings in testing.CASES.items() if settings.get("training.precision") == "bfloat16"}
ALL = (("reference", "x86-64-v3", "x86-64-v4", "x86-64-v4+bf16", "x86-64-v4+amx") if platform.machine() == "x86_64" else
       ("reference", platform.machine()))
BUILD = testing.BIN.parent


def using(table):
    return mock.patch.dict(os.environ, {"DTRAIN_ISA": table})


def supported():
    """The tables that this CPU can execute, as the program lists them."""
    with using("none"):
        result = testing.run("dtrain-eval", "missing.h5")
    return re.search(r"expected one of (.*), which this CPU supports", result.stderr)[1].split(", ")


class InstructionSetsTest(testing.DtrainTestCase):
    def test_every_table_gives_the_same_bits(self):
        tables = supported()
        self.assertEqual(tuple(tables), ALL[:len(tables)])
        for missing in ALL[len(tables):]:
            print(f"not tested, because this CPU does not support it: {missing}", file=sys.stderr)
        for name, settings in CASES.items():
            with self.case(name):
                expected = None
                for table in tables:
                    with using(table):
                        run = self.train(settings, ranks=2, output=table)
                    self.assertEqual(run.log().attributes["arithmetic"], f"{table}, fused multiply-add")
                    expected = expected or run
                    self.assert_same_result(run, expected)

    def test_bfloat16_bits_depend_on_the_order_only(self):
        """The order of additions is that of AMX's instruction, or of the CPU's own instruction, as the log says."""
        for name, settings in ROUNDED_CASES.items():
            with self.case(name):
                expected = {}
                for table in supported():
                    with using(table):
                        run = self.train(settings, ranks=2, output=table)
                    order = re.search("in the order of ([A-Z0-9]+)", run.log().attributes["arithmetic"])[1]
                    self.assertEqual(order, "VDPBF16PS" if table.endswith("+bf16") else "TDPBF16PS")
                    self.assert_same_result(run, expected.setdefault(order, run))

    def test_resuming_with_other_rounding(self):
        """A run goes on, and says that its bits would have been others."""
        name, settings = next(iter(ROUNDED_CASES.items()))
        longer = {**settings, "training.epochs": 2}
        one_chain, two_chains = (f"fused multiply-add; bfloat16 products in the order of {order}"
                                 for order in ("VDPBF16PS", "TDPBF16PS"))

        def resume(output, table, first_table, *overrides):
            for steps, choice in ((settings, first_table), (longer, table)):
                with using(choice):
                    run = self.train(steps, *(overrides if steps is longer else ()), output=output)
            return re.findall(r"(?m)^changed     (.*)$", run.result.stdout)

        with self.case("same order"):
            self.assertEqual(resume("same", "x86-64-v3" if platform.machine() == "x86_64" else "reference", "reference"),
                             [])
        with self.case("other precision"):
            self.assertEqual(resume("precision", "reference", "reference", "--training.precision=float32"),
                             ["training.precision = float32, before bfloat16",
                              f"rounding = fused multiply-add, before {two_chains}"])
        with self.case("other order"):
            if "x86-64-v4+bf16" not in supported():
                self.skipTest("needs a CPU with VDPBF16PS")
            self.assertEqual(resume("order", "x86-64-v4+bf16", "reference"),
                             [f"rounding = {one_chain}, before {two_chains}"])

    def test_unknown_table(self):
        config = self.write_config({})
        for ranks in testing.BAD_INPUT_RANKS:
            with using("x86-64-v2"):
                self.assert_refused("dtrain", config, ranks=ranks, code=testing.EXIT_BAD_CONFIG,
                                    words=["DTRAIN_ISA=x86-64-v2", "reference"])

    @unittest.skipUnless(testing.starts_several_programs(), "this mpirun cannot start several programs")
    def test_ranks_agree(self):
        """A job whose ranks have different CPUs uses what all of them have."""
        config = self.write_config(CASES["sigmoid, quadratic, sgd, validation"])
        program = [str(testing.BIN / "dtrain"), str(config)]
        words = [testing.MPIRUN, "-np", "1", "env", f"DTRAIN_ISA={supported()[-1]}", *program, ":",
                 "-np", "1", "env", "DTRAIN_ISA=reference", *program]
        with testing.Process(words, self.folder) as process:
            result = process.wait(testing.TIMEOUT_SECONDS)
        self.assertEqual(result.code, testing.EXIT_OK, result)
        self.assertIn("arithmetic  reference, ", result.stdout)

    @unittest.skipUnless(platform.machine() == "x86_64" and shutil.which("qemu-x86_64"), "needs qemu-x86_64")
    def test_other_cpus(self):
        """An emulated CPU with AVX2 gives the same bits, and one without is refused."""
        config = self.write_config({**CASES["sigmoid, quadratic, sgd, validation"], "training.epochs": 1})
        expected = self.train({**CASES["sigmoid, quadratic, sgd, validation"], "training.epochs": 1}, output="real")

        def emulated(cpu):
            words = ["qemu-x86_64", "-cpu", cpu, str(testing.BIN / "dtrain"), str(config)]
            with testing.Process(words, self.folder) as process:
                return process.wait(testing.TIMEOUT_SECONDS)

        result = emulated("Nehalem")
        self.assert_one_message(result, testing.EXIT_BAD_CONFIG, "AVX2")
        result = emulated("Haswell")
        self.assertEqual(result.code, testing.EXIT_OK, result)
        self.assertIn("x86-64-v3", result.stdout)
        self.assert_same_result(testing.Training(self.folder / "run", result), expected)


class SymbolsTest(unittest.TestCase):
    @unittest.skipUnless(shutil.which("nm"), "needs nm of binutils")
    def test_kernels_share_no_function(self):
        """The linker keeps one copy of a weak symbol for all. If kernels defined one that other code has too, this could
        be a copy that the CPU cannot execute."""
        folders = list((BUILD / "src" / "kernels" / "CMakeFiles").glob("dtrain_kernels_*.dir"))
        self.assertEqual(len(folders), len(ALL) - 1)
        for folder in folders:
            namespace = folder.stem.removeprefix("dtrain_kernels_")
            objects = sorted(folder.rglob("*.o"))
            self.assertGreater(len(objects), 0)
            for file in objects:
                listed = subprocess.run(["nm", "--demangle", "--defined-only", file], capture_output=True, text=True,
                                        check=True).stdout
                weak = [line for line in listed.splitlines() if re.match(r"[0-9a-f]+ [WVu] ", line)]
                foreign = [line for line in weak if f"dtrain::kernels::{namespace}::" not in line]
                self.assertEqual(foreign, [], file)


if __name__ == "__main__":
    testing.main()
