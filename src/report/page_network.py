"""Packs the trained network, and the checkpoints before it, for the scripts of the page: network.js computes it,
drawing.js is the field to draw in, network_view.js draws and explains the layers, network_page.js connects them."""

import base64
import contextlib
import dataclasses
import json
from pathlib import Path

import numpy as np
from markupsafe import Markup

import hdf5
import network

MAX_PARAMETERS = 1_500_000
MAX_BYTES = 4_300_000  # of all weights and samples in the page, which is to stay under 5 MB
MAX_SAMPLE_BYTES = 250_000
MAX_SAMPLES = 60
MAX_CHECKPOINTS = 40
MAX_READINGS = 5
GEOMETRY = ("kernel", "padding", "stride", "window")


class NotShown(Exception):
    """The page cannot hold the network. The text says why."""


@dataclasses.dataclass
class Networks:
    """The network that the page shows, and those before it."""
    path: Path | None = None  # of its checkpoint
    trained: network.Network | None = None
    film: list = dataclasses.field(default_factory=list)  # frames, oldest first; the last is that of `trained`
    problem: str = ""  # why the page has no network
    problems: list = dataclasses.field(default_factory=list)  # of checkpoints that exist and cannot be read


@dataclasses.dataclass
class PageNetwork:
    problem: str = ""  # why the page has no network
    data: Markup = Markup()  # JSON
    no_field: str = ""  # why there is no field to draw a sample in
    has_samples: bool = False
    is_rounded: bool = False  # dtrain computes it in bfloat16
    checkpoints: int = 0
    step: int = 0
    layers: str = ""


def read_newest(run):
    """The networks of a run, up to the checkpoint that is the newest one now, except for a training that writes
    checkpoints faster than they can be read."""
    for _ in range(MAX_READINGS):
        paths = run.checkpoints
        networks = read(paths)
        if run.checkpoints == paths:
            break
    return networks


def read(paths):
    """The network of the first readable one of the checkpoints `paths`, newest first, and of those after it."""
    problems = []
    for place, path in enumerate(paths):
        try:
            trained = hdf5.reading_apart(path, network.network_of)
        except hdf5.Unreadable as error:
            problems += [str(error)] if path.exists() else []  # a running training removes old ones
            continue
        try:
            return Networks(path, trained, film_of(trained, paths[place + 1:]), "", problems)
        except NotShown as reason:
            return Networks(path, trained, [], str(reason), problems)
    return Networks(problem=problems[0] if problems else "There is no checkpoint yet.", problems=problems)


def film_of(trained, paths):
    """The networks of some of the checkpoints `paths`, newest first, and of `trained`. Raises NotShown."""
    if trained.parameters > MAX_PARAMETERS:
        raise NotShown(f"The network has {trained.parameters:,} parameters. The page holds networks of up to "
                       f"{MAX_PARAMETERS:,}.")
    film = [frame(trained)]
    for path in spaced(paths, (MAX_BYTES - MAX_SAMPLE_BYTES) // max(1, len(film[0]["weights"])) - 1):
        # The page names damaged checkpoints elsewhere.
        with contextlib.suppress(hdf5.Unreadable, NotShown):
            film.append(frame(hdf5.reading_apart(path, network.network_of)))
    return sorted(film, key=lambda entry: entry["step"])


def spaced(paths, fitting):
    """Up to `fitting` of `paths`, evenly spaced, with the last one."""
    count = min(fitting, MAX_CHECKPOINTS - 1, len(paths))
    return [paths[round(place)] for place in np.linspace(len(paths) - 1, -1, count + 1)[:-1]] if count > 0 else []


def frame(trained):
    """What the page holds of a network."""
    return {"step": int(trained.attributes["step"]), "weights": weights_of(trained)}


def pack(networks, evaluation):
    """Networks, with test samples from `evaluation` (or None)."""
    trained = networks.trained
    if networks.problem:
        return PageNetwork(networks.problem)
    samples, are_bytes = samples_of(evaluation) if evaluation else ([], True)
    no_field = why_no_field(trained.sample_shape, are_bytes)
    data = {"shape": trained.sample_shape, "drawable": not no_field, "softmax": trained.has_softmax,
            "checkpoints": networks.film, "layers": [description(layer) for layer in trained.layers],
            "samples": samples}
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return PageNetwork("", Markup(text), no_field, bool(samples), trained.is_rounded, len(networks.film),
                       networks.film[-1]["step"], trained.config["model.layers"])


def why_no_field(shape, are_bytes):
    """Why the page has no field to draw a sample in; "" if it has one."""
    if len(shape) != 2 and (len(shape) != 3 or shape[0] != 1):
        return "A sample is not one image, so there is no field to draw in."
    return "" if are_bytes else "The samples are not images of bytes, so the values of a drawing would have another " \
                                "scale, and there is no field to draw in."


def base64_of(data):
    return base64.b64encode(data).decode()


def weights_of(trained):
    """All tensors of the page. Raises NotShown."""
    parts = []
    for layer in trained.layers:
        kind = "<f4" if layer.kind == "batchnorm" else "<f2"  # a shift may be the difference of large numbers
        for tensor in page_tensors(layer).values():
            with np.errstate(over="ignore"):
                part = tensor.astype(kind)
            if not np.isfinite(part).all():
                raise NotShown(f"The network after step {trained.attributes['step']:,} has a weight that is no number, "
                               "or too large for float16, in which the page would hold it.")
            parts.append(part.tobytes())
    return base64_of(b"".join(parts))


def page_tensors(layer):
    """The tensors of a layer. Statistics of batchnorm become one factor and one shift for each channel."""
    if layer.kind != "batchnorm":
        return layer.tensors
    weight, bias, mean, variance = (layer.tensors[name].astype(np.float64) for name in
                                    ("weight", "bias", "running_mean", "running_var"))
    scale = weight / np.sqrt(variance + layer.epsilon)
    return {"scale": scale, "shift": bias - scale * mean}


def description(layer):
    return {"kind": layer.kind, "text": layer.text, "activation": layer.activation, "input": layer.input_shape,
            "output": layer.output_shape,
            "sizes": [(name, tensor.size) for name, tensor in page_tensors(layer).items()],
            **{name: getattr(layer, name) for name in GEOMETRY if hasattr(layer, name)}}


def samples_of(evaluation):
    """The samples of the evaluation that fit, and whether they are bytes, from 0 to 1; others are float32."""
    indices = [*evaluation.shown_index, *evaluation.wrong_index]
    images = [*evaluation.shown_image, *evaluation.wrong_image]
    found = {int(index): np.asarray(image, np.float32) for index, image in zip(indices, images)}
    are_bytes = all(np.abs(image * 255 - (image * 255).round()).max() < 1e-3 and 0 <= image.min() and image.max() <= 1
                    for image in found.values())
    kind, key = (np.uint8, "bytes") if are_bytes else ("<f4", "values")
    samples = [{"index": index, "label": int(evaluation.label[index]),
                key: base64_of(((image * 255).round() if are_bytes else image).astype(kind).tobytes())}
               for index, image in found.items()]
    fitting = MAX_SAMPLE_BYTES // len(samples[0][key]) if samples else 0
    return samples[:min(fitting, MAX_SAMPLES)], are_bytes
