"""Domain variants: the equivalent states of lower symmetry into which a parent crystal can go.

With G the parent's space group and H the child's, the variants are the cosets G/H: |S|/|K| orientations (S and K
the point groups), each in as many positions as the child's lattice is thinner than the parent's (antiphase
domains).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from numpy.typing import NDArray

from mlip.errors import InputError
from mlip.symmetry.breaking_sets import BreakingSet, breaking_set
from mlip.symmetry.characters import BreakingTensor, lightest_tensor
from mlip.symmetry.crystal import Integers, SpaceGroup, operation_name, primitive_of
from mlip.symmetry.matching import Limits, StructureMatch, match_structures
from mlip.symmetry.matrix_group import MatrixGroup
from mlip.symmetry.point_groups import point_group_name
from mlip.symmetry.supercell import lattice_points

Array = NDArray[np.float64]


@dataclass(frozen=True)
class DomainVariants:
    """The domain variants of a child in its parent.

    Attributes:
        parent: International symbol and number.
        child: International symbol and number.
        parent_point_group: Schoenflies symbol of S.
        child_point_group: Schoenflies symbol of K.
        orientations: (|S|/|K|, 3, 3) Cartesian operations of the parent, one for each orientation variant, the
            identity first: applied to the child they give the others.
        translations: (index, 3) Å, lattice vectors of the parent that the child has lost, zero first.
        strain: (3, 3) spontaneous strain U − 1 in the parent's frame, averaged over K.
        match: How the child lies on the parent.
        group: S, Cartesian.
        kept: K, Cartesian, in the parent's frame.
    """

    parent: str
    child: str
    parent_point_group: str
    child_point_group: str
    orientations: Array
    translations: Array
    strain: Array
    match: StructureMatch
    group: MatrixGroup
    kept: MatrixGroup

    @property
    def count(self) -> int:
        """All domain states: orientations times translations."""
        return len(self.orientations) * len(self.translations)

    @cached_property
    def tensor(self) -> BreakingTensor | None:
        """The lightest tensor that tells orientations apart; None where K = S or no single tensor does."""
        return lightest_tensor(self.group, self.kept) if len(self.kept) < len(self.group) else None

    @cached_property
    def tensors(self) -> Array:
        """(orientations, 2l+1): that tensor for each orientation variant, e3nn's order.

        Raises:
            InputError: No single tensor tells them apart.
        """
        if self.tensor is None:
            raise InputError("no single tensor tells these orientation variants apart")
        return self.tensor.turned(self.orientations)

    @cached_property
    def strains(self) -> Array:
        """(orientations, 3, 3): the spontaneous strain of each orientation variant."""
        return np.asarray(self.orientations @ self.strain @ self.orientations.transpose(0, 2, 1))

    @property
    def ferroelastic_count(self) -> int:
        """Number of different spontaneous strains among the orientation variants (to 1e-4)."""
        return len(np.unique(np.round(self.strains, 4).reshape(len(self.strains), -1) + 0.0, axis=0))

    def symmetry_breaking_set(self) -> BreakingSet:
        """The smallest set of tensors that a potential may draw from and stay equivariant (2402.02681).

        Raises:
            InputError: S has a single axis or none: there is no finite one.
        """
        return breaking_set(self.group, self.kept)

    @property
    def lines(self) -> list[str]:
        """What was found, for people."""
        names = ", ".join(operation_name(g) for g in self.orientations[:12])
        names += ", …" if len(self.orientations) > 12 else ""
        numbers = f"{len(self.orientations)} orientation × {len(self.translations)} translation variants"
        lines = [
            f"{self.parent} → {self.child}: {numbers} = {self.count} domain states",
            f"point groups {self.parent_point_group} → {self.child_point_group}; orientations by {names}",
        ]
        if len(self.translations) > 1:
            vectors = ", ".join("(" + " ".join(f"{x:.3f}" for x in t) + ")" for t in self.translations)
            lines.append(f"translations (antiphase domains), Å: {vectors}")
        lines.append(self._tensor_line())
        lines.append(
            f"{self.ferroelastic_count} different spontaneous strains, largest {np.abs(self.strain).max():.4f}"
        )
        lines.append(f"the child's atoms are up to {self.match.largest_displacement:.3f} Å from the parent's sites")
        return lines

    def _tensor_line(self) -> str:
        if len(self.kept) == len(self.group):
            return "all variants have the same orientation: no tensor of the point group tells them apart"
        if self.tensor is None:
            return "no single tensor up to l = 9 tells the orientations apart"
        try:
            found = self.symmetry_breaking_set()
            closing = f"{'ideal' if found.ideal else 'not ideal'} symmetry-breaking set of {found.size}"
        except InputError as error:
            closing = error.problem
        return f"lightest tensor that tells orientations apart: {self.tensor.name}; {closing}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        tensor = self.tensor
        return {
            "parent": self.parent,
            "child": self.child,
            "point_groups": [self.parent_point_group, self.child_point_group],
            "orientation_variants": len(self.orientations),
            "translation_variants": len(self.translations),
            "domain_states": self.count,
            "orientations": [{"name": operation_name(g), "matrix": g} for g in self.orientations],
            "translations_A": self.translations,
            "lightest_tensor": None
            if tensor is None
            else {
                "irrep": tensor.name,
                "e3nn_components": self.tensors,
                "cartesian": None if tensor.cartesian is None else tensor.cartesian,
            },
            "spontaneous_strain": self.strain,
            "ferroelastic_states": self.ferroelastic_count,
            "supercell": self.match.matrix,
            "largest_displacement_A": self.match.largest_displacement,
        }


def domain_variants(
    parent: Atoms, child: Atoms, *, symprec: float = 1e-3, limits: Limits | None = None
) -> DomainVariants:
    """The equivalent states that the symmetry of a parent makes out of a child.

    The child may be given in any cell and orientation, in any order of atoms, with its spontaneous strain.

    Args:
        parent: The crystal of higher symmetry.
        child: A distortion of it.
        symprec: Å, for both space groups.
        limits: How far the child may be from the parent; see `Limits`.

    Returns:
        Orientation and translation variants apart, the operations that relate them, and the lightest tensor that
        tells the orientations apart.

    Raises:
        InputError: The child does not lie on the parent, or has operations that the parent lacks.
    """
    base, low = primitive_of(parent, symprec), primitive_of(child, symprec)
    match = match_structures(base, low, limits)
    high_group, low_group = SpaceGroup.of(base, symprec), SpaceGroup.of(low, symprec)
    kept = _in_parent(low_group, high_group, match)
    whole = MatrixGroup(high_group.point_operations)
    small = MatrixGroup(whole.elements[sorted(set(whole.indices(high_group.cartesian[kept]).tolist()))])
    strain = np.mean([g @ match.strain @ g.T for g in small.elements], axis=0)
    return DomainVariants(
        parent=high_group.symbol,
        child=low_group.symbol,
        parent_point_group=point_group_name(whole.elements),
        child_point_group=point_group_name(small.elements),
        orientations=whole.elements[_cosets(whole, small)],
        translations=find_mic(lattice_points(match.matrix) @ base.cell.array, match.matrix @ base.cell.array)[0],
        strain=strain,
        match=match,
        group=whole,
        kept=small,
    )


def _in_parent(low: SpaceGroup, high: SpaceGroup, match: StructureMatch) -> Integers:
    """Which rotation of the parent each operation of the child is.

    Raises:
        InputError: One of them is not an operation of the parent.
    """
    # Columns: x_parent = matrixᵀ (B⁻ᵀ x_child + offset), where the supercell's rows are basis · child rows.
    into = match.matrix.T @ np.linalg.inv(match.basis.T)
    origin = match.matrix.T @ match.offset
    found = []
    for w, t in zip(low.rotations, low.translations, strict=True):
        rotation = into @ w @ np.linalg.inv(into)
        translation = into @ t + origin - rotation @ origin
        same = np.abs(high.rotations - rotation).max(axis=(1, 2)) < 1e-6
        gaps = high.translations - translation
        gaps = np.linalg.norm((gaps - np.rint(gaps)) @ high.cell, axis=1)
        good = np.flatnonzero(same & (gaps < 0.1))
        if not len(good):
            raise InputError(
                f"not a subgroup child: {low.symbol} has an operation that {high.symbol} lacks",
                mend="give the structure of higher symmetry first, and try another --symprec",
            )
        found.append(int(good[0]))
    return np.array(found)


def _cosets(whole: MatrixGroup, small: MatrixGroup) -> list[int]:
    """One element of each left coset g·K, the identity first, proper ones where possible."""
    k = whole.indices(small.elements)
    proper = np.linalg.det(whole.elements) > 0
    angles = np.round(np.arccos(np.clip((np.trace(whole.elements, axis1=1, axis2=2) - 1) / 2, -1, 1)), 6)
    order = sorted(range(len(whole)), key=lambda g: (not proper[g], angles[g], g))
    seen: set[int] = set()
    chosen = []
    for g in order:
        if g not in seen:
            chosen.append(g)
            seen |= set(whole.table[g, k].tolist())
    return chosen
