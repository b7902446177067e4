"""A neighbour list with a skin: searched seldom, filtered at every step, always in the same order."""

from __future__ import annotations

import numpy as np
import torch
from ase import Atoms

from mlip.graph import AtomicGraph, graph_from_pairs, neighbor_pairs


class SkinNeighbors:
    """Candidates within cutoff + skin, kept until atoms or cell have moved too far.

    Between two searches an atom may have moved by at most half the skin, strain of the cell included: the
    positions at which the search was made are carried along with the cell before they are compared, and what
    the strain itself does to a candidate at cutoff + skin is subtracted from the skin.

    Args:
        cutoff: Å.
        skin: Å; 0 searches at every call.
    """

    def __init__(self, cutoff: float, skin: float = 0.5) -> None:
        self.cutoff, self.skin = cutoff, skin
        self._reference: Atoms | None = None
        self._pairs: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def graph(self, atoms: Atoms, index: np.ndarray, dtype: torch.dtype, device: torch.device | str) -> AtomicGraph:
        """The graph of all pairs within the cutoff."""
        source, target, shifts = self.pairs(atoms)
        return graph_from_pairs(atoms, index, source, target, shifts, dtype, device)

    def pairs(self, atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sources, targets and shifts of all pairs within the cutoff, in the order of a fresh search."""
        if self.skin <= 0:
            return neighbor_pairs(atoms, self.cutoff)
        if self._pairs is None or self._moved_too_far(atoms):
            self._pairs = neighbor_pairs(atoms, self.cutoff + self.skin)
            self._reference = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        source, target, shifts = self._pairs
        vectors = atoms.positions[source] - atoms.positions[target] + shifts @ atoms.cell.array
        near = np.einsum("ij,ij->i", vectors, vectors) < self.cutoff**2
        return source[near], target[near], shifts[near]

    def _moved_too_far(self, atoms: Atoms) -> bool:
        old = self._reference
        if old is None or len(old) != len(atoms) or (old.pbc != atoms.pbc).any():
            return True
        if not np.isfinite(atoms.positions).all():
            return True
        positions, allowed = old.positions, self.skin
        if (old.cell.array != atoms.cell.array).any():
            if old.cell.rank < 3 or atoms.cell.rank < 3:
                return True
            deformation = np.linalg.solve(old.cell.array, atoms.cell.array)
            positions = positions @ deformation
            stretch = float(
                np.linalg.norm(np.linalg.inv(deformation), 2)
            )  # how much closer strain brings a candidate
            allowed = (self.cutoff + self.skin) / stretch - self.cutoff
        moved = np.linalg.norm(atoms.positions - positions, axis=1)
        return bool(2 * moved.max() >= allowed)
