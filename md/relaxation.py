"""Relaxation of atoms and cell, with a verdict at the end: minimum or saddle."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import ase.io
import ase.units
import numpy as np
import spglib
from ase import Atoms
from ase.constraints import FixSymmetry
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS, FIRE, LBFGS, BFGSLineSearch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlip.errors import InputError
from mlip.files import atomic_path
from mlip.md.calculators import attached, has_stress
from mlip.md.curvature import Curvature, curvature
from mlip.md.invariance import require_invariant
from mlip.md.rotation_average import require_conservative
from mlip.md.units import GPA_PER_EV_A3
from mlip.report import Check

CellMotion = Literal["fixed", "free", "isotropic", "shape"]
OPTIMISERS: dict[str, Any] = {
    "lbfgs": LBFGS,
    "bfgs": BFGS,
    "bfgs-line-search": BFGSLineSearch,
    "fire": FIRE,
}


@dataclass(frozen=True)
class RelaxResult:
    """What a relaxation came to.

    Attributes:
        atoms: The relaxed structure, with energy and forces attached as a single-point calculator.
        start: The structure it began from.
        energies: Potential energy in eV after each step, the start first.
        max_forces: Largest generalised force in eV/Å after each step (cell included where it moves).
        fmax: The limit that was asked for, eV/Å.
        converged: Whether the limit was reached.
        pressure: The target pressure in GPa.
        stress: Voigt stress in GPa at the end, ASE's sign; None without periodic stress.
        space_groups: International symbols before and after.
        curvature: Minimum or saddle; None when it was not asked for.
    """

    atoms: Atoms
    start: Atoms
    energies: NDArray[np.float64]
    max_forces: NDArray[np.float64]
    fmax: float
    converged: bool
    pressure: float
    stress: NDArray[np.float64] | None
    space_groups: tuple[str | None, str | None]
    curvature: Curvature | None
    checks: list[Check] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """One line: minimum or saddle, or that the forces are not small enough to tell."""
        if not self.converged:
            return f"not converged: largest force {self.max_forces[-1]:.2e} eV/Å after {self.steps} steps"
        return "curvature not computed" if self.curvature is None else self.curvature.line

    @property
    def lines(self) -> list[str]:
        """What was found, for people."""
        groups = " → ".join(dict.fromkeys(str(g) for g in self.space_groups))
        return [
            self.verdict,
            f"{self.energies[-1]:.6f} eV after {self.steps} steps; space group {groups}",
        ]

    @property
    def steps(self) -> int:
        """Number of optimiser steps."""
        return len(self.energies) - 1

    def to_dict(self) -> dict[str, Any]:
        """The figures of this relaxation as plain values."""
        return {
            "converged": self.converged,
            "steps": self.steps,
            "energy": float(self.energies[-1]),
            "energy_gain": float(self.energies[0] - self.energies[-1]),
            "max_force": float(self.max_forces[-1]),
            "stress_GPa": self.stress,
            "volume": self.atoms.get_volume() if self.atoms.cell.rank == 3 else None,
            "cell_lengths_angles": self.atoms.cell.cellpar() if self.atoms.cell.rank == 3 else None,
            "space_group_before": self.space_groups[0],
            "space_group_after": self.space_groups[1],
            "verdict": self.verdict,
            "lowest_eigenvalue": None if self.curvature is None else self.curvature.lowest,
        }

    def to_atoms(self) -> Atoms:
        """A copy of the relaxed structure."""
        return self.atoms.copy()

    def to_file(self, path: str | Path) -> Path:
        """Write the relaxed structure in any of ASE's formats (by the suffix), atomically."""
        with atomic_path(path) as temporary:
            ase.io.write(temporary, self.atoms)
        return Path(path)

    def plot(self) -> Figure:
        """Energy above the last one, and largest force, against the step."""
        from mlip.md.figures import relaxation_figure

        return relaxation_figure(self)


