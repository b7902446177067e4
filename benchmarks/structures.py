"""What is measured. Only ase and NumPy are needed, so that every peer's environment can build the same atoms."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk, molecule

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


def water() -> Atoms:
    """64 molecules at 1 g/cm³: on a grid, turned at random and rattled."""
    rng = generator()
    spacing, count = 3.104, 4
    box = Atoms(cell=[spacing * count] * 3, pbc=True)
    for corner in np.ndindex(count, count, count):
        one = molecule("H2O")
        one.euler_rotate(*(360 * rng.random(3)), center="COM")
        one.positions += spacing * np.array(corner)
        box += one
    box.rattle(0.05, rng=rng)
    return box


def flexible_molecules(count: int) -> list[Atoms]:
    """Labelled frames of 27 atoms: the first of the 3BPA training set at 300 K."""
    path = DATA / "3bpa" / "train_300K.xyz"
    if not path.exists():
        raise SystemExit(f"{path} is not there; set MLIP_DATA")
    return ase.io.read(path, slice(0, count))


def _one(make: Callable[..., Atoms], *arguments: int) -> list[Atoms]:
    return [make(*arguments)]


NAMED: dict[str, Callable[[], list[Atoms]]] = {
    **{f"Si {8 * n**3}": partial(_one, silicon, n) for n in range(2, 9)},
    "aspirin 21": lambda: [aspirin()],
    "water 192": lambda: [water()],
    "3BPA 27": lambda: flexible_molecules(1),
    "3BPA, batch of 5": lambda: flexible_molecules(5),
}


def labels(frames: list[Atoms]) -> tuple[np.ndarray, np.ndarray]:
    """Energies (B,), eV, and forces (N, 3), eV/Å, of labelled frames."""
    energies = np.array([atoms.get_potential_energy() for atoms in frames])
    return energies, np.concatenate([atoms.get_forces() for atoms in frames])
