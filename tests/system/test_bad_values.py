"""A config value out of range, of the wrong type or unknown: exit code 2, one message, nothing written."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import dtrain_testing as testing  # noqa: E402

# Settings that are refused. The message contains the key, the value and the words.
VALUES = [
    ("training.epochs", "many"),
    ("training.epochs", "-1"),
    ("training.epochs", "2.5"),
    ("training.epochs", ""),
    ("training.epochs", "99999999999999999999"),
    ("training.batch_size", "0"),
    ("training.batch_size", "al"),
    ("training.learning_rate", "fast"),
    ("training.learning_rate", "-1"),
    ("training.learning_rate", "nan"),
    ("training.learning_rate", "1e999"),
    ("training.momentum", "1.5"),
    ("training.weight_decay", "-0.1"),
    ("training.optimizer", "nestrov", "nesterov"),
    ("training.schedule", "cosin", "cosine"),
    ("model.seed", "-1"),
    ("model.cost", "quadratik", "quadratic"),
    ("model.layers", "dense 16 sigmoyd, dense 10 sigmoid", "sigmoyd"),
    ("model.layers", "dens 16 sigmoid, dense 10 sigmoid", "dens"),
    ("model.layers", "dense 0 sigmoid, dense 10 sigmoid"),
    ("model.layers", "dense -3 sigmoid, dense 10 sigmoid"),
    ("model.layers", "dense, dense 10 sigmoid"),
    ("model.layers", "dense 16 sigmoid, , dense 10 sigmoid"),
    ("model.layers", "dense 16 16 sigmoid, dense 10 sigmoid"),
    ("model.layers", "dense 99999999999999999999 relu, dense 10 sigmoid"),
    ("model.layers", "dense 2000000000 relu, dense 2000000000 relu, dense 10 sigmoid"),
    ("model.layers", ""),
    ("parallel.logical_shards", "0"),
    ("parallel.reducer", "mip", "mpi"),
    ("parallel.products", "openbals", "openblas"),
    ("training.precision", "bfloat", "did you mean bfloat16?"),
    ("parallel.threads", "-2"),
    ("data.source", "jdx", "idx, hdf5, synthetic; did you mean idx?"),
    ("data.train_samples", "-5"),
    ("data.train_samples", "1000000", str(testing.TRAIN_SAMPLES)),
    ("output.checkpoint_every", "1 fortnight"),
    ("output.checkpoint_every", "0 epochs"),
    ("output.keep_checkpoints", "-1"),
    ("output.resume", "perhaps"),
]


class BadValuesTest(testing.DtrainTestCase):
    def check(self, name, *arguments, words, ranks=None):
        with self.subTest(name, ranks=ranks):
            self.assert_refused("dtrain", *arguments, code=testing.EXIT_BAD_CONFIG, words=words, ranks=ranks)

    def check_in_the_file(self, name, value, *words, ranks=None):
        config = self.write_config({name: value})
        key = name.partition(".")[2]
        self.check(f"{name} = {value}", config, words=[config, key, value, *words], ranks=ranks)

    def test_in_the_file(self):
        for value in VALUES:
            self.check_in_the_file(*value)

    def test_keys_that_exclude_bfloat16(self):
        for name, value, *words in (("parallel.products", "openblas", "precision = bfloat16", "products = exact"),
                                    ("training.micro_batch", "8", "at least 32")):
            self.check(name, self.write_config({"training.precision": "bfloat16", name: value}), words=words)

    def test_on_several_ranks(self):
        """Rank 0 alone reads the config, so a few values of each section suffice."""
        for value in VALUES[::4]:
            self.check_in_the_file(*value, ranks=4)

    def test_on_the_command_line(self):
        config = self.write_config({})
        for name, value, *words in VALUES[::6]:
            self.check(f"--{name}={value}", config, f"--{name}={value}", words=[name, value, *words])


if __name__ == "__main__":
    testing.main()
