"""A crystal at rest: its primitive cell, snapped onto the space group and relaxed within it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlip.errors import InputError
from mlip.md.calculators import attached, has_stress
from mlip.md.dynamical import force_symmetry_defect
from mlip.md.invariance import is_invariant
from mlip.md.relaxation import CellMotion, RelaxResult, relax
from mlip.md.structure import PrimitiveCell, primitive_cell
from mlip.md.units import GPA_PER_EV_A3

Array = NDArray[np.float64]
VACUUM = 7.0  # Å: a wider layer without atoms is taken for the vacuum of a slab, wire or molecule


def bulk_cell(atoms: Atoms, calculator: Any, what: str, *, symprec: float = 1e-2, snap: bool = True) -> PrimitiveCell:
    """The primitive cell of a bulk crystal, in the orientation of the input.

    Args:
        atoms: The crystal.
        calculator: Must have stress.
        what: Named in the refusal, such as "elastic constants".
        symprec: Å.
        snap: Put the structure onto its space group.

    Raises:
        InputError: Not periodic in three directions, a layer of vacuum in the cell, or no stress.
    """
    if not atoms.pbc.all():
        raise InputError(f"{what} need a crystal periodic in all three directions: a molecule, wire or slab has none")
    gap = widest_gap(atoms)
    if gap > VACUUM:
        raise InputError(
            f"{what} of a cell with {gap:.1f} Å of vacuum would depend on the vacuum",
            mend="give the bulk crystal",
        )
    if not has_stress(atoms, calculator):
        raise InputError(f"{what} need stress, which {type(calculator).__name__} does not have")
    return primitive_cell(atoms, symprec=symprec, snap=snap)


def widest_gap(atoms: Atoms) -> float:
    """The thickest layer without an atom, Å, over the planes of the three lattice directions."""
    heights = atoms.get_volume() / np.linalg.norm(
        [np.cross(atoms.cell[(i + 1) % 3], atoms.cell[(i + 2) % 3]) for i in range(3)], axis=1
    )
    inside = np.sort(atoms.get_scaled_positions(wrap=True), axis=0)
    gaps = np.diff(np.vstack([inside, inside[:1] + 1.0]), axis=0).max(axis=0)
    return float((gaps * heights).max())


def relaxed_cell(
    cell: PrimitiveCell, calculator: Any, motion: CellMotion = "free", fmax: float = 1e-5
) -> tuple[PrimitiveCell, RelaxResult]:
    """Relax within the space group; the cell is then standardised again, as its shape may have moved.

    A calculator that lacks the space group has its minimum elsewhere: with it nothing is held.
    """
    done = relax(
        cell.atoms,
        calculator,
        cell=motion,
        keep_symmetry=is_invariant(calculator, cell.atoms) and force_symmetry_defect(cell, calculator) < 1e-4,
        symprec=1e-4,
        fmax=fmax,
        with_curvature=False,
    )
    again = primitive_cell(done.to_atoms(), symprec=1e-4)
    kept = replace(
        again,
        symprec=cell.symprec,
        largest_move=cell.largest_move,
        input_atoms=cell.input_atoms,
        source=cell.source[again.source],
        transformation=cell.transformation @ again.transformation,
    )
    return kept, done


def stress_of(atoms: Atoms, calculator: Any) -> Array:
    """Voigt stress, (6,) GPa, ASE's sign."""
    return np.asarray(attached(atoms, calculator).get_stress() * GPA_PER_EV_A3, dtype=np.float64)


def at_volume(
    cell: PrimitiveCell, volume: float, calculator: Any, *, isotropic: bool = False, fmax: float = 1e-5
) -> tuple[PrimitiveCell, RelaxResult]:
    """The crystal at another volume: scaled, then atoms and shape relaxed within the space group, where it holds.

    Atoms keep their order and their images, so that quantities at several volumes can be interpolated.

    Args:
        cell: The crystal to start from.
        volume: Å³ per primitive cell.
        calculator: Any ASE calculator with stress.
        isotropic: Keep the shape and relax the atoms only.
        fmax: eV/Å.
    """
    scaled = cell.atoms.copy()
    factor = (volume / scaled.get_volume()) ** (1 / 3)
    scaled.set_cell(scaled.cell.array * factor, scale_atoms=True)
    held = is_invariant(calculator, scaled)
    motion: CellMotion = "fixed" if isotropic or (held and is_cubic(cell)) else "shape"
    done = relax(scaled, calculator, cell=motion, keep_symmetry=held, symprec=1e-4, fmax=fmax, with_curvature=False)
    return replace(cell, atoms=done.to_atoms()), done


def is_cubic(cell: PrimitiveCell) -> bool:
    """Whether the point group has its four threefold axes: then the shape is fixed by symmetry."""
    traces = np.trace(cell.rotations, axis1=1, axis2=2) * np.rint(np.linalg.det(cell.rotations))
    return int((np.rint(traces) == 0).sum()) in (8, 16)
