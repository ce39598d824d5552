"""Configs as settings: {"section.key": value}. Every property must hold for the configs of CASES on the numbers of
ranks of SPLITS."""

from .constants import LONG, MNIST

# The settings of a network other than the default one.
RELU_CROSS_ENTROPY = {"model.layers": "dense 24 relu, dense 10 linear", "model.cost": "cross_entropy",
                      "training.learning_rate": 0.05}

DISTORTED = {"augment.shift": 2, "augment.rotate": 10, "augment.scale": 0.1, "augment.shear": 0.1,
             "augment.elastic_alpha": 20}

# Together these configs have every optimizer and cost, and a schedule with warm-up. Batches and shards do not divide
# each other, and neither divides the 1003 samples.
CASES = {
    "sigmoid, quadratic, sgd, validation": {"training.batch_size": 30, "training.learning_rate": 1.0,
                                            "data.validation_samples": 77},
    "convolutions, dropout, momentum, distorted": {
        **DISTORTED, "model.cost": "cross_entropy", "training.batch_size": 150, "training.optimizer": "momentum",
        "training.learning_rate": 0.02, "model.layers": "conv 5x5x5 pad 2 relu, maxpool 2, conv 7x3x3 stride 2 relu, "
                                                        "dropout 0.25, dense 24 relu, dense 10"},
    "lstm, batch smaller than the shards, nesterov, clipped": {
        "model.layers": "lstm 11, dense 10", "model.cost": "cross_entropy", "training.batch_size": 5,
        "training.epochs": 1, "training.optimizer": "nesterov", "training.learning_rate": 0.001,
        "training.clip_norm": 0.5},
    "full batch, adamw, cosine, warm-up, 5 shards": {
        "training.batch_size": "all", "training.epochs": 5, "training.optimizer": "adamw",
        "training.learning_rate": 0.01, "training.weight_decay": 0.1, "training.schedule": "cosine",
        "training.warmup_epochs": 2, "parallel.logical_shards": 5},
    "wide layers, lars, clipped, 13 shards": {
        "model.layers": "dense 150 relu, dense 70 tanh, dense 10", "model.cost": "cross_entropy",
        "training.batch_size": 200, "training.optimizer": "lars", "training.learning_rate": 0.5,
        "training.weight_decay": 0.001, "training.clip_norm": 0.3, "parallel.logical_shards": 13},
    "batchnorm, adam, clipped, compressed, validation, 5 shards": {
        "model.layers": "conv 5x3x3 stride 2, batchnorm relu, maxpool 2, dense 30, batchnorm tanh, dense 10",
        "model.cost": "cross_entropy", "training.batch_size": 150, "training.micro_batch": 64,
        "training.optimizer": "adam", "training.learning_rate": 0.01, "training.clip_norm": 0.2,
        "parallel.compression": "bfloat16", "parallel.logical_shards": 5, "data.validation_samples": 77},
    "fewer samples than shards, adam": {"data.train_samples": 6, "data.test_samples": 3, "training.batch_size": 4,
                                        "training.optimizer": "adam", "training.learning_rate": 0.01},
    # Micro-batches cut shards.
    "bfloat16, compressed gradients, in micro-batches, dropout, momentum, 5 shards": {
        "training.precision": "bfloat16", "model.layers": "dense 150 relu, dropout 0.2, dense 45 tanh, dense 10",
        "model.cost": "cross_entropy", "training.batch_size": 400, "training.micro_batch": 64,
        "training.optimizer": "momentum", "training.learning_rate": 0.02, "parallel.compression": "bfloat16",
        "parallel.logical_shards": 5},
    "bfloat16, convolutions, distorted, nesterov": {
        **DISTORTED, "training.precision": "bfloat16", "model.cost": "cross_entropy", "training.batch_size": 150,
        "training.optimizer": "nesterov", "training.learning_rate": 0.01,
        "model.layers": "conv 5x5x5 pad 2 relu, maxpool 2, conv 19x3x3 pad 1 stride 2 relu, conv 7x3x3 relu, dense 10"},
    "bfloat16, lstm, adam, 13 shards": {
        "training.precision": "bfloat16", "model.layers": "lstm 21, dense 10", "model.cost": "cross_entropy",
        "training.batch_size": 120, "training.epochs": 1, "training.optimizer": "adam",
        "training.learning_rate": 0.01, "parallel.logical_shards": 13},
}

DEEP = "dense 2500 relu, dense 2000 relu, dense 1500 relu, dense 1000 relu, dense 500 relu, dense 10"
# Networks large enough for all levels of blocking in the products, on real images.
if LONG and MNIST:
    CASES |= {name: {"data.directory": MNIST, "data.test_samples": 500, **settings} for name, settings in {
        "784-16-16-10, whole epochs": {"training.batch_size": 32, "training.learning_rate": 3.0},
        "784-800-10, batches of 256, lars": {
            "model.layers": "dense 800 relu, dense 10", "model.cost": "cross_entropy", "data.train_samples": 5000,
            "training.batch_size": 256, "training.optimizer": "lars", "training.learning_rate": 1},
        "784-800-10, batches of 250, nesterov, 5 shards, distorted": {**DISTORTED,
            "model.layers": "dense 800 relu, dense 10", "model.cost": "cross_entropy", "data.train_samples": 3001,
            "training.batch_size": 250, "training.optimizer": "nesterov", "training.learning_rate": 0.01,
            "parallel.logical_shards": 5},
        "784-800-10, batches of 37, adamw, cosine, warm-up, quadratic, 13 shards": {
            "model.layers": "dense 800 tanh, dense 10 sigmoid", "data.train_samples": 1499,
            "training.batch_size": 37, "training.optimizer": "adamw", "training.learning_rate": 0.001,
            "training.schedule": "cosine", "training.warmup_epochs": 0.3, "parallel.logical_shards": 13},
        "784-2500-2000-1500-1000-500-10, batches of 256, momentum": {
            "model.layers": DEEP, "model.cost": "cross_entropy", "data.train_samples": 1000,
            "training.batch_size": 256, "training.optimizer": "momentum", "training.learning_rate": 0.01},
        "784-2500-2000-1500-1000-500-10, batches of 250, sgd, 13 shards": {
            "model.layers": DEEP, "model.cost": "cross_entropy", "data.train_samples": 750, "training.epochs": 1,
            "training.batch_size": 250, "training.learning_rate": 0.05, "parallel.logical_shards": 13},
    }.items()}

# Ranks, and the maximum number of them per node (0: all, because they share a machine). The nodes have 1, 2, 1 + 1, 3,
# 2 + 1, 5, 2 + 2 + 1, 8, 3 + 3 + 2 ranks.
SPLITS = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 2), (5, 0), (5, 2), (8, 0), (8, 3))


def splits_of(settings):
    """The splits that have a logical shard for every rank."""
    return [split for split in SPLITS if split[0] <= settings.get("parallel.logical_shards", 8)]


def ini(settings):
    """{"section.key": value} as INI text."""
    sections = {}
    for name, value in settings.items():
        section, _, key = name.partition(".")
        sections.setdefault(section, []).append(f"{key} = {value}\n")
    return "\n".join(f"[{section}]\n{''.join(lines)}" for section, lines in sections.items())
