"""Charts of scaling experiments: speed-up, efficiency and phases of a step."""

import numpy as np

import charts
from scaling_file import CHECK, MODES, PHASES, series_of


# Colours, markers and lines of measured and of simulated series, which also differ in the text of legend and table.
LOOKS = {"measured": {"colours": (0, 2, 5, 7), "marker": "o", "linestyle": "-", "sign": "●"},
         "simulated": {"colours": (1, 3, 4, 6), "marker": "s", "linestyle": (0, (5, 1.5)), "sign": "□"}}


def colours_of(every):
    """The number of the colour of each (kind, platform), the same in all charts."""
    found = {}
    for one in every:
        free = LOOKS[one.kind]["colours"]
        count = sum(kind == one.kind for kind, _ in found)
        found.setdefault((one.kind, one.platform), free[count % len(free)])
    return found


def overview(series, colours, value, title, unit):
    """One chart with all series of a mode, and the ideal line."""
    figure, axes = charts.new_axes("ranks", unit)
    ranks = np.unique(np.concatenate([one.values("ranks") for one in series]))
    axes.plot(ranks, ranks if value == "speed_up" else np.ones(len(ranks)), color=charts.MUTED, linewidth=1.3,
              linestyle=(0, (1, 1.5)), label="ideal")
    for one in series:
        x, y = one.values("ranks"), one.values(value)
        colour, look = charts.SERIES[colours[one.kind, one.platform]], LOOKS[one.kind]
        spread = np.stack([y - one.values(f"{value}_low"), one.values(f"{value}_high") - y])
        known = spread.max(0) > 0
        axes.errorbar(x[known], y[known], np.maximum(0, spread[:, known]), fmt="none", ecolor=colour, capsize=3,
                      elinewidth=1)
        axes.plot(x, y, color=colour, marker=look["marker"], linestyle=look["linestyle"], markersize=5,
                  markerfacecolor="none" if one.simulated else colour, label=f"{one.kind}, {one.platform}")
    if ranks[-1] / ranks[0] >= 8:
        charts.log_scale(axes, "x", 2)
        if value == "speed_up":
            charts.log_scale(axes, "y", 2)
    else:
        axes.xaxis.set_major_locator(charts.ticker.FixedLocator(ranks))
    if value == "efficiency":
        axes.set_ylim(0, max(1.1, 1.05 * max(one.values("efficiency_high").max() for one in series)))
        charts.short_ticks(axes.yaxis)
    axes.legend(loc="lower left" if value == "efficiency" else "upper left")
    summary = "; ".join(f"{one.kind} on {one.platform}: " + ", ".join(
        f"{getattr(point, value):.3g} ({getattr(point, f'{value}_low'):.3g} to {getattr(point, f'{value}_high'):.3g}) "
        f"at {point.ranks}" for point in one.points) for one in series)
    note = "Dotted: ideal. " + ("Bars: min to max of the repeats." if any(
        point.repeats > 1 for one in series for point in one.points) else "Bars: min to max of the blocks of steps.")
    return charts.finish(figure, title, f"{title} over ranks. {summary}.", note)


def phases(one):
    strong = one.mode == "strong"  # then steps get so short on many ranks that their bars would be invisible
    unit = "percent of a step" if strong else "milliseconds per step"
    figure, axes = charts.new_axes("ranks", unit)
    place = np.arange(len(one.points))
    below = np.zeros(len(place))
    table = 1e3 * np.array([[point.phases[name] for name in PHASES] for point in one.points])
    table = 100 * table / np.maximum(table.sum(1, keepdims=True), 1e-300) if strong else table
    for column, name in enumerate(PHASES):
        colour = charts.SERIES[(5, 0, 4, 1, 2, 3)[column]]
        look = {"facecolor": "none", "edgecolor": colour, "hatch": "/////"} if one.simulated else {"color": colour}
        axes.bar(place, table[:, column], 0.7, below, label=name, linewidth=0.8 if one.simulated else 0, **look)
        below += table[:, column]
    axes.set_xticks(place, [f"{point.ranks:,}" for point in one.points])
    if strong:
        axes.set_ylim(0, 103)
    charts.short_ticks(axes.yaxis)
    axes.grid(False, axis="x")
    figure.legend(loc="upper center", ncol=6, columnspacing=0.8, handlelength=0.8, handletextpad=0.4)
    axes.set_title(" ")  # room for the legend
    title = f"Phases of a step, {one.kind} on {one.platform}"
    note = "Hatched: simulated." if one.simulated else ""
    summary = "; ".join(f"{point.ranks} ranks: " + ", ".join(f"{name} {value:.3g}" for name, value in zip(PHASES, row))
                     for point, row in zip(one.points, table))
    return charts.finish(figure, title, f"Phases of a step, {one.mode} scaling, {one.kind} on {one.platform}, {unit}. "
                                        f"{summary}.", note)


def section(experiment):
    """What the template shows of one experiment."""
    every = series_of(experiment.columns)
    colours = colours_of(every)
    shown = {}
    for mode in MODES:
        series = [one for one in every if one.mode == mode]
        if series:
            # In weak scaling, speed-up would show the same as efficiency.
            quantities = {"speed_up": "speed-up"} if mode == "strong" else {}
            quantities["efficiency"] = "parallel efficiency"
            shown[mode] = [overview(series, colours, value, f"{unit.split()[-1].capitalize()}, {mode} scaling", unit)
                           for value, unit in quantities.items()] + [phases(one) for one in series]
    attributes = experiment.attributes
    facts = [(text, attributes[name]) for name, text in
             {"layers": "network", "parameters": "parameters", "created": "written", "dtrain_version": "dtrain"}.items()
             if name in attributes]
    check = [[cell.strip() for cell in line.strip("|").split("|")]
             for line in str(attributes.get(CHECK, "")).splitlines() if not line.startswith("|---")]
    return {"experiment": experiment, "facts": facts, "check": check,
            "unreliable": "unreliable" in str(attributes.get(CHECK, "")), "series": every, "charts": shown,
            "looks": {(one.kind, one.platform): {"sign": LOOKS[one.kind]["sign"],
                                                 "colour": colours[one.kind, one.platform] + 1} for one in every}}
