"""The file of a scaling experiment: its columns and attributes, and the speed-ups and efficiencies computed from them.

slurm/scaling.py writes the file, and dtrain-report reads it.
"""

import dataclasses
import datetime
import io
from pathlib import Path

import h5py
import numpy as np

import output_file
from hdf5 import Unreadable, attributes_of, column_of, reading, require_version

KIND = "scaling"
FORMAT_VERSION = 1
MODES = ("strong", "weak")  # as numbers in the file: 0 and 1
PHASES = ("data", "forward", "backward", "reduce", "update", "wait")
OLD_COLUMNS = {"data_seconds": "fetch_seconds"}  # names that versions before November 2026 wrote
NUMBERS = {"mode": np.uint8, "ranks": np.int64, "nodes": np.int64, "batch_size": np.int64, "repeat": np.int64,
           "simulated": np.uint8, "samples_per_second": np.float64, "step_seconds": np.float64,
           "samples_per_second_min": np.float64, "samples_per_second_max": np.float64,
           **{f"{phase}_seconds": np.float64 for phase in PHASES}}
PLATFORM = "platform"  # a column of text
# Attributes of the file.
NETWORK = ("dtrain_version", "layers", "parameters")
CONFIGS = ("config", "simulated_config")  # the configs of the measured and of the simulated runs
CHECK = "simulation_check"  # compares simulated with measured runs: a Markdown table


@dataclasses.dataclass
class Scaling:
    path: Path
    attributes: dict
    columns: dict  # arrays of equal length, one entry per run
    name: str = ""

    def runs(self):
        """One dict per run."""
        return [dict(zip(self.columns, values)) for values in zip(*self.columns.values())]


@dataclasses.dataclass
class Point:
    """The results on one number of ranks: mean, min and max over repeats. With a single run, min and max are over its
    blocks of steps."""
    ranks: int
    nodes: list
    batch_sizes: list
    repeats: int
    rate: float  # samples per second
    low: float
    high: float
    phases: dict  # seconds per step
    efficiency: float = 0.0

    @property
    def speed_up(self):
        return self.efficiency * self.ranks

    # Efficiency and speed-up are proportional to the rate.
    @property
    def efficiency_low(self):
        return self.efficiency * self.low / self.rate

    @property
    def efficiency_high(self):
        return self.efficiency * self.high / self.rate

    @property
    def speed_up_low(self):
        return self.efficiency_low * self.ranks

    @property
    def speed_up_high(self):
        return self.efficiency_high * self.ranks


@dataclasses.dataclass
class Series:
    """Points of one mode and platform, in the order of ranks. Efficiencies are relative to the first point."""
    mode: str
    simulated: bool
    platform: str
    points: list

    @property
    def kind(self):
        return "simulated" if self.simulated else "measured"

    def values(self, name):
        return np.array([getattr(point, name) for point in self.points])


def read(path):
    """The experiment at `path`. Raises Unreadable."""
    return Scaling(Path(path), *reading(path, read_open))


def read_open(file):
    attributes = attributes_of(file)
    if attributes.get("kind") != KIND:
        raise Unreadable("is not a scaling experiment")
    require_version(attributes, FORMAT_VERSION)
    if missing := [name for name in NETWORK if name not in attributes]:
        raise Unreadable(f"has no attribute {missing[0]}")
    columns = {name: column_of(file, f"/runs/{stored_name(file, name)}")[()] for name in NUMBERS}
    platforms = column_of(file, f"/runs/{PLATFORM}", kinds="OS")[()]
    columns[PLATFORM] = np.array([text.decode(errors="replace") if isinstance(text, bytes) else str(text)
                                  for text in platforms], object)
    if len({len(column) for column in columns.values()}) != 1:
        raise Unreadable("the columns of /runs have different lengths")
    if not len(columns["ranks"]):
        raise Unreadable("contains no runs")
    if min(columns["ranks"].min(), columns["samples_per_second"].min()) <= 0:
        raise Unreadable("a number of ranks or samples per second is not positive")
    if not np.isin(columns["mode"], range(len(MODES))).all():
        raise Unreadable(f"/runs/mode has a value other than 0 ({MODES[0]} scaling) and 1 ({MODES[1]} scaling)")
    return attributes, columns


def stored_name(file, name):
    """The name of a column in the file, which an older version may have written."""
    old = OLD_COLUMNS.get(name)
    return old if old and f"/runs/{name}" not in file and f"/runs/{old}" in file else name


def write(program, path, runs, attributes):
    """Replaces the file at `path` for `program`. `runs` are dicts with an entry for each column. `attributes` has all of NETWORK, and
    may have CONFIGS and CHECK."""
    contents = io.BytesIO()
    with h5py.File(contents, "w") as file:
        file.attrs.update({"format_version": FORMAT_VERSION, "kind": KIND, **attributes,
                           "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds")})
        for name, kind in {**NUMBERS, PLATFORM: h5py.string_dtype()}.items():
            file.create_dataset(f"runs/{name}", data=[run[name] for run in runs], dtype=kind)
    output_file.replace(program, path, contents.getvalue())


def series_of(columns):
    mode, simulated, platform = columns["mode"], columns["simulated"] != 0, columns[PLATFORM]
    found = []
    for key in sorted(set(zip(mode.tolist(), simulated.tolist(), platform.tolist()))):
        chosen = (mode == key[0]) & (simulated == key[1]) & (platform == key[2])
        found.append(Series(MODES[key[0]], *key[1:],
                            points_of({name: column[chosen] for name, column in columns.items()})))
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
                            {phase: here[f"{phase}_seconds"].mean() for phase in PHASES}))
    for point in points:
        point.efficiency = (point.rate / point.ranks) / (points[0].rate / points[0].ranks)
    return points
