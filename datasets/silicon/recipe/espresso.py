"""Silicon for pw.x: the primitive cell's relation to the cubic one, the pseudopotential, the settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from mlip.datasets.recipes import espresso
from mlip.datasets.recipes.espresso import Crystal, FloatArray, IntArray

# Rows: the conventional cubic vectors in units of a/2 (0,1,1), a/2 (1,0,1), a/2 (1,1,0).
CONVENTIONAL = np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
PSEUDOPOTENTIAL = "Si.pz-vbc.UPF"
SILICON = Crystal("si", {"Si": (28.085, PSEUDOPOTENTIAL)}, CONVENTIONAL)


@dataclass(frozen=True)
class Settings(espresso.Settings):
    """The settings of the set: norm-conserving, the ten special points of the crystal."""

    cutoff: float = 28.0
    mesh: tuple[int, int, int] = (4, 4, 4)


def folded_k_points(supercell: IntArray, mesh: tuple[int, int, int]) -> tuple[FloatArray, FloatArray]:
    """The special points in a supercell's reciprocal cell, see `mlip.datasets.recipes.espresso`."""
    return espresso.folded_k_points(supercell, mesh, CONVENTIONAL)


def single_point(atoms: Atoms, supercell: IntArray, settings: Settings, folder: Path) -> Atoms:
    """Energy, forces and stress of silicon, see `mlip.datasets.recipes.espresso.single_point`."""
    return espresso.single_point(atoms, supercell, settings, SILICON, folder)
