"""Everything else that ASE reads: VASP, Quantum ESPRESSO, trajectories, databases."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read
from ase.io.formats import UnknownFileTypeError, filetype, open_with_compression

from mlip.datasets.entry import select
from mlip.datasets.raw import RawFrame, RawSet, raw_from_atoms, readable
from mlip.datasets.read_extxyz import read_extxyz
from mlip.errors import InputError

_THEORY = ("gga", "metagga", "ismear", "sigma", "enmax", "ispin", "nelect", "ivdw", "ldau", "lhfcalc", "kspacing")


def read_ase(path: Path, index: int | slice) -> RawSet:
    """Frames of any file whose format ASE recognises; ASE has turned them into eV and Å.

    Raises:
        InputError: Unknown format, or a damaged file.
    """
    if path.stat().st_size == 0:
        raise InputError("is empty", file=path)
    name = _format(path)
    if name in ("extxyz", "xyz"):
        return read_extxyz(path, index)
    with readable(path, name), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images = read(path, ":", format=name, do_not_split_by_at_sign=True)
    images = images if isinstance(images, list) else [images]
    chosen = select(index, len(images), file=path)
    frames = [_raw(images[number], number) for number in chosen]
    raw = RawSet(frames, name, units_from="converted by ASE")
    if name == "vasp-xml":
        _add_hessian(raw, path)
    return raw


def _format(path: Path) -> str:
    try:
        return filetype(str(path))
    except (UnknownFileTypeError, OSError, ValueError, EOFError):
        raise InputError(
            "format not recognised", file=path, mend="extended XYZ, VASP, QE, npz, deepmd, phonopy, HDF5 …"
        ) from None


def _raw(atoms: Atoms, number: int) -> RawFrame:
    raw = raw_from_atoms(atoms, number)
    theory = {} if atoms.calc is None else _theory(getattr(atoms.calc, "parameters", None) or {})
    if theory:
        raw.values["theory"] = theory
    return raw


def _theory(parameters: dict[str, Any]) -> dict[str, Any]:
    """Settings of the calculation that two comparable frames must share."""
    found = {name: parameters[name] for name in _THEORY if name in parameters}
    mesh = parameters.get("kpoints_generation", {})
    if "divisions" in mesh:
        found["kpoints"] = list(mesh["divisions"])
    return found


def _add_hessian(raw: RawSet, path: Path) -> None:
    """The force constants of a VASP calculation with IBRION 5–8 belong to its first structure."""
    first = [frame for frame in raw.frames if frame.index == 0]
    with open_with_compression(str(path), "rb") as stream:
        if not first or not any(b"<dynmat" in line for line in stream):
            return
    from phonopy.interface.vasp import Vasprun

    with readable(path, "VASP force constants"), open_with_compression(str(path), "rb") as stream:
        constants, _ = Vasprun(stream).read_force_constants()
        n = len(first[0].atoms)
        first[0].values["hessian"] = np.asarray(constants).transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)
    raw.notes.append("Hessian from the dynamical matrix of the calculation, masses taken out by phonopy")
