"""The same crystal in another basis, another orientation, another order of atoms: which is which."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from ase import Atoms
from ase.geometry import minkowski_reduce
from numpy.typing import NDArray

from mlip.errors import InputError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Alignment:
    """How one primitive cell lies on another.

    Attributes:
        rotation: (3, 3) orthogonal, proper or not: a Cartesian column vector v of theirs is ``rotation @ v`` in ours.
        order: (n,) their atom at each of our places.
    """

    rotation: Array
    order: NDArray[np.int64]

    def tensors(self, theirs: Array) -> Array:
        """(n, 3, 3) tensors of their atoms, at our atoms and along our axes."""
        return np.asarray(self.rotation @ theirs[self.order] @ self.rotation.T)


def align(theirs: Atoms, ours: Atoms, *, tolerance: float = 0.03) -> Alignment:
    """Lay one primitive cell onto another, up to strain.

    Lattice vectors correspond when their metric tensors do, each relative to its volume; of all such bases the first
    is taken that also brings the atoms together. Operations of the crystal's own point group are equally good:
    symmetric tensors do not tell them apart.

    Args:
        theirs: A primitive cell.
        ours: The same crystal, another choice of cell.
        tolerance: Relative, of lengths and positions.

    Returns:
        The rotation and the order of atoms.

    Raises:
        InputError: They are not the same crystal.
    """
    if sorted(theirs.numbers) == sorted(ours.numbers):
        scale = (ours.cell.volume / theirs.cell.volume) ** (1 / 3)
        start, _ = minkowski_reduce(theirs.cell.array * scale)
        target, _ = minkowski_reduce(ours.cell.array)
        fractional = theirs.cell.array * scale @ np.linalg.inv(start)
        inside = theirs.get_scaled_positions(wrap=False) @ fractional
        for basis in bases_with_metric(target, start, tolerance):
            order = _matching(inside @ basis, theirs.numbers, ours, target, tolerance)
            if order is not None:
                return Alignment(_nearest_rotation((np.linalg.inv(start) @ basis @ target).T), order)
    raise InputError(f"{theirs.get_chemical_formula()} and {ours.get_chemical_formula()} are not the same crystal")


def bases_with_metric(lattice: Array, wanted: Array, tolerance: float) -> list[Array]:
    """Integer matrices M such that the rows of M · lattice have the lengths and angles of ``wanted``.

    Args:
        lattice: (3, 3) rows, Å.
        wanted: (3, 3) rows, Å; as large as a supercell of ``lattice``.
        tolerance: Relative to the lengths.
    """
    lengths = np.linalg.norm(wanted, axis=1)
    # |n| ≤ |v| |b|, with b the reciprocal vector of the component n.
    reach = np.ceil(lengths.max() * (1 + tolerance) * np.linalg.norm(np.linalg.inv(lattice), axis=0)).astype(int)
    grid = np.array(list(product(*[range(-n, n + 1) for n in reach])), dtype=np.float64)
    vectors = grid @ lattice
    norms = np.linalg.norm(vectors, axis=1)
    rows = [np.flatnonzero(np.abs(norms - length) < tolerance * length) for length in lengths]
    metric, slack = wanted @ wanted.T, 2 * tolerance * np.outer(lengths, lengths)
    found = []
    for i, j in product(rows[0], rows[1]):
        if abs(vectors[i] @ vectors[j] - metric[0, 1]) > slack[0, 1]:
            continue
        fits = (np.abs(vectors[rows[2]] @ vectors[i] - metric[0, 2]) < slack[0, 2]) & (
            np.abs(vectors[rows[2]] @ vectors[j] - metric[1, 2]) < slack[1, 2]
        )
        found += [grid[[i, j, k]] for k in rows[2][fits]]
    return [basis for basis in found if abs(np.linalg.det(basis)) > 0.5]


def _matching(
    inside: Array, numbers: NDArray[np.int64], ours: Atoms, lattice: Array, tolerance: float
) -> NDArray[np.int64] | None:
    """For each of our atoms theirs at the same place, for some common shift of the origin; None without one."""
    places = ours.positions @ np.linalg.inv(lattice)
    limit = tolerance * (ours.cell.volume / len(ours)) ** (1 / 3)
    for candidate in np.flatnonzero(ours.numbers == numbers[0]):
        gap = (inside + places[candidate] - inside[0])[None] - places[:, None]
        distance = np.linalg.norm((gap - np.rint(gap)) @ lattice, axis=-1)
        distance[ours.numbers[:, None] != numbers[None]] = np.inf
        order = distance.argmin(axis=1)
        if distance.min(axis=1).max() < limit and len(set(order)) == len(order):
            return order
    return None


def _nearest_rotation(matrix: Array) -> Array:
    """The orthogonal factor of a polar decomposition: strain is no rotation."""
    left, _, right = np.linalg.svd(matrix)
    return np.asarray(left @ right)
