"""PbTiO3 from density-functional theory: labelled frames and the relaxed phases they lead to.

Everything was computed with one set of settings (LDA, ultrasoft, 30 Ry, one k mesh folded into every cell), so
a potential trained on the frames can be held against the energies and cells of the phases directly.
``README.md`` describes the set, ``recipe/`` made it.

Units: energies eV, lengths Å, forces eV/Å, stress eV/Å^3 in ASE's sign (positive under tension).

Example:
    >>> from mlip.datasets import perovskite
    >>> str(perovskite.phases()["cubic"].atoms.symbols)
    'PbTiO3'
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

FOLDER = Path(__file__).parent
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Phase:
    """A phase at rest: forces and stress vanish within what `largest_force` and `largest_stress` say.

    Attributes:
        name: cubic, tetragonal, rhombohedral or orthorhombic.
        space_group: Hermann-Mauguin symbol.
        atoms: the five-atom cell, lead at the origin, cubic axes along x, y, z.
        energy: total energy on the scale of the frames, eV.
        energy_above_cubic: energy against the cubic phase, eV per formula unit.
        largest_force: largest component left, eV/Å.
        largest_stress: largest component left, GPa.
    """

    name: str
    space_group: str
    atoms: Atoms
    energy: float
    energy_above_cubic: float
    largest_force: float
    largest_stress: float


def path(split: str) -> Path:
    """The extxyz file of a split: ``train``, ``validation`` or ``test``.

    Raises:
        ValueError: for any other name.
    """
    if split not in SPLITS:
        raise ValueError(f"no split {split!r}: one of {', '.join(SPLITS)}")
    return FOLDER / f"{split}.xyz"


def phases() -> dict[str, Phase]:
    """The phases relaxed with density-functional theory, by name; the cubic one is first."""
    stored = json.loads((FOLDER / "reference.json").read_text())["phases"]
    return {
        name: Phase(
            name,
            phase["space_group"],
            Atoms(phase["symbols"], cell=phase["cell"], scaled_positions=phase["scaled_positions"], pbc=True),
            phase["energy"],
            phase["energy_above_cubic"],
            phase["largest_force"],
            phase["largest_stress"],
        )
        for name, phase in stored.items()
    }
