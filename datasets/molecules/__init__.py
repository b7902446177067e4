"""Small molecules from Kohn-Sham theory: energies, forces, Hessians, dipoles, polarizabilities.

Hydrogen peroxide and methanol, both with a soft torsion, in training, validation and test; methyl hydroperoxide
in test alone.  ``README.md`` describes the set, ``recipe/`` made it.

Units: energies eV, lengths Å, forces eV/Å, Hessians eV/Å^2, dipoles e Å, polarizabilities e^2 Å^2/eV (times
14.39964 for Å^3), wavenumbers cm^-1.

Example:
    >>> from mlip.datasets import molecules
    >>> len(molecules.minima()["methanol"].wavenumbers)
    12
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

FOLDER = Path(__file__).parent
SPLITS = ("train", "validation", "test")
ATOMS = "atoms"  # the free atoms: `e0: {method: isolated, path: "molecules:atoms"}`


@dataclass(frozen=True)
class Minimum:
    """A relaxed molecule and its harmonic vibrations.

    Attributes:
        name: hydrogen_peroxide, methanol or methyl_hydroperoxide.
        atoms: centre of mass at the origin, axes of inertia along x, y, z; the masses are those used.
        energy: total energy, eV.
        wavenumbers: (3N - 6,) harmonic, ascending, cm^-1; translations and rotations are projected out.
        rigid_wavenumbers: (6,) the smallest ones without the projection: the error of the integration grid.
        dipole: (3,) e Å.
        polarizability: (3, 3) e^2 Å^2/eV.
    """

    name: str
    atoms: Atoms
    energy: float
    wavenumbers: NDArray[np.float64]
    rigid_wavenumbers: NDArray[np.float64]
    dipole: NDArray[np.float64]
    polarizability: NDArray[np.float64]


def path(split: str) -> Path:
    """The extxyz file of a split, ``train``, ``validation`` or ``test``, or of the free ``atoms``.

    Raises:
        ValueError: for any other name.
    """
    if split not in (*SPLITS, ATOMS):
        raise ValueError(f"no split {split!r}: one of {', '.join((*SPLITS, ATOMS))}")
    return FOLDER / f"{split}.xyz"


def minima() -> dict[str, Minimum]:
    """The relaxed molecules, by name."""
    stored = json.loads((FOLDER / "minima.json").read_text())["molecules"]
    return {
        name: Minimum(
            name,
            Atoms(one["symbols"], positions=one["positions"], masses=one["masses"]),
            one["energy"],
            np.array(one["wavenumbers"]),
            np.array(one["rigid_wavenumbers"]),
            np.array(one["dipole"]),
            np.array(one["polarizability"]),
        )
        for name, one in stored.items()
    }
