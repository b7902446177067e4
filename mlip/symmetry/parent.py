"""What a model breaks of a crystal's own point group: irreps and the subgroup that is left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlip.errors import InputError
from mlip.symmetry.crystal import SpaceGroup
from mlip.symmetry.evidence import LabelTest, Products, reorientation_tests, reorientations
from mlip.symmetry.finite_harmonics import FiniteIrrep, finite_irreps, subgroup_average
from mlip.symmetry.label_tests import Residuals
from mlip.symmetry.matrix_group import MatrixGroup, Subgroup
from mlip.symmetry.orientations import Evaluator, LabStructure, at_orientations, in_laboratory
from mlip.symmetry.point_groups import point_group, point_group_name
from mlip.symmetry.retained import INTERNATIONAL, LEVEL, LIMITING, MOST, NEGLIGIBLE, SLACK, RetainedGroup, main_axis

Array = NDArray[np.float64]

ROUNDING = 1e-9  # share of the power below which nothing is violated


def parent_group(parent: Atoms | str | MatrixGroup, symprec: float = 1e-3) -> MatrixGroup:
    """The point group of a parent crystal in laboratory axes.

    Args:
        parent: The crystal as it lies in the laboratory; or a Schoenflies symbol, main axis along z, secondary along
            x; or the group itself.
        symprec: Å.

    Raises:
        InputError: Unknown symbol, no crystal, or no symmetry at all.
    """
    if isinstance(parent, MatrixGroup):
        group = parent
    elif isinstance(parent, str):
        group = point_group(parent)
    else:
        group = MatrixGroup(SpaceGroup.of(in_laboratory([parent])[0].atoms, symprec).point_operations)
    if len(group) < 2:
        raise InputError("the parent has no symmetry that could be broken", mend="give the undistorted crystal")
    return group


@dataclass(frozen=True, eq=False)
class FiniteMeasurement:
    """A model at all images g·y of structures under a group.

    Attributes:
        group: G, in laboratory axes.
        irreps: Its real irreps.
        energies: (n, |G|) eV/atom.
        force_powers: irrep → (n,) mean square of the force component, eV²/Å².
        left: Labels minus the average over G; None without labels.
        pushes: (k, |G|): the model's forces along the residual forces, eV²/Å²; None without.
        push_powers: (k, |G|, |G|) products of the forces at two images, summed over components; None without.
    """

    group: MatrixGroup
    irreps: list[FiniteIrrep]
    energies: Array
    force_powers: dict[str, Array]
    left: Residuals | None
    pushes: Array | None
    push_powers: Array | None

    @classmethod
    def of(
        cls,
        structures: Sequence[LabStructure],
        evaluate: Evaluator,
        group: MatrixGroup,
        progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    ) -> FiniteMeasurement:
        """Evaluate the model at |G| orientations of each structure."""
        irreps = finite_irreps(group)
        found = [at_orientations(s, evaluate, group.elements) for s in progress(structures)]
        products = [o.forces @ o.forces.T for o in found]
        sizes = np.array([o.forces.shape[1] for o in found])
        powers = {
            i.name: np.array([np.trace(i.projector @ p) for p in products]) / len(group) / sizes for i in irreps
        }
        means = [o.forces.mean(axis=0) for o in found]
        left = Residuals.of(list(structures), [float(o.energies.mean()) for o in found], means)
        pushes = inner = None
        if left is not None and left.forces is not None:
            pushes = np.array([found[int(k)].forces @ r for k, r in zip(left.frames, left.forces, strict=True)])
            inner = np.array([products[int(k)] for k in left.frames])
        return cls(group, irreps, np.array([o.energies for o in found]), powers, left, pushes, inner)

    @property
    def broken(self) -> list[FiniteIrrep]:
        """All but the identity representation."""
        return [i for i in self.irreps if not i.trivial]

    def powers(self, irrep: FiniteIrrep) -> Array:
        """(n,) mean square over G of the energy's component, eV²/atom²."""
        return np.asarray(((self.energies @ irrep.projector.T) ** 2).mean(axis=1))

    def test(self, draws: int, rng: np.random.Generator) -> dict[str, LabelTest]:
        """Each irrep against the labels, and ``all`` of them together; nothing without labels."""
        if self.left is None or self.energies.var(axis=1).mean() < NEGLIGIBLE**2:
            return {}
        chosen = {len(self.group): reorientations(rng, draws, len(self.left.frames), len(self.group))}
        parts = {i.name: self._products(i.projector, range(len(self.group))) for i in self.broken}
        whole = self._products(sum((i.projector for i in self.broken), np.zeros(1)), range(len(self.group)))
        return {**reorientation_tests(parts, chosen), **reorientation_tests({"all": whole}, chosen)}

    def retained(self, draws: int, rng: np.random.Generator) -> RetainedGroup:
        """The largest subgroup of G that nothing speaks against; of equally large ones the least violated."""
        everything = frozenset(range(len(self.group)))
        whole = self._violations(everything)
        if whole.mean() < NEGLIGIBLE**2:
            symbol, axis = self._named(everything)
            return RetainedGroup(symbol, self.group.elements, axis, None, 0.0, None, {})
        order = sorted(self.group.subgroups, key=lambda h: (-len(h), float(self._violations(h).mean())))
        rejected: dict[str, float] = {}
        for subgroup in order:
            out = self._violations(subgroup)
            total = float(whole.mean()) or 1.0
            share, error = float(out.mean()) / total, float(out.std(ddof=1) / np.sqrt(len(out))) / total
            p = self._p_against(subgroup, draws, rng, share)
            symbol, axis = self._named(subgroup)
            whole_group = len(subgroup) == len(self.group)
            small = share <= SLACK + 2 * error if p is None else share <= MOST or whole_group
            if small and (p is None or p > LEVEL):
                elements = self.group.elements[sorted(subgroup)]
                return RetainedGroup(symbol, elements, axis, None, share if whole.mean() > 0 else 0.0, p, rejected)
            value = share if p is None else p
            rejected[symbol] = max(value, rejected.get(symbol, 0.0)) if p is not None else value
        raise AssertionError("the trivial subgroup keeps everything")

    def _named(self, subgroup: Subgroup) -> tuple[str, Array | None]:
        elements = self.group.elements[sorted(subgroup)]
        name = point_group_name(elements)
        return INTERNATIONAL.get(name, LIMITING.get(name, name)), main_axis(elements)

    def _violations(self, subgroup: Subgroup) -> Array:
        """(n,) mean square of what is not invariant under a subgroup."""
        return np.asarray(((self.energies @ self._outside(subgroup).T) ** 2).mean(axis=1))

    def _outside(self, subgroup: Subgroup) -> Array:
        return np.asarray(np.eye(len(self.group)) - subgroup_average(self.group, subgroup))

    def _p_against(self, subgroup: Subgroup, draws: int, rng: np.random.Generator, share: float) -> float | None:
        if self.left is None:
            return None
        if share < ROUNDING:
            return 1.0
        parts = self._products(self._outside(subgroup), sorted(subgroup))
        chosen = {len(subgroup): reorientations(rng, draws, len(self.left.frames), len(subgroup))}
        return reorientation_tests({"": parts}, chosen)[""].p

    def _products(self, projector: Array, places: Iterable[int]) -> list[Products]:
        left, at = self.left, list(places)
        found: list[Products] = []
        if left is None:
            return found
        if left.energies is not None:
            parts = self.energies[left.frames] @ projector.T
            own = left.energies[:, None] * parts
            found.append(Products(own[:, 0], own[:, at], (parts**2).mean(axis=1)))
        if self.pushes is not None and self.push_powers is not None:
            own = self.pushes @ projector.T
            squares = np.einsum("gh,khg->k", projector, self.push_powers) / len(self.group)
            found.append(Products(own[:, 0], own[:, at], squares))
        return found
