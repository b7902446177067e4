"""How one frame differs from another: aligned for molecules, minimum image for crystals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from mlip.datasets.frame import Array


@dataclass(frozen=True)
class Step:
    """The way from frame 1 to frame 2 (same atoms in the same order).

    Attributes:
        displacement: (N, 3), Å, in frame 1's orientation; a common translation is taken out.
        rotation: (3, 3) orthogonal: a vector v of frame 2 is ``v @ rotation`` in frame 1's orientation.
        strain: (3, 3) symmetric, of the cell from 1 to 2; zero without a periodic cell.
    """

    displacement: Array
    rotation: Array
    strain: Array

    @property
    def rms(self) -> float:
        """Root mean square length of the atoms' displacements, Å."""
        return float(np.sqrt((self.displacement**2).sum(axis=1).mean()))

    @property
    def largest(self) -> float:
        """Length of the largest displacement, Å."""
        return float(np.sqrt((self.displacement**2).sum(axis=1).max()))


def step_between(first: Atoms, second: Atoms) -> Step:
    """The smallest step from one structure to another.

    Molecules are superposed by the orthogonal matrix of least squares (Kabsch, Acta Cryst. A32, 922 (1976);
    mirror images count as equal, as they do for the energy). In periodic structures atoms take the nearest
    image, in fractions of each frame's own cell, times the mean cell.
    """
    return _periodic(first, second) if first.pbc.any() else _molecule(first.positions, second.positions)


def _molecule(first: Array, second: Array) -> Step:
    here, there = first - first.mean(axis=0), second - second.mean(axis=0)
    u, _, vh = np.linalg.svd(there.T @ here)
    rotation = u @ vh
    return Step(there @ rotation - here, rotation, np.zeros((3, 3)))


def _periodic(first: Atoms, second: Atoms) -> Step:
    cells = np.asarray(first.cell.complete()), np.asarray(second.cell.complete())
    fractions = np.linalg.solve(cells[1].T, second.positions.T).T - np.linalg.solve(cells[0].T, first.positions.T).T
    fractions = wrapped(fractions, first.pbc)
    mean_cell = (cells[0] + cells[1]) / 2
    displacement = (fractions - fractions.mean(axis=0)) @ mean_cell
    gradient = np.linalg.solve(mean_cell, cells[1] - cells[0])
    return Step(displacement, np.eye(3), (gradient + gradient.T) / 2)


def wrapped(fractions: Array, pbc: Array) -> Array:
    """Differences of fractional coordinates, (…, N, 3), to the nearest image about their common translation.

    The common translation is the circular mean, which does not care where the cell was cut.
    """
    angle = np.angle(np.exp(2j * np.pi * fractions).mean(axis=-2, keepdims=True))
    common = np.where(pbc, angle / (2 * np.pi), 0.0)
    relative = fractions - common
    return np.where(pbc, relative - np.round(relative), relative)
