"""Phonons of a crystal: bands, density of states, thermal properties, with the checks that belong to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from phonopy import Phonopy

from mlip.errors import InputError
from mlip.md.bands import Bands, band_path, bands_along
from mlip.md.calculators import attached, has_bloch_matrix, has_stress
from mlip.md.dynamical import (
    BlochMatrices,
    DynamicalMatrices,
    FourierMatrices,
    SumRuleMatrices,
    SymmetricMatrices,
    fill_from_displacements,
    fill_from_hessian,
    fill_from_matrices,
    force_symmetry_defect,
    frequencies_at,
    frequencies_thz,
    hermitian_defect,
    phonopy_for,
    space_group_defect,
    sum_rule_blocks,
    supercell_matrix,
)
from mlip.md.phonon_result import PhononResult, PolarTerm
from mlip.md.polar import change_in_larger_supercell, charge_check, read_born, with_dipoles
from mlip.md.reference import Reference
from mlip.md.relaxation import RelaxResult, relax
from mlip.md.rotation_average import require_conservative
from mlip.md.structure import PrimitiveCell, primitive_cell
from mlip.md.thermal import density_of_states, thermal_table
from mlip.md.units import GPA_PER_EV_A3
from mlip.report import Check

Array = NDArray[np.float64]
Method = Literal["auto", "exact", "hessian", "displacement"]
# A q point of no symmetry, where defects are measured and interpolation is tried.
GENERAL_Q = np.array([0.137, 0.259, 0.391])


def phonons(
    atoms: Atoms,
    calculator: Any,
    *,
    supercell: Any = None,
    method: Method = "auto",
    displacement: float = 0.01,
    path: str | None = None,
    points: int = 200,
    dos_mesh: float | Sequence[int] = 60.0,
    temperatures: Sequence[float] | Array | None = None,
    relax_first: Literal["positions", "cell"] | None = "positions",
    fmax: float = 1e-5,
    symprec: float = 1e-2,
    snap: bool = True,
    asr: bool = False,
    symmetrize: bool = False,
    born: str | Path | None = None,
    references: Sequence[Reference] = (),
    progress: Any = iter,
) -> PhononResult:
    """Phonons of a crystal with any ASE calculator.

    Args:
        atoms: The crystal, in any cell; it is reduced to its standardised primitive cell.
        calculator: Any ASE calculator, in double precision. With ``get_dynamical_matrix`` the bands are exact
            at every q.
        supercell: 1, 3 or 9 integers on the primitive cell, for force constants; None: edges ≥ 15 Å.
        method: ``"exact"`` D(q); ``"hessian"`` analytic Hessian of the supercell; ``"displacement"`` finite
            differences there; ``"auto"`` the first where the calculator has it, else the last.
        displacement: Å, for finite differences.
        path: Labels of the path, see `band_path`; None: the standard one.
        points: About how many q points on the path.
        dos_mesh: Three numbers, or a length in Å (the mesh has as many points as cells fit into it).
        temperatures: K, for the thermal table; None: 0 to 1000 in steps of 10.
        relax_first: Relax ``"positions"`` or the whole ``"cell"`` within the space group; None: take it as it is.
        fmax: eV/Å, for that relaxation.
        symprec: Å, for the symmetry search.
        snap: Put the structure onto its space group first.
        asr: Impose the acoustic sum rule (a correction).
        symmetrize: Average over the space group (a correction).
        born: phonopy's BORN file of a polar crystal: bands, density of states and thermal properties then come from
            the supercell's force constants with the dipole term of Gonze and Lee.
        references: Other phonons of this crystal to compare with.
        progress: Wraps an iterable of displaced supercells, for a progress bar.

    Returns:
        Bands, density of states, thermal table and checks. No correction is made unless asked for.

    Raises:
        InputError: No crystal, a wrong choice, or snapping would move something too far.
    """
    require_conservative(calculator, "a phonon calculation")
    method = _method(method, calculator)
    cell = primitive_cell(atoms, symprec=symprec, snap=snap)
    relaxation = None
    if relax_first is not None:
        cell, relaxation = _relaxed(cell, calculator, relax_first, fmax)
    matrix = supercell_matrix(supercell, cell.atoms)
    plain_matrices, phonon, defect = _solve(cell, calculator, matrix, method, displacement, progress)
    matrices = _corrected(plain_matrices, cell, asr=asr, symmetrize=symmetrize)
    if matrices is not plain_matrices:
        fill_from_matrices(phonon, matrices)
    error = _interpolation_error(matrices, phonon) if method == "exact" else None
    matrices, polar, polar_checks = _polar(matrices, phonon, cell, born, exact=method == "exact")

    dipoles = born is not None or any(reference.polar for reference in references)
    bands = bands_along(matrices, cell, band_path(cell, path, points, polar=dipoles))
    dos, mesh_q, mesh_frequencies = density_of_states(phonon, dos_mesh, symmetric=defect < 1e-6)
    lowest, imaginary = _lowest(bands, mesh_q, mesh_frequencies)
    result = PhononResult(
        cell=cell,
        method=method,
        supercell=matrix,
        phonon=phonon,
        matrices=matrices,
        bands=bands,
        dos=dos,
        thermal=thermal_table(phonon, temperatures),
        relaxation=relaxation,
        lowest=lowest,
        imaginary=imaginary,
        interpolation_error=error,
        polar=polar,
        stress=_stress(cell.atoms, calculator),
        checks=[*_checks(matrices, cell, method, defect, lowest[0], relaxation), *polar_checks],
    )
    return result.compared_with(*references)


def interpolation_baseline(atoms: Atoms, calculator: Any, supercell: Any, q_points: Array) -> Array:
    """Frequencies by plain Fourier interpolation of the exact Hessian of one stated supercell.

    What a training cell by itself gives, so that an exact D(q) has something to stand beside.

    Args:
        atoms: The primitive cell, as it is (`PhononResult.cell.atoms`).
        calculator: Any ASE calculator with ``get_dynamical_matrix`` or ``get_hessian``; otherwise differences.
        supercell: 1, 3 or 9 integers on ``atoms``.
        q_points: (nq, 3) in fractions of the reciprocal vectors of ``atoms``.

    Returns:
        (nq, 3n) THz.
    """
    phonon = phonopy_for(atoms, supercell_matrix(supercell, atoms), symmetric=False)
    if has_bloch_matrix(calculator):
        fill_from_matrices(phonon, BlochMatrices(atoms, calculator))
    elif hasattr(calculator, "get_hessian"):
        fill_from_hessian(phonon, calculator)
    else:
        fill_from_displacements(phonon, calculator, 1e-3)
    return frequencies_at(FourierMatrices(phonon), q_points)


def _method(method: str, calculator: Any) -> Method:
    able = {
        "exact": has_bloch_matrix(calculator),
        "hessian": hasattr(calculator, "get_hessian"),
        "displacement": True,
    }
    if method == "auto":
        return "exact" if able["exact"] else "displacement"
    if method not in able:
        raise InputError(f"'{method}' is none of auto, {', '.join(able)}", key="method")
    if not able[method]:
        raise InputError(f"{type(calculator).__name__} cannot do '{method}'", key="method", mend="use displacement")
    return cast("Method", method)


def _relaxed(cell: PrimitiveCell, calculator: Any, what: str, fmax: float) -> tuple[PrimitiveCell, RelaxResult]:
    """Relax within the space group; the cell is then standardised again, as its shape may have moved."""
    done = relax(
        cell.atoms,
        calculator,
        cell="free" if what == "cell" else "fixed",
        keep_symmetry=True,
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


def _solve(
    cell: PrimitiveCell,
    calculator: Any,
    matrix: NDArray[np.int64],
    method: Method,
    displacement: float,
    progress: Any,
) -> tuple[DynamicalMatrices, Phonopy, float]:
    """D(q), a phonopy object with force constants, and how far the calculator breaks the space group.

    Symmetry reduction is used only where the calculator has the crystal's symmetry: with one that has not,
    phonopy's result would be wrong while the frequencies look fine.
    """
    if method == "exact":
        exact = BlochMatrices(cell.atoms, calculator)
        defect = space_group_defect(exact, cell, GENERAL_Q)
        phonon = phonopy_for(cell.atoms, matrix, symmetric=defect < 1e-6)
        fill_from_matrices(phonon, exact)
        return exact, phonon, defect
    defect = force_symmetry_defect(cell, calculator)
    phonon = phonopy_for(cell.atoms, matrix, symmetric=defect < 1e-6)
    if method == "hessian":
        fill_from_hessian(phonon, calculator)
    else:
        fill_from_displacements(phonon, calculator, displacement, progress)
    return FourierMatrices(phonon), phonon, defect


def _corrected(matrices: DynamicalMatrices, cell: PrimitiveCell, *, asr: bool, symmetrize: bool) -> DynamicalMatrices:
    if symmetrize:
        matrices = SymmetricMatrices(matrices, cell)
    if asr:
        matrices = SumRuleMatrices(matrices, cell.atoms.get_masses())
    return matrices


def _polar(
    matrices: DynamicalMatrices, phonon: Phonopy, cell: PrimitiveCell, born: str | Path | None, *, exact: bool
) -> tuple[DynamicalMatrices, PolarTerm | None, list[Check]]:
    """Add the dipole term where Born charges are given, and see what a larger supercell would change."""
    if born is None:
        return matrices, None, []
    parameters = read_born(born, phonon)
    with_term = with_dipoles(phonon, parameters)
    change = change_in_larger_supercell(matrices, phonon, parameters, cell.atoms, GENERAL_Q[None]) if exact else None
    term = PolarTerm(parameters["born"], parameters["dielectric"], change)
    return with_term, term, [charge_check(parameters)]


def _interpolation_error(exact: DynamicalMatrices, phonon: Phonopy) -> float:
    """Largest |Δν| in THz at a few q of no symmetry, between exact D(q) and the supercell's interpolation."""
    q = np.array([GENERAL_Q, GENERAL_Q[[2, 0, 1]] - 0.5, GENERAL_Q * [-0.5, 0.3, 0.2]])
    return float(np.abs(frequencies_at(exact, q) - frequencies_at(FourierMatrices(phonon), q)).max())


