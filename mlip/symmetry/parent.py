"""What a model breaks of a crystal's own point group: irreps and the subgroup that is left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlip.errors import InputError
from mlip.symmetry.crystal import SpaceGroup
from mlip.symmetry.evidence import LabelTest, Products, either, reorientation_tests, reorientations
from mlip.symmetry.finite_harmonics import FiniteIrrep, finite_irreps, subgroup_average
from mlip.symmetry.finite_kind import FiniteKind, centred
from mlip.symmetry.label_tests import Residuals
from mlip.symmetry.matrix_group import MatrixGroup, Subgroup
from mlip.symmetry.mean_stress import ForbiddenStress, MeanStressTest
from mlip.symmetry.measurement import NEGLIGIBLE, QUANTITIES
from mlip.symmetry.orientations import Evaluator, LabStructure, at_orientations, in_laboratory
from mlip.symmetry.point_groups import point_group, point_group_name
from mlip.symmetry.retained import INTERNATIONAL, LEVEL, LIMITING, MOST, SLACK, RetainedGroup, main_axis

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
        kinds: Of ``energies`` (eV/atom), ``forces`` (eV/Å), ``stresses`` (eV/Å³) those that all structures have.
        energies: (n, |G|) eV/atom.
        left: Labels minus the average over G; None without labels.
        forbidden: ``labels`` and ``model`` → mean stress that G forbids, those that are known.
        mean_stress: Of the labels, to be tested; None without stress labels.
    """

    group: MatrixGroup
    irreps: list[FiniteIrrep]
    kinds: dict[str, FiniteKind]
    energies: Array
    left: Residuals | None
    forbidden: dict[str, ForbiddenStress]
    mean_stress: MeanStressTest | None

    @classmethod
    def of(
        cls,
        structures: Sequence[LabStructure],
        evaluate: Evaluator,
        group: MatrixGroup,
        progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    ) -> FiniteMeasurement:
        """Evaluate the model at |G| orientations of each structure."""
        found = [at_orientations(s, evaluate, group.elements) for s in progress(structures)]
        names = [q for q in QUANTITIES if all(getattr(o, q) is not None for o in found)]
        strict = {q: [np.asarray(getattr(o, q)).mean(axis=0) for o in found] for q in names}
        energies = [float(e) for e in strict["energies"]]
        left = Residuals.of(list(structures), energies, strict["forces"], strict.get("stresses"))
        kinds = {q: FiniteKind.of(q, found, left) for q in names}
        forbidden, mean = {}, None
        if left is not None and left.stresses is not None:
            forbidden["labels"] = ForbiddenStress.of(left.stresses, group, left.trust("stresses"))
            mean = MeanStressTest.of(left.stresses, group, left.trust("stresses"))
        if "stresses" in names:
            own = np.array([centred(o, "stresses")[0] for o in found])
            forbidden["model"] = ForbiddenStress.of(own, group, kinds["stresses"].weights)
        energy = np.array([o.energies for o in found])
        return cls(group, finite_irreps(group), kinds, energy, left, forbidden, mean)

    @property
    def broken(self) -> list[FiniteIrrep]:
        """All but the identity representation."""
        return [i for i in self.irreps if not i.trivial]

    @property
    def strict(self) -> bool:
        """Whether nothing depends on orientation."""
        return not self.dependent

    @property
    def dependent(self) -> tuple[str, ...]:
        """The kinds that depend on orientation at all, beyond rounding."""
        whole = self._outside(frozenset(range(len(self.group))))
        return tuple(q for q, kind in self.kinds.items() if kind.powers(whole).mean() > NEGLIGIBLE[q] ** 2)

    def powers(self, quantity: str, irrep: FiniteIrrep) -> Array:
        """(n,) mean square over G of a component of the quantity's part by an irrep."""
        return self.kinds[quantity].powers(irrep.projector)

    def test(self, draws: int, rng: np.random.Generator) -> dict[str, LabelTest]:
        """Each irrep against the labels, and ``all`` of them together; nothing without labels."""
        if self.left is None or self.strict:
            return {}
        drawn = reorientations(rng, draws, len(self.left.frames), len(self.group))
        chosen, everywhere = {len(self.group): drawn}, range(len(self.group))
        whole = {"all": sum((i.projector for i in self.broken), np.zeros(1))}
        found: dict[str, LabelTest] = {}
        for projectors in ({i.name: i.projector for i in self.broken}, whole):
            parts = {name: self._products(p, everywhere) for name, p in projectors.items()}
            beside = {name: self._p_of_mean_stress(p, everywhere, drawn) for name, p in projectors.items()}
            found |= reorientation_tests(parts, chosen, {n: p for n, p in beside.items() if p is not None})
        return found

    def retained(self, draws: int, rng: np.random.Generator) -> RetainedGroup:
        """The largest subgroup of G that nothing speaks against; of equally large ones the least violated."""
        everything = frozenset(range(len(self.group)))
        if self.strict:
            symbol, axis = self._named(everything)
            return RetainedGroup(symbol, self.group.elements, axis, None, 0.0, None, {})
        weights = self._weights(draws, rng)
        order = sorted(self.group.subgroups, key=lambda h: (-len(h), float(self._violations(h, weights).mean())))
        rejected: dict[str, float] = {}
        for subgroup in order:
            out = self._violations(subgroup, weights)
            share, error = float(out.mean()), float(out.std(ddof=1) / np.sqrt(len(out)))
            p = self._p_against(subgroup, draws, rng, share)
            symbol, axis = self._named(subgroup)
            whole_group = len(subgroup) == len(self.group)
            small = share <= SLACK + 2 * error if p is None else share <= MOST or whole_group
            if small and (p is None or p > LEVEL):
                return RetainedGroup(symbol, self.group.elements[sorted(subgroup)], axis, None, share, p, rejected)
            value = share if p is None else p
            rejected[symbol] = max(value, rejected.get(symbol, 0.0)) if p is not None else value
        raise AssertionError("the trivial subgroup keeps everything")

    def _weights(self, draws: int, rng: np.random.Generator) -> dict[str, float]:
        """How much each kind counts among violations: by the square of what labels alone confirm of it.

        A model's energies may depend on orientation by chance where all that the labels break is the stress. Where
        labels confirm nothing, all kinds count alike.
        """
        whole = self._outside(frozenset(range(len(self.group))))
        alike = dict.fromkeys(self.dependent, 1.0)
        confirmed = {}
        if self.left is not None:
            chosen = {len(self.group): reorientations(rng, draws, len(self.left.frames), len(self.group))}
            parts = {q: self.kinds[q].products(whole, range(len(self.group))) for q in alike}
            tests = reorientation_tests({q: found for q, found in parts.items() if found}, chosen)
            confirmed = {q: max(0.0, test.score) ** 2 for q, test in tests.items()}
        found = confirmed if sum(confirmed.values()) > 0 else alike
        return {q: w / sum(found.values()) for q, w in found.items()}

    def _named(self, subgroup: Subgroup) -> tuple[str, Array | None]:
        elements = self.group.elements[sorted(subgroup)]
        name = point_group_name(elements)
        return INTERNATIONAL.get(name, LIMITING.get(name, name)), main_axis(elements)

    def _violations(self, subgroup: Subgroup, weights: Mapping[str, float]) -> Array:
        """(n,) what is not invariant under a subgroup, in units of the mean of all that depends on orientation."""
        outside, whole = self._outside(subgroup), self._outside(frozenset(range(len(self.group))))
        total = np.zeros(len(self.energies))
        for name, weight in weights.items():
            kind = self.kinds[name]
            scale = weight * kind.weights / (kind.weights * kind.powers(whole)).mean()
            total += scale * kind.powers(outside)
        return np.asarray(total)

    def _outside(self, subgroup: Subgroup) -> Array:
        return np.asarray(np.eye(len(self.group)) - subgroup_average(self.group, subgroup))

    def _p_against(self, subgroup: Subgroup, draws: int, rng: np.random.Generator, share: float) -> float | None:
        if self.left is None:
            return None
        outside, places = self._outside(subgroup), sorted(subgroup)
        drawn = reorientations(rng, draws, len(self.left.frames), len(subgroup))
        test = reorientation_tests({"": self._products(outside, places)}, {len(subgroup): drawn})[""]
        p_of_model = 1.0 if share < ROUNDING else test.p
        p_of_mean = self._p_of_mean_stress(outside, places, drawn)
        return p_of_model if p_of_mean is None else either(p_of_model, p_of_mean)

    def _p_of_mean_stress(self, projector: Array, places: Sequence[int], drawn: NDArray[np.int64]) -> float | None:
        """Of the labels' own mean stress by a projector; None where nothing of it could show."""
        test = self.mean_stress
        return test.p(projector[0], places, drawn) if test is not None and test.sees(projector[0]) else None

    def _products(self, projector: Array, places: Iterable[int]) -> list[Products]:
        at = list(places)
        return [part for q in self.dependent for part in self.kinds[q].products(projector, at)]
