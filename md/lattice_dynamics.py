"""Phonons of a crystal: bands, density of states, thermal properties, with the checks that belong to them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlip.errors import InputError
from mlip.md.bands import band_path, bands_along
from mlip.md.calculators import attached, has_bloch_matrix, has_stress, members_of
from mlip.md.committee import spread_of
from mlip.md.dynamical import (
    BlochMatrices,
    FourierMatrices,
    fill_from_displacements,
    fill_from_hessian,
    fill_from_matrices,
    frequencies_at,
    frequencies_thz,
    hermitian_defect,
    phonopy_for,
    sum_rule_blocks,
    supercell_matrix,
)
from mlip.md.equilibrium import relaxed_cell
from mlip.md.invariance import require_invariant
from mlip.md.mesh import interpolation_error, sample_zone
from mlip.md.phonon_analyses import DEFAULT_ANALYSES, Analyses, Solved, analyse
from mlip.md.phonon_result import PhononResult
from mlip.md.polar import trained_supercell
from mlip.md.reference import Reference
from mlip.md.relaxation import RelaxResult
from mlip.md.rotation_average import require_conservative
from mlip.md.solution import GENERAL_Q, Method, Recipe, Solution
from mlip.md.stability import IMAGINARY, imaginary_modes, lowest_frequency
from mlip.md.structure import PrimitiveCell, primitive_cell
from mlip.md.thermal import density_of_states, thermal_table
from mlip.md.units import GPA_PER_EV_A3
from mlip.report import Check

Array = NDArray[np.float64]


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
    analyses: Analyses = DEFAULT_ANALYSES,
    references: Sequence[Reference] = (),
    progress: Any = iter,
) -> PhononResult:
    """Phonons of a crystal with any ASE calculator.

    Args:
        atoms: The crystal, in any cell; it is reduced to its standardised primitive cell.
        calculator: Any ASE calculator, in double precision. With ``get_dynamical_matrix`` the bands are exact
            at every q. A committee gives its mean D(q), and the spread of its members' frequencies at each q.
        supercell: 1, 3 or 9 integers on the primitive cell, for force constants; None: edges ≥ 15 Å, and with
            ``born`` the cell that the model was trained on, where its header says so.
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
        born: Born charges of a polar crystal, phonopy's BORN or a YAML of its family with them, or ``"model"`` for
            those of a model that feels an electric field: bands, density of states and thermal properties then come
            from the supercell's force constants with the dipole term of Gonze and Lee.
        analyses: What else to compute: representations, group velocities, Grüneisen parameters, displacements.
        references: Other phonons of this crystal to compare with.
        progress: Wraps an iterable of displaced supercells, for a progress bar.

    Returns:
        Bands, density of states, thermal table and checks. No correction is made unless asked for.

    Raises:
        InputError: No crystal, a wrong choice, or snapping would move something too far.
    """
    require_conservative(calculator, "a phonon calculation")
    if symmetrize:
        require_invariant(calculator, atoms, "an average over the space group")
    method = _method(method, calculator)
    analyses.validate()
    cell = primitive_cell(atoms, symprec=symprec, snap=snap)
    relaxation = None
    if relax_first is not None:
        cell, relaxation = relaxed_cell(cell, calculator, "free" if relax_first == "cell" else "fixed", fmax)
    if supercell is None and born is not None:
        supercell = trained_supercell(calculator, cell.atoms)
    matrix = supercell_matrix(supercell, cell.atoms)
    recipe = Recipe(method, matrix, displacement, asr, symmetrize, born, progress)
    solution = recipe.solve(cell, calculator)
    matrices, symmetric = solution.matrices, solution.symmetric

    dipoles = born is not None or any(reference.polar for reference in references)
    bands = bands_along(matrices, cell, band_path(cell, path, points, polar=dipoles))
    sample = sample_zone(
        solution.phonon,
        solution.exact,
        dos_mesh,
        symmetric=symmetric,
        sampling=analyses.dos_sampling,
        affordable=len(bands.path.q) + abs(round(np.linalg.det(matrix))),
    )
    thermal = thermal_table(sample.mesh, temperatures)
    lowest = lowest_frequency(bands, sample.mesh.qpoints, sample.mesh.frequencies)
    again = partial(recipe.force_constants, calculator=calculator, symmetric=symmetric)
    solved = Solved(cell, calculator, matrices, solution.phonon, bands.path, sample.mesh, symmetric, again)
    member = partial(recipe.member, cell)
    result = PhononResult(
        cell=cell,
        method=method,
        supercell=matrix,
        phonon=solution.phonon,
        matrices=matrices,
        bands=bands,
        dos=density_of_states(sample.mesh, cell),
        zone=sample,
        thermal=thermal,
        relaxation=relaxation,
        symmetry_defect=solution.defect,
        lowest=lowest,
        imaginary=imaginary_modes(matrices, cell, bands, lowest, symmetric=symmetric),
        interpolation_error=_interpolation_error(solution, matrix),
        polar=solution.polar,
        stress=_stress(cell.atoms, calculator),
        analyses=analyse(solved, analyses, thermal.temperature),
        checks=[*_checks(solution, cell, method, lowest[0], relaxation), *solution.checks],
        spread=spread_of(members_of(calculator), member, bands.path.q, cell.special_points),
    )
    return result.compared_with(*references)


def _interpolation_error(solution: Solution, matrix: NDArray[np.int64]) -> float | None:
    return None if solution.exact is None else interpolation_error(solution.exact, solution.phonon, matrix)


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


def _stress(atoms: Atoms, calculator: Any) -> Array | None:
    return attached(atoms, calculator).get_stress() * GPA_PER_EV_A3 if has_stress(atoms, calculator) else None


def _checks(
    solution: Solution, cell: PrimitiveCell, method: Method, lowest: float, relaxation: RelaxResult | None
) -> list[Check]:
    gamma, general = solution.matrices.at(np.array([np.zeros(3), GENERAL_Q]))
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
        Check("space-group defect", solution.defect, 1e-8 if method == "exact" else 1e-6, "relative"),
        Check("imaginary frequency", max(0.0, -lowest), IMAGINARY, "THz"),
    ]
