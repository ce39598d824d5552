"""Charts of training: one run, or several overlaid."""

import numpy as np

import charts
import runs

COST = {"quadratic": "cost (quadratic)", "cross_entropy": "cost (cross-entropy)"}
PHASE_NAMES = ("compute", "reduce", "wait", "data", "other")
KEYS_TO_COMPARE = ("training.batch_size", "parallel.sync_every")  # plotted even if other RECIPE keys differ too
ASIDE = ("output.", "model.seed")  # keys without influence on accuracy, or whose values count as repeats
RECIPE = ("training.", "parallel.")  # keys that may have to change together with KEYS_TO_COMPARE


def cost_name(shown):
    names = {run.config.get("model.cost") for run in shown}
    return COST.get(names.pop(), "cost") if len(names) == 1 else "cost"


def number_text(value):
    return "unknown" if value is None or not np.isfinite(value) else f"{value:.4g}"


def change(values):
    """The first and the last value, for alternative texts."""
    values = values[np.isfinite(values)]
    return f"from {number_text(values[0])} to {number_text(values[-1])}" if values.size else "without values"


def changes(shown, curve):
    return "; ".join((f"{run.name}: " if len(shown) > 1 else "") + change(curve(run)) for run in shown)


def step_cost(shown):
    shown = [(index, run) for index, run in enumerate(shown) if run.record.steps.count]
    if not shown:
        return None
    figure, axes = charts.new_axes("training step", cost_name([run for _, run in shown]))
    smooth_curves = []
    for index, run in shown:
        blocks = run.record.steps
        smooth = charts.smoothed(blocks.mean, len(blocks.mean) // 60)
        smooth_curves.append(smooth)
        style = charts.style_of(index)
        if len(shown) == 1:
            if blocks.size > 1:
                axes.fill_between(blocks.end, blocks.low, blocks.high, color=style["color"], alpha=0.22, linewidth=0)
            else:
                axes.plot(blocks.end, blocks.mean, color=style["color"], alpha=0.4, linewidth=0.6)
        axes.plot(blocks.end, smooth, **style)
    charts.short_ticks(axes.xaxis)
    if charts.scale_values(axes, smooth_curves):
        lowest = min(np.nanmin(curve) for curve in smooth_curves)
        axes.set_ylim(bottom=max(axes.get_ylim()[0], lowest / 10))  # the cost of single steps may be close to 0
    note = "Smoothed" if len(shown) > 1 else "Line: smoothed. " + (
        f"Area: min and max of each {shown[0][1].record.steps.size:,} steps" if shown[0][1].record.steps.size > 1
        else "Pale line: each step")
    alternative = "; ".join((f"{run.name}: " if len(shown) > 1 else "") + change(curve)
                            for (_, run), curve in zip(shown, smooth_curves))
    ends = [0, max(run.record.steps.count for _, run in shown)]
    return charts.finish(figure, "Training cost of each step", f"Cost of each step's batch, smoothed, {alternative}.",
                         note + ".", "cost", (ends, ends, axes.get_ylim()))


def epoch_curves(shown, title, unit, columns, scale=1, log=True):
    """Columns of /epochs over the epoch, of all runs that have them."""
    shown = [(index, run) for index, run in enumerate(shown)
             if run.finished_epochs and all(column in run.epochs for column, _ in columns)]
    if not shown:
        return None
    figure, axes = charts.new_axes("epoch", unit)
    drawn = []
    for index, run in shown:
        epochs = runs.blocks_of(run.epochs["epoch"])
        for place, (column, label) in enumerate(columns):
            values = runs.blocks_of(run.epochs[column]).mean * scale
            drawn.append(values)
            style = charts.style_of(index if len(shown) > 1 else place)
            axes.plot(epochs.high, values, label=label, marker="o" if len(values) <= 40 else "", markersize=2.5,
                      **style)
    charts.short_ticks(axes.xaxis, whole=True)
    if not (log and charts.scale_values(axes, drawn)):
        charts.short_ticks(axes.yaxis)
    if len(columns) > 1:
        axes.legend()
    only = [run for _, run in shown]
    summary = "; ".join(f"{label or title}: " + changes(only, lambda run, name=column: run.epochs[name] * scale)
                     for column, label in columns)
    return charts.finish(figure, title, f"{title} over {max(run.finished_epochs for run in only):,} epochs. {summary}.")


def evaluated_columns(run, quantity):
    """The columns of a single run for "cost" or "accuracy", with their labels."""
    sets = ("validation", "test") if run.has_validation else ("test",)
    return [(f"train_{quantity}", "training, during the epoch"),
            *((f"{part}_{quantity}", f"{part}, after the epoch") for part in sets)]


def costs(run):
    return epoch_curves([run], "Cost of each epoch", cost_name([run]), evaluated_columns(run, "cost"))


def time_unit(seconds):
    """A unit for an axis that ends at `seconds`, with its length in seconds."""
    return ("hours", 3600) if seconds > 7200 else ("minutes", 60) if seconds > 120 else ("seconds", 1)


def training_time(run):
    """The seconds of training until the end of each epoch, as far as they are known."""
    return np.cumsum(np.nan_to_num(run.epochs["seconds"]))


def accuracy(shown, part="test", over_time=False):
    """Training, validation and test accuracy of a single run, or the accuracy of several runs on the set `part`. If the
    error rate falls to a quarter or less, the scale is logarithmic in the error rate, so that 99.0 and 99.5 % are well
    apart."""
    alone = len(shown) == 1
    columns = dict(evaluated_columns(shown[0], "accuracy")) if alone else {f"{part}_accuracy": ""}
    shown = [(index, run) for index, run in enumerate(shown)
             if all(np.isfinite(run.epochs.get(column, np.empty(0))).any() for column in columns if not alone)
             and run.finished_epochs]
    if not shown:
        return None
    unit, seconds = time_unit(max(training_time(run)[-1] for _, run in shown))
    figure, axes = charts.new_axes(f"training time, {unit}" if over_time else "epoch",
                                   "accuracy, %" if alone else f"{part} accuracy, %")
    curves = []
    for index, run in shown:
        for place, (column, label) in enumerate(columns.items()):
            wrong = 100 - 100 * runs.blocks_of(run.epochs[column]).mean
            curves.append(wrong)
            x = training_time(run) / seconds if over_time else run.epochs["epoch"]
            axes.plot(runs.blocks_of(x).high, 100 - wrong, marker="o" if len(wrong) <= 40 else "", markersize=2.5,
                      label=label, **charts.style_of(place if alone else index))
    if alone:
        axes.legend(loc="lower right")
    charts.short_ticks(axes.xaxis, whole=not over_time)
    charts.short_ticks(axes.yaxis)
    every = np.concatenate(curves)
    every = every[np.isfinite(every) & (every > 0)]  # 100 % has no logarithm: the curve leaves the chart at the top
    note = ""
    if every.size and every.max() / every.min() > 4:
        axes.set_yscale("function", functions=(lambda y: -np.log10(np.maximum(100 - np.asarray(y), 1e-9)),
                                               lambda z: 100 - 10 ** -np.asarray(z)))
        wrong = [digit * 10.0 ** power for power in range(2, -7, -1) for digit in (1, 0.7, 0.5, 0.3, 0.2, 0.15)]
        ticks = [100 - tick for tick in wrong if every.min() * 0.7 <= tick <= every.max() * 1.3]
        axes.yaxis.set_major_locator(charts.ticker.FixedLocator(ticks[::1 + len(ticks) // 10]))
        axes.yaxis.set_major_formatter(charts.short)
        axes.set_ylim(100 - every.max() * 1.15, 100 - every.min() * 0.85)
        note = "The scale is logarithmic in the error rate (100 % minus accuracy)."
    only = [run for _, run in shown]
    summary = "; ".join((f"{label}: " if label else "") + changes(only, lambda run, name=column: 100 * run.epochs[name])
                     for column, label in columns.items())
    title = "Accuracy" if alone else f"{part.capitalize()} accuracy"
    title += " over training time" if over_time else ""
    return charts.finish(figure, title, f"{title} in percent, {summary}.", note)


def learning_rate(shown):
    varies = any(len(set(run.epochs["learning_rate"])) > 1 for run in shown)
    return epoch_curves(shown, "Learning rate", "learning rate", [("learning_rate", "")]) if varies else None


def rank_phases(run):
    """Seconds of the phases: phases x epochs x ranks. The last phase, `other`, is the rest of the epoch."""
    if not run.ranks or not run.finished_epochs:
        return None
    known = [run.ranks[phase] for phase in runs.PHASES]
    seconds = run.epochs["seconds"][:len(known[0]), None]
    other = np.maximum(seconds - sum(known), 0)
    return np.stack([*known, other])


def phase_chart(place, phases, axis, title, description, note=""):
    """Stacked phases: bars for up to 40 places, areas for more."""
    figure, axes = charts.new_axes(axis, "seconds per epoch")
    colours = [charts.SERIES[i] for i in (0, 1, 3, 2, 6)]
    if len(place) <= 40:
        below = np.zeros(len(place))
        for values, name, colour in zip(phases, PHASE_NAMES, colours):
            axes.bar(place, values, 0.75, below, label=name, color=colour, linewidth=0)
            below += values
        axes.set_xlim(min(place) - 0.6, max(place) + 0.6)
    else:
        axes.stackplot(place, phases, labels=PHASE_NAMES, colors=colours, linewidth=0)
        axes.margins(x=0)
    charts.short_ticks(axes.xaxis, whole=True)
    charts.short_ticks(axes.yaxis)
    axes.grid(False, axis="x")
    figure.legend(loc="upper center", ncol=len(PHASE_NAMES), columnspacing=1, handlelength=0.9)
    axes.set_title(" ")  # room for the legend
    return charts.finish(figure, title, description, note)


def mean_over(values, axis):
    known = np.isfinite(values)
    count = known.sum(axis)
    return np.divide(np.where(known, values, 0).sum(axis), count, out=np.zeros(count.shape), where=count > 0)


def times(run):
    """Charts of the time per epoch: by phase, and by phase and rank."""
    phases = rank_phases(run)
    if phases is None:
        return []
    means = mean_over(phases, 2)
    columns = [runs.blocks_of(column).mean for column in means]
    place = runs.blocks_of(run.epochs["epoch"][:means.shape[1]]).high
    total = mean_over(phases, (1, 2))
    summary = ", ".join(f"{name} {number_text(value)} s" for name, value in zip(PHASE_NAMES, total))
    shown = [phase_chart(place, np.stack(columns), "epoch", "Time of each epoch",
                         f"Seconds per epoch by phase, mean over ranks: {summary}.")]
    known = np.isfinite(phases[0])
    same = (known == known[-1]).all(1)  # the epochs on the last number of ranks
    ranks = mean_over(phases[:, same][:, :, known[-1]], 1)
    if ranks.shape[1] > 1:
        slowest = int(np.argmax(ranks[0]))
        shown.append(phase_chart(np.arange(ranks.shape[1]), ranks, "rank", "Time on each rank",
                                 f"Seconds per epoch by phase on each of {ranks.shape[1]} ranks; rank {slowest} "
                                 f"has the longest compute time, {number_text(ranks[0, slowest])} s.",
                                 "" if same.all() else "Only of the epochs on this number of ranks."))
    return shown


def differing_keys(shown):
    """The keys whose values differ, with the value of each run; "" if a run lacks the key."""
    keys = dict.fromkeys(key for run in shown for key in run.config)
    table = {key: [run.config.get(key, "") for run in shown] for key in keys if key != "output.directory"}
    return {key: values for key, values in table.items() if len(set(values)) > 1}


def over_keys(shown):
    """Charts of the accuracy of the best epoch (with a validation set) or the last one over a numeric key of the config:
    over KEYS_TO_COMPARE if only RECIPE keys differ, otherwise over a key that is the only one that differs."""
    differing = [key for key in differing_keys(shown) if not key.startswith(ASIDE)]
    numeric = [key for key in differing
               if len({runs.number(run.config.get(key)) for run in shown} - {None}) > 1]
    keys = [key for key in numeric if key in KEYS_TO_COMPARE and all(other.startswith(RECIPE) for other in differing)]
    keys = keys or (numeric if len(differing) == 1 else [])
    return [chart for chart in (over_key(shown, key, [other for other in differing if other != key]) for key in keys)
            if chart]


def over_key(shown, key, others):
    shown = [run for run in shown if runs.number(run.config.get(key)) is not None and run.finished_epochs and
             (run.is_complete or run.ended_early)]
    validated = all(run.has_validation for run in shown)
    quantity = "Validation accuracy" if validated else "Test accuracy"
    points = sorted((runs.number(run.config[key]), 100 * (run.best_score if validated else run.last("test_accuracy")))
                    for run in shown)
    if len({x for x, _ in points}) < 2:
        return None
    x, y = np.array(points).T
    figure, axes = charts.new_axes(key, f"{quantity.lower()}, %")
    centres = np.unique(x)
    axes.plot(centres, [y[x == centre].mean() for centre in centres], color=charts.SERIES[0])
    axes.plot(x, y, "o", markersize=4, color=charts.SERIES[0])
    if x.min() > 0 and x.max() / x.min() >= 8:
        charts.log_scale(axes, "x", 2 if np.all(np.log2(centres) % 1 == 0) else 10)
    else:
        charts.short_ticks(axes.xaxis)
    charts.short_ticks(axes.yaxis)
    summary = ", ".join(f"{number_text(b)} % at {a:g}" for a, b in points)
    note = f"After the {'best' if validated else 'last'} epoch of each complete run. The line connects the means."
    if others:
        note += f" The runs also differ in {', '.join(others)}."
    return charts.finish(figure, f"Accuracy over {key}", f"{quantity} over {key}: {summary}.", note)
