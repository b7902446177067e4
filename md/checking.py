"""Does a calculator obey physics? A table of measurements with limits, for any ASE calculator."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers, covalent_radii
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlip.errors import InputError
from mlip.md import probes
from mlip.md.calculators import attached, has_stress, working_dtype
from mlip.md.curvature import full_hessian
from mlip.md.dynamics import MDResult, run_md
from mlip.md.invariance import is_invariant, placed
from mlip.md.rotation_average import rotational_spread
from mlip.md.tolerances import Tolerances, tolerances_for
from mlip.report import Check

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CheckResult:
    """What the checks found.

    Attributes:
        atoms: The structure they were made on: the given one (several cells of a crystal with one atom), rattled
            and strained, so that nothing vanishes by symmetry.
        precision: "float32" or "float64", which sets the limits.
        checks: Measurements with limits.
        warnings: Measurements that may fail in a good model too; they do not count.
        pair_curves: By pair: distance (Å) and energy (eV).
        scan: (n, 3) t, energy (eV), largest force (eV/Å) along the bond stretch.
        dynamics: The short NVE run, or None.
        skipped: What could not be measured, and why.
    """

    atoms: Atoms
    precision: str
    checks: list[Check]
    warnings: list[Check]
    pair_curves: dict[str, tuple[Array, Array]]
    scan: Array
    dynamics: MDResult | None
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "formula": self.atoms.get_chemical_formula(),
            "precision": self.precision,
            "warnings": [check.to_dict() for check in self.warnings],
            "skipped": self.skipped,
        }

    def plot(self) -> Figure:
        """Measured over allowed for every check; pair curves; the bond stretch; the energy in dynamics."""
        from mlip.md.check_figures import check_figure

        return check_figure(self)


def check(
    calculator: Any,
    atoms: Atoms | None = None,
    *,
    rattle: float = 0.05,
    strain: float = 0.02,
    nve_steps: int = 400,
    temperature: float = 300.0,
    seed: int = 0,
    tolerances: Tolerances | None = None,
    progress: Callable[[list[Callable[[], None]]], Any] = iter,
) -> CheckResult:
    """Put a calculator through the physics that every potential must obey.

    Forces = −dE/dx (five points), stress = dE/dε / V, the Hessian symmetric and equal to differences of forces,
    invariance under rotation, inversion, mirror (the laboratory turned along), translation and permutation,
    smoothness along a bond stretch, extensivity, energy conservation, determinism; and pair curves down to 0.6 Å.

    Args:
        calculator: Any ASE calculator.
        atoms: A structure it is meant for; None builds one from the species that the calculator names.
        rattle: Å, random displacements, so that forces do not vanish by symmetry.
        strain: A random strain of this size, so that the stress does not vanish either.
        nve_steps: Steps of the NVE run; 0 leaves it out.
        temperature: K, of that run.
        seed: Of everything random.
        tolerances: Limits; None takes those of the calculator's precision.
        progress: Wraps the list of tasks, for a progress bar.

    Returns:
        The table. ``result.checks`` are what counts, ``result.warnings`` what one should look at.
    """
    dtype = working_dtype(calculator)
    limits = tolerances_for(dtype) if tolerances is None else tolerances
    given = default_structure(calculator) if atoms is None else atoms
    given = placed(_with_company(given), calculator)
    system = _disturbed(given, calculator, rattle, strain, seed)
    run = _Run(system, given, limits, seed, nve_steps, temperature)
    for task in progress([run.determinism, run.derivatives, run.hessian, run.symmetries, run.extensivity,
                          run.smoothness, run.pairs, run.conservation]):  # fmt: skip
        with warnings.catch_warnings():  # the checks leave the range of the training data on purpose
            warnings.filterwarnings("ignore", message="outside the training data")
            task()
    return CheckResult(system, str(dtype), run.checks, run.warnings, run.curves, run.scan, run.dynamics, run.skipped)


def default_structure(calculator: Any) -> Atoms:
    """A face-centred cubic crystal with the calculator's species on its sites, spaced by covalent radii.

    Raises:
        InputError: The calculator names no species.
    """
    potential = getattr(calculator, "potential", calculator)
    species = getattr(potential, "species", None)
    if not species:
        raise InputError("a structure is needed for this calculator", mend="give a STRUCTURE")
    radius = float(np.mean([covalent_radii[atomic_numbers[s]] for s in species]))
    atoms = bulk(species[0], "fcc", a=2 * radius * np.sqrt(2) * 1.1, cubic=True).repeat((2, 1, 1))
    atoms.set_chemical_symbols([species[i % len(species)] for i in range(len(atoms))])
    return atoms


def _with_company(atoms: Atoms) -> Atoms:
    """A crystal's only atom feels no force, whatever the potential: several cells of it show something."""
    is_alone = len(atoms) == 1 and atoms.pbc.any()
    return atoms.repeat([2 if periodic else 1 for periodic in atoms.pbc]) if is_alone else atoms


