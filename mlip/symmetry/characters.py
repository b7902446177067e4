"""Which tensors a point group leaves alone: characters of O(3) subduced onto finite groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mlip.errors import InputError
from mlip.symmetry.matrix_group import MatrixGroup

Array = NDArray[np.float64]
Parity = Literal[1, -1]


def character(matrices: Array, l: int, parity: Parity) -> Array:
    """χ_l(g) of O(3)'s irrep (l, parity) for orthogonal matrices, (n, 3, 3) → (n,).

    sin((2l+1)θ/2) / sin(θ/2) with θ the angle of the rotation part det(g)·g, times the parity where det(g) = −1.
    """
    matrices = np.asarray(matrices, dtype=np.float64)
    sign = np.rint(np.linalg.det(matrices))
    cosine = np.clip((np.trace(matrices, axis1=-2, axis2=-1) * sign - 1) / 2, -1, 1)
    rotation = 1 + 2 * sum((np.cos(m * np.arccos(cosine)) for m in range(1, l + 1)), np.zeros_like(cosine))
    return np.asarray(rotation * np.where(sign > 0, 1, parity), dtype=np.float64)


def invariant_count(group: MatrixGroup, l: int, parity: Parity) -> int:
    """How many components of an (l, parity) tensor may be non-zero when the group is kept: ⟨χ⟩."""
    return round(float(character(group.elements, l, parity).mean()))


def irrep_name(l: int, parity: Parity) -> str:
    """Such as ``1o`` or ``2e``."""
    return f"{l}{'e' if parity == 1 else 'o'}"


@dataclass(frozen=True)
class BreakingTensor:
    """The lightest tensor whose presence lowers a point group S to K exactly.

    Attributes:
        l: Degree.
        parity: +1 or −1.
        components: (2l+1,) of unit length, in e3nn's order; a generic member of Fix_K.
        freedom: Number of free components, dim Fix_K.
    """

    l: int
    parity: Parity
    components: Array
    freedom: int

    @property
    def name(self) -> str:
        """Such as ``1o`` or ``2e``."""
        return irrep_name(self.l, self.parity)

    @property
    def cartesian(self) -> Array | None:
        """The number (l = 0), vector (l = 1) or symmetric traceless matrix (l = 2); None above."""
        if self.l == 0:
            return self.components
        if self.l == 1:
            return self.components  # e3nn's order of l = 1 is x, y, z
        if self.l == 2:
            return _quadrupole(self.components)
        return None

    def turned(self, matrices: Array) -> Array:
        """The tensor under orthogonal matrices, (n, 3, 3) → (n, 2l+1)."""
        return np.asarray(wigner_matrices(matrices, self.l, self.parity) @ self.components)


def _quadrupole(c: Array) -> Array:
    """e3nn's l = 2 components (xz, xy, 2y² − x² − z², yz, z² − x²) as a matrix of the same norm."""
    off = np.sqrt(0.5) * np.array([[0, c[1], c[0]], [c[1], 0, c[3]], [c[0], c[3], 0]])
    diagonal = c[2] * np.array([-1, 2, -1]) / np.sqrt(6) + c[4] * np.array([-1, 0, 1]) / np.sqrt(2)
    return np.asarray(off + np.diag(diagonal), dtype=np.float64)


def lightest_tensor(group: MatrixGroup, subgroup: MatrixGroup, highest: int = 9) -> BreakingTensor | None:
    """The tensor of lowest degree whose stabiliser in S is exactly K.

    An element s fixes all of Fix_K where joining it to K takes no invariant away; so the stabiliser of a generic
    member follows from characters alone.

    Args:
        group: S, a point group in its true orientation.
        subgroup: K, some of its elements.
        highest: The degree up to which to look.

    Returns:
        The tensor; None when no single one up to ``highest`` does it (a sum of several then will).

    Raises:
        InputError: K is not a subgroup of S.
    """
    kept = frozenset(group.indices(subgroup.elements).tolist())
    joins = {group.closure(kept | {s}) for s in range(len(group)) if s not in kept}
    for l in range(highest + 1):
        for parity in _parities(l):
            values = character(group.elements, l, parity)
            free = _mean(values, kept)
            if free and all(_mean(values, join) < free for join in joins):
                return BreakingTensor(l, parity, generic_invariant(subgroup, l, parity), free)
    return None


def _parities(l: int) -> tuple[Parity, Parity]:
    """The natural parity (−1)^l first: those are the tensors that fields and strains carry."""
    return (1, -1) if l % 2 == 0 else (-1, 1)


def _mean(values: Array, members: frozenset[int]) -> int:
    return round(float(values[list(members)].mean()))


def generic_invariant(group: MatrixGroup, l: int, parity: Parity) -> Array:
    """A member of Fix_K that nothing but K's own invariance restricts: (2l+1,) of unit length.

    Raises:
        InputError: There is none.
    """
    basis = invariant_basis(group, l, parity)
    if not len(basis):
        raise InputError(f"no {irrep_name(l, parity)} tensor is invariant")
    # Incommensurate weights, so that no operation is kept by accident.
    mixed = (1 / np.sqrt(np.arange(1, len(basis) + 1) ** 2 + 1.37)) @ basis
    return np.asarray(mixed / np.linalg.norm(mixed), dtype=np.float64)


def invariant_basis(group: MatrixGroup, l: int, parity: Parity) -> Array:
    """An orthonormal basis (k, 2l+1) of the (l, parity) tensors that the group leaves alone."""
    projector = wigner_matrices(group.elements, l, parity).mean(axis=0)
    values, vectors = np.linalg.eigh((projector + projector.T) / 2)
    basis = vectors[:, values > 0.5].T
    signs = np.sign(basis[np.arange(len(basis)), np.abs(basis).argmax(axis=1)]) if len(basis) else np.empty(0)
    return np.asarray(basis * signs[:, None], dtype=np.float64)


def wigner_matrices(matrices: Array, l: int, parity: Parity) -> Array:
    """D^(l, parity)(g) in e3nn's basis, (n, 3, 3) → (n, 2l+1, 2l+1).

    From spherical harmonics at enough points, Y(g r) = D(g) Y(r), so that nothing of e3nn's default dtype enters.
    """
    import torch
    from e3nn import o3

    points = torch.as_tensor(np.random.default_rng(0).normal(size=(4 * l + 4, 3)))
    turns = torch.as_tensor(np.asarray(matrices, dtype=np.float64))
    proper = turns * torch.linalg.det(turns)[:, None, None].round()
    before = o3.spherical_harmonics(l, points, normalize=True, normalization="component")
    after = o3.spherical_harmonics(l, points @ proper.mT, normalize=True, normalization="component")
    rotation = (torch.linalg.pinv(before) @ after).mT
    sign = torch.where(torch.linalg.det(turns) > 0, 1.0, float(parity)).to(rotation.dtype)
    return np.asarray((rotation * sign[:, None, None]).numpy(), dtype=np.float64)
