"""The style of all charts, and the conversion of a matplotlib figure to SVG inside the page.

Colours in the page are CSS variables. While matplotlib draws, a unique placeholder colour stands for each variable.
"""

import dataclasses
import io
import itertools
import json
import math
import re
from html import escape

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot, ticker  # noqa: E402
import numpy as np  # noqa: E402
from markupsafe import Markup  # noqa: E402

TEXT, MUTED, GRID = "#0b0b01", "#0b0b02", "#0b0b03"
SERIES = [f"#0a0a{i:02x}" for i in range(1, 9)]
CSS_COLOURS = {TEXT: "currentColor", MUTED: "var(--muted)", GRID: "var(--grid)",
               **{colour: f"var(--s{i})" for i, colour in enumerate(SERIES, 1)}}
DASHES = ["-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5))]
charts_so_far = itertools.count()
SIZE_INCHES = (5.0, 3.0)  # 360 x 216 units, which fit on a phone without scaling

matplotlib.rcParams.update({
    "svg.fonttype": "none", "text.parse_math": False, "figure.constrained_layout.use": True,
    "font.size": 10, "axes.titlesize": 10, "axes.labelsize": 10, "xtick.labelsize": 9.5, "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5, "legend.frameon": False, "legend.handlelength": 1.6,
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none", "text.color": TEXT,
    "axes.labelcolor": TEXT, "xtick.color": MUTED, "ytick.color": MUTED, "axes.edgecolor": MUTED,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.7, "xtick.major.width": 0.7,
    "ytick.major.width": 0.7, "xtick.minor.width": 0.4, "ytick.minor.width": 0.4,
    "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.6, "axes.axisbelow": True, "lines.linewidth": 1.4,
    "lines.solid_capstyle": "round", "path.simplify_threshold": 0.2})


@dataclasses.dataclass
class Chart:
    title: str
    svg: Markup
    note: str = ""


def style_of(index):
    """Colour and dashes of the curve number `index`: 32 different ones."""
    return {"color": SERIES[index % len(SERIES)], "linestyle": DASHES[index // len(SERIES) % len(DASHES)]}


def new_axes(x, y, size=SIZE_INCHES):
    figure, axes = pyplot.subplots(figsize=size)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def finish(figure, title, alternative, note="", name="", places=None):
    """The chart as inline SVG. `alternative` is its text for screen readers. Scripts of the page find the chart by
    `name`, and on it the `places`: training steps with the x and y of each."""
    buffer = io.StringIO()
    matplotlib.rcParams["svg.hashsalt"] = f"chart {next(charts_so_far)}"  # so that ids are unique in the page
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    pyplot.close(figure)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = re.sub(r' (?:d|x|y|points)="[^"]*"', lambda found: re.sub(r"\d+\.\d+", shorter, found[0]), svg)
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    svg = re.sub("|".join(CSS_COLOURS), lambda found: CSS_COLOURS[found[0]], svg)
    view_box = re.search(r'viewBox="[^"]*"', svg)[0]
    start = f'{view_box} role="img" aria-label="{escape(alternative)}"'
    if name:
        start = f'id="chart-{name}" data-places="{places_of(figure, *places)}" {start}'
    svg = re.sub(r"^<svg[^>]*>", lambda _: f"<svg {start}>", svg)
    return Chart(title, Markup(re.sub(r"\n\s*", "\n", svg)), note)


def places_of(figure, steps, x, y):
    """JSON of [step, x, y] of points of the first axes of a drawn figure, in units of its view box."""
    to_figure = figure.axes[0].transData + figure.transFigure.inverted()
    width, height = 72 * figure.get_size_inches()
    return json.dumps([[int(step), round(float(width * across), 2), round(float(height * (1 - up)), 2)]
                       for step, (across, up) in zip(steps, to_figure.transform(np.column_stack([x, y])))])


def shorter(number):
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def short(value, _=None):
    """The number of a tick."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size and value % (size / 10) == 0:
            return f"{value / size:g}{unit}"
    return f"{value:,.6g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.0e}"


def short_ticks(axis, whole=False):
    axis.set_major_locator(ticker.MaxNLocator(nbins=6, integer=whole, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(short)


def log_scale(axes, axis, base=10):
    """Makes an axis logarithmic, with ticks as plain numbers."""
    getattr(axes, f"set_{axis}scale")("log", base=base)
    low, high = sorted(getattr(axes, f"get_{axis}lim")())
    decades = math.log(high / low, base)
    it = getattr(axes, f"{axis}axis")
    it.set_major_locator(ticker.LogLocator(base=base, subs=(1.0,) if decades > 2.5 or base == 2 else (1.0, 2.0, 5.0)))
    it.set_major_formatter(short)
    it.set_minor_formatter(ticker.NullFormatter())


def scale_values(axes, curves):
    """Makes the y axis logarithmic if all values are positive and span one to four decades."""
    values = np.concatenate([curve[np.isfinite(curve)] for curve in curves] or [np.empty(0)])
    if values.size and values.min() > 0 and 10 < values.max() / values.min() < 1e4:
        log_scale(axes, "y")
        return True
    short_ticks(axes.yaxis)
    return False


def smoothed(values, width):
    """The mean over `width` neighbours: over fewer at the ends, and where values are missing."""
    known = np.isfinite(values)
    kernel = np.ones(min(max(1, width), max(1, len(values))))
    total = np.convolve(np.where(known, values, 0), kernel, "same")
    count = np.convolve(known.astype(float), kernel, "same")
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0.5)
