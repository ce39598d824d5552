"""The weights of a network's first layer as pictures."""

import dataclasses
import math

import numpy as np

import hdf5
import pictures
import runs

MOST_TILES = 400
MOST_FIGURES = 36  # neurons that get a picture with a caption each
COLOURS = "RdBu_r"


@dataclasses.dataclass
class FirstLayer:
    name: str
    pictures: list
    limit: float  # weights beyond are drawn as this
    note: str


def read(file):
    """The name, tensors and sample shape of the first layer that has weights."""
    attributes = hdf5.attributes_of(file)
    hdf5.require_version(attributes, runs.RUN_VERSION)
    for name, group in sorted(file["/model"].items()):
        tensors = {key: hdf5.column_of(file, f"/model/{name}/{key}", group[key].ndim)[()] for key in group}
        if any(key.startswith("weight") for key in tensors):
            shape = tuple(int(size) for size in str(attributes.get("sample_shape", "")).split())
            return name, tensors, shape
    raise hdf5.Unreadable("its network has no weights")


def first_layer(checkpoint, notes):
    """Of the first of the checkpoints, newest first, that can be read; None if there is none."""
    for path in checkpoint:
        try:
            name, tensors, shape = hdf5.reading(path, read)
        except hdf5.Unreadable as error:
            if path.exists() and str(error) not in notes:
                notes.append(str(error))
            continue
        return draw(name, tensors, shape)
    return None


def draw(name, tensors, shape):
    weights = tensors.get("weight", tensors.get("weight_ih")).astype(np.float64)
    limit = float(np.nanpercentile(np.abs(weights), 99.8)) or 1.0

    def picture(sheet, size, alternative, caption=""):
        return pictures.picture(sheet, pictures.fitting(sheet, size), -limit, limit, COLOURS, alternative, caption)

    kind = name[3:]
    count = len(weights)
    if kind == "lstm":
        units = count // 4
        return FirstLayer(name, [
            picture(weights[gate * units:(gate + 1) * units], 300,
                    f"Weights from the inputs of a time step to the {word} of each of {units} units", word)
            for gate, word in enumerate(("input gate", "forget gate", "cell", "output gate"))], limit,
            f"Rows are the {units} units, columns the {weights.shape[1]} inputs of a time step.")
    if kind == "dense":
        if weights.shape[1] != math.prod(shape) or len(shape) < 2:
            sheet = weights[:MOST_TILES]
            return FirstLayer(name, [picture(sheet, 640, f"Weights of {len(sheet)} neurons, one row each")], limit,
                              "Rows are neurons, columns their inputs.")
        planes = weights.reshape(count, -1, *shape[-2:])
        what = "neuron"
    else:
        planes, what = weights, "map"

    # One row of planes for each neuron or map; a single plane is a picture by itself.
    each = [pictures.tiles(plane, len(plane)) for plane in planes[:MOST_TILES]]
    note = f"The first {MOST_TILES} of {count} {what}s. " if count > MOST_TILES else ""
    if planes.shape[1] > 1:
        note += f"Side by side: the {planes.shape[1]} maps of the input. "
    if count <= MOST_FIGURES:
        return FirstLayer(name, [picture(sheet, 84, f"Weights of {what} {index}", f"{index}")
                                 for index, sheet in enumerate(each)], limit, note)
    sheet = pictures.tiles(np.stack(each))
    return FirstLayer(name, [picture(sheet, 1000, f"Weights of {len(each)} {what}s, a picture each, row by row")],
                      limit, note)
