"""Silicon from density-functional theory: labelled frames and the DFPT phonons they have to reproduce.

Everything was computed with one set of settings (LDA, norm-conserving, 28 Ry, the ten special points of the
crystal), so a potential trained on the frames can be held against the DFPT frequencies directly.  ``README.md``
describes the set, ``recipe/`` made it.

Units: energies eV, forces eV/Å, stress eV/Å^3 in ASE's sign (positive under tension), frequencies THz.

Example:
    >>> from mlip.datasets import silicon
    >>> len(silicon.primitive_cell())
    2
    >>> silicon.dfpt_reference().weights.sum()
    64
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read
from numpy.typing import NDArray

FOLDER = Path(__file__).parent
SPLITS = ("train", "validation", "test")
BROKEN = "broken"


@dataclass(frozen=True)
class Bands:
    """DFPT bands on straight segments between special points, interpolated with the acoustic sum rule.

    Attributes:
        segments: ((start, end), ...) names of the special points; Γ is ``GAMMA``.
        q_points: (ns, np, 3) fractions of the primitive cell's reciprocal vectors, both ends included.
        frequencies: (ns, np, 6) ascending, THz.
    """

    segments: tuple[tuple[str, str], ...]
    q_points: NDArray[np.float64]
    frequencies: NDArray[np.float64]


@dataclass(frozen=True)
class DFPTReference:
    """Phonons of silicon from density-functional perturbation theory.

    Attributes:
        cell: (3, 3) lattice vectors of the primitive cell as rows, Å.
        q_points: (nq, 3) irreducible points of the mesh, fractions of the cell's reciprocal vectors.
        frequencies: (nq, 6) ascending, THz, as computed: no acoustic sum rule is imposed.
        weights: (nq,) number of mesh points in the star of each; they sum to 64.
        bands: the usual path Γ-X-U|K-Γ-L-W-X.
        mass: atomic mass, amu.
    """

    cell: NDArray[np.float64]
    q_points: NDArray[np.float64]
    frequencies: NDArray[np.float64]
    weights: NDArray[np.int64]
    bands: Bands
    mass: float


def path(split: str) -> Path:
    """The extxyz file of a split: ``train``, ``validation``, ``test`` or ``broken``; ``dfpt``: the force constants.

    ``broken`` holds frames of all three again, labelled with a k mesh thinned along [001].

    Raises:
        ValueError: for any other name.
    """
    if split == "dfpt":
        return FOLDER / "dfpt.fc"
    if split not in (*SPLITS, BROKEN):
        raise ValueError(f"no split {split!r}: one of {', '.join((*SPLITS, BROKEN))}, dfpt")
    return FOLDER / f"{split}.xyz"


def honest_and_broken() -> list[tuple[Atoms, Atoms]]:
    """Pairs of one geometry with the labels of the cubic k mesh and of the one thinned along [001]."""
    honest = {atoms.info["name"]: atoms for split in SPLITS for atoms in read(path(split), index=":")}
    return [(honest[atoms.info["name"]], atoms) for atoms in read(path(BROKEN), index=":")]


def primitive_cell() -> Atoms:
    """The two-atom cell at the lattice constant of zero stress, the one of the DFPT reference."""
    stored = _stored()
    return Atoms(
        "Si2",
        cell=stored["cell"],
        scaled_positions=stored["scaled_positions"],
        masses=[stored["mass"]] * 2,
        pbc=True,
    )


def dfpt_reference() -> DFPTReference:
    """The DFPT frequencies on the 4 x 4 x 4 mesh and along the usual path."""
    stored = _stored()
    bands = stored["bands"]
    segments = tuple((str(start), str(end)) for start, end in bands["segments"])
    shape = (len(segments), bands["points_per_segment"], -1)
    return DFPTReference(
        cell=np.array(stored["cell"]),
        q_points=np.array(stored["q_points"]),
        frequencies=np.array(stored["frequencies"]),
        weights=np.array(stored["weights"]),
        bands=Bands(
            segments,
            np.array(bands["q_points"]).reshape(shape),
            np.array(bands["frequencies"]).reshape(shape),
        ),
        mass=float(stored["mass"]),
    )


def _stored() -> dict[str, Any]:
    """The contents of ``dfpt.json``."""
    contents: dict[str, Any] = json.loads((FOLDER / "dfpt.json").read_text())
    return contents
