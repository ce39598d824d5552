"""Pictures of the weights of a network's first layer."""

import dataclasses
import math

import numpy as np

import pictures

MAX_TILES = 400
MAX_FIGURES = 36  # up to this many neurons each get a picture with a caption
MAX_COLUMNS = 12
COLOURS = "RdBu_r"


@dataclasses.dataclass
class FirstLayer:
    name: str
    pictures: list
    limit: float  # larger absolute weights are drawn like this one
    note: str
    step: int = 0  # of the checkpoint
    columns: int = 0  # of pictures side by side on a wide page; 0: as many as fit


def first_layer(trained):
    """The first layer of a network that is a weighted sum; None if there is none."""
    layer = next((layer for layer in trained.layers if layer.kind in ("dense", "conv", "lstm")), None)
    return layer and dataclasses.replace(draw(layer), step=int(trained.attributes["step"]))


def draw(layer):
    name, shape = layer.label, layer.input_shape
    weights = layer.tensors["weight_ih" if layer.kind == "lstm" else "weight"].astype(np.float64)
    limit = float(np.nanpercentile(np.abs(weights), 99.8)) or 1.0

    def picture(sheet, size, alternative, caption=""):
        return pictures.picture(sheet, pictures.fitting(sheet, size), -limit, limit, COLOURS, alternative, caption)

    count = len(weights)
    if layer.kind == "lstm":
        units = count // 4
        return FirstLayer(name, [
            picture(weights[gate * units:(gate + 1) * units].T, 270,
                    f"Weights from the inputs of a time step to the {word} of each of {units} units", word)
            for gate, word in enumerate(("input gate", "forget gate", "cell", "output gate"))], limit,
            f"Columns are the {units} units, rows the {weights.shape[1]} inputs of a time step.")
    if layer.kind == "dense":
        if len(shape) < 2:
            sheet = weights[:MAX_TILES]
            return FirstLayer(name, [picture(sheet, 640, f"Weights of {len(sheet)} neurons, one row each")], limit,
                              "Rows are neurons, columns their inputs.")
        planes = weights.reshape(count, -1, *shape[-2:])
        what = "neuron"
    else:
        planes, what = weights, "feature map"

    # Each neuron or feature map becomes a row of planes, one per channel of the input.
    each = [pictures.tiles(plane, len(plane)) for plane in planes[:MAX_TILES]]
    note = f"The first {MAX_TILES} of {count} {what}s. " if count > MAX_TILES else ""
    if planes.shape[1] > 1:
        note += f"In each row: the {planes.shape[1]} channels of the input. "
    if count <= MAX_FIGURES:
        return FirstLayer(name, [picture(sheet, 84, f"Weights of {what} {index}", f"{index}")
                                 for index, sheet in enumerate(each)], limit, note,
                          columns=math.ceil(count / math.ceil(count / MAX_COLUMNS)))  # rows of equal length
    sheet = pictures.tiles(np.stack(each))
    return FirstLayer(name, [picture(sheet, 1000, f"Weights of {len(each)} {what}s, one picture each, row by row")],
                      limit, note)
