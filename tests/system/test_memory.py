"""Memory: a run needs as much as it and --check predict, a batch that exceeds the memory is cut into micro-batches, and
a run that cannot fit is refused before it allocates."""

import contextlib
import itertools
import os
import re
import sys
import unittest
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

MEGABYTE = 10 ** 6
CONVOLUTIONS = {"data.source": "synthetic", "data.train_samples": 2000, "data.test_samples": 100,
                "model.layers": "conv 8x5x5 relu, maxpool 2, dropout 0.2, dense 10", "model.cost": "cross_entropy",
                "training.batch_size": "all", "training.learning_rate": 0.1, "training.epochs": 2}
TOO_FEW_MEGABYTES = 150  # too few for the activations, which take 166
CASES = {
    "wide layers, a narrow batch": {"model.layers": "dense 3000 relu, dense 1000 relu, dense 10",
                                    "training.optimizer": "adam"},
    "many samples": {"data.train_samples": 100000, "model.layers": "dense 10"},
    "the best network is kept": {"model.layers": "dense 3000 relu, dense 1000 relu, dense 10",
                                 "output.keep_best": "true"},
    "convolutions": CONVOLUTIONS,
    "batch normalisation": {**CONVOLUTIONS, "model.layers": "conv 8x5x5, batchnorm relu, maxpool 2, dense 10"},
    # Reading unpacks all samples, and validates the unused ones in one piece.
    "HDF5 data in one chunk": {"data.source": "hdf5", "data.file": "one-chunk.h5", "data.train_samples": 8000,
                               "model.layers": "dense 10", "model.cost": "cross_entropy"},
    "in micro-batches": {**CONVOLUTIONS, "training.micro_batch": 64},
    "an LSTM": {"model.layers": "lstm 64, dense 10", "training.batch_size": 500},
    "local SGD": {"model.layers": "dense 1000 relu, dense 10", "parallel.sync_every": 2},
    "compressed gradients": {"model.layers": "dense 3000 relu, dense 10", "parallel.compression": "bfloat16"},
    "wide layers in bfloat16": {"model.layers": "dense 3000 relu, dense 1000 relu, dense 10",
                                "training.precision": "bfloat16"},
    # Weight gradients of many shards, and copies of factors for many threads, exceed the tolerance.
    "convolutions in bfloat16": {"model.layers": "maxpool 4, conv 128x3x3 relu, conv 128x3x3 relu, dense 10",
                                 "training.precision": "bfloat16", "parallel.logical_shards": 64},
    "an LSTM in bfloat16, on many threads": {"model.layers": "lstm 64, dense 10", "training.batch_size": 200,
                                             "training.precision": "bfloat16", "parallel.threads": 32},
    "reducer = mpi": {"model.layers": "dense 3000 relu, dense 10", "parallel.reducer": "mpi"},
}
PEAK = "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); " \
       "print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024); sys.exit(code)"