def _disturbed(atoms: Atoms, calculator: Any, rattle: float, strain: float, seed: int) -> Atoms:
    rng = np.random.default_rng(seed)
    system = attached(atoms, calculator)
    if atoms.cell.rank == 3 and atoms.pbc.all():
        tensor = rng.uniform(-strain, strain, size=(3, 3))
        system.set_cell(system.cell.array @ (np.eye(3) + (tensor + tensor.T) / 2), scale_atoms=True)
    system.set_positions(system.get_positions() + rng.normal(scale=rattle, size=(len(atoms), 3)))
    return system


class _Run:
    """Collects the measurements; each method is one row or a few of the table."""

    def __init__(
        self, atoms: Atoms, given: Atoms, limits: Tolerances, seed: int, nve_steps: int, temperature: float
    ) -> None:
        self.atoms, self.given, self.limits, self.seed = atoms, given, limits, seed
        self.nve_steps, self.temperature = nve_steps, temperature
        self.checks: list[Check] = []
        self.warnings: list[Check] = []
        self.curves: dict[str, tuple[Array, Array]] = {}
        self.scan = np.empty((0, 3))
        self.dynamics: MDResult | None = None
        self.skipped: dict[str, str] = {}

    def _add(self, name: str, value: float, limit: float, unit: str = "relative") -> None:
        self.checks.append(Check(name, value, limit, unit))

    def determinism(self) -> None:
        """The same structure twice, with another one in between."""
        first = self.atoms.get_forces().copy(), self.atoms.get_potential_energy()
        probes.moved(self.atoms, self.atoms.get_positions() + 0.1).get_potential_energy()
        again = attached(self.atoms, self.atoms.calc)
        if hasattr(again.calc, "reset"):
            again.calc.reset()
        gap = np.abs(again.get_forces() - first[0]).max() / max(np.abs(first[0]).max(), 1e-3)
        energy = abs(again.get_potential_energy() - first[1]) / max(abs(first[1]), 1e-3)
        self._add("second evaluation equals the first", float(max(gap, energy)), self.limits.repeat)

    def derivatives(self) -> None:
        """Forces and stress against the energy."""
        limits = self.limits
        self._add("forces = −dE/dx", probes.force_error(self.atoms, limits.step), limits.forces)
        if has_stress(self.atoms, self.atoms.calc):
            self._add("stress = dE/dε/V", probes.stress_error(self.atoms, limits.step), limits.stress, "GPa")
        else:
            self.skipped["stress"] = "not periodic in three directions, or the calculator has none"

    def hessian(self) -> None:
        """The analytic Hessian, where there is one, on at most 32 atoms."""
        if not hasattr(self.atoms.calc, "get_hessian"):
            self.skipped["Hessian"] = "the calculator has none"
            return
        if len(self.atoms) > 32:
            self.skipped["Hessian"] = f"{len(self.atoms)} atoms are more than 32"
            return
        symmetry, difference = probes.hessian_errors(
            self.atoms, full_hessian(self.atoms, self.atoms.calc), self.limits.step
        )
        self._add("Hessian symmetric", symmetry, self.limits.hessian_symmetry)
        self._add("Hessian = −dF/dx", difference, self.limits.hessian)

    def symmetries(self) -> None:
        """Invariance of the energy, covariance of forces and stress."""
        for name, turn in probes.orthogonal_matrices(self.seed).items():
            self._symmetry(name, probes.turned(self.atoms, turn), turn)
        self._symmetry("translation", probes.translated(self.atoms, self.seed), np.eye(3))
        other, order = probes.permuted(self.atoms, self.seed)
        self._symmetry("permutation", other, np.eye(3), order)
        spread, _ = rotational_spread(self.atoms, self.atoms.calc, seed=self.seed)
        row = Check("rotational spread of the energy", 1000 * spread, self.limits.energy, "meV/atom")
        (self.checks if is_invariant(self.atoms.calc, self.atoms) else self.warnings).append(row)

    def _symmetry(self, name: str, other: Atoms, turn: Array, order: NDArray[np.int64] | None = None) -> None:
        energy, vectors = probes.covariance_errors(self.atoms, other, turn, order)
        self._add(f"energy under {name}", energy, self.limits.energy, "meV/atom")
        tensors = "forces and stress" if has_stress(self.atoms, self.atoms.calc) else "forces"
        self._add(f"{tensors} under {name}", vectors, self.limits.covariance)

    def extensivity(self) -> None:
        """Two cells have twice the energy and the same forces."""
        twice, n = probes.doubled(self.atoms), len(self.atoms)
        energy = abs(twice.get_potential_energy() / 2 - self.atoms.get_potential_energy()) / n * 1000
        self._add("energy of two cells", float(energy), self.limits.energy, "meV/atom")
        forces = self.atoms.get_forces()
        gap = np.abs(twice.get_forces() - np.tile(forces, (2, 1))).max() / max(np.abs(forces).max(), 1e-3)
        self._add("forces of two cells", float(gap), self.limits.covariance)

    def smoothness(self) -> None:
        """One atom is pulled 2 Å through its surroundings, so that neighbours cross the cutoff both ways."""
        start = self.atoms.get_positions()
        pull = np.zeros_like(start)
        pull[0] = 2.0 * probes.directions(self.atoms[:1], 1, self.seed)[0, 0]
        self.scan, energy, force = probes.line_scan(self.atoms, lambda t: start + (t - 0.5) * pull)
        self._add("jump of the energy on a stretch", energy, self.limits.jump, "meV")
        self._add("jump of the forces on a stretch", force, self.limits.force_jump, "meV/Å")

    def pairs(self) -> None:
        """Every pair of species alone in space, down to 0.6 Å."""
        cutoff = float(getattr(getattr(self.atoms.calc, "potential", None), "cutoff", 6.0))
        species = sorted(set(self.atoms.get_chemical_symbols()))
        for a, b in combinations_with_replacement(species, 2):
            pair = (atomic_numbers[a], atomic_numbers[b])
            distance, energy = probes.pair_curve(pair, self.atoms.calc, 1.1 * cutoff, info=self.atoms.info)
            self.curves[f"{a}–{b}"] = (distance, energy)
            hole = probes.repulsion_hole(pair, distance, energy)
            self.warnings.append(Check(f"{a}–{b} not repulsive when close", hole, 0.01, "eV"))

    def conservation(self) -> None:
        """Energy conservation in a short NVE run from the structure as given."""
        if not self.nve_steps:
            self.skipped["NVE"] = "not asked for"
            return
        result = run_md(
            self.given,
            self.atoms.calc,
            ensemble="nve",
            temperature=self.temperature,
            steps=self.nve_steps,
            seed=self.seed,
            drift_limit=self.limits.drift,
        )
        self.dynamics = result
        self.checks += [c for c in result.checks if "drift" in c.name]
