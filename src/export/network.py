"""The network of a checkpoint, and what an exported file says about it."""

import dataclasses
import math

import numpy as np
import xxhash

import hdf5
import layers
import runs

MODEL_KEYS = {"model.layers", "model.cost", "model.seed", "model.initial"}  # another key may mean another network
COSTS = ("quadratic", "cross_entropy")


class TooLarge(Exception):
    """The network does not fit into the format."""


@dataclasses.dataclass
class Network:
    layers: list
    input_shape: tuple  # of a sample
    outputs: int
    has_softmax: bool  # after the last layer
    facts: dict  # texts by name

    @property
    def parameters(self):
        return sum(tensor.size for layer in self.layers for tensor in layer.tensors.values())


def read(path, best, warn):
    """The network, and the path of its checkpoint. `path` is the output folder of a run, a folder of checkpoints, or a
    checkpoint. Raises hdf5.Unreadable."""
    if best:
        path = runs.best_of(path)
    if not path.exists():
        raise hdf5.Unreadable(f"{path}: no such file or folder")
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
    text = str(attributes["config"])
    config = runs.parse_config(text)
    if "model.layers" not in config:
        raise hdf5.Unreadable("its config has no model.layers")
    cost = config.get("model.cost")
    if unknown := {key for key in config if key.startswith("model.")} - MODEL_KEYS:
        raise hdf5.Unusable(f"its config has {sorted(unknown)[0]}, which this version of dtrain-export does not know")
    if cost not in COSTS:
        raise hdf5.Unusable(f"its config has model.cost = {cost}, which this version of dtrain-export does not know")
    sample_shape = tuple(int(size) for size in str(attributes["sample_shape"]).split())
    try:
        parsed = layers.parse(config["model.layers"], sample_shape)
    except ValueError as error:
        raise hdf5.Unusable(f"its config has {error}, which this version of dtrain-export does not know") from None
    for layer in parsed:
        layer.tensors = {name: tensor_of(file, f"/model/{layer.label}/{name}", shape)
                         for name, shape in layer.shapes.items()}
    if fingerprint_of(parsed) != attributes["fingerprint"]:
        raise hdf5.Unreadable("is damaged (its weights do not have its fingerprint)")
    input_shape = next((layer.input_shape for layer in parsed if not isinstance(layer, layers.Dropout)), sample_shape)
    outputs = math.prod(parsed[-1].output_shape)
    facts = {name: str(attributes[name]) for name in ("dtrain_version", "fingerprint", "epoch", "step", "dataset")}
    has_softmax = cost == "cross_entropy"
    facts |= {"classes": str(outputs), "layers": config["model.layers"], "cost": cost,
              "input": f"batch x {' x '.join(map(str, input_shape))}, float32; bytes are divided by 255",
              "output": f"batch x {outputs}, float32: " + (
                  "probabilities of the classes, by softmax after the last layer" if has_softmax else
                  "activations of the last layer; the largest one is the predicted class"),
              "config": text}
    # Paths in the config need not be valid UTF-8.
    facts = {name: text.encode(errors="replace").decode() for name, text in facts.items()}
    return Network(parsed, input_shape, outputs, has_softmax, facts)


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
