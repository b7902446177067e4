"""Averages over rotations with an error bar, for calculators that are not exactly rotation-invariant.

The energy of a calculator that knows the laboratory's axes, seen as a function of the structure's orientation, is a
sum of irreps of O(3). A finite group of rotations averages degree l to zero where it has no invariant of degree l:
the icosahedral group for l = 1 … 5, 7, 8, 9. What is left is sampled: independently turned copies of the group give
the standard error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mlip.errors import InputError
from mlip.md.calculators import attached, has_stress
from mlip.md.invariance import placed

Array = NDArray[np.float64]
Grid = Literal["icosahedral", "octahedral", "tetrahedral", "none"]
GROUPS = {"icosahedral": "I", "octahedral": "O", "tetrahedral": "T"}


@dataclass(frozen=True)
class Replica:
    """Results of one calculator in many orientations, turned back.

    Attributes:
        energies: (m,) eV.
        forces: (N, 3) eV/Å, their mean.
        stress: (3, 3) eV/Å³, or None.
    """

    energies: Array
    forces: Array
    stress: Array | None


class RotationAveragedCalculator(Calculator):
    """Any ASE calculator, averaged over rotations: E̅(x) = ⟨E(g x)⟩, F̅ = ⟨gᵀ F(g x)⟩, σ̅ = ⟨gᵀ σ(g x) g⟩.

    Forces and stress are exact derivatives of the averaged energy, as the rotations are fixed. ``results`` also hold
    ``energy_std_error`` (eV, s/√n over the replicas; what the grid averages exactly does not count) and
    ``rotational_spread`` (eV, standard deviation over all orientations).

    Args:
        calculator: Any ASE calculator; ours are evaluated in batches.
        grid: ``"icosahedral"`` (60 rotations), ``"octahedral"`` (24), ``"tetrahedral"`` (12) or ``"none"`` (1).
        replicas: Independently turned copies of the grid, at least 2; fewer than 4 give a poor error bar.
        inversion: Also average over improper rotations.
        seed: Of the orientations of the copies.
        tolerance: eV/atom; add replicas on the first structure until the standard error is below it. They stay
            fixed afterwards, so that energy is conserved.
        max_replicas: Where that ends.
        fresh: Draw new orientations at every call. Unbiased for single structures, but neither smooth nor
            energy-conserving: relaxations, phonons, dynamics and searches of this package refuse it.

    Raises:
        InputError: An unknown grid, or fewer than two replicas.
    """

    implemented_properties: list[str] = ["energy", "free_energy", "forces"]  # noqa: RUF012
    default_parameters: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        calculator: Any,
        grid: Grid = "icosahedral",
        replicas: int = 4,
        *,
        inversion: bool = True,
        seed: int = 0,
        tolerance: float | None = None,
        max_replicas: int = 64,
        fresh: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if replicas < 2:
            raise InputError("a standard error needs at least two replicas", key="replicas", mend="four or more")
        self.inner, self.replicas, self.tolerance, self.max_replicas = calculator, replicas, tolerance, max_replicas
        self.fresh = fresh
        self.grid = rotation_grid(grid, inversion=inversion)
        self._rng = np.random.default_rng(seed)
        self._turns: list[Array] = []
        self._settled = tolerance is None
        if "stress" in getattr(calculator, "implemented_properties", ()):
            self.implemented_properties = [*type(self).implemented_properties, "stress"]

    @property
    def conservative(self) -> bool:
        """Whether forces are derivatives of one energy surface from call to call."""
        return not self.fresh

    @property
    def rotations(self) -> Array:
        """(replicas, m, 3, 3): all orthogonal matrices in use."""
        return np.array([self.grid @ turn for turn in self._turns_for(self.replicas)])

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill ``results``; called by ASE."""
        super().calculate(atoms, properties, system_changes)
        stress = has_stress(self.atoms, self.inner)
        if "stress" in properties and not stress:
            raise PropertyNotImplementedError("stress needs three periodic directions and a calculator that has it")
        if self.fresh:
            self._turns = []
        found = [self._replica(turn, stress=stress) for turn in self._turns_for(self.replicas)]
        while not self._settled and not self._precise(found) and len(found) < self.max_replicas:
            found.append(self._replica(self._turns_for(len(found) + 1)[-1], stress=stress))
        self.replicas, self._settled = len(found), True if not self.fresh else self.tolerance is None
        self.results = _combined(found)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What has changed since the last call; everything has, when rotations are drawn anew."""
        return list(all_changes) if self.fresh else super().check_state(atoms, tol)

    def _precise(self, found: list[Replica]) -> bool:
        limit = np.inf if self.tolerance is None else self.tolerance * len(self.atoms)
        return standard_error([r.energies.mean() for r in found]) <= limit

    def _turns_for(self, number: int) -> list[Array]:
        """The orientations of the first ``number`` replicas, drawn when first needed."""
        while len(self._turns) < number:
            self._turns.append(np.asarray(Rotation.random(rng=self._rng).as_matrix()))
        return self._turns[:number]

    def _replica(self, turn: Array, *, stress: bool) -> Replica:
        return in_orientations(self.atoms, self.inner, self.grid @ turn, stress=stress)


def rotation_grid(grid: str, *, inversion: bool) -> Array:
    """The orthogonal matrices of a grid, (m, 3, 3).

    Raises:
        InputError: Unknown.
    """
    if grid == "none":
        turns = np.eye(3)[None]
    elif grid in GROUPS:
        turns = Rotation.create_group(GROUPS[grid]).as_matrix()
    else:
        raise InputError(f"'{grid}' is none of {', '.join(GROUPS)}, none", key="grid")
    return np.concatenate([turns, -turns]) if inversion else turns


def in_orientations(atoms: Atoms, calculator: Any, turns: Array, *, stress: bool = False) -> Replica:
    """A calculator's results for a structure in several orientations, turned back.

    Args:
        atoms: The structure.
        calculator: Any ASE calculator.
        turns: (m, 3, 3) orthogonal matrices on Cartesian columns.
        stress: Whether to ask for it.
    """
    rows = _in_batches(atoms, calculator, turns, stress) or [_one(atoms, calculator, t, stress) for t in turns]
    back = [f @ t for (_, f, _), t in zip(rows, turns, strict=True)]
    tensors = [t.T @ s @ t for (_, _, s), t in zip(rows, turns, strict=True) if s is not None]
    return Replica(
        np.array([e for e, _, _ in rows]),
        np.mean(back, axis=0),
        np.mean(tensors, axis=0) if tensors else None,
    )


def turned(atoms: Atoms, turn: Array) -> Atoms:
    """A copy with positions and cell turned against the laboratory (frame and field stay), without constraints."""
    copy = atoms.copy()
    copy.set_constraint()
    copy.set_cell(atoms.cell.array @ turn.T, scale_atoms=False)
    copy.set_positions(atoms.get_positions() @ turn.T)
    return copy


def _one(atoms: Atoms, calculator: Any, turn: Array, stress: bool) -> tuple[float, Array, Array | None]:
    system = attached(turned(atoms, turn), calculator)
    energy, forces = float(system.get_potential_energy()), np.array(system.get_forces(), dtype=np.float64)
    return energy, forces, voigt_6_to_full_3x3_stress(system.get_stress()) if stress else None


def _in_batches(
    atoms: Atoms, calculator: Any, turns: Array, stress: bool
) -> list[tuple[float, Array, Array | None]] | None:
    """One of our potentials evaluates all orientations together; None for other calculators and committees."""
    members = getattr(calculator, "potentials", None)
    if members is None or len(members) != 1:
        return None
    names = ("energy", "forces", "stress") if stress else ("energy", "forces")
    found = members[0].evaluate([turned(placed(atoms, calculator), t) for t in turns], names)
    return [(float(r["energy"]), r["forces"], r.get("stress")) for r in found]


def _combined(found: list[Replica]) -> dict[str, Any]:
    means = [float(r.energies.mean()) for r in found]
    results: dict[str, Any] = {
        "energy": float(np.mean(means)),
        "free_energy": float(np.mean(means)),
        "forces": np.mean([r.forces for r in found], axis=0),
        "energy_std_error": standard_error(means),
        "rotational_spread": float(np.concatenate([r.energies for r in found]).std()),
        "replicas": len(found),
    }
    tensors = [r.stress for r in found if r.stress is not None]
    if tensors:
        results["stress"] = full_3x3_to_voigt_6_stress(np.mean(tensors, axis=0))
    return results


def standard_error(values: Sequence[float]) -> float:
    """s/√n with s over n − 1: the standard error of a mean of independent values."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def rotational_spread(atoms: Atoms, calculator: Any, grid: str = "tetrahedral", seed: int = 0) -> tuple[float, float]:
    """How far a calculator is from rotation invariance: (eV/atom, eV/Å).

    Standard deviation of the energy, and root mean square deviation of the turned-back forces, over a randomly turned
    grid and its inversion images.
    """
    turns = rotation_grid(grid, inversion=True) @ Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
    rows = _in_batches(atoms, calculator, turns, stress=False) or [
        _one(atoms, calculator, t, stress=False) for t in turns
    ]
    energies = np.array([row[0] for row in rows])
    forces = np.array([row[1] @ t for row, t in zip(rows, turns, strict=True)])
    deviation = float(np.sqrt(((forces - forces.mean(axis=0)) ** 2).sum(axis=-1).mean()))
    return float(energies.std()) / len(atoms), deviation


def require_conservative(calculator: Any, task: str) -> None:
    """Refuse a calculator whose energy surface changes from call to call.

    Raises:
        InputError: It draws fresh random rotations.
    """
    if not getattr(calculator, "conservative", True):
        raise InputError(
            f"{type(calculator).__name__} draws fresh random rotations at every call; {task} needs one surface",
            mend="use fresh=False, which keeps the rotations fixed",
        )
