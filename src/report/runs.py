"""Reads the inputs: logs and checkpoints of runs, and scaling experiments."""

import configparser
import dataclasses
import re
import warnings
from pathlib import Path

import numpy as np

import scaling_file
from hdf5 import Unreadable, attributes_of, column_of, opened, reading, require_version, values_of

RUN_VERSIONS = (3, 4)  # of logs and checkpoints
PHASES = ("compute_seconds", "reduce_seconds", "wait_seconds", "data_seconds")
EPOCH_COLUMNS = ("epoch", "step", "train_cost", "train_accuracy", "test_cost", "test_accuracy", "learning_rate",
                 "seconds", "samples_per_second", "fingerprint")
VALIDATION_COLUMNS = ("validation_cost", "validation_accuracy")  # only of runs with a validation set
# The configs of earlier versions: old names of keys, and the values of keys that these versions did not have.
RENAMED = {"parallel.blas_threads": "parallel.threads", "parallel.node_ranks": "parallel.ranks_per_node"}
ADDED = {"data.file": "data/data.h5", "data.validation_samples": "0", "data.readers": "0", "model.initial": "random",
         "training.precision": "float32", "training.micro_batch": "0", "training.clip_norm": "0",
         "training.patience": "0", "parallel.products": "exact", "parallel.compression": "none",
         "output.keep_best": "true"}
MAX_BLOCKS = 800  # points of a curve: more than a chart has pixels
READ_AT_ONCE = 1 << 20  # values


@dataclasses.dataclass
class Blocks:
    """A long curve in blocks of equal size, with the end, min, mean and max of each block."""
    count: int
    size: int
    end: np.ndarray
    low: np.ndarray
    mean: np.ndarray
    high: np.ndarray