def _lowest(
    bands: Bands, mesh_q: Array, mesh_frequencies: Array
) -> tuple[tuple[float, Array], list[tuple[Array, float]]]:
    """The lowest frequency and its q, and the imaginary modes; the acoustic modes at Γ are zero by nature."""
    q = np.concatenate([bands.path.q, mesh_q])
    values = np.concatenate([bands.frequencies, mesh_frequencies]).copy()
    gamma = np.all(np.abs(q - np.rint(q)) < 2e-4, axis=1)  # a polar crystal's path stops short of Γ
    for row in np.flatnonzero(gamma):
        values[row, np.argsort(np.abs(values[row]))[:3]] = np.inf
    lowest = values.min(axis=1)
    worst = int(lowest.argmin())
    ends = sorted({i for first, stop in bands.path.segments for i in (first, stop - 1)} | {worst})
    found: dict[tuple[float, ...], list[float]] = {}
    for i in ends:
        found.setdefault(tuple(np.round(q[i], 6)), [v for v in values[i] if v < -IMAGINARY])
    modes = [(np.array(at), v) for at, row in found.items() for v in row]
    return (float(lowest[worst]), q[worst]), modes


IMAGINARY = 0.02  # THz: a frequency below minus this is called imaginary


def _stress(atoms: Atoms, calculator: Any) -> Array | None:
    return attached(atoms, calculator).get_stress() * GPA_PER_EV_A3 if has_stress(atoms, calculator) else None


def _checks(
    matrices: DynamicalMatrices,
    cell: PrimitiveCell,
    method: Method,
    defect: float,
    lowest: float,
    relaxation: RelaxResult | None,
) -> list[Check]:
    gamma, general = matrices.at(np.array([np.zeros(3), GENERAL_Q]))
    residual = np.abs(sum_rule_blocks(gamma, cell.atoms.get_masses())).max()
    values = frequencies_thz(np.linalg.eigvalsh((gamma + gamma.conj().T) / 2))
    acoustic = np.sort(np.abs(values))[:3].max()
    differences = method == "displacement"
    checks = [] if relaxation is None else list(relaxation.checks)
    return [
        *checks,
        Check("acoustic sum rule residual", float(residual), 1e-3 if differences else 1e-8, "eV/Å²"),
        Check("acoustic |ν| at Γ", float(acoustic), 2e-2 if differences else 1e-3, "THz"),
        Check("Hermiticity defect of D(q)", hermitian_defect(general), 1e-3 if differences else 1e-10, "relative"),
        Check("space-group defect", defect, 1e-8 if method == "exact" else 1e-6, "relative"),
        Check("imaginary frequency", max(0.0, -lowest), IMAGINARY, "THz"),
    ]