def own_group():
    """The folder of this process's control group for memory, and the file name of a limit."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            return Path("/sys/fs/cgroup/memory") / path[1:], "memory.limit_in_bytes"
        if controllers == "" and (Path("/sys/fs/cgroup") / path[1:] / "memory.max").exists():
            return Path("/sys/fs/cgroup") / path[1:], "memory.max"
    return None, None


@contextlib.contextmanager
def memory_group(megabytes):
    """A control group with that limit. Skips the test if none can be created."""
    own, limit = own_group()
    reasons = ["there is no control group for memory"]
    # In version 2, a group with processes cannot have children with limits. Then the parent gets the new group.
    for parent in (own, own.parent) if own else ():
        group = parent / f"dtrain-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError as error:
            reasons.append(str(error))
            continue
        try:
            (group / limit).write_text(str(megabytes * MEGABYTE))
            yield group / "cgroup.procs"
            return
        except OSError as error:
            reasons.append(str(error))
        finally:
            group.rmdir()
    raise unittest.SkipTest(f"cannot make a control group: {reasons[-1]}")


class MemoryTest(testing.DtrainTestCase):
    def write_in_one_chunk(self, samples):
        """The file one-chunk.h5, compressed as h5py does with compression and shuffle."""
        with h5py.File(self.folder / "one-chunk.h5", "w") as file:
            for part in ("train", "test"):
                shape = (samples, 28, 28)
                file.create_dataset(f"{part}/samples", data=np.ones(shape, np.float32), chunks=shape,
                                    compression="gzip", compression_opts=1, shuffle=True)
                file[f"{part}/labels"] = np.arange(samples) % 10

    def small(self, settings):
        return self.write_config({"data.source": "synthetic", "data.train_samples": 400, "data.test_samples": 100,
                                  "training.epochs": 1, "training.learning_rate": 0.01, "output.keep_best": "false",
                                  **settings})

    def run_words(self, *words):
        with testing.Process([str(word) for word in words], self.folder) as process:
            return process.wait(testing.TIMEOUT_SECONDS)

    def test_estimate(self):
        for name, settings in CASES.items():
            with self.case(name):
                config = self.small(settings)
                if settings.get("data.source") == "hdf5":
                    self.write_in_one_chunk(20000)
                checked = testing.run("dtrain", config, "--check", cwd=self.folder)
                result = self.run_words(sys.executable, "-c", PEAK, *testing.command("dtrain", config))
                self.assertEqual((checked.code, result.code), (0, 0), (checked, result))
                estimate = re.search(r"^memory +of rank 0 about ([\d.]+) MB: .* activations, .*$",
                                 checked.stdout, re.MULTILINE)
                self.assertIsNotNone(estimate, checked)
                self.assertLess(result.stdout.index("\nmemory "), result.stdout.index("\ndata set "), result)
                peak = int(re.search(r"^peak (\d+)", result.stdout, re.MULTILINE)[1]) / MEGABYTE
                print(f"{name}: peak {peak:.1f} MB, estimate {estimate[1]} MB", flush=True)
                # Programs and libraries are mapped files, whose memory the system can reclaim.
                self.assertAlmostEqual(peak, float(estimate[1]) + 8, delta=15 + 0.05 * peak)

    def test_micro_batches_change_no_bit(self):
        fingerprints = set()
        for micro_batch, ranks in itertools.product((0, 8, 100, 2000), (1, 3)):
            trained = self.train({**CONVOLUTIONS, "training.micro_batch": micro_batch}, ranks=ranks,
                                 output=f"run-{micro_batch}-{ranks}")
            fingerprints.add(re.findall(r"weights (\w{16})", trained.result.stdout)[-1])
        self.assertEqual(len(fingerprints), 1, fingerprints)

    def check_limited(self, config, *wrapper):
        """A complete batch at once is refused, also by --check, and micro-batches fit."""
        for words in ([], ["--check"]):
            result = self.run_words(*wrapper, *testing.command("dtrain", config, "--training.micro_batch=2000", *words))
            self.assert_one_message(result, testing.EXIT_BAD_CONFIG, "out of memory: rank 0 needs about ",
                                    "training.micro_batch")
            self.assertNotIn("epoch 1/", result.stdout)
        result = self.run_words(*wrapper, *testing.command("dtrain", config))
        self.assertEqual(result.code, testing.EXIT_OK, result)
        self.assertIn("in micro-batches of up to 256\n", result.stdout)
        at_once = self.train({**CONVOLUTIONS, "training.micro_batch": 2000}, output="at-once")
        self.assertNotIn("micro-batches", at_once.result.stdout)
        self.assertEqual(*(re.findall(r"weights (\w{16})", run.stdout)[-1] for run in (result, at_once.result)))

    def test_large_batch_under_ulimit(self):
        config = self.small(CONVOLUTIONS)
        self.check_limited(config, "sh", "-c", f"ulimit -d {TOO_FEW_MEGABYTES * 1000}; exec \"$@\"", "sh")

    def test_large_batch_in_a_control_group(self):
        config = self.small(CONVOLUTIONS)
        with memory_group(TOO_FEW_MEGABYTES) as processes:
            self.check_limited(config, "sh", "-c", f"echo $$ > {processes}; exec \"$@\"", "sh")

    def test_large_chunks_under_ulimit(self):
        self.write_in_one_chunk(20000)
        config = self.small({"data.source": "hdf5", "data.file": "one-chunk.h5", "model.layers": "dense 10"})
        limit = "ulimit -d 150000; exec \"$@\""
        for words in ([], ["--check"]):
            result = self.run_words("sh", "-c", limit, "sh", *testing.command("dtrain", config, *words))
            self.assert_one_message(result, testing.EXIT_BAD_CONFIG, "out of memory: rank 0 needs about ",
                                    "more while samples are read", "chunks= in h5py")

    def test_ranks_of_a_control_group_share_it(self):
        config = self.small({"model.layers": "dense 1500 relu, dense 10", "parallel.reducer": "mpi",
                             "training.optimizer": "adam"})
        alone = self.run_words(*testing.command("dtrain", config, "--check"))
        megabytes = float(re.search(r"about ([\d.]+) MB", alone.stdout)[1])
        with memory_group(int(1.8 * megabytes)) as processes:
            wrapper = ["sh", "-c", f"echo $$ > {processes}; exec \"$@\"", "sh"]
            fits = self.run_words(*wrapper, *testing.command("dtrain", config, "--check", ranks=1))
            self.assertEqual(fits.code, testing.EXIT_OK, fits)
            self.assert_one_message(self.run_words(*wrapper, *testing.command("dtrain", config, "--check", ranks=3)),
                                    testing.EXIT_BAD_CONFIG, "out of memory: 3 ranks need about ",
                                    "the control group allows ")


if __name__ == "__main__":
    testing.main()