def relax(
    atoms: Atoms,
    calculator: Any,
    *,
    cell: CellMotion = "fixed",
    pressure: float = 0.0,
    keep_symmetry: bool = False,
    symprec: float = 1e-2,
    fmax: float = 1e-4,
    steps: int = 1000,
    optimiser: str = "lbfgs",
    with_curvature: bool = True,
) -> RelaxResult:
    """Relax a structure without touching the input.

    Args:
        atoms: The structure; its constraints are kept.
        calculator: Any ASE calculator.
        cell: ``"fixed"``; ``"free"`` (shape and volume); ``"isotropic"`` (volume); ``"shape"`` (at constant
            volume). Cells move by ASE's `FrechetCellFilter`.
        pressure: Target pressure in GPa, for a moving cell.
        keep_symmetry: Hold the space group found at ``symprec`` (ASE's `FixSymmetry`).
        symprec: In Å.
        fmax: Largest force allowed, eV/Å.
        steps: Most steps allowed.
        optimiser: ``"lbfgs"``, ``"bfgs"``, ``"bfgs-line-search"`` or ``"fire"``.
        with_curvature: Decide between minimum and saddle at the end.

    Returns:
        The relaxed structure, the course of the relaxation and its verdict.

    Raises:
        InputError: An unknown choice, a moving cell without three periodic directions, or a space group to be held
            that the model breaks.
    """
    _validate(atoms, cell, optimiser, pressure)
    require_conservative(calculator, "a relaxation")
    moving = attached(atoms, calculator, constraints=True)
    if keep_symmetry:
        require_invariant(calculator, atoms, "a relaxation within the space group")
        moving.set_constraint([*moving.constraints, FixSymmetry(moving, symprec=symprec)])
    target = moving if cell == "fixed" else _cell_filter(moving, cell, pressure)
    energies, forces = _minimise(OPTIMISERS[optimiser](target, logfile=None), target, fmax, steps)

    final = attached(moving, calculator)
    final.set_constraint(atoms.constraints)
    shape = curvature(final, calculator) if with_curvature and len(atoms) else None
    return RelaxResult(
        atoms=_frozen(final),
        start=atoms.copy(),
        energies=np.array(energies),
        max_forces=np.array(forces),
        fmax=fmax,
        converged=forces[-1] <= fmax,
        pressure=pressure,
        stress=final.get_stress() * GPA_PER_EV_A3 if has_stress(final, calculator) else None,
        space_groups=(space_group(atoms, symprec), space_group(final, symprec)),
        curvature=shape,
        checks=[Check("largest force", forces[-1], fmax, "eV/Å")],
    )


def space_group(atoms: Atoms, symprec: float = 1e-2) -> str | None:
    """International symbol and number of a crystal's space group; None where it has no three periods."""
    if not atoms.pbc.all():
        return None
    crystal = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    found = spglib.get_symmetry_dataset(crystal, symprec=symprec)
    return None if found is None else f"{found.international} ({found.number})"


def _validate(atoms: Atoms, cell: str, optimiser: str, pressure: float) -> None:
    if optimiser not in OPTIMISERS:
        raise InputError(f"'{optimiser}' is none of {', '.join(OPTIMISERS)}", key="optimiser")
    if cell not in ("fixed", "free", "isotropic", "shape"):
        raise InputError(f"'{cell}' is none of fixed, free, isotropic, shape", key="cell")
    if cell != "fixed" and not atoms.pbc.all():
        raise InputError("only a cell with three periodic directions can be relaxed", key="cell")
    if cell == "fixed" and pressure:
        raise InputError("a pressure needs a moving cell", key="pressure", mend="--cell free or isotropic")


def _cell_filter(atoms: Atoms, cell: CellMotion, pressure: float) -> FrechetCellFilter:
    return FrechetCellFilter(
        atoms,
        hydrostatic_strain=cell == "isotropic",
        constant_volume=cell == "shape",
        scalar_pressure=pressure * ase.units.GPa,
    )


def _minimise(optimiser: Any, target: Any, fmax: float, steps: int) -> tuple[list[float], list[float]]:
    """Run the optimiser; return energies and largest generalised forces, step by step."""
    energies: list[float] = []
    forces: list[float] = []
    for _ in optimiser.irun(fmax=fmax, steps=steps):
        energies.append(float(target.get_potential_energy()))
        forces.append(float(np.linalg.norm(target.get_forces(), axis=1).max()))
    return energies, forces


def _frozen(atoms: Atoms) -> Atoms:
    """A copy that remembers its energy, forces and stress without the calculator."""
    from ase.calculators.singlepoint import SinglePointCalculator

    results: dict[str, Any] = {
        "energy": atoms.get_potential_energy(),
        "forces": atoms.get_forces(apply_constraint=False),
    }
    if has_stress(atoms, atoms.calc):
        results["stress"] = atoms.get_stress()
    copy = atoms.copy()
    copy.calc = SinglePointCalculator(copy, **results)
    return copy
