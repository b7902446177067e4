"""Finite groups of matrices: multiplication table, all subgroups, conjugation, normalisers, complements.

Elements are kept as an array of matrices and spoken of by index; index 0 is the identity. Subgroups are frozen
sets of indices.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from mlip.errors import InputError

Array = NDArray[np.float64]
Subgroup = frozenset[int]
TOLERANCE = 1e-6  # elements of a crystallographic or axial group differ by far more


class MatrixGroup:
    """A finite group of real matrices.

    Args:
        elements: (n, d, d), closed under multiplication, each once, in any order.

    Raises:
        InputError: They are not closed, or the identity is missing.
    """

    def __init__(self, elements: Array | Sequence[Array]) -> None:
        matrices = np.asarray(elements, dtype=np.float64)
        identity = np.eye(matrices.shape[-1])
        first = np.flatnonzero(np.abs(matrices - identity).max(axis=(1, 2)) < TOLERANCE)
        if len(first) != 1:
            raise InputError("a matrix group contains the identity exactly once")
        order = [int(first[0]), *(i for i in range(len(matrices)) if i != first[0])]
        self.elements: Array = matrices[order]
        self._tree = cKDTree(self.elements.reshape(len(order), -1))

    @classmethod
    def generated_by(cls, generators: Sequence[Array], largest: int = 1000) -> MatrixGroup:
        """All products of the generators.

        Raises:
            InputError: There are more than ``largest``.
        """
        dimension = np.asarray(generators[0]).shape[0] if len(generators) else 3
        found, frontier = [np.eye(dimension)], [np.eye(dimension)]
        while frontier:
            products = [a @ np.asarray(g, dtype=np.float64) for a in frontier for g in generators]
            frontier = []
            for product in products:
                if np.abs(np.array(found) - product).max(axis=(1, 2)).min() > TOLERANCE:
                    found.append(product)
                    frontier.append(product)
            if len(found) > largest:
                raise InputError(f"the generators make more than {largest} elements")
        return cls(np.array(found))

    def __len__(self) -> int:
        return len(self.elements)

    def indices(self, matrices: Array) -> NDArray[np.int64]:
        """Where the group holds these matrices, (m, d, d) → (m,).

        Raises:
            InputError: One of them is not in the group.
        """
        rows = np.asarray(matrices, dtype=np.float64).reshape(-1, self.elements[0].size)
        distance, index = self._tree.query(rows)
        if np.max(distance, initial=0.0) > 10 * TOLERANCE:
            raise InputError("a matrix is not an element of the group")
        return np.asarray(index, dtype=np.int64)

    @cached_property
    def table(self) -> NDArray[np.int64]:
        """(n, n): table[a, b] is the index of a·b."""
        n = len(self)
        return np.stack([self.indices(a @ self.elements) for a in self.elements]).reshape(n, n)

    @cached_property
    def inverses(self) -> NDArray[np.int64]:
        """(n,): the index of each element's inverse."""
        return np.asarray(np.argmax(self.table == 0, axis=1), dtype=np.int64)

    def closure(self, elements: Collection[int]) -> Subgroup:
        """The smallest subgroup that contains these elements."""
        return closure(self.table, elements)

    @cached_property
    def subgroups(self) -> list[Subgroup]:
        """All subgroups, smallest first: joins of cyclic ones until nothing new appears."""
        cyclic = {self.closure([i]) for i in range(len(self))}
        found, frontier = set(cyclic), set(cyclic)
        while frontier:
            joined = {self.closure(h | c) for h in frontier for c in cyclic if not c <= h}
            frontier = joined - found
            found |= frontier
        return sorted(found, key=lambda h: (len(h), sorted(h)))

    def conjugate(self, g: int, subgroup: Iterable[int]) -> Subgroup:
        """g·H·g⁻¹."""
        h = np.fromiter(subgroup, dtype=np.int64)
        return frozenset(self.table[self.table[g, h], self.inverses[g]].tolist())

    def conjugates(self, subgroup: Subgroup, under: Iterable[int] | None = None) -> set[Subgroup]:
        """The orbit of a subgroup under conjugation by the group, or by the elements ``under``."""
        by = range(len(self)) if under is None else under
        return {self.conjugate(g, subgroup) for g in by}

    def normaliser(self, subgroup: Subgroup, within: Subgroup | None = None) -> Subgroup:
        """{g: g·H·g⁻¹ = H}, among the elements ``within`` or all."""
        among = range(len(self)) if within is None else within
        return frozenset(g for g in among if self.conjugate(g, subgroup) == subgroup)

    def complements(self, subgroup: Subgroup, within: Subgroup, over: Subgroup = frozenset({0})) -> list[Subgroup]:
        """Subgroups H of ``within`` with H ∩ S = ``over`` and H·S = ``within``.

        With ``over`` trivial these are the complements of S; the sets of Xie and Smidt (2402.02681) are ideal
        where there is one.
        """
        size = len(within) * len(over) // len(subgroup)
        return [h for h in self.subgroups if len(h) == size and h <= within and h & subgroup == over]

    def subgroup(self, indices: Iterable[int]) -> MatrixGroup:
        """The matrices of a subgroup as a group of its own."""
        return MatrixGroup(self.elements[sorted(indices)])


def closure(table: NDArray[np.int64], elements: Collection[int]) -> Subgroup:
    """The smallest subgroup that contains these elements, from a multiplication table with the identity at 0."""
    members = np.zeros(len(table), dtype=bool)
    members[[0, *elements]] = True
    while True:
        inside = np.flatnonzero(members)
        members[table[np.ix_(inside, inside)]] = True
        if members.sum() == len(inside):
            return frozenset(inside.tolist())
