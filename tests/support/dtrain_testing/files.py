"""Reading the files that the programs write."""

import dataclasses
import hashlib
from pathlib import Path

import h5py


@dataclasses.dataclass
class H5:
    """The contents of an HDF5 file: datasets by full path, attributes of the root by name, others by full path."""
    datasets: dict
    attributes: dict


def read_h5(path):
    datasets, attributes = {}, {}
    with h5py.File(path, "r") as file:
        def visit(name, item):
            if isinstance(item, h5py.Dataset):
                datasets["/" + name] = item[()]
            attributes.update({f"/{name}/{key}": value for key, value in item.attrs.items()})
        file.visititems(visit)
        attributes.update(file.attrs)
    attributes = {key: value.decode() if isinstance(value, bytes) else value for key, value in attributes.items()}
    return H5(datasets, attributes)


def newest_step(folder):
    """The step of the newest checkpoint in the output folder of a run, or -1 if there is none."""
    return max((int(path.name[5:-3]) for path in (Path(folder) / "checkpoints").glob("step-*.h5")), default=-1)


def snapshot(folder):
    """All files and folders below `folder`. If two snapshots are equal, nothing was created, removed or changed."""
    tree = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file():
            status = path.stat()
            tree[str(path)] = (status.st_ino, status.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        else:
            tree[str(path)] = None
    return tree
