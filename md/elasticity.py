"""Elastic constants of a crystal: exact second derivatives with internal relaxation, or finite strains.

C_ijkl = (1/V) [∂²E/∂ε_ij∂ε_kl − (∂²E/∂u∂ε_ij)ᵀ Φ⁺ (∂²E/∂u∂ε_kl)], Born and Huang, at vanishing stress, where all
definitions of elastic constants agree. The first term alone is the clamped-ion part.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.optimize import LBFGS
from matscipy.elasticity import measure_triclinic_elastic_constants
from numpy.typing import NDArray

from mlip.errors import InputError
from mlip.md.calculators import attached, has_bloch_matrix, members_of, working_dtype
from mlip.md.curvature import full_hessian
from mlip.md.elastic_result import ElasticResult, Solution, SoundCheck
from mlip.md.elastic_tensor import born_eigenvalues, from_voigt, group_average, sound_path, sound_velocities, to_voigt
from mlip.md.equilibrium import bulk_cell, relaxed_cell, stress_of
from mlip.md.invariance import require_invariant
from mlip.md.structure import PrimitiveCell, space_group_of
from mlip.md.units import GPA_PER_EV_A3, KM_PER_S_PER_SQRT_EV_AMU
from mlip.report import Check

Array = NDArray[np.float64]
Method = Literal["auto", "exact", "strain"]
LARGEST_STRESS = 1.0  # GPa: beyond it the answer depends on which elastic constants are meant


def elastic(
    atoms: Atoms,
    calculator: Any,
    *,
    method: Method = "auto",
    relax_first: bool = True,
    fmax: float = 1e-6,
    symprec: float = 1e-2,
    snap: bool = True,
    check: bool | None = None,
) -> ElasticResult:
    """Elastic constants and what follows from them, with any ASE calculator that has stress.

    Args:
        atoms: The crystal, in any cell; it is reduced to its primitive cell, its orientation is kept.
        calculator: Any ASE calculator, in double precision. With ``get_hessian`` and ``get_strain_derivatives``
            the constants are exact; a committee's members are each relaxed and evaluated for the spread.
        method: ``"exact"``; ``"strain"``: differences of the stress with atoms relaxed again at each strain;
            ``"auto"``: the first where the calculator has it.
        relax_first: Relax atoms and cell within the space group.
        fmax: eV/Å, for that relaxation.
        symprec: Å, for the symmetry search.
        snap: Put the structure onto its space group first.
        check: Hold exact constants against finite strains; None: in cells of at most 8 atoms.

    Returns:
        The tensor with its clamped-ion part, moduli, stability, sound and Debye temperature, with checks.

    Raises:
        InputError: No bulk crystal, no stress to be had, an unknown method, or a stress above 1 GPa.
    """
    method = _method(method, calculator)
    require_invariant(calculator, atoms, "a table of elastic constants")
    cell = bulk_cell(atoms, calculator, "elastic constants", symprec=symprec, snap=snap)
    main = _solve(cell, calculator, method, relax_first, fmax)
    members = [_solve(cell, member, method, relax_first, fmax) for member in members_of(calculator)]
    wanted = len(main.cell.atoms) <= 8 if check is None else check
    strains = finite_strain(main.cell.atoms, calculator) if method == "exact" and wanted else None
    sound = sound_check(main, calculator) if has_bloch_matrix(calculator) else None
    found = space_group_of(main.cell.atoms, 1e-5)
    return ElasticResult(
        solution=main,
        method=method,
        axes=np.asarray(found.std_rotation_matrix, dtype=np.float64),
        members=members,
        finite_strain=strains,
        sound=sound,
        checks=_checks(main, method, strains, sound),
    )


def exact_tensors(atoms: Atoms, calculator: Any) -> tuple[Array, Array, float]:
    """C and its clamped-ion part from second derivatives at ``atoms`` as they are.

    Returns:
        Both (3, 3, 3, 3) in GPa, not symmetrised, and the lowest eigenvalue of the Hessian in eV/Å² with its
        translations left out (infinite where there is nothing else).
    """
    import torch

    from mlip.strain import internal_response

    system, n = attached(atoms, calculator), len(atoms)
    hessian = full_hessian(atoms, calculator)
    mixed, second = calculator.get_strain_derivatives(system)
    response = internal_response(torch.as_tensor(hessian), torch.as_tensor(mixed)).numpy()
    clamped = second / atoms.get_volume() * GPA_PER_EV_A3
    gain = np.einsum("niab,nicd->abcd", mixed, response) / atoms.get_volume() * GPA_PER_EV_A3
    values = np.linalg.eigvalsh((hessian + hessian.T) / 2)
    internal = np.delete(values, np.argsort(np.abs(values))[:3])
    return clamped + gain, clamped, float(internal.min()) if n > 1 else float("inf")


def finite_strain(atoms: Atoms, calculator: Any, *, relaxed: bool = True) -> Array:
    """C_IJ (6, 6) in GPa from central differences of the stress, extrapolated from two strains (Richardson).

    Args:
        atoms: A crystal at rest.
        calculator: Any ASE calculator with stress.
        relaxed: Relax the atoms again at each strain; else they follow it homogeneously (clamped ions).
    """
    double = working_dtype(calculator) == np.float64
    step, force = (1e-3, 1e-8) if double else (1e-2, 1e-3)
    options = {"optimizer": LBFGS, "fmax": force, "steps": 1000} if relaxed else {}

    def at(delta: float) -> Array:
        system = attached(atoms, calculator)
        return to_voigt(measure_triclinic_elastic_constants(system, delta=delta, **options))

    return (4 * at(step) - at(2 * step)) / 3 * GPA_PER_EV_A3


def sound_check(solution: Solution, calculator: Any, wavenumber: float = 1e-3) -> SoundCheck:
    """Sound from the tensor beside the slopes of exact phonons, ω/k → 0, extrapolated from k, 2k and 3k (rad/Å).

    ω²/k² = v² ± g|k| + …: in crystals without inversion acoustical activity splits transverse waves to first order in
    |k| (Portigal and Burstein, Phys. Rev. 170, 673 (1968)), so that the extrapolation cannot be in k² alone. The
    directions run [100] → [110] → [111] → [001] in Cartesian axes of the crystal's standard setting.
    """
    turn = np.asarray(space_group_of(solution.cell.atoms, 1e-5).std_rotation_matrix)
    directions, places, corners = sound_path(max(2, 20 // len(solution.cell.atoms)))
    here = directions @ turn  # rows: n_input = R^T n_standard
    one, two, three = (_acoustic_squares(solution.cell.atoms, calculator, here, n * wavenumber) for n in (1, 2, 3))
    limit = 3 * one - 3 * two + three
    phonons = np.sign(limit) * np.sqrt(np.abs(limit)) * KM_PER_S_PER_SQRT_EV_AMU
    return SoundCheck(
        places=places,
        corners=corners,
        directions=here,
        christoffel=sound_velocities(solution.tensor, solution.density, here),
        phonons=phonons,
    )


def _acoustic_squares(atoms: Atoms, calculator: Any, directions: Array, wavenumber: float) -> Array:
    """ω²/k² of the three lowest branches, (m, 3) in eV/amu."""
    q = wavenumber * directions @ atoms.cell.array.T / (2 * np.pi)
    matrices = np.asarray(calculator.get_dynamical_matrix(attached(atoms, calculator), q))
    values = np.linalg.eigvalsh((matrices + matrices.conj().swapaxes(-1, -2)) / 2)
    return np.asarray(np.sort(values, axis=1)[:, :3] / wavenumber**2)


def _method(method: str, calculator: Any) -> Method:
    exact = hasattr(calculator, "get_hessian") and hasattr(calculator, "get_strain_derivatives")
    if method == "auto":
        return "exact" if exact else "strain"
    if method not in ("exact", "strain"):
        raise InputError(f"'{method}' is none of auto, exact, strain", key="method")
    if method == "exact" and not exact:
        raise InputError(f"{type(calculator).__name__} has no exact derivatives", key="method", mend="use strain")
    return "exact" if method == "exact" else "strain"


def _solve(cell: PrimitiveCell, calculator: Any, method: Method, relax_first: bool, fmax: float) -> Solution:
    relaxed, relaxation = relaxed_cell(cell, calculator, "free", fmax) if relax_first else (cell, None)
    stress = stress_of(relaxed.atoms, calculator)
    if np.abs(stress).max() > LARGEST_STRESS:
        raise InputError(
            f"the crystal is under {np.abs(stress).max():.2g} GPa of stress, where elastic constants are not unique",
            mend="relax the cell first",
        )
    if method == "exact":
        tensor, clamped, lowest = exact_tensors(relaxed.atoms, calculator)
    else:
        tensor = from_voigt(finite_strain(relaxed.atoms, calculator))
        clamped, lowest = from_voigt(finite_strain(relaxed.atoms, calculator, relaxed=False)), float("nan")
    return Solution(relaxed, relaxation, stress, tensor, clamped, lowest)


def _checks(main: Solution, method: Method, strains: Array | None, sound: SoundCheck | None) -> list[Check]:
    """What must hold; a limit that fails is a defect of the model, of the relaxation, or of this program."""
    largest = np.abs(main.tensor).max()
    matrix = to_voigt(main.tensor)
    exact = method == "exact"
    average = group_average(main.tensor, main.cartesian_rotations)
    rows = [] if main.relaxation is None else list(main.relaxation.checks)
    rows += [
        Check("residual stress", float(np.abs(main.stress).max()), 0.01, "GPa"),
        Check("C_IJ = C_JI", float(np.abs(matrix - matrix.T).max() / largest), 1e-8 if exact else 1e-3, "relative"),
        Check(
            "C under the point group",
            float(np.abs(main.tensor - average).max() / largest),
            1e-8 if exact else 1e-3,
            "relative",
        ),
        Check("elastic instability (Born)", max(0.0, -float(born_eigenvalues(main.matrix)[0])), 0.0, "GPa"),
    ]
    if exact:
        rows.append(Check("internal instability at Γ", max(0.0, -main.lowest_internal), 1e-6, "eV/Å²"))
    if strains is not None:
        rows.append(
            Check("exact C against finite strains", float(np.abs(matrix - strains).max() / largest), 1e-5, "relative")
        )
    if sound is not None:
        rows.append(Check("sound against slopes of D(q)", sound.defect, 1e-5 if exact else 1e-2, "relative"))
    return rows
