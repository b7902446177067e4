"""What is measured. Only ase and NumPy are needed, so that every peer's environment can build the same atoms."""

from __future__ import annotations

import os
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk

DATA = Path(os.environ.get("MLIP_DATA", Path(__file__).parents[2] / "shared" / "data"))


def generator() -> np.random.Generator:
    """One stream of random numbers, always the same."""
    return np.random.default_rng(1)


def silicon(repeat: int = 3) -> Atoms:
    """Diamond silicon, 8·repeat³ atoms, rattled by 0.1 Å."""
    atoms = bulk("Si", "diamond", a=5.43, cubic=True) * (repeat, repeat, repeat)
    atoms.rattle(0.1, seed=1)
    return atoms


def silicon_primitive() -> Atoms:
    """The two-atom cell of diamond silicon, slightly distorted so that nothing vanishes by symmetry."""
    atoms = bulk("Si", "diamond", a=5.43)
    atoms.rattle(0.02, seed=1)
    return atoms


def aspirin() -> Atoms:
    """A molecule of 21 atoms, as in the first training frame of rMD17."""
    path = DATA / "rmd17" / "aspirin_train_01.xyz"
    if not path.exists():
        raise SystemExit(f"{path} is not there; set MLIP_DATA")
    atoms = ase.io.read(path, 0)
    return Atoms(atoms.numbers, atoms.positions)
