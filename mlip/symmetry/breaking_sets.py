"""Symmetry-breaking sets: finite sets of tensors that single out one of several equivalent states.

Xie and Smidt (2402.02681): a set that a potential may draw from without losing equivariance is an orbit under
the normaliser of the structure's own point group S. It is ideal, as small as the number of states, where S (or K
in S) has a complement there.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlip.errors import InputError
from mlip.symmetry.matrix_group import MatrixGroup, Subgroup
from mlip.symmetry.point_groups import normaliser, point_group_name


@dataclass(frozen=True)
class BreakingSet:
    """The smallest equivariant set that lowers S to K.

    Attributes:
        group: Schoenflies symbol of S.
        subgroup: Schoenflies symbol of K.
        normaliser: Schoenflies symbol of N(S) in O(3).
        size: Number of members.
        states: |S|/|K|, the number of states to tell apart.
    """

    group: str
    subgroup: str
    normaliser: str
    size: int
    states: int

    @property
    def ideal(self) -> bool:
        """One member for each state."""
        return self.size == self.states


class BreakingSets:
    """The symmetry-breaking sets of one point group S, whose normaliser is found once.

    Args:
        group: S, in its true orientation.

    Raises:
        InputError: No finite set exists: S has a single axis or none, so its normaliser is continuous.
    """

    def __init__(self, group: MatrixGroup) -> None:
        self.group, self.name = group, point_group_name(group.elements)
        whole = normaliser(group)
        if isinstance(whole, str):
            raise InputError(
                f"no finite symmetry-breaking set exists for {self.name}: its normaliser in O(3) is {whole}, which "
                f"turns any tensor continuously",
                mend="fix the orientation by a field or by the crystal's axes instead",
            )
        self.normaliser = whole
        self._s: Subgroup = frozenset(whole.indices(group.elements).tolist())

    def to(self, subgroup: MatrixGroup | None = None) -> BreakingSet:
        """The smallest set that lowers S to K (to nothing, when K is left out).

        Raises:
            InputError: K is not in S.
        """
        whole = self.normaliser
        k = frozenset({0}) if subgroup is None else frozenset(whole.indices(subgroup.elements).tolist())
        if not k <= self._s:
            raise InputError(f"the subgroup is not contained in {self.name}")
        return BreakingSet(
            group=self.name,
            subgroup=point_group_name(whole.elements[sorted(k)]),
            normaliser=point_group_name(whole.elements),
            size=self._smallest(k),
            states=len(self.group) // len(k),
        )

    def _smallest(self, k: Subgroup) -> int:
        """|N(S, K)| over the largest subgroup of it that meets S in K alone."""
        whole, equivalent = self.normaliser, self.normaliser.conjugates(k, self._s)
        allowed = frozenset(g for g in range(len(whole)) if whole.conjugate(g, k) in equivalent)
        return len(allowed) // max(len(h) for h in whole.subgroups if h <= allowed and h & self._s == k)


def breaking_set(group: MatrixGroup, subgroup: MatrixGroup | None = None) -> BreakingSet:
    """The smallest finite symmetry-breaking set from S to K: `BreakingSets` for a single pair.

    Args:
        group: S, in its true orientation.
        subgroup: K, some of its elements; None for {1}.

    Raises:
        InputError: No finite set exists, or K is not in S.
    """
    return BreakingSets(group).to(subgroup)
