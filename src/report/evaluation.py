"""What dtrain-eval says of a checkpoint: the network's opinion of every test sample, and what went on inside it."""

import dataclasses
import subprocess
import tempfile
from pathlib import Path

import numpy as np

import charts
import hdf5
import pictures
import runs

EVALUATION_VERSION = 1
MOST_CLASSES_IN_TABLE = 20
MOST_DOTS = 48  # units of a layer that are drawn one by one
STAGE_PIXELS = 84
MOST_OUTPUTS = 20
COST_LEVELS = 14


class Failed(Exception):
    """No evaluation; the text says why."""


@dataclasses.dataclass
class Surface:
    x: np.ndarray
    y: np.ndarray
    cost: np.ndarray  # rows are y
    path: np.ndarray  # x, y, step, cost of each checkpoint
    explained: np.ndarray  # share of the path that each direction holds
    attributes: dict


@dataclasses.dataclass
class Evaluation:
    attributes: dict
    output: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    shown_index: np.ndarray
    shown_image: np.ndarray
    layers: dict  # name: activations of the shown samples
    wrong_index: np.ndarray
    wrong_image: np.ndarray
    surface: Surface | None

    @property
    def classes(self):
        return self.output.shape[1]

    def confusion(self):
        """Counts, actual class x predicted class."""
        counts = np.zeros((self.classes, self.classes), np.int64)
        np.add.at(counts, (self.label, self.prediction), 1)
        return counts


def read(file):
    attributes = hdf5.attributes_of(file)
    hdf5.require_version(attributes, EVALUATION_VERSION)
    layers = {name: dataset[()] for name, dataset in sorted(file["/shown/layers"].items())}
    surface = None
    if "surface" in file:
        group = file["surface"]
        path = np.stack([group[f"path_{name}"][()] for name in ("x", "y", "step", "cost")])
        surface = Surface(group["x"][()], group["y"][()], group["cost"][()], path, group["explained"][()],
                          hdf5.attributes_of(group))
    return Evaluation(attributes, file["/samples/output"][()], file["/samples/label"][()],
                      file["/samples/prediction"][()], file["/shown/index"][()], file["/shown/image"][()], layers,
                      file["/wrong/index"][()], file["/wrong/image"][()], surface)


def evaluate(program, checkpoint, working_directory):
    """The evaluation of `checkpoint` by dtrain-eval. Throws Failed."""
    if program is None:
        raise Failed("dtrain-eval was not found: neither beside dtrain-report, nor on the PATH, nor by --eval")
    with tempfile.TemporaryDirectory(prefix="dtrain-report-") as folder:
        file = Path(folder) / "evaluation.h5"
        try:
            done = subprocess.run([program, checkpoint.resolve(), "--record", file], cwd=working_directory,
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        except OSError as error:
            raise Failed(f"{program} cannot be started: {error.strerror}") from None
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.strip() and ": warning: " not in line]
            raise Failed(lines[0] if lines else f"dtrain-eval ended with code {done.returncode}")
        try:
            return hdf5.reading(file, read)
        except hdf5.Unreadable as error:
            raise Failed(f"dtrain-eval: {error}") from None


def evaluate_newest(program, run, notes):
    """The newest checkpoint that can be evaluated, with its evaluation; the reasons against newer ones go to `notes`.
    Throws Failed."""
    checkpoint, first = None, None
    for checkpoint in runs.newest_first(lambda: run.checkpoints):
        try:
            return checkpoint, evaluate(program, checkpoint, run.working_directory())
        except Failed as error:
            if not checkpoint.exists():  # a run in progress has replaced it by a newer one
                continue
            first = first or error
            if checkpoint.name not in str(error):  # nothing that another checkpoint could mend
                raise first from None
            notes.append(str(error))
    raise first or Failed("there is no checkpoint" + (" that stays for long enough" if checkpoint else " yet"))


def confusion_chart(evaluation):
    """For more classes than a table has room for."""
    counts = evaluation.confusion()
    figure, axes = charts.new_axes("said", "class", (5.0, 4.6))
    axes.grid(False)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.figure.colorbar(axes.imshow(shares, cmap="viridis", vmin=0, vmax=1, interpolation="none"), ax=axes,
                         shrink=0.8, label="share of the class")
    return charts.finish(figure, "Confusion matrix", f"Confusion matrix of {evaluation.classes} classes; "
                         f"{np.trace(counts)} of {counts.sum()} samples lie on the diagonal.")


def confusion_table(evaluation):
    """Rows of (count, share of the row) for the page's table; None where a chart has to do."""
    if evaluation.classes > MOST_CLASSES_IN_TABLE:
        return None
    counts = evaluation.confusion()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return [[{"count": int(count), "share": float(share)} for count, share in zip(*row)]
            for row in zip(counts, shares)]


def wrong_samples(evaluation):
    shown = []
    for index, image in zip(evaluation.wrong_index, evaluation.wrong_image):
        label, said = int(evaluation.label[index]), int(evaluation.prediction[index])
        output = evaluation.output[index]
        shown.append({"index": int(index), "label": label, "said": said, "output_said": float(output[said]),
                      "output_label": float(output[label]),
                      "picture": pictures.sample(image, 84, f"Test sample {index}: a {label}, taken for a {said}")})
    return shown


def layer_names(config, recorded):
    """The layers in the words of the config, by the number that their recorded names begin with."""
    words = [text.strip() for text in config.get("model.layers", "").split(",")]
    names = {}
    for name in recorded:
        place = int(name[:2]) if name[:2].isdigit() else 0
        names[name] = f"{place} {words[place - 1]}" if 0 < place <= len(words) else name
    return names


