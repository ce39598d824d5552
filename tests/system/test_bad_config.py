"""A bad command line or config: exit code 2, one message that names the error, nothing written."""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

# Unknown names, the wrong part of each, and what the message suggests instead.
NAMES = [
    ("training.epoks", "epoks", "epochs"),
    ("training.learnin_rate", "learnin_rate", "learning_rate"),
    ("output.diretory", "diretory", "directory"),
    ("trainig.epochs", "trainig", "training"),
    ("nonsense.key", "nonsense", "training"),
]

FILES = {
    "no section": b"epochs = 3\n",
    "no value": b"[training]\nepochs\n",
    "not text": bytes(range(256)) * 8,
    "twice": b"[training]\nepochs = 3\nepochs = 4\n",
}


class BadConfigTest(testing.DtrainTestCase):
    def check(self, name, *arguments, words=()):
        for ranks in testing.BAD_INPUT_RANKS:
            with self.subTest(name, ranks=ranks):
                self.assert_refused("dtrain", *arguments, code=testing.EXIT_BAD_CONFIG, words=words, ranks=ranks)

    def test_unknown_keys(self):
        for name, wrong, nearest in NAMES:
            config = self.write_config({name: "1"})
            self.check(f"{name} in the file", config, words=[config, wrong, nearest])
        config = self.write_config({})
        for name, _, nearest in NAMES:
            self.check(f"--{name}", config, f"--{name}=1", words=[name, nearest])

    def test_files_that_are_not_configs(self):
        for name, content in FILES.items():
            config = self.folder / "odd.ini"
            config.write_bytes(content)
            self.check(name, config, words=[config])
        self.check("missing", self.folder / "none.ini", words=["none.ini"])
        self.check("folder", self.folder, words=[self.folder])

    def test_command_line(self):
        config = self.write_config({})
        for arguments, word in (([], "config"), ([config, "--chek"], "--chek"), ([config, "other.ini"], "other.ini"),
                                ([config, "--training.epochs"], "--training.epochs")):
            for ranks in testing.BAD_INPUT_RANKS:
                with self.subTest(arguments, ranks=ranks):
                    self.assert_usage_error("dtrain", *arguments, word=word, ranks=ranks)

    def test_cross_entropy_needs_a_linear_last_layer(self):
        config = self.write_config({"model.cost": "cross_entropy", "model.layers": "dense 16 relu, dense 10 sigmoid"})
        self.check("sigmoid before softmax", config, words=["cross_entropy", "linear"])

    def test_batch_too_small_for_batchnorm(self):
        config = self.write_config({"model.layers": "dense 16, batchnorm relu, dense 10", "training.batch_size": 15})
        for option in ((), ("--check",)):
            self.assert_refused("dtrain", config, *option, code=testing.EXIT_BAD_CONFIG, ranks=2,
                                words=("[training] batch_size = 15", "8 shards need a batch of at least 16"))

    def test_more_ranks_than_logical_shards(self):
        config = self.write_config({"parallel.logical_shards": 3})
        for arguments in ([], ["--check"]):
            with self.subTest(arguments):
                result = self.assert_refused("dtrain", config, *arguments, code=testing.EXIT_BAD_CONFIG,
                                             words=["logical_shards", "3", "4"], ranks=4)
                self.assertRegex(result.stderr, "result|weights")

    def test_only_images_are_distorted(self):
        sequences = {key: array if key.endswith("labels") else array.reshape(-1, 7, 28, 4)
                     for key, array in self.arrays.items()}
        testing.write_dataset(self.folder / "sequences", sequences)
        config = self.write_config({"data.directory": self.folder / "sequences", "augment.rotate": 5})
        self.check("three dimensions", config, words=["rotate", "5", "two dimensions", "7 x 28 x 4"])
        self.train({"data.directory": self.folder / "sequences", "augment.elastic_sigma": 3})  # distorts nothing

    def test_processes_that_are_not_ranks_of_one_job(self):
        """If this MPI does not know the launcher, such as MPICH's, each process would do all of the work."""
        def start(program, *arguments, ranks=None, **variables):
            words = [f"{name}={value}" for name, value in variables.items()]
            with testing.Process(["env", *words, *testing.command(program, *arguments, ranks=ranks)],
                                 self.folder) as process:
                return process.wait(testing.TIMEOUT_SECONDS)

        config = self.write_config({})
        before = testing.snapshot(self.folder)
        for program in ("dtrain", "dtrain-bench"):
            with self.subTest(program):
                self.assert_one_message(start(program, config, PMI_RANK=0, PMI_SIZE=4), testing.EXIT_BAD_CONFIG,
                                        "PMI_SIZE = 4", "mpirun", "DTRAIN_ALLOW_SINGLETONS=1", program=program)
        silent = start("dtrain", config, SLURM_PROCID=3, SLURM_STEP_NUM_TASKS=4)
        self.assertEqual((silent.code, silent.stdout + silent.stderr), (testing.EXIT_BAD_CONFIG, ""))
        self.assertEqual(testing.snapshot(self.folder), before)
        for right in (start("dtrain", config, PMI_RANK=0, PMI_SIZE=4, DTRAIN_ALLOW_SINGLETONS=1),
                      start("dtrain", config, ranks=1, SLURM_PROCID=2, SLURM_STEP_NUM_TASKS=4)):
            self.assertEqual(right.code, testing.EXIT_OK, right)

    @unittest.skipUnless(testing.starts_several_programs(), "this mpirun cannot start several programs")
    def test_ranks_with_different_arguments(self):
        """As started by "mpirun -np 1 dtrain a.ini : -np 1 dtrain b.ini"."""
        config = self.write_config({})
        first, second = (testing.command("dtrain", config, f"--model.seed={seed}", ranks=1) for seed in (1, 2))
        before = testing.snapshot(self.folder)
        with testing.Process([*first, ":", *second[1:]], self.folder) as process:
            result = process.wait(testing.TIMEOUT_SECONDS)
        self.assert_one_message(result, testing.EXIT_BAD_CONFIG, "rank 1", "--model.seed=2", "rank 0")
        self.assertEqual(testing.snapshot(self.folder), before)

    def test_check_refuses_too(self):
        config = self.write_config({"training.epochs": "many"})
        self.check("--check", config, "--check", words=["epochs", "many"])

    def test_an_earlier_run_is_unchanged(self):
        trained = self.train(ranks=2)
        config = self.folder / "run.ini"
        for override in ("--training.epochs=many", "--model.layers=dense 0 relu"):
            self.check(override, config, override)
        self.assertEqual(len(trained.checkpoints()), 2)


if __name__ == "__main__":
    testing.main()
