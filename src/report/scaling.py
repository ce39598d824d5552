"""Charts of scaling experiments: speed-up, efficiency and phases of a step."""

import numpy as np

import charts
from scaling_file import CHECK, MODES, PHASES, series_of


def overview(series, value, title, unit):
    """One chart with all series of a mode, and the ideal line."""
    figure, axes = charts.new_axes("ranks", unit)
    ranks = np.unique(np.concatenate([one.values("ranks") for one in series]))
    axes.plot(ranks, ranks if value == "speed_up" else np.ones(len(ranks)), color=charts.MUTED, linewidth=0.9,
              linestyle=(0, (4, 3)), label="ideal")
    for index, one in enumerate(series):
        x, y = one.values("ranks"), one.values(value)
        style = charts.style_of(index) | {"linestyle": (0, (5, 1.5)) if one.simulated else "-"}
        # The file has min and max of the rate. Speed-up and efficiency are proportional to the rate.
        spread = np.maximum(0, np.stack([y - y * one.values("low") / one.values("rate"),
                                         y * one.values("high") / one.values("rate") - y]))
        axes.errorbar(x, y, spread, marker="o", markersize=4, capsize=2, elinewidth=0.8,
                      label=f"{one.kind}, {one.platform}",
                      markerfacecolor="none" if one.simulated else style["color"], **style)
    if ranks[-1] / ranks[0] >= 8:
        charts.log_scale(axes, "x", 2)
        if value == "speed_up":
            charts.log_scale(axes, "y", 2)
    else:
        axes.xaxis.set_major_locator(charts.ticker.FixedLocator(ranks))
    if value == "efficiency":
        axes.set_ylim(0, max(1.1, 1.05 * max(one.values(value).max() for one in series)))
        charts.short_ticks(axes.yaxis)
    axes.legend(loc="lower left" if value == "efficiency" else "upper left")
    summary = "; ".join(f"{one.kind} on {one.platform}: " +
                     ", ".join(f"{getattr(point, value):.3g} at {point.ranks}" for point in one.points)
                     for one in series)
    return charts.finish(figure, title, f"{title} over ranks. {summary}.",
                         "Error bars: min and max." if value == "efficiency" else "")


def phases(one):
    strong = one.mode == "strong"  # then steps get so short on many ranks that their bars would be invisible
    unit = "percent of a step" if strong else "milliseconds per step"
    figure, axes = charts.new_axes("ranks", unit)
    place = np.arange(len(one.points))
    below = np.zeros(len(place))
    table = 1e3 * np.array([[point.phases[name] for name in PHASES] for point in one.points])
    table = 100 * table / np.maximum(table.sum(1, keepdims=True), 1e-300) if strong else table
    for column, name in enumerate(PHASES):
        axes.bar(place, table[:, column], 0.7, below, label=name, color=charts.SERIES[(5, 0, 4, 1, 2, 3)[column]],
                 linewidth=0)
        below += table[:, column]
    axes.set_xticks(place, [f"{point.ranks:,}" for point in one.points])
    charts.short_ticks(axes.yaxis)
    axes.grid(False, axis="x")
    figure.legend(loc="upper center", ncol=6, columnspacing=0.8, handlelength=0.8, handletextpad=0.4)
    axes.set_title(" ")  # room for the legend
    title = f"Phases of a step, {one.mode} scaling, {one.kind} on {one.platform}"
    summary = "; ".join(f"{point.ranks} ranks: " + ", ".join(f"{name} {value:.3g}" for name, value in zip(PHASES, row))
                     for point, row in zip(one.points, table))
    return charts.finish(figure, title, f"{title}, {unit}. {summary}.")


def section(experiment):
    """What the template shows of one experiment."""
    every = series_of(experiment.columns)
    shown = []
    for mode in MODES:
        series = [one for one in every if one.mode == mode]
        if series:
            shown += [overview(series, "speed_up", f"Speed-up, {mode} scaling", "speed-up"),
                      overview(series, "efficiency", f"Efficiency, {mode} scaling", "parallel efficiency")]
    shown += [phases(one) for one in every]
    attributes = experiment.attributes
    facts = [(text, attributes[name]) for name, text in
             {"layers": "network", "parameters": "parameters", "created": "written", "dtrain_version": "dtrain"}.items()
             if name in attributes]
    check = [[cell.strip() for cell in line.strip("|").split("|")]
             for line in str(attributes.get(CHECK, "")).splitlines() if not line.startswith("|---")]
    return {"experiment": experiment, "facts": facts, "check": check, "series": every, "charts": shown}