def blocks_of(values, max_blocks=MAX_BLOCKS):
    """`values` is an array or an HDF5 dataset of one dimension, which is read in parts. NaN is a missing value."""
    count = values.shape[0]
    size = max(1, -(-count // max_blocks))
    # Parts contain complete chunks, since HDF5 would read a chunk again for each part of it.
    chunk = (getattr(values, "chunks", None) or (0,))[0]
    step = size * max(1, -(-max(READ_AT_ONCE, chunk) // size))
    parts = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a block that contains only NaN
        for start in range(0, count, step):
            part = np.asarray(values[start:start + step], np.float64)
            part[~np.isfinite(part)] = np.nan
            part = np.pad(part, (0, -part.size % size), constant_values=np.nan).reshape(-1, size)
            parts.append((np.nanmin(part, 1), np.nanmean(part, 1), np.nanmax(part, 1)))
    low, mean, high = (np.concatenate(column) for column in zip(*parts)) if parts else (np.empty(0),) * 3
    end = np.minimum(np.arange(1, low.size + 1) * size, count)
    return Blocks(count, size, end, low, mean, high)


@dataclasses.dataclass
class Record:
    """The cost log, which a log and a checkpoint both contain."""
    steps: Blocks
    epochs: dict


@dataclasses.dataclass
class Run:
    path: Path
    attributes: dict
    config: dict  # "section.key": value
    record: Record
    ranks: dict  # phase: seconds, epochs x ranks; NaN if a rank took no part; empty without a log
    notes: list
    name: str = ""

    @property
    def checkpoints(self):
        """The checkpoints that exist now, newest first, valid or not. A running training replaces them."""
        return checkpoints_of(self.path) or ([self.path] if "logical_shards" in self.attributes else [])

    @property
    def planned_epochs(self):
        return number(self.config.get("training.epochs"))

    @property
    def finished_epochs(self):
        return len(self.record.epochs["epoch"])

    @property
    def is_complete(self):
        return self.planned_epochs is not None and self.finished_epochs >= self.planned_epochs

    @property
    def diverged_epoch(self):
        """The first epoch whose training cost is not a finite number, or None."""
        bad = np.flatnonzero(~np.isfinite(self.epochs["train_cost"]))
        return int(self.epochs["epoch"][bad[0]]) if len(bad) else None

    @property
    def choosing_set(self):
        """The set whose score chooses the best epoch."""
        return "validation" if self.has_validation else "test"

    @property
    def best_epoch(self):
        """The epoch of best.h5, or None before the first one."""
        accuracy, cost = (self.epochs[f"{self.choosing_set}_{name}"] for name in ("accuracy", "cost"))
        order = np.lexsort((np.arange(len(cost)), cost, -accuracy))
        return int(self.epochs["epoch"][order[0]]) if len(order) else None

    @property
    def best_score(self):
        """The accuracy of the best epoch."""
        return self.epochs[f"{self.choosing_set}_accuracy"][list(self.epochs["epoch"]).index(self.best_epoch)].item()

    @property
    def ended_early(self):
        patience = number(self.config.get("training.patience")) or 0
        return 0 < patience <= self.finished_epochs - (self.best_epoch or self.finished_epochs)

    @property
    def epochs(self):
        return self.record.epochs

    @property
    def has_validation(self):
        return VALIDATION_COLUMNS[0] in self.epochs

    def last(self, column):
        values = self.epochs.get(column, ())
        return values[-1].item() if len(values) else None

    def working_directory(self):
        """The folder to which paths in the config are relative, derived from the path of the output folder."""
        directory = Path(self.config.get("output.directory", "/"))
        folder = (self.path if self.path.is_dir() else self.path.parent).resolve()
        folder = folder.parent if folder.name == "checkpoints" else folder
        parts = [part for part in directory.parts if part != "."]
        if not directory.is_absolute() and ".." not in parts and folder.parts[-len(parts):] == tuple(parts):
            return Path(*folder.parts[:-len(parts)])
        return Path.cwd()


def number(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def parse_config(text):
    parser = configparser.ConfigParser(interpolation=None, strict=False, inline_comment_prefixes=("#",))
    parser.optionxform = str
    try:
        parser.read_string(text)
    except configparser.Error:
        return {}
    config = {f"{section}.{key}": value for section in parser.sections() for key, value in parser[section].items()}
    return {**ADDED, **{RENAMED.get(key, key): value for key, value in config.items()}} if config else {}


def record_of(file):
    columns = EPOCH_COLUMNS + (VALIDATION_COLUMNS if f"/epochs/{VALIDATION_COLUMNS[0]}" in file else ())
    epochs = {name: values_of(file, f"/epochs/{name}") for name in columns}
    if len({len(column) for column in epochs.values()}) != 1:
        raise Unreadable("the columns of /epochs have different lengths")
    return Record(blocks_of(column_of(file, "/steps/cost")), epochs)


def read_record(file):
    """The attributes, the record and, for a log, the seconds of each rank."""
    attributes = attributes_of(file)
    require_version(attributes, *RUN_VERSIONS)
    ranks = {}
    record = record_of(file)
    if "ranks" in file:
        ranks = {phase: values_of(file, f"/ranks/{phase}", 2) for phase in PHASES}
        if {table.shape for table in ranks.values()} != {(len(record.epochs["epoch"]), ranks[PHASES[0]].shape[1])}:
            raise Unreadable("/ranks does not fit /epochs")
    return attributes, record, ranks


def checkpoints_in(folder):
    """The checkpoints in a folder, newest first."""
    found = [path for path in folder.glob("step-*.h5") if re.fullmatch(r"step-\d{8,}\.h5", path.name)]
    return sorted(found, key=lambda path: int(path.name[5:-3]), reverse=True)


def checkpoints_of(path):
    """The checkpoints of the run at `path`, newest first. Empty if `path` is a single checkpoint."""
    if not path.is_dir() and path.name != "log.h5":
        return []
    folder = path if path.is_dir() else path.parent
    return checkpoints_in(folder / "checkpoints") or checkpoints_in(folder)


def best_of(path):
    """The best checkpoint of the run, or of the folder of checkpoints, at `path`."""
    for folder in (path / "checkpoints", path):
        if (folder / "best.h5").exists():
            return folder / "best.h5"
    raise Unreadable(f"{path}: no best.h5 in this folder. dtrain writes it after the first epoch, unless "
                     "output.keep_best = false")


def newest_first(checkpoints):
    """Yields each of `checkpoints()` once. It calls the function again each time, as a running training replaces
    them."""
    tried = set()
    while left := [checkpoint for checkpoint in checkpoints() if checkpoint not in tried]:
        tried.add(left[0])
        yield left[0]


def read_run(path):
    """Reads a run from its output folder, a folder of checkpoints, its log, or one of its checkpoints."""
    notes = []
    log = path / "log.h5" if path.is_dir() else path
    if not log.exists() and not checkpoints_of(path):
        if (path / "config.ini").exists():
            raise Unreadable(f"{path}: the run has written neither log.h5 nor a checkpoint: it has just begun, or it "
                             "diverged or failed in its first epoch")
        raise Unreadable(f"{path}: not the output folder of a run: it contains neither log.h5 nor a checkpoint")

    attributes, record, ranks = None, None, {}
    if log.exists():
        try:
            attributes, record, ranks = reading(log, read_record)
        except Unreadable as error:
            notes.append(str(error))
    elif not checkpoints_in(path):  # a folder of checkpoints never contains a log
        notes.append(f"{log} is missing, so times are unknown: the log is written after each epoch")
    for checkpoint in newest_first(lambda: checkpoints_of(path)):
        # A checkpoint may be newer than the log, if the run was interrupted within an epoch.
        if record is not None and int(checkpoint.name[5:-3]) <= record.steps.count:
            break
        try:
            newer, record, _ = reading(checkpoint, read_record)
            attributes = attributes or newer
            ranks = {phase: table[:len(record.epochs["epoch"])] for phase, table in ranks.items()}
            break
        except Unreadable as error:
            if checkpoint.exists():
                notes.append(str(error))
    if record is None:
        raise Unreadable("; ".join(notes) or f"{path}: every checkpoint was removed before it could be read")
    config = parse_config(str(attributes.get("config", "")))
    return Run(path, attributes, config, record, ranks, notes)


def read(path):
    """The run or scaling experiment at `path`. Raises Unreadable."""
    if not path.exists():
        raise Unreadable(f"{path}: no such file or folder")
    if path.is_file():
        with opened(path) as file:
            kind = file.attrs.get("kind")
            kind = kind.decode(errors="replace") if isinstance(kind, bytes) else kind
        if kind == scaling_file.KIND:
            return scaling_file.read(path)
        if kind is not None:
            raise Unreadable(f"{path}: neither a run nor a scaling experiment, but a file of kind {kind}")
    return read_run(path)


def name_all(shown):
    """Names each item by the shortest end of its path that is unique. A single item is named by the last two parts."""
    paths = [(item.path.parent if item.path.name == "log.h5" else item.path).resolve() for item in shown]
    for item, path in zip(shown, paths):
        for length in range(1 if len(shown) > 1 else min(2, len(path.parts)), len(path.parts) + 1):
            end = path.parts[-length:]
            if sum(other.parts[-length:] == end for other in paths) == 1:
                break
        item.name = "/".join(end).lstrip("/") or str(path)
