"""The evaluation of a checkpoint by dtrain-eval: predictions for all test samples, and activations of some."""

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
MAX_CLASSES_IN_TABLE = 20
MAX_DOTS = 48  # layers with up to this many units are drawn as dots
STAGE_PIXELS = 84
# Widths in report.css: the least of a layer, the outputs, and the gaps between them.
CAPTION_PIXELS, OUTPUTS_PIXELS, GAP_PIXELS = 112, 180, 16
MAX_OUTPUTS = 20
COST_LEVELS = 14


class Failed(Exception):
    """There is no evaluation. The text gives the reason."""


@dataclasses.dataclass
class Surface:
    x: np.ndarray
    y: np.ndarray
    cost: np.ndarray  # y x x
    path: np.ndarray  # rows: x, y, step and cost; columns: checkpoints
    explained: np.ndarray  # fraction of the path along each direction
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
        """Counts: true class x predicted class."""
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


def evaluate(evaluator, checkpoint, working_directory):
    """The evaluation of `checkpoint` by the command `evaluator`: dtrain-eval and its options. Raises Failed."""
    if evaluator is None:
        raise Failed("dtrain-eval not found next to dtrain-report or on the PATH. Give its path with --eval")
    with tempfile.TemporaryDirectory(prefix="dtrain-report-") as folder:
        file = Path(folder) / "evaluation.h5"
        try:
            done = subprocess.run([*evaluator, checkpoint.resolve(), "--record", file], cwd=working_directory,
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        except OSError as error:
            raise Failed(f"cannot start {evaluator[0]}: {error.strerror}") from None
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.strip() and ": warning: " not in line]
            raise Failed(lines[0] if lines else f"dtrain-eval ended with code {done.returncode}")
        try:
            return hdf5.reading(file, read)
        except hdf5.Unreadable as error:
            raise Failed(f"dtrain-eval: {error}") from None


def evaluate_newest(evaluator, run, notes):
    """The newest checkpoint that can be evaluated, and its evaluation. The problems of newer ones are added to `notes`.
    Raises Failed."""
    checkpoint, first = None, None
    for checkpoint in runs.newest_first(lambda: run.checkpoints):
        try:
            return checkpoint, evaluate(evaluator, checkpoint, run.working_directory())
        except Failed as error:
            if not checkpoint.exists():  # a running training has replaced it with a newer one
                continue
            first = first or error
            if checkpoint.name not in str(error):  # the problem is not in the checkpoint
                raise first from None
            notes.append(str(error))
    raise first or Failed("every checkpoint was removed before it could be read" if checkpoint else
                          "there is no checkpoint yet")


def confusion_chart(evaluation):
    """A chart, for more classes than fit into a table."""
    counts = evaluation.confusion()
    figure, axes = charts.new_axes("predicted class", "true class", (5.0, 4.6))
    axes.grid(False)
    fractions = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.figure.colorbar(axes.imshow(fractions, cmap="viridis", vmin=0, vmax=1, interpolation="none"), ax=axes,
                         shrink=0.8, label="fraction of the true class")
    return charts.finish(figure, "Confusion matrix", f"Confusion matrix of {evaluation.classes} classes; "
                         f"{np.trace(counts)} of {counts.sum()} samples lie on the diagonal.")


def confusion_table(evaluation):
    """Rows of (count, fraction of the row) for a table; None if there are too many classes."""
    if evaluation.classes > MAX_CLASSES_IN_TABLE:
        return None
    counts = evaluation.confusion()
    fractions = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return [[{"count": int(count), "fraction": float(fraction)} for count, fraction in zip(*row)]
            for row in zip(counts, fractions)]


def wrong_samples(evaluation):
    shown = []
    for index, image in zip(evaluation.wrong_index, evaluation.wrong_image):
        label, predicted = int(evaluation.label[index]), int(evaluation.prediction[index])
        output = evaluation.output[index]
        shown.append({"index": int(index), "label": label, "predicted": predicted,
                      "output_predicted": float(output[predicted]),
                      "output_label": float(output[label]),
                      "picture": pictures.sample(image, 84, f"Test sample {index}: true class {label}, predicted class "
                                                            f"{predicted}")})
    return shown


