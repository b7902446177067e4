"""Isotropy subgroups: which subgroups an order parameter can leave, and the subspaces they fix.

A subspace Fix(H) and its stabiliser determine one another. The lattice of fixed subspaces of one representation is
the closure of the Fix(g) under intersection; for coupled representations V ⊕ W the isotropy subgroups are the
intersections Stab(v) ∩ Stab(w), so no large subspace is ever searched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlip.errors import InputError
from mlip.symmetry.supercell import Mask, SupercellGroup

Array = NDArray[np.float64]
ROUND = 5  # decimals by which projectors are told apart


@dataclass(frozen=True)
class IsotropySubgroup:
    """One class of equivalent isotropy subgroups.

    Attributes:
        mask: (order,) the operations of one member.
        members: Number of equivalent subgroups.
        dimension: Free parameters of the order parameter.
    """

    mask: Mask
    members: int
    dimension: int

    @property
    def order(self) -> int:
        """Number of operations."""
        return int(self.mask.sum())


def isotropy_subgroups(matrices: Array, limit: int = 20_000) -> list[Mask]:
    """All stabilisers of vectors of one representation.

    Args:
        matrices: (order, d, d), orthogonal.
        limit: Most subspaces to go through.

    Returns:
        Masks (order,), largest subgroup first; the whole group (of the zero vector) included.

    Raises:
        InputError: There are more subspaces than ``limit``.
    """
    _, first, inverse = np.unique(
        np.round(matrices, ROUND).reshape(len(matrices), -1), axis=0, return_index=True, return_inverse=True
    )
    distinct = matrices[first]
    single = {_key(p): p for p in map(_fixed_by_one, distinct)}
    found, frontier = dict(single), list(single.values())
    while frontier:
        new: dict[bytes, Array] = {}
        for p in frontier:
            for q in single.values():
                meet = _intersection(p, q)
                key = _key(meet)
                if key not in found and key not in new:
                    new[key] = meet
        found |= new
        frontier = list(new.values())
        if len(found) > limit:
            raise InputError(
                f"more than {limit} isotropy subspaces", mend="couple fewer modes or a smaller supercell"
            )
    masks = {_stabiliser(p, distinct)[inverse.ravel()].tobytes() for p in found.values()}
    return _sorted(masks)


def coupled_subgroups(one: Sequence[Mask], other: Sequence[Mask]) -> list[Mask]:
    """The isotropy subgroups of two representations together, from those of each."""
    return _sorted({(a & b).tobytes() for a in one for b in other})


def isotropy_classes(
    group: SupercellGroup, subgroups: Iterable[Mask], bases: Sequence[Array]
) -> list[IsotropySubgroup]:
    """One member of each class of equivalent subgroups, largest first.

    Args:
        group: The supercell's group.
        subgroups: Isotropy subgroups, all members of each class.
        bases: The order parameters, each (d, atoms, 3) orthonormal.

    Returns:
        The classes, the parent itself first.
    """
    matrices = [group.matrices(basis) for basis in bases]
    seen: set[bytes] = set()
    classes = []
    for mask in subgroups:
        if mask.tobytes() in seen:
            continue
        orbit = group.conjugates(mask)
        seen |= orbit
        classes.append(IsotropySubgroup(mask, len(orbit), sum(fixed_dimension(m, mask) for m in matrices)))
    return classes


def fixed_dimension(matrices: Array, mask: Mask) -> int:
    """Dim Fix(H) = ⟨tr D(h)⟩."""
    return round(float(np.trace(matrices[mask], axis1=1, axis2=2).mean()))


def fixed_vectors(matrices: Array, mask: Mask | None = None) -> Array:
    """An orthonormal basis (k, d) of Fix(H)."""
    chosen = matrices if mask is None else matrices[mask]
    projector = chosen.mean(axis=0)
    values, vectors = np.linalg.eigh((projector + projector.T) / 2)
    return np.asarray(vectors[:, values > 0.5].T, dtype=np.float64)


def maximal_subgroups(masks: Iterable[Mask]) -> list[Mask]:
    """Those isotropy subgroups that no other one (the whole apart) contains: the minimal subspaces."""
    proper = _sorted({m.tobytes() for m in masks})
    whole = max(int(m.sum()) for m in proper)
    proper = [m for m in proper if int(m.sum()) < whole]
    return [m for m in proper if not any((m <= other).all() and other.sum() > m.sum() for other in proper)]


def _sorted(masks: set[bytes]) -> list[Mask]:
    arrays = [np.frombuffer(m, dtype=bool) for m in masks]
    return sorted(arrays, key=lambda m: (-int(m.sum()), m.tobytes()))


def _key(projector: Array) -> bytes:
    return bytes((np.round(projector, ROUND) + 0.0).tobytes())


def _fixed_by_one(matrix: Array) -> Array:
    """The projector onto Fix(g): g x = x ⟺ (g + gᵀ)/2 x = x, as g is orthogonal."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    fixed = vectors[:, values > 1 - 1e-7]
    return np.asarray(fixed @ fixed.T, dtype=np.float64)


def _intersection(p: Array, q: Array) -> Array:
    values, vectors = np.linalg.eigh((p + q) / 2)
    common = vectors[:, values > 1 - 1e-7]
    return np.asarray(common @ common.T, dtype=np.float64)


def _stabiliser(projector: Array, matrices: Array) -> Mask:
    return np.asarray(np.abs(matrices @ projector - projector).max(axis=(1, 2)) < 1e-5, dtype=bool)
