"""Restart files: everything a run needs to go on as if it had never stopped, without pickles.

Held are positions, momenta and cell, every number and array that the integrator (with its thermostat and
barostat) keeps, and the state of its random numbers. With a deterministic calculator a restarted run equals an
unbroken one bit for bit, in every ensemble.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlip.errors import InputError
from mlip.files import atomic_path

_PARTS = ("", "_thermostat", "_barostat")


def save_restart(path: Path, atoms: Atoms, dynamics: Any, settings: dict[str, Any], files: dict[str, int]) -> None:
    """Write a restart file, atomically.

    Args:
        path: An ``.npz`` file.
        atoms: The moving atoms.
        dynamics: ASE's integrator.
        settings: What the run was started with; a restart must be given the same.
        files: How far each output file had got.
    """
    arrays: dict[str, Any] = {
        "positions": atoms.get_positions(),
        "momenta": atoms.get_momenta(),
        "cell": atoms.cell.array,
        "numbers": atoms.numbers,
    }
    for part in _PARTS:
        owner = _owner(dynamics, part)
        for name, value in vars(owner).items() if owner is not None else ():
            if isinstance(value, np.ndarray | float | int | np.floating | np.integer) and not isinstance(value, bool):
                arrays[f"{part}/{name}"] = np.asarray(value)
    rng = getattr(dynamics, "rng", None)
    header = {
        "settings": settings,
        "files": files,
        "rng": None if rng is None else rng.bit_generator.state,
    }
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, header=np.array(json.dumps(header)), **arrays)


def read_header(path: Path) -> dict[str, Any]:
    """The settings and file marks of a restart file.

    Raises:
        InputError: Not there, or no restart file.
    """
    if not path.is_file():
        raise InputError("no restart file", file=path, mend="start without --resume")
    try:
        with np.load(path, allow_pickle=False) as data:
            header: dict[str, Any] = json.loads(str(data["header"]))
    except (OSError, ValueError, KeyError) as error:
        raise InputError("is no restart file", file=path) from error
    return header


def load_restart(path: Path, atoms: Atoms, dynamics: Any) -> None:
    """Put a saved state into freshly made atoms and integrator, in place.

    Raises:
        InputError: The atoms are not those of the restart file.
    """
    header = read_header(path)
    with np.load(path, allow_pickle=False) as data:
        if not np.array_equal(data["numbers"], atoms.numbers):
            raise InputError("was written for other atoms", file=path, key="restart")
        atoms.set_cell(data["cell"], scale_atoms=False)
        atoms.set_positions(data["positions"], apply_constraint=False)
        atoms.set_momenta(data["momenta"], apply_constraint=False)
        for key in data.files:
            part, slash, name = key.partition("/")
            if slash:
                _put(_owner(dynamics, part), name, data[key])
    if header["rng"] is not None:
        dynamics.rng.bit_generator.state = header["rng"]


def _owner(dynamics: Any, part: str) -> Any:
    return getattr(dynamics, part, None) if part else dynamics


def _put(owner: Any, name: str, value: np.ndarray) -> None:
    vars(owner)[name] = value.item() if value.ndim == 0 else value.copy()