def layer_names(config, recorded):
    """Maps recorded names of layers to their text in the config, by the number at the start of a recorded name."""
    words = [text.strip() for text in config.get("model.layers", "").split(",")]
    names = {}
    for name in recorded:
        place = int(name[:2]) if name[:2].isdigit() else 0
        names[name] = f"{place} {words[place - 1]}" if 0 < place <= len(words) else name
    return names


def dots(values, limit, signed):
    """The units of a layer as dots, in columns of at most 16."""
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
    """The activations of the shown samples, layer by layer. All samples of a layer use the same scale of shades."""
    names = layer_names(config, evaluation.layers)
    *hidden, last = list(evaluation.layers) or [None]
    outputs = evaluation.output[evaluation.shown_index]
    full = 1.0 if outputs.min() >= 0 and outputs.max() <= 1 else max(float(outputs.max()), 1e-30)  # a full bar
    shown = []
    for place, index in enumerate(evaluation.shown_index):
        stages = []
        for name in hidden:
            layer = np.asarray(evaluation.layers[name], np.float64)
            low, high = float(np.nanmin(layer)), float(np.nanmax(layer))
            limit = max(abs(low), abs(high))
            values = layer[place]
            shape = f"{len(values)} units" if values.ndim == 1 else " × ".join(map(str, values.shape))
            brightest = int(np.argmax(values))
            alternative = f"Activations of layer {names[name]}, {shape}; max {values.flat[brightest]:.3g} at unit " \
                          f"{brightest}"
            stage = {"name": names[name], "shape": shape, "alternative": alternative}
            if values.ndim == 1 and values.size <= MAX_DOTS:
                stage["dots"] = dots(values, limit, low < 0)
            else:
                sheet = pictures.sheet_of(values)
                stage["picture"] = pictures.picture(sheet, pictures.fitting(sheet, STAGE_PIXELS, 8),
                                                    -limit if low < 0 else 0, limit,
                                                    "RdBu_r" if low < 0 else "gray", alternative)
            stages.append(stage)
        output, predicted = evaluation.output[index], int(evaluation.prediction[index])
        label = int(evaluation.label[index])
        classes = range(len(output)) if len(output) <= MAX_OUTPUTS else np.argsort(-output)[:MAX_OUTPUTS].tolist()
        widths = [max(CAPTION_PIXELS, stage["dots"]["width"] if "dots" in stage else stage["picture"].width)
                  for stage in stages]
        shown.append({"index": int(index), "label": label, "predicted": predicted, "stages": stages,
                      "width": STAGE_PIXELS + OUTPUTS_PIXELS + sum(widths) + GAP_PIXELS * (len(widths) + 1),
                      "last": names.get(last, ""),
                      "picture": pictures.sample(evaluation.shown_image[place], STAGE_PIXELS,
                                                 f"Test sample {index}, a {label}"),
                      "outputs": [{"class": i, "value": float(output[i]), "brightest": i == predicted,
                                   "fraction": max(0.0, float(output[i])) / full} for i in classes]})
    return shown


def surface_chart(surface, cost):
    """Contours of the cost around the trained weights, with the path of the training."""
    principal = surface.attributes.get("directions") == "pca"
    axis = [f"direction {i + 1}" + (f" ({100 * surface.explained[i]:.3g} % of the movement)" if principal else "")
            for i in range(2)]
    known = surface.cost[np.isfinite(surface.cost)]
    if not known.size:
        return None
    figure, axes = charts.new_axes(axis[0], axis[1], (5.0, 4.2))
    axes.grid(False)
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
    way = f"White line: the projected path of the training, from step {int(step[0]):,} through the stored checkpoints to step " \
          f"{int(step[-1]):,}. Star: the trained weights." if len(x) > 1 else "Star: the trained weights."
    plane = "the plane that contains most of the path (its two principal components)" if principal else \
        "a plane along two random directions"
    note = f"The cost{of}, on {plane}, through the trained weights. {way}"
    alternative = f"Contours of the cost between {low:.3g} and {high:.3g} around the trained weights" + (
        f", where it is {path_cost[-1]:.3g}" if len(x) else "")
    return charts.finish(figure, "Cost surface", alternative + ".", note, "surface", (step, x, y))
