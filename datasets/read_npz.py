"""MD17-like archives: R, z, E, F, or the names of rMD17; never unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlip.datasets.entry import select
from mlip.datasets.raw import RawFrame, RawSet, readable
from mlip.datasets.units import recognise_energy_unit
from mlip.errors import InputError

_POSITIONS = ("R", "coords", "positions", "coordinates")
_NUMBERS = ("z", "Z", "nuclear_charges", "numbers", "atomic_numbers", "species")
_CELLS = ("cell", "lattice", "box")
_IGNORED = {"name", "theory", "md5", "type", "code_version", "old_indices", "r_unit", "e_unit"}


def read_npz(path: Path, index: int | slice, stated: dict[str, str]) -> RawSet:
    """Frames of an npz archive.

    Args:
        path: The file.
        index: Frames to take.
        stated: Units that the user states; energy must be stated, in the file (``e_unit``), or recognised
            from the size of the total energies.

    Raises:
        InputError: Pickled contents, missing or inconsistent arrays, unknown units.
    """
    data = _load(path)
    positions = _one(data, _POSITIONS, path, "positions")
    positions = positions[None] if positions.ndim == 2 else positions
    if positions.ndim != 3 or positions.shape[2] != 3:
        raise InputError(f"positions have shape {positions.shape}, not (frames, atoms, 3)", file=path)
    count, atoms = positions.shape[:2]
    numbers = np.asarray(_one(data, _NUMBERS, path, "atomic numbers"))
    if numbers.shape not in ((atoms,), (count, atoms)) or numbers.dtype.kind not in "iuf":
        raise InputError(f"atomic numbers have shape {numbers.shape}, not ({atoms},)", file=path)
    numbers = np.broadcast_to(numbers.astype(int), (count, atoms))
    cells = next((np.asarray(data[name]) for name in _CELLS if name in data), None)
    taken = {*_POSITIONS, *_NUMBERS, *_CELLS} | _IGNORED
    values = {name: array for name, array in data.items() if name not in taken}
    _check_lengths(values, count, path)
    chosen = select(index, count, file=path)
    frames = [
        RawFrame(_atoms(numbers[i], positions[i], cells, i), {k: v[i] for k, v in values.items()}, index=i)
        for i in chosen
    ]
    units, origin = _units(data, frames, stated, path)
    return RawSet(frames, "npz", units=units, units_from=origin)


def _load(path: Path) -> dict[str, Any]:
    with readable(path, "npz (pickled contents are refused)"), np.load(path, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InputError("is a single array, not an npz archive", file=path)
        return {name: archive[name] for name in archive.files if name not in {"md5"}}


def _one(data: dict[str, Any], names: tuple[str, ...], path: Path, what: str) -> Any:
    found = [name for name in names if name in data]
    if len(found) != 1:
        problem = f"no {what}" if not found else f"{what} under several names: {', '.join(found)}"
        raise InputError(problem, file=path, mend=f"expected one of {', '.join(names)}; has {', '.join(data)}")
    return data[found[0]]


def _check_lengths(values: dict[str, Any], count: int, path: Path) -> None:
    """Arrays that do not count frames are dropped when they are scalars, refused when they look like labels."""
    for name in [name for name, array in values.items() if np.ndim(array) == 0]:
        del values[name]
    for name, array in values.items():
        if len(array) != count:
            raise InputError(f"holds {len(array)} entries for {count} frames", file=path, key=name)


def _atoms(numbers: Any, positions: Any, cells: Any, frame: int) -> Atoms:
    if cells is None:
        return Atoms(numbers, positions=positions)
    cell = cells[frame] if np.ndim(cells) > 1 and np.shape(cells) != (3, 3) else cells
    return Atoms(numbers, positions=positions, cell=np.reshape(cell, (3, 3)), pbc=True)


def _units(
    data: dict[str, Any], frames: list[RawFrame], stated: dict[str, str], path: Path
) -> tuple[dict[str, str], str]:
    if "energy" in stated:
        return {}, "stated"
    if "e_unit" in data:
        length = str(data["r_unit"]) if "r_unit" in data else "Ang"
        return {"energy": str(data["e_unit"]), "length": length}, "stated in the file"
    name = next((k for k in ("E", "energies", "energy") if k in frames[0].values), None)
    if name is None:
        if any(k in frames[0].values for k in ("F", "forces", "force")) and "forces" not in stated:
            raise InputError("the unit of the forces is not stated", file=path, mend="--unit forces=eV/Ang")
        return {}, "assumed"
    energy = float(np.ravel(frames[0].values[name])[0])
    unit = recognise_energy_unit(frames[0].atoms.numbers, energy)
    if unit is None:
        raise InputError("the unit of the energies is not stated", file=path, mend="--unit energy=kcal/mol")
    return {"energy": unit}, "recognised from the size of the total energies"
