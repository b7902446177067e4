"""The distorted phases of a crystal: from its soft modes down the tree of subgroups to phases without any.

A strict potential cannot leave a symmetric saddle, as the forces vanish there. So the soft modes at the wavevectors
of a supercell are taken apart by symmetry: each class of maximal isotropy subgroups is one candidate, relaxed
within its subgroup, and followed further down only along the imaginary modes that are left (the order parameters of
several irreps may then be coupled).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlip.errors import InputError
from mlip.md.calculators import attached
from mlip.md.distortion_result import Distortion, DistortionResult, Scan, Step
from mlip.md.dynamical import force_symmetry_defect, supercell_matrix
from mlip.md.invariance import require_invariant
from mlip.md.rotation_average import require_conservative
from mlip.md.soft_modes import SoftMode, imaginary_modes
from mlip.md.structure import PrimitiveCell, primitive_cell
from mlip.md.symmetric_cell import SymmetricCell, SymmetricState, relax_symmetric
from mlip.report import Check
from mlip.symmetry.crystal import SpaceGroup
from mlip.symmetry.irreps import IrrepComponent, supercell_irreps
from mlip.symmetry.isotropy import fixed_vectors, isotropy_subgroups, maximal_subgroups
from mlip.symmetry.supercell import Mask, SupercellGroup

Array = NDArray[np.float64]
LOOSE, STRICT = 3e-2, 3e-3  # Å: displacements that may be left over from a relaxation, and that certainly are
SAME_ENERGY = 1e-4  # eV per formula unit
LARGEST_GROUP = 4000


@dataclass(frozen=True)
class SearchSettings:
    """What a search may do.

    Attributes:
        imaginary: THz; frequencies below minus this are imaginary.
        fmax: eV/Å, of the relaxations.
        displacement: Å, of finite differences where the calculator has no exact D(q).
        max_candidates: Most candidates to relax; the lowest in energy are followed first.
        step: Å per parent cell, of the amplitude scans.
        largest: Å per parent cell, where a scan ends.
    """

    imaginary: float = 0.05
    fmax: float = 1e-3
    displacement: float = 0.01
    max_candidates: int = 40
    step: float = 0.03
    largest: float = 1.2


def find_distortions(
    atoms: Atoms,
    calculator: Any,
    *,
    supercell: Any = 2,
    symprec: float = 1e-2,
    settings: SearchSettings | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> DistortionResult:
    """Find the phases into which a crystal distorts, by symmetry.

    Args:
        atoms: The parent of high symmetry; it is reduced to its primitive cell and relaxed within its space group.
        calculator: Any ASE calculator in double precision, ours with exact D(q) or another by finite displacements.
        supercell: 1, 3 or 9 integers on the primitive cell: the distortions looked for fit into it.
        symprec: Å, for the parent's space group.
        settings: See `SearchSettings`.
        progress: Wraps the numbers of the candidates, for a progress bar.

    Returns:
        One entry for each phase found, no two equivalent, with what leads to what.

    Raises:
        InputError: No crystal, a wrong supercell, or a group too large to search.
    """
    settings = settings or SearchSettings()
    require_conservative(calculator, "a search for distortions")
    require_invariant(calculator, atoms, "a search for distortions")
    cell = primitive_cell(atoms, symprec=symprec)
    matrix = supercell_matrix(supercell, cell.atoms)
    if abs(round(float(np.linalg.det(matrix)))) * len(cell.rotations) > LARGEST_GROUP:
        raise InputError(
            f"the supercell's group has more than {LARGEST_GROUP} operations", mend="a smaller supercell"
        )
    parent = _relaxed_parent(cell.atoms, calculator, settings.fmax)
    group = SupercellGroup(parent, matrix)
    search = _Search(group, calculator, settings)
    search.start()
    for _ in progress(range(settings.max_candidates)):
        if not search.step():
            break
    return search.result(cell, _checks(cell, calculator, search))


def _relaxed_parent(primitive: Atoms, calculator: Any, fmax: float) -> Atoms:
    """The parent relaxed within its space group, cell included."""
    group = SupercellGroup(primitive, np.eye(3, dtype=np.int64))
    cell = SymmetricCell.of(group, np.ones(group.order, dtype=bool))
    start = np.zeros(len(cell.displacements) + len(cell.strains))
    placed = relax_symmetric(cell, start, calculator, min(fmax, 1e-4)).atoms
    parent = primitive.copy()
    parent.set_cell(group.primitive.cell.array @ cell_change(cell.atoms, placed), scale_atoms=True)
    return _on_sites(parent, cell, placed)


def cell_change(before: Atoms, after: Atoms) -> Array:
    """F with cell_after = cell_before · F."""
    return np.asarray(np.linalg.solve(before.cell.array, after.cell.array), dtype=np.float64)


def _on_sites(parent: Atoms, cell: SymmetricCell, placed: Atoms) -> Atoms:
    """Put the relaxed atoms into the primitive cell as it was chosen (the reduced cell may be another one)."""
    order = np.argsort(cell.sites)
    change = cell_change(cell.atoms, placed)
    moved = placed.get_positions() - cell.atoms.get_positions() @ change
    parent.set_positions(parent.get_positions() + moved[order])
    return parent


@dataclass(frozen=True)
class _Candidate:
    """A subgroup to relax in: the phase above it, and the soft direction that leads from there."""

    subgroup: Mask
    displacement: Array
    strain: Array
    direction: Array
    mode: str
    above: int
    distance: float | None = None
    expected: float | None = None


@dataclass
class _Search:
    """Best-first search: what lies lowest along the parent's soft modes, or below the lowest phase, comes first."""

    group: SupercellGroup
    calculator: Any
    settings: SearchSettings
    parts: list[IrrepComponent] = field(default_factory=list)
    found: list[Distortion] = field(default_factory=list)
    edges: list[Step] = field(default_factory=list)
    masks: list[Mask] = field(default_factory=list)
    scans: list[Scan] = field(default_factory=list)
    _queue: list[tuple[float, int, _Candidate]] = field(default_factory=list)
    _known: dict[bytes, int] = field(default_factory=dict)
    _ticket: Any = field(default_factory=count)

    def start(self) -> None:
        """The parent, its soft modes, and the first candidates."""
        self.parts = supercell_irreps(self.group)
        everything = np.ones(self.group.order, dtype=bool)
        cell = SymmetricCell.of(self.group, everything)
        zero = np.zeros(len(cell.displacements) + len(cell.strains))
        system = attached(cell.atoms, self.calculator)
        energy = float(system.get_potential_energy())
        force = float(np.abs(system.get_forces()).max())
        state = SymmetricState(cell.atoms.copy(), zero, energy, force, 1, converged=True)
        self._accept(everything, cell, state)

    def step(self) -> bool:
        """Relax one candidate; False when none is left."""
        while self._queue:
            _, _, candidate = heapq.heappop(self._queue)
            known = self._index(candidate.subgroup)
            if known is not None:
                self._connect(candidate.above, known, candidate.mode)
                continue
            self._try(candidate)
            return True
        return False

    @property
    def waiting(self) -> int:
        """Candidates that were not tried, equivalent ones counted once."""
        return len(
            {min(self.group.conjugates(c.subgroup)) for _, _, c in self._queue if self._index(c.subgroup) is None}
        )

    def _index(self, subgroup: Mask) -> int | None:
        return self._known.get(min(self.group.conjugates(subgroup)))

    def _connect(self, above: int, below: int, mode: str) -> None:
        """Remember which mode leads where, and whether the symmetry only falls on the way."""
        if above == below or (above, below) in {(e.above, e.below) for e in self.edges}:
            return
        outer = self.masks[above].tobytes()
        inside = any(
            not (np.frombuffer(m, dtype=bool) & ~np.frombuffer(outer, dtype=bool)).any()
            for m in self.group.conjugates(self.masks[below])
        )
        self.edges.append(Step(above, below, mode, subgroup=inside))

    def _try(self, candidate: _Candidate) -> None:
        """Relax within the subgroup; keep the state under the symmetry that it really has."""
        cell = SymmetricCell.of(self.group, candidate.subgroup)
        far = self._scan(candidate) if candidate.distance is None else candidate.distance
        start = cell.coordinates(candidate.displacement + far * candidate.direction, candidate.strain)
        state = relax_symmetric(cell, start, self.calculator, self.settings.fmax)
        subgroup, cell, state = self._symmetrised(candidate.subgroup, cell, state)
        known = self._index(subgroup)
        if known is None or self._is_lower(state, known):
            known = self._accept(subgroup, cell, state)
        self._known[min(self.group.conjugates(candidate.subgroup))] = known
        self._connect(candidate.above, known, candidate.mode)

    def _symmetrised(
        self, subgroup: Mask, cell: SymmetricCell, state: SymmetricState
    ) -> tuple[Mask, SymmetricCell, SymmetricState]:
        """The state under the largest symmetry that it has but for what its relaxation left over.

        Operations that hold within `LOOSE` are imposed and the state relaxed again; they are kept where the energy
        does not rise.
        """
        for tolerance in (LOOSE, STRICT):
            larger = self._kept_within(cell, state, subgroup, tolerance)
            if larger.sum() == subgroup.sum():
                continue
            other = SymmetricCell.of(self.group, larger)
            start = other.coordinates(*cell.on_supercell(state.coordinates))
            again = relax_symmetric(other, start, self.calculator, self.settings.fmax)
            rise = again.energy / formula_units(again.atoms) - state.energy / formula_units(state.atoms)
            if rise < SAME_ENERGY / 5:
                return larger, other, again
        return subgroup, cell, state

    def _is_lower(self, state: SymmetricState, known: int) -> bool:
        """Whether a state is another, deeper minimum of a class that is there already."""
        return state.energy / formula_units(state.atoms) < self.found[known].energy - SAME_ENERGY

    def _kept_within(self, cell: SymmetricCell, state: SymmetricState, subgroup: Mask, tolerance: float) -> Mask:
        """The group that a subgroup and the operations that move the state by less than some Å generate."""
        displacement, strain = cell.on_supercell(state.coordinates)
        group, size = self.group, max(float(np.abs(displacement).max()), 1e-12)
        kept = group.stabiliser(displacement, tolerance=tolerance / size)
        turned = np.einsum("gab,bc,gdc->gad", group.turns, strain, group.turns)
        strained = np.abs(turned - strain).max(axis=(1, 2)) < tolerance / cell.length
        return group.closure(subgroup | (kept & strained))

    def _accept(self, subgroup: Mask, cell: SymmetricCell, state: SymmetricState) -> int:
        """Enter a state into the table, find its imaginary modes, and queue what they lead to."""
        index = len(self.found)
        self._known[min(self.group.conjugates(subgroup))] = index
        modes = imaginary_modes(
            self.group, subgroup, cell, state.atoms, self.calculator, self.parts,
            limit=self.settings.imaginary, displacement=self.settings.displacement,
        )  # fmt: skip
        entry = Distortion.of(self.group, subgroup, cell, state, modes, self.parts, self.found)
        self.found.append(entry)
        self.masks.append(subgroup)
        for mode in modes:
            for candidate in self._branches(index, subgroup, cell, state, mode):
                expected = entry.energy if candidate.expected is None else candidate.expected
                heapq.heappush(self._queue, (expected, next(self._ticket), candidate))
        return index

    def _branches(
        self, index: int, subgroup: Mask, cell: SymmetricCell, state: SymmetricState, mode: SoftMode
    ) -> list[_Candidate]:
        """One candidate for each class of maximal isotropy subgroups of a state along one of its soft modes."""
        members = np.flatnonzero(subgroup)
        matrices = self.group.matrices(mode.basis, members)
        displacement, strain = cell.on_supercell(state.coordinates)
        seen: set[bytes] = set()
        candidates = []
        for inner in maximal_subgroups(isotropy_subgroups(matrices)):
            smaller = np.zeros_like(subgroup)
            smaller[members[inner]] = True
            key = min(self.group.conjugates(smaller))
            if key in seen:
                continue
            seen.add(key)
            if key in self._known:
                self._connect(index, self._known[key], mode.name)
                continue
            direction = np.einsum("k,kix->ix", fixed_vectors(matrices, inner)[0], mode.basis)
            candidate = _Candidate(smaller, displacement, strain, direction, mode.name, index)
            if index == 0:  # the landscape of the parent is wanted whole; elsewhere a scan waits for its turn
                far = self._scan(candidate)
                candidate = replace(candidate, distance=far, expected=float(self.scans[-1].energies.min()))
            candidates.append(candidate)
        return candidates

    def _scan(self, candidate: _Candidate) -> float:
        """Walk along a soft direction in the cell as it is, both ways where they differ, and give the best step."""
        cell = SymmetricCell.of(self.group, candidate.subgroup)
        system = attached(cell.atoms, self.calculator)
        ways = (1,) if self._reversible(candidate.above, candidate.direction) else (1, -1)
        unit = np.sqrt(self.group.num_cells)  # one Å per parent cell

        def energy(amplitude: float) -> float:
            displacement = candidate.displacement + amplitude * unit * candidate.direction
            return self._energy(cell, system, displacement, candidate.strain)

        points = {0.0: self.found[candidate.above].energy}
        for way in ways:
            self._walk(way, points, energy)
        amplitudes = np.array(sorted(points))
        energies = np.array([points[a] for a in amplitudes])
        symbol = self._symbol(cell, candidate)
        self.scans.append(Scan(candidate.above, candidate.mode, symbol, amplitudes, energies))
        best = float(amplitudes[energies.argmin()])
        return unit * (best if best else self.settings.step / 2)

    def _walk(self, way: int, points: dict[float, float], energy: Callable[[float], float]) -> None:
        """Go on until the energy has risen well above where it started."""
        for k in range(1, round(self.settings.largest / self.settings.step) + 1):
            amplitude = way * k * self.settings.step
            points[amplitude] = energy(amplitude)
            depth = points[0.0] - min(points.values())
            if points[amplitude] > points[0.0] + max(0.5 * depth, 1e-3) or not np.isfinite(points[amplitude]):
                break

    def _energy(self, cell: SymmetricCell, system: Atoms, displacement: Array, strain: Array) -> float:
        """EV per formula unit."""
        placed = cell.place(cell.coordinates(displacement, strain))
        system.set_cell(placed.cell.array, scale_atoms=False)
        system.set_positions(placed.get_positions())
        return float(system.get_potential_energy()) / formula_units(cell.atoms)

    def _reversible(self, index: int, direction: Array) -> bool:
        """Whether an operation that keeps the present state turns the direction round."""
        turned = self.group.act(np.flatnonzero(self.masks[index]), direction[None])[:, 0]
        return bool((np.abs(turned + direction).max(axis=(1, 2)) < 1e-4 * np.abs(direction).max()).any())

    def _symbol(self, cell: SymmetricCell, candidate: _Candidate) -> str:
        """Space group along the direction."""
        size = 0.1 / max(float(np.abs(candidate.direction).max()), 1e-9)
        displacement = candidate.displacement + size * candidate.direction
        return SpaceGroup.of(cell.place(cell.coordinates(displacement, np.zeros((3, 3)))), 1e-4).symbol

    def result(self, cell: PrimitiveCell, checks: list[Check]) -> DistortionResult:
        """What was found; directions that were not walked but lead to phases that are known count as walked."""
        for _, _, candidate in self._queue:
            known = self._index(candidate.subgroup)
            if known is not None:
                self._connect(candidate.above, known, candidate.mode)
        return DistortionResult.of(
            cell, self.group, self.calculator, self.found, self.edges, self.scans, self.waiting, checks
        )


def formula_units(atoms: Atoms) -> int:
    """Formula units in a cell."""
    return int(atoms.symbols.formula.reduce()[1])


def _checks(cell: PrimitiveCell, calculator: Any, search: _Search) -> list[Check]:
    lowest = min(search.found, key=lambda d: d.energy)
    worst = max((-mode.frequency for mode in lowest.imaginary), default=0.0)
    return [
        Check("space-group defect of the forces", force_symmetry_defect(cell, calculator, most=4), 1e-3, "relative"),
        Check(
            "largest force left in a phase", max(d.gradient for d in search.found), 2 * search.settings.fmax, "eV/Å"
        ),
        Check("imaginary frequency left in the lowest phase", worst, search.settings.imaginary, "THz"),
        Check("candidates not tried", float(search.waiting), 0.0),
    ]
