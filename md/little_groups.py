"""How the space group acts on the modes at q, and which modes belong together."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import spglib
from numpy.typing import NDArray

from mlip.md.dynamical import operations
from mlip.md.structure import PrimitiveCell

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]


@dataclass(frozen=True)
class LittleGroup:
    """The operations {W|w} that leave q alone up to a reciprocal lattice vector.

    Attributes:
        q: (3,) fractions.
        rotations: (g, 3, 3) integers, on fractional coordinates of the primitive cell.
        translations: (g, 3) fractions.
        cartesian: (g, 3, 3), the rotations in Cartesian columns.
        matrices: (g, 3n, 3n), what they do to eigenvectors of D(q); a lattice translation t is exp(−iq·t).
        symbol: International symbol of the point group of the rotations.
        phases: (g,), exp(iq·w) with the origin in a place where the matrices times these phases multiply like the
            rotations alone do, so that the modes have the names of that point group: the cell's origin or the
            inversion centre. None where there is none, as at the boundary of many non-symmorphic zones.
    """

    q: Array
    rotations: NDArray[np.int64]
    translations: Array
    cartesian: Array
    matrices: Complex
    symbol: str
    phases: Complex | None

    def characters(self, vectors: Complex) -> Complex:
        """χ(g) = tr(V† Γ(g) V), (g,)."""
        return np.einsum("ia,gij,ja->g", vectors.conj(), self.matrices, vectors, optimize=True)

    def leaves(self, vectors: Complex) -> float:
        """By how much the group leads out of the space of V: largest |Γ V − V V† Γ V|."""
        moved = self.matrices @ vectors
        return float(np.abs(moved - vectors @ (vectors.conj().T @ moved)).max())


def little_group(cell: PrimitiveCell, q: Array) -> LittleGroup:
    """The little group of q and its action on modes.

    u_j exp(iq·(R + r_j)) becomes R u_j exp(iG·r_k) exp(−i(q + G)·w) exp(iq·(R' + r_k)) where the operation sends
    atom j to k and q to q + G.
    """
    q = np.asarray(q, dtype=np.float64)
    positions, lattice = cell.atoms.get_scaled_positions(wrap=False), cell.atoms.cell.array
    chosen, matrices, shifts = [], [], []
    for i, (turn, matrix) in enumerate(operations(cell)):
        shift = q @ turn - q
        if np.abs(shift - np.rint(shift)).max() > 1e-5:
            continue
        phase = np.exp(2j * np.pi * (positions @ np.rint(shift) - (q @ turn) @ cell.translations[i]))
        matrices.append(np.repeat(phase, 3)[:, None] * matrix)
        chosen.append(i)
        shifts.append(np.rint(shift))
    rotations, translations = cell.rotations[chosen], cell.translations[chosen]
    found = spglib.get_pointgroup(rotations)
    return LittleGroup(
        q=q,
        rotations=rotations,
        translations=translations,
        cartesian=np.array([lattice.T @ w @ np.linalg.inv(lattice.T) for w in rotations]),
        matrices=np.array(matrices),
        symbol="" if found is None else str(found[0]).strip(),
        phases=_phases(q, rotations, translations, np.array(shifts)),
    )


def _phases(q: Array, rotations: NDArray[np.int64], translations: Array, shifts: Array) -> Complex | None:
    """exp(iq·w) from an origin where all G_g·w_h are integers (times 2π); None without such an origin."""
    inversion = np.flatnonzero((rotations == -np.eye(3, dtype=int)).all(axis=(1, 2)))
    for origin in [np.zeros(3), *(translations[inversion] / 2)]:
        moved = translations + rotations @ origin - origin
        factor = shifts @ moved.T
        if np.abs(factor - np.rint(factor)).max() < 1e-5:
            return np.asarray(np.exp(2j * np.pi * moved @ q))
    return None


def level_sets(frequencies: Array, vectors: Complex, group: LittleGroup, gap: float = 1e-4) -> list[slice]:
    """Which neighbouring levels belong together.

    Levels closer than ``gap`` (THz) are one set; a set that the group leads out of was cut through by the
    tolerance, and is joined with its nearer neighbour until it no longer is.

    Args:
        frequencies: (m,) THz in rising order.
        vectors: (3n, m).
        group: The little group.
        gap: THz.
    """
    cuts = [0, *(np.flatnonzero(np.diff(frequencies) > gap) + 1).tolist(), len(frequencies)]
    i = 0
    while i < len(cuts) - 1:
        if len(cuts) == 2 or group.leaves(vectors[:, cuts[i] : cuts[i + 1]]) < 1e-2:
            i += 1
            continue
        below = np.inf if i == 0 else frequencies[cuts[i]] - frequencies[cuts[i] - 1]
        last = i == len(cuts) - 2
        above = np.inf if last else frequencies[cuts[i + 1]] - frequencies[cuts[i + 1] - 1]
        cuts.pop(i + 1 if above <= below else i)
        i = max(0, i - 1)
    return [slice(a, b) for a, b in pairwise(cuts)]