def dots(values, limit, signed):
    """A layer as lights, in columns of at most 16."""
    colours = charts.matplotlib.colormaps["RdBu_r" if signed else "gray"]
    rows = min(len(values), 16)
    lit = []
    for index, value in enumerate(values):
        level = value / limit if limit > 0 else 0
        level = (level + 1) / 2 if signed else level
        lit.append({"x": 8 + index // rows * 15, "y": 8 + index % rows * 15,
                    "colour": charts.matplotlib.colors.to_hex(colours(float(np.clip(level, 0, 1))))})
    return {"lights": lit, "width": 16 + (len(values) - 1) // rows * 15, "height": 16 + (rows - 1) * 15}


def activations(evaluation, config):
    """The shown samples on their way through the network. Shades are the same for all samples of a layer."""
    names = layer_names(config, evaluation.layers)
    *hidden, last = list(evaluation.layers) or [None]
    outputs = evaluation.output[evaluation.shown_index]
    full = 1.0 if outputs.min() >= 0 and outputs.max() <= 1 else max(float(outputs.max()), 1e-30)  # what fills a bar
    shown = []
    for place, index in enumerate(evaluation.shown_index):
        stages = []
        for name in hidden:
            layer = np.asarray(evaluation.layers[name], np.float64)
            low, high = float(np.nanmin(layer)), float(np.nanmax(layer))
            limit = max(abs(low), abs(high))
            values = layer[place]
            shape = " × ".join(map(str, values.shape))
            brightest = int(np.argmax(values))
            said = f"Activations of layer {names[name]}, {shape}; the largest is {values.flat[brightest]:.3g}, " \
                   f"number {brightest}"
            stage = {"name": names[name], "shape": shape, "alternative": said}
            if values.ndim == 1 and values.size <= MOST_DOTS:
                stage["dots"] = dots(values, limit, low < 0)
            else:
                sheet = pictures.sheet_of(values)
                stage["picture"] = pictures.picture(sheet, pictures.fitting(sheet, STAGE_PIXELS, 8),
                                                    -limit if low < 0 else 0, limit,
                                                    "RdBu_r" if low < 0 else "gray", said)
            stages.append(stage)
        output, said = evaluation.output[index], int(evaluation.prediction[index])
        label = int(evaluation.label[index])
        classes = range(len(output)) if len(output) <= MOST_OUTPUTS else np.argsort(-output)[:MOST_OUTPUTS].tolist()
        shown.append({"index": int(index), "label": label, "said": said, "stages": stages,
                      "last": names.get(last, ""),
                      "picture": pictures.sample(evaluation.shown_image[place], STAGE_PIXELS,
                                                 f"Test sample {index}, a {label}"),
                      "outputs": [{"class": i, "value": float(output[i]), "brightest": i == said,
                                   "share": max(0.0, float(output[i])) / full} for i in classes]})
    return shown


def surface_chart(surface, cost):
    """Contours of the cost around the trained weights, with the way down."""
    principal = surface.attributes.get("directions") == "pca"
    axis = [f"direction {i + 1}" + (f" ({100 * surface.explained[i]:.3g} % of the path)" if principal else "")
            for i in range(2)]
    figure, axes = charts.new_axes(axis[0], axis[1], (5.0, 4.2))
    axes.grid(False)
    known = surface.cost[np.isfinite(surface.cost)]
    if not known.size:
        return None
    low, high = known.min(), known.max()
    logarithmic = low > 0 and high / low > 10
    levels = np.geomspace(low, high, COST_LEVELS) if logarithmic else np.linspace(low, high, COST_LEVELS)
    if high > low:
        mesh = axes.contourf(surface.x, surface.y, np.ma.masked_invalid(surface.cost), levels, cmap="viridis",
                             norm=charts.matplotlib.colors.LogNorm(low, high) if logarithmic else None)
        bar = figure.colorbar(mesh, ax=axes, label=cost, format=charts.short)
        bar.minorticks_off()
        bar.outline.set_linewidth(0.5)
        bar.set_ticks(levels[::3], labels=[charts.short(float(f"{level:.3g}")) for level in levels[::3]])
    x, y, step, path_cost = surface.path
    for colour, width in (("#000000", 3.2), ("#ffffff", 1.6)):
        axes.plot(x, y, "-", color=colour, linewidth=width)
    axes.plot(x, y, "o", markersize=4, color="#ffffff", markeredgecolor="#000000", markeredgewidth=0.8)
    if len(x):
        axes.plot(x[-1:], y[-1:], "*", markersize=12, color="#e69f00", markeredgecolor="#000000", markeredgewidth=0.8)
    charts.short_ticks(axes.xaxis)
    charts.short_ticks(axes.yaxis)
    samples, which = surface.attributes.get("samples"), surface.attributes.get("set")
    of = f" of {samples:,} samples of the {which} set" if isinstance(samples, int) and which else ""
    way = f"White: the way from step {int(step[0]):,} over the checkpoints to step {int(step[-1]):,}, projected; " \
          "star: the trained weights." if len(x) > 1 else "Star: the trained weights."
    plane = "the path's two main directions" if principal else "two random directions"
    note = f"The cost{of}, on the plane through the trained weights along {plane}. {way}"
    alternative = f"Contours of the cost between {low:.3g} and {high:.3g} around the trained weights" + (
        f", where it is {path_cost[-1]:.3g}" if len(x) else "")
    return charts.finish(figure, "Down the cost surface", alternative + ".", note)
