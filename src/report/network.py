"""The network of a checkpoint: its layers with their weights."""

import dataclasses
import math

import numpy as np
import xxhash

import hdf5
import layers
import runs

MODEL_KEYS = {"model.layers", "model.cost", "model.seed", "model.initial"}  # another key may mean another network
COSTS = ("quadratic", "cross_entropy")
ATTRIBUTES = ("config", "sample_shape", "dataset", "dtrain_version", "epoch", "step", "fingerprint")


@dataclasses.dataclass
class Network:
    layers: list
    sample_shape: tuple  # in the data set
    config: dict  # "section.key": value
    attributes: dict  # of the checkpoint

    @property
    def cost(self):
        return self.config["model.cost"]

    @property
    def has_softmax(self):
        """After the last layer."""
        return self.cost == "cross_entropy"

    @property
    def is_rounded(self):
        """Whether dtrain computes its products in bfloat16."""
        return self.config.get("training.precision") == "bfloat16"

    @property
    def input_shape(self):
        """The shape of a sample, as the first layer reads it."""
        return next((layer.input_shape for layer in self.layers if layer.kind != "dropout"), self.sample_shape)

    @property
    def outputs(self):
        return math.prod(self.layers[-1].output_shape)

    @property
    def parameters(self):
        return sum(tensor.size for layer in self.layers for name, tensor in layer.tensors.items()
                   if not name.startswith("running_"))


def read(path, best, warn):
    """The network, and the path of its checkpoint. `path` is the output folder of a run, a folder of checkpoints, or a
    checkpoint. Raises hdf5.Unreadable."""
    if not path.exists():
        raise hdf5.Unreadable(f"{path}: no such file or folder")
    if best and not path.is_dir():
        raise hdf5.Unreadable(f"{path}: --best needs the folder of a run, but this is a file")
    if best:
        path = runs.best_of(path)
    if not path.is_dir():
        return hdf5.reading_apart(path, network_of), path
    for checkpoint in runs.newest_first(lambda: runs.checkpoints_of(path)):
        try:
            return hdf5.reading_apart(checkpoint, network_of), checkpoint
        except hdf5.Unusable:
            raise
        except hdf5.Unreadable as error:
            if checkpoint.exists():  # a running training removes old ones
                warn(f"{error}; trying an older checkpoint")
    raise hdf5.Unreadable(f"{path}: no valid checkpoint in this folder")


def network_of(file):
    attributes = hdf5.attributes_of(file)
    if "logical_shards" not in attributes:
        found = f"a file of kind {attributes['kind']}" if "kind" in attributes else \
            "a cost log" if "created" in attributes else "not a checkpoint"
        raise hdf5.Unusable(f"is {found}; expected a checkpoint or the output folder of a run")
    hdf5.require_version(attributes, *runs.RUN_VERSIONS)
    if missing := [name for name in ATTRIBUTES if name not in attributes]:
        raise hdf5.Unreadable(f"is damaged (it lacks the attribute {missing[0]})")
    config = runs.parse_config(str(attributes["config"]))
    if "model.layers" not in config:
        raise hdf5.Unreadable("its config has no model.layers")
    cost = config.get("model.cost")
    if unknown := {key for key in config if key.startswith("model.")} - MODEL_KEYS:
        raise hdf5.Unusable(f"its config has {sorted(unknown)[0]}, which this version of dtrain does not know")
    if cost not in COSTS:
        raise hdf5.Unusable(f"its config has model.cost = {cost}, which this version of dtrain does not know")
    sample_shape = tuple(int(size) for size in str(attributes["sample_shape"]).split())
    try:
        parsed = layers.parse(config["model.layers"], sample_shape)
    except ValueError as error:
        raise hdf5.Unusable(f"its config has {error}, which this version of dtrain does not know") from None
    for layer in parsed:
        layer.tensors = {name: tensor_of(file, f"/model/{layer.label}/{name}", shape)
                         for name, shape in layer.shapes.items()}
    if fingerprint_of(parsed) != attributes["fingerprint"]:
        raise hdf5.Unreadable("is damaged (its weights do not have its fingerprint)")
    return Network(parsed, sample_shape, config, attributes)


def fingerprint_of(layers):
    """XXH3-64 of all weights and biases. HDF5 does not notice every damage: it reads zeros for a part that it does not
    find."""
    digest = xxhash.xxh3_64()
    for layer in layers:
        for tensor in layer.tensors.values():
            digest.update(tensor.astype("<f4").tobytes())
    return digest.hexdigest()


def tensor_of(file, path, shape):
    tensor = hdf5.column_of(file, path, len(shape), kinds="f")
    if tensor.shape != shape or tensor.dtype != np.float32:
        raise hdf5.Unreadable(f"{path} has shape {tensor.shape} and type {tensor.dtype}, expected {shape} and float32")
    return tensor[()]
