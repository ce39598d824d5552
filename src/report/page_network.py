"""Packs the trained network, and the checkpoints before it, for the scripts of the page: network.js computes it,
drawing.js is the field to draw in, network_view.js draws and explains the layers, network_page.js connects them."""

import base64
import dataclasses
import json

import numpy as np
from markupsafe import Markup

import hdf5
import network

MAX_PARAMETERS = 1_500_000
MAX_BYTES = 4_050_000  # of all weights in the page, which is to stay under 5 MB
MAX_CHECKPOINTS = 40
GEOMETRY = ("kernel", "padding", "stride", "window")


@dataclasses.dataclass
class PageNetwork:
    problem: str = ""  # why the page has no network
    data: Markup = Markup()  # JSON
    is_drawable: bool = False  # a sample is one image, so it can be drawn
    has_samples: bool = False
    checkpoints: int = 0
    step: int = 0
    layers: str = ""


def pack(run, newest, evaluation):
    """The network of the first readable one of the checkpoints `newest`, with test samples from `evaluation` (or
    None)."""
    trained, problem = None, "There is no checkpoint yet."
    for checkpoint in newest:
        try:
            trained = hdf5.reading_apart(checkpoint, network.network_of)
            break
        except hdf5.Unreadable as error:
            problem = str(error)
    if trained is None:
        return PageNetwork(problem)
    if trained.parameters > MAX_PARAMETERS:
        return PageNetwork(f"The network has {trained.parameters:,} parameters. The page holds networks of up to "
                           f"{MAX_PARAMETERS:,}.")
    packed = weights_of(trained)
    checkpoints = [{"step": step_of(trained), "weights": packed}]
    for path in earlier(run.checkpoints, checkpoint, MAX_BYTES // max(1, len(packed))):
        try:
            found = hdf5.reading_apart(path, network.network_of)
        except hdf5.Unreadable:  # a running training removes checkpoints; the page names damaged ones elsewhere
            continue
        checkpoints.append({"step": step_of(found), "weights": weights_of(found)})
    checkpoints.sort(key=lambda entry: entry["step"])
    shape = trained.sample_shape
    is_drawable = len(shape) == 2 or len(shape) == 3 and shape[0] == 1
    data = {"shape": shape, "drawable": is_drawable, "softmax": trained.has_softmax, "checkpoints": checkpoints,
            "layers": [description(layer) for layer in trained.layers],
            "samples": samples_of(evaluation) if evaluation else []}
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return PageNetwork("", Markup(text), is_drawable, bool(data["samples"]), len(checkpoints), step_of(trained),
                       trained.config["model.layers"])


def step_of(trained):
    return int(trained.attributes["step"])


def earlier(paths, last, fitting):
    """Up to `fitting` checkpoints with `last`, evenly spaced, without `last`. `paths`: newest first."""
    paths = paths[paths.index(last) + 1:] if last in paths else []
    count = min(fitting, MAX_CHECKPOINTS) - 1
    if count < 1:
        return []
    places = np.linspace(len(paths) - 1, -1, min(count, len(paths)) + 1)[:-1] if paths else []
    return [paths[int(round(place))] for place in places]


def base64_of(values, kind):
    with np.errstate(over="ignore"):
        return base64.b64encode(np.concatenate([np.ravel(value) for value in values]).astype(kind).tobytes()).decode()


def weights_of(trained):
    return base64_of([tensor for layer in trained.layers for tensor in page_tensors(layer).values()] or [np.empty(0)],
                     "<f2")


def page_tensors(layer):
    """The tensors of a layer. Statistics of batchnorm become one factor and one shift for each channel."""
    if layer.kind != "batchnorm":
        return layer.tensors
    scale = layer.tensors["weight"] / np.sqrt(layer.tensors["running_var"] + layer.epsilon)
    return {"scale": scale, "shift": layer.tensors["bias"] - scale * layer.tensors["running_mean"]}


def description(layer):
    return {"kind": layer.kind, "text": layer.text, "activation": layer.activation, "input": layer.input_shape,
            "output": layer.output_shape,
            "sizes": [(name, tensor.size) for name, tensor in page_tensors(layer).items()],
            **{name: getattr(layer, name) for name in GEOMETRY if hasattr(layer, name)}}


def samples_of(evaluation):
    """The samples that the evaluation holds: bytes, or float16 if they are no bytes."""
    indices = [*evaluation.shown_index, *evaluation.wrong_index]
    images = [*evaluation.shown_image, *evaluation.wrong_image]
    found = {int(index): np.asarray(image, np.float32) for index, image in zip(indices, images)}
    are_bytes = all(np.abs(image * 255 - (image * 255).round()).max() < 1e-3 and 0 <= image.min() and image.max() <= 1
                    for image in found.values())
    return [{"index": index, "label": int(evaluation.label[index]),
             **({"bytes": base64_of([(image * 255).round()], np.uint8)} if are_bytes else
                {"values": base64_of([image], "<f2")})} for index, image in found.items()]
