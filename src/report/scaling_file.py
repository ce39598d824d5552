"""The file of a scaling experiment, as slurm/scaling.py writes and dtrain-report draws it: its fields, and the
speed-ups and efficiencies that follow from them."""

import dataclasses
import datetime
import os
from pathlib import Path

import h5py
import numpy as np

from hdf5 import Unreadable, attributes_of, column_of, reading, require_version

KIND = "scaling"
FORMAT_VERSION = 1
MODES = ("strong", "weak")  # as numbers in the file: 0 and 1
PHASES = ("fetch", "forward", "backward", "wait", "reduce", "update")
NUMBERS = {"mode": np.uint8, "ranks": np.int64, "nodes": np.int64, "batch_size": np.int64, "repeat": np.int64,
           "simulated": np.uint8, "samples_per_second": np.float64, "step_seconds": np.float64,
           "samples_per_second_min": np.float64, "samples_per_second_max": np.float64,
           **{f"{phase}_seconds": np.float64 for phase in PHASES}}
PLATFORM = "platform"  # a column of text
# Attributes.
NETWORK = ("dtrain_version", "layers", "parameters")
CONFIGS = ("config", "simulated_config")  # of runs that were measured, and of simulated ones
CHECK = "simulation_check"  # simulated runs beside real ones, a Markdown table


@dataclasses.dataclass
class Scaling:
    path: Path
    attributes: dict
    columns: dict  # of equal length, one entry per run
    name: str = ""

    def runs(self):
        """A dict for each run."""
        return [dict(zip(self.columns, values)) for values in zip(*self.columns.values())]


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
    phases: dict  # seconds per step
    efficiency: float = 0.0

    @property
    def speed_up(self):
        return self.efficiency * self.ranks


@dataclasses.dataclass
class Series:
    """Points of one mode and platform, by ranks, with the first of which efficiencies compare."""
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
    """The experiment at `path`. Throws Unreadable."""
    return Scaling(Path(path), *reading(path, read_open))


def read_open(file):
    attributes = attributes_of(file)
    if attributes.get("kind") != KIND:
        raise Unreadable("is no scaling experiment")
    require_version(attributes, FORMAT_VERSION)
    if missing := [name for name in NETWORK if name not in attributes]:
        raise Unreadable(f"has no attribute {missing[0]}")
    columns = {name: column_of(file, f"/runs/{name}")[()] for name in NUMBERS}
    platforms = column_of(file, f"/runs/{PLATFORM}", kinds="OS")[()]
    columns[PLATFORM] = np.array([text.decode(errors="replace") if isinstance(text, bytes) else str(text)
                                  for text in platforms], object)
    if len({len(column) for column in columns.values()}) != 1:
        raise Unreadable("the columns of /runs differ in length")
    if not len(columns["ranks"]):
        raise Unreadable("holds no runs yet")
    if min(columns["ranks"].min(), columns["samples_per_second"].min()) <= 0:
        raise Unreadable("ranks or samples per second are not positive")
    if not np.isin(columns["mode"], range(len(MODES))).all():
        raise Unreadable(f"/runs/mode holds others than those of {' and '.join(MODES)} scaling")
    return attributes, columns


def write(path, runs, attributes):
    """Replaces the file at `path`. `runs` are dicts with an entry for each column, `attributes` those of NETWORK and
    what there is of the other ones."""
    temporary = path.with_name(path.name + ".tmp")
    with h5py.File(temporary, "w") as file:
        file.attrs.update({"format_version": FORMAT_VERSION, "kind": KIND, **attributes,
                           "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds")})
        for name, kind in {**NUMBERS, PLATFORM: h5py.string_dtype()}.items():
            file.create_dataset(f"runs/{name}", data=[run[name] for run in runs], dtype=kind)
    os.replace(temporary, path)


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
