"""Write labelled frames: extended XYZ for people and other programs, HDF5 for speed and size."""

from __future__ import annotations

import io
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mlip.datasets.cache import write_cache
from mlip.datasets.frame import LabelledFrame
from mlip.errors import InputError
from mlip.files import atomic_path

_BLOCK = 256


def write_frames(frames: Iterable[LabelledFrame], path: str | Path, *, force: bool = False) -> int:
    """Write frames, atomically, in eV and Å: ``.xyz`` and ``.extxyz`` as text, ``.h5`` and ``.hdf5`` as cache.

    The text has eight decimals for positions and forces and all digits of energies; the cache is exact.

    Args:
        frames: The frames; an iterator need not fit into memory.
        path: The file.
        force: Overwrite.

    Returns:
        The number of frames.

    Raises:
        InputError: The file exists, or its ending is not known.
    """
    path = Path(path)
    if path.is_dir() or (path.exists() and not force):
        raise InputError("exists already", file=path, mend="use --force to overwrite it")
    if path.suffix.lower() in (".h5", ".hdf5"):
        return write_cache(frames, path)
    if path.suffix.lower() in (".xyz", ".extxyz"):
        return _write_extxyz(frames, path)
    raise InputError(f"cannot write '{path.suffix}'", file=path, mend="choose .extxyz, .xyz, .h5 or .hdf5")


def _write_extxyz(frames: Iterable[LabelledFrame], path: Path) -> int:
    source, count = iter(frames), 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        while block := list(islice(source, _BLOCK)):
            text = io.StringIO()
            write(text, [to_atoms(frame) for frame in block], format="extxyz")
            stream.write(text.getvalue())
            count += len(block)
        if count == 0:
            raise InputError("no frames to write", file=path)
    return count


def to_atoms(frame: LabelledFrame) -> Atoms:
    """ASE atoms that carry the labels: energy, forces and stress in a calculator, the rest in ``info``."""
    atoms = frame.atoms.copy()
    results: dict[str, Any] = {name: getattr(frame, name) for name in ("energy", "forces", "stress")}
    present = {name: value for name, value in results.items() if value is not None}
    if present:
        atoms.calc = SinglePointCalculator(atoms, **present)
    for name, value in _extra(frame).items():
        if np.ndim(value) > 0 and len(value) == len(atoms) and name == "born_charges":
            atoms.set_array(name, np.asarray(value).reshape(len(atoms), 9))
        else:
            atoms.info[name] = value
    return atoms


def _extra(frame: LabelledFrame) -> dict[str, Any]:
    """Labels that ASE's writer does not know, in shapes that come back as they went."""
    extra = {name: value for name, value in frame.info.items() if name not in frame.atoms.arrays}
    extra |= {} if frame.hessian is None else {"hessian": frame.hessian}
    extra |= {} if frame.config_type is None else {"config_type": frame.config_type}
    extra |= {} if frame.weight == 1 else {"weight": frame.weight}
    return {k: (v.reshape(9) if np.shape(v) == (3, 3) else v) for k, v in extra.items()}
