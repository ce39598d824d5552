"""Speed-up, efficiency and phases of scaling experiments."""

import dataclasses

import numpy as np

import charts

PHASES = ("fetch", "forward", "backward", "wait", "reduce", "update")
MODES = {0: "strong", 1: "weak"}


@dataclasses.dataclass
class Point:
    """What was measured, or simulated, on one number of ranks: means over repeats, and their extremes; of a single run
    those of its blocks of steps."""
    ranks: int
    nodes: list
    batch_sizes: list
    repeats: int
    rate: float
    low: float
    high: float
    phases: list  # seconds per step
    speed_up: float = 0.0
    efficiency: float = 0.0


@dataclasses.dataclass
class Series:
    """Points of one mode and platform, by ranks."""
    mode: int
    simulated: bool
    platform: str
    points: list

    @property
    def kind(self):
        return "simulated" if self.simulated else "measured"

    def values(self, name):
        return np.array([getattr(point, name) for point in self.points])


def series_of(columns):
    mode, simulated, platform = columns["mode"], columns["simulated"] != 0, columns["platform"]
    found = []
    for key in sorted(set(zip(mode.tolist(), simulated.tolist(), platform.tolist()))):
        chosen = (mode == key[0]) & (simulated == key[1]) & (platform == key[2])
        found.append(Series(*key, points_of({name: column[chosen] for name, column in columns.items()})))
    return found


def points_of(columns):
    points = []
    for ranks in np.unique(columns["ranks"]):
        here = {name: column[columns["ranks"] == ranks] for name, column in columns.items()}
        rates = here["samples_per_second"]
        low, high = (rates, rates) if len(rates) > 1 else (here["samples_per_second_min"],
                                                           here["samples_per_second_max"])
        points.append(Point(int(ranks), sorted(set(here["nodes"].tolist())), sorted(set(here["batch_size"].tolist())),
                            len(rates), rates.mean(), low.min(), high.max(),
                            [here[f"{phase}_seconds"].mean() for phase in PHASES]))
    for point in points:
        point.efficiency = (point.rate / point.ranks) / (points[0].rate / points[0].ranks)
        point.speed_up = point.efficiency * point.ranks
    return points


def overview(series, value, title, unit):
    """One figure of all series of a mode, with the ideal line."""
    figure, axes = charts.new_axes("ranks", unit)
    ranks = np.unique(np.concatenate([one.values("ranks") for one in series]))
    axes.plot(ranks, ranks if value == "speed_up" else np.ones(len(ranks)), color=charts.MUTED, linewidth=0.9,
              linestyle=(0, (4, 3)), label="ideal")
    for index, one in enumerate(series):
        x, y = one.values("ranks"), one.values(value)
        style = charts.style_of(index) | {"linestyle": (0, (5, 1.5)) if one.simulated else "-"}
        # The spread is of the rate; speed-up and efficiency are proportional to it.
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
    said = "; ".join(f"{one.kind} on {one.platform}: " +
                     ", ".join(f"{getattr(point, value):.3g} at {point.ranks}" for point in one.points)
                     for one in series)
    return charts.finish(figure, title, f"{title} over ranks. {said}.",
                         "Bars: least and largest." if value == "efficiency" else "")


def phases(one):
    strong = one.mode == 0  # a step then shrinks with ranks until nothing of it can be seen
    unit = "per cent of a step" if strong else "milliseconds per step"
    figure, axes = charts.new_axes("ranks", unit)
    place = np.arange(len(one.points))
    below = np.zeros(len(place))
    table = 1e3 * np.array([point.phases for point in one.points])
    table = 100 * table / np.maximum(table.sum(1, keepdims=True), 1e-300) if strong else table
    for column, name in enumerate(PHASES):
        axes.bar(place, table[:, column], 0.7, below, label=name, color=charts.SERIES[(5, 0, 4, 3, 1, 2)[column]],
                 linewidth=0)
        below += table[:, column]
    axes.set_xticks(place, [f"{point.ranks:,}" for point in one.points])
    charts.short_ticks(axes.yaxis)
    axes.grid(False, axis="x")
    figure.legend(loc="upper center", ncol=6, columnspacing=0.8, handlelength=0.8, handletextpad=0.4)
    axes.set_title(" ")  # room for the legend
    title = f"A step's phases, {MODES.get(one.mode, one.mode)} scaling, {one.kind} on {one.platform}"
    said = "; ".join(f"{point.ranks} ranks: " + ", ".join(f"{name} {value:.3g}" for name, value in zip(PHASES, row))
                     for point, row in zip(one.points, table))
    return charts.finish(figure, title, f"{title}, {unit}. {said}.")


def section(experiment):
    """What the page shows of one experiment."""
    every = series_of(experiment.columns)
    shown = []
    for mode, name in MODES.items():
        series = [one for one in every if one.mode == mode]
        if series:
            shown += [overview(series, "speed_up", f"Speed-up, {name} scaling", "speed-up"),
                      overview(series, "efficiency", f"Efficiency, {name} scaling", "parallel efficiency")]
    shown += [phases(one) for one in every]
    attributes = experiment.attributes
    facts = [(text, attributes[name]) for name, text in
             {"layers": "network", "parameters": "parameters", "created": "written", "dtrain_version": "dtrain"}.items()
             if name in attributes]
    check = [[cell.strip() for cell in line.strip("|").split("|")]
             for line in str(attributes.get("simulation_check", "")).splitlines() if not line.startswith("|---")]
    return {"experiment": experiment, "facts": facts, "check": check, "series": every, "charts": shown, "modes": MODES}
