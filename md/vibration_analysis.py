"""Vibrations of molecules, and of atoms that something holds: frequencies, symmetry, thermochemistry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixSymmetry
from numpy.typing import NDArray

from mlip.errors import InputError
from mlip.md.calculators import attached
from mlip.md.invariance import require_invariant
from mlip.md.mode_symmetry import UNKNOWN, ModeSymmetry, assign
from mlip.md.normal_modes import NormalModes, block_hessian, normal_modes
from mlip.md.point_group import PointGroup, find_point_group
from mlip.md.relaxation import relax
from mlip.md.vibration_result import VibrationResult
from mlip.report import Check

Array = NDArray[np.float64]


def vibrations(
    atoms: Atoms,
    calculator: Any,
    *,
    indices: Sequence[int] | None = None,
    relax_first: bool = True,
    fmax: float = 1e-5,
    steps: int = 2000,
    step: float = 5e-3,
    tolerance: float = 0.02,
) -> VibrationResult:
    """Harmonic vibrations with any ASE calculator.

    Translations and rotations (two of a linear molecule, none of a lone atom, those that the periodic boundaries
    allow) are projected out of the Hessian, unless fixed atoms or ``indices`` say that something holds what moves.

    Args:
        atoms: The structure. Atoms held by `FixAtoms` do not move.
        calculator: Any ASE calculator, in double precision. Its analytic Hessian is used where it has one.
        indices: The atoms that vibrate (an adsorbate); None: all that are not fixed.
        relax_first: Relax all that is not fixed first; without, a transition state stays where it is.
        fmax: eV/Å, for that relaxation.
        steps: Most steps of it.
        step: Å, of finite differences where the Hessian is not analytic.
        tolerance: Å, for the point group.

    Returns:
        Frequencies, modes, symmetry and thermochemistry.

    Raises:
        InputError: No atoms to vibrate, indices that do not exist, or constraints other than `FixAtoms`.
    """
    moving = _moving(atoms, indices)
    if len(moving) == len(atoms):  # else nothing is projected out
        require_invariant(calculator, atoms, "the projection of rotations out of the Hessian")
    relaxation = None
    if relax_first:
        relaxation = relax(atoms, calculator, fmax=fmax, steps=steps, with_curvature=False)
        atoms = relaxation.to_atoms()
    system = attached(atoms, calculator)
    energy, forces = float(system.get_potential_energy()), np.array(system.get_forces())[moving]
    held = len(moving) < len(atoms)
    hessian = block_hessian(atoms, calculator, moving, step)
    modes = normal_modes(atoms, hessian, moving, held=held)
    group = None if held or atoms.pbc.any() else find_point_group(atoms, tolerance)
    symmetries, turned, defect = _symmetries(atoms, modes, group)
    analytic = hasattr(calculator, "get_hessian") or hasattr(calculator, "get_hessian_vector_product")
    return VibrationResult(
        atoms=attached(atoms, None),
        indices=np.array(moving),
        energy=energy,
        hessian=hessian,
        frequencies=modes.frequencies,
        modes=turned.reshape(len(turned), len(atoms), 3),
        symmetries=symmetries,
        group=group,
        held=held,
        analytic=analytic,
        rigid=modes.rigid,
        relaxation=relaxation,
        checks=_checks(modes, forces, fmax, defect, group, analytic=analytic),
    )


def _moving(atoms: Atoms, indices: Sequence[int] | None) -> list[int]:
    """The atoms that vibrate."""
    other = [type(c).__name__ for c in atoms.constraints if not isinstance(c, FixAtoms | FixSymmetry)]
    if other:
        raise InputError(f"{other[0]} cannot be kept in a Hessian of whole atoms", mend="use FixAtoms")
    fixed = {int(i) for c in atoms.constraints if isinstance(c, FixAtoms) for i in c.get_indices()}
    chosen = range(len(atoms)) if indices is None else sorted({int(i) for i in indices})
    outside = [i for i in chosen if not -len(atoms) <= i < len(atoms)]
    if outside:
        raise InputError(f"atom {outside[0]} does not exist among {len(atoms)}", key="indices")
    moving = sorted({i % len(atoms) for i in chosen} - fixed)
    if not moving:
        raise InputError("no atom is left to vibrate", key="indices", mend="FixAtoms or indices leave none")
    return moving


def _symmetries(
    atoms: Atoms, modes: NormalModes, group: PointGroup | None
) -> tuple[list[ModeSymmetry], Array, float]:
    if group is None:
        return [UNKNOWN] * len(modes.frequencies), modes.modes, 0.0
    positions = atoms.get_positions() - atoms.get_center_of_mass()
    return assign(group, positions, modes.frequencies, modes.modes)


def _checks(
    modes: NormalModes, forces: Array, fmax: float, defect: float, group: PointGroup | None, *, analytic: bool
) -> list[Check]:
    found = [
        Check("largest force", float(np.linalg.norm(forces, axis=1).max()), fmax, "eV/Å"),
        Check("Hessian asymmetry", modes.asymmetry, 1e-8 if analytic else 1e-2, "relative"),
    ]
    if modes.rigid:
        name = "rigid motions before projection"
        found.append(Check(name, modes.rigid_residual, 2.0 if analytic else 20.0, "cm⁻¹"))
    if group is not None and group.shape != "monatomic":
        found.append(Check("symmetry defect of modes", defect, 0.05, ""))
    return found
