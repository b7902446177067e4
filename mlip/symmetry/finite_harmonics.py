"""Functions on a finite group: real irreps as projectors, subgroups as averages.

The values e(g) = h(g·y) of a function at the images of a structure under a group G are a vector of the regular
representation. Its parts by irrep are the Fourier transform of relaxed group convolutions (Wang et al., 2310.02299),
taken of the function itself instead of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlip.symmetry.characters import character, irrep_name
from mlip.symmetry.irrep_names import mulliken
from mlip.symmetry.matrix_group import MatrixGroup, Subgroup

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FiniteIrrep:
    """A real irrep of a finite group.

    Attributes:
        name: Mulliken's symbol.
        characters: (n,) real; of a complex pair the sum of both.
        projector: (n, n) on functions e(g), onto what transforms by it under h(y) → h(g y).
        tensors: The (l, p) up to l = 4 that contain it, besides 0e.
    """

    name: str
    characters: Array
    projector: Array
    tensors: tuple[str, ...]

    @property
    def trivial(self) -> bool:
        """Whether it is the identity representation."""
        return bool(np.abs(self.characters - 1).max() < 1e-6)


def finite_irreps(group: MatrixGroup) -> list[FiniteIrrep]:
    """All real irreps, the identity representation first.

    Sums over classes of conjugate elements commute with everything; a random combination of them, made symmetric,
    takes one value on each isotypic part of the regular representation.
    """
    n = len(group)
    quotient = group.table[:, group.inverses].T  # quotient[g0, g] = g·g0⁻¹
    weights = np.zeros(n)
    rng = np.random.default_rng(0)
    for elements in _classes(group):
        weights[elements] = rng.normal()
    weights = weights + weights[group.inverses]
    values, vectors = np.linalg.eigh(weights[quotient])
    edges = np.flatnonzero(np.diff(values) > 1e-8) + 1
    parts = [v @ v.T for v in np.split(vectors, edges, axis=1)]
    irreps = [_irrep(group, projector) for projector in parts]
    return sorted(irreps, key=lambda i: (not i.trivial, i.characters[0], i.name))


def _classes(group: MatrixGroup) -> list[list[int]]:
    found: list[list[int]] = []
    seen: set[int] = set()
    for h in range(len(group)):
        if h not in seen:
            images = set(group.table[group.table[:, h], group.inverses].tolist())
            found.append(sorted(images))
            seen |= images
    return found


def _irrep(group: MatrixGroup, projector: Array) -> FiniteIrrep:
    rank = float(np.trace(projector))
    root = np.sqrt(rank)
    # An irrep of dimension d fills d² dimensions of the regular representation, a complex pair 2d².
    dimension = root if abs(root - round(root)) < 1e-6 else np.sqrt(rank / 2)
    # projector[1, g] = d/|G| χ(g), as the identity is the first element
    characters = projector[0] * len(group) / dimension
    tensors = [
        irrep_name(l, p)
        for l in range(5)
        for p in (1, -1)
        if (l, p) != (0, 1) and (character(group.elements, l, 1 if p == 1 else -1) @ characters) / len(group) > 0.5
    ]
    name = mulliken(group.elements, characters.astype(np.complex128))
    return FiniteIrrep(name, characters, projector, tuple(tensors))


def subgroup_average(group: MatrixGroup, subgroup: Subgroup) -> Array:
    """(n, n): e(g) → the mean of e(k·g) over the subgroup's elements."""
    n = len(group)
    matrix = np.zeros((n, n))
    for k in subgroup:
        matrix[np.arange(n), group.table[k]] += 1 / len(subgroup)
    return matrix
