"""Folders in deepmd's npy layout: type.raw, type_map.raw, set.*/coord.npy, energy.npy, force.npy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from mlip.datasets.entry import select
from mlip.datasets.raw import RawFrame, RawSet, readable
from mlip.errors import InputError

_NAMES = {"energy": "energy", "force": "forces", "virial": "virial", "hessian": "hessian"}


def is_deepmd(path: Path) -> bool:
    """Whether the folder is one system or holds systems."""
    return (path / "type.raw").is_file() or any(path.glob("*/type.raw"))


def read_deepmd(path: Path, index: int | slice) -> RawSet:
    """Frames of one system, or of all systems right below the folder, in alphabetical order.

    Raises:
        InputError: Missing files, or arrays whose shapes do not agree.
    """
    own = (path / "type.raw").is_file()
    systems = [path] if own else sorted(p.parent for p in path.glob("*/type.raw"))
    frames = [frame for system in systems for frame in _system(system)]
    for number, frame in enumerate(frames):
        frame.index = number
    chosen = select(index, len(frames), file=path)
    return RawSet([frames[i] for i in chosen], "deepmd npy", units_from="deepmd's convention")


def _system(path: Path) -> list[RawFrame]:
    numbers = _numbers(path)
    sets = sorted(path.glob("set.*"))
    if not sets:
        raise InputError("holds no set.* folder", file=path)
    return [frame for folder in sets for frame in _set(folder, numbers, (path / "nopbc").exists())]


def _numbers(path: Path) -> Any:
    with readable(path / "type.raw", "deepmd types"):
        types = np.loadtxt(path / "type.raw", dtype=int, ndmin=1).ravel()
    if not (path / "type_map.raw").is_file():
        raise InputError("type_map.raw is missing", file=path, mend="write the element of each type into it")
    symbols = (path / "type_map.raw").read_text().split()
    if types.size == 0 or types.min() < 0 or types.max() >= len(symbols):
        raise InputError(f"types do not fit the {len(symbols)} elements of type_map.raw", file=path / "type.raw")
    unknown = [symbol for symbol in symbols if symbol not in atomic_numbers]
    if unknown:
        raise InputError(f"'{unknown[0]}' is not an element", file=path / "type_map.raw")
    return np.array([atomic_numbers[symbol] for symbol in symbols])[types]


def _set(folder: Path, numbers: Any, open_boundaries: bool) -> list[RawFrame]:
    n = len(numbers)
    coordinates = _array(folder, "coord", 3 * n, None)
    if coordinates is None:
        raise InputError("coord.npy is missing", file=folder)
    count = len(coordinates)
    box = None if open_boundaries else _array(folder, "box", 9, count)
    sizes = {"energy": 1, "force": 3 * n, "virial": 9, "hessian": 9 * n * n}
    found = {_NAMES[name]: _array(folder, name, size, count) for name, size in sizes.items()}
    shapes = {"energy": (), "forces": (n, 3), "virial": (3, 3), "hessian": (3 * n, 3 * n)}
    frames = []
    for i in range(count):
        cell = None if box is None else box[i].reshape(3, 3)
        atoms = Atoms(numbers, positions=coordinates[i].reshape(n, 3), cell=cell, pbc=cell is not None)
        values = {k: v[i].reshape(shapes[k]) for k, v in found.items() if v is not None}
        frames.append(RawFrame(atoms, values, frozenset(values)))
    return frames


def _array(folder: Path, name: str, size: int, count: int | None) -> Any:
    """(frames, size) of one npy file, or None when it is not there."""
    path = folder / f"{name}.npy"
    if not path.is_file():
        return None
    with readable(path, "npy (pickled contents are refused)"):
        array = np.load(path, allow_pickle=False)
    rows = len(array) if array.ndim else 0
    if count not in (None, rows) or rows == 0 or array.size != rows * size or array.dtype.kind not in "fiu":
        wanted = f"({'frames' if count is None else count}, {size})"
        raise InputError(f"has shape {array.shape}, not {wanted}", file=path)
    return array.reshape(rows, size).astype(float)
