"""Thermal expansion in the quasi-harmonic approximation, through phonopy's fits of F(V, T)."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from phonopy import PhonopyQHA

from mlip.errors import InputError
from mlip.md.calculators import attached, has_bloch_matrix
from mlip.md.dynamical import (
    BlochMatrices,
    DynamicalMatrices,
    FourierMatrices,
    fill_from_displacements,
    force_symmetry_defect,
    frequencies_thz,
    phonopy_for,
    space_group_defect,
    supercell_matrix,
)
from mlip.md.equilibrium import at_volume, bulk_cell, relaxed_cell
from mlip.md.harmonic import QMesh, entropy, free_energy, heat_capacity, q_mesh
from mlip.md.quasi_harmonic_result import Expansion, QuasiHarmonicResult, VolumePhonons
from mlip.md.structure import PrimitiveCell
from mlip.report import Check

Array = NDArray[np.float64]
Fit = Literal["vinet", "birch_murnaghan", "murnaghan"]
GENERAL_Q = np.array([0.137, 0.259, 0.391])
IMAGINARY = 0.02  # THz: a frequency below minus this is called imaginary


def quasi_harmonic(
    atoms: Atoms,
    calculator: Any,
    *,
    span: tuple[float, float] = (-0.03, 0.06),
    points: int = 10,
    mesh: float = 40.0,
    temperatures: Sequence[float] | Array | None = None,
    pressure: float = 0.0,
    fit: Fit = "vinet",
    isotropic: bool = False,
    supercell: Any = None,
    displacement: float = 0.01,
    fmax: float = 1e-5,
    symprec: float = 1e-2,
    snap: bool = True,
    progress: Callable[[Any], Any] = iter,
) -> QuasiHarmonicResult:
    """Volume, expansion, bulk modulus and heat capacity against temperature, from phonons at several volumes.

    At each volume atoms and shape are relaxed within the space group on the static energy, and F(V, T) is the static
    energy plus the harmonic free energy of the modes on a q mesh (the acoustic modes at Γ left out).

    Args:
        atoms: The crystal, in any cell; it is reduced to its primitive cell and relaxed first.
        calculator: Any ASE calculator with stress, in double precision; D(q) is exact where it has
            ``get_dynamical_matrix``, else from finite displacements in a supercell.
        span: First and last volume, relative to the static minimum.
        points: How many volumes; at least five.
        mesh: Å: as many q points along each direction as cells fit into it.
        temperatures: K, equally spaced; None: 0 to 1000 in steps of 10.
        pressure: GPa.
        fit: Equation of state of the free energy.
        isotropic: Hold the shape of the cell.
        supercell: 1, 3 or 9 integers, for finite displacements; None: edges ≥ 15 Å.
        displacement: Å, for finite displacements.
        fmax: eV/Å.
        symprec: Å, for the symmetry search.
        snap: Put the structure onto its space group first.
        progress: Wraps the volumes, for a progress bar.

    Returns:
        Everything against temperature, per primitive cell, with checks.

    Raises:
        InputError: No bulk crystal, too few volumes or temperatures, or an imaginary mode at one of the volumes: the
            crystal then has no harmonic free energy.
    """
    wanted = np.arange(0.0, 1001.0, 10.0) if temperatures is None else np.asarray(temperatures, dtype=np.float64)
    _validate(span, points, wanted)
    start = bulk_cell(atoms, calculator, "quasi-harmonic properties", symprec=symprec, snap=snap)
    cell, _ = relaxed_cell(start, calculator, "free", fmax)
    defect = _symmetry_defect(cell, calculator)
    grid = q_mesh(cell, mesh, symmetric=defect < 1e-6)
    volumes = cell.atoms.get_volume() * (1 + np.linspace(*span, points))
    each = [
        _phonons_at(cell, v, calculator, grid, isotropic, supercell, displacement, fmax)
        for v in progress(list(volumes))
    ]
    expansion = _expand(each, grid, wanted, pressure, fit)
    result = QuasiHarmonicResult(
        cell=cell, mesh=grid, volumes=each, expansion=expansion, pressure=pressure, exact=has_bloch_matrix(calculator)
    )
    return result.checked([Check("space-group defect", defect, 1e-6, "relative"), *_checks(result)])


def _validate(span: tuple[float, float], points: int, temperatures: Array) -> None:
    if not -0.5 < span[0] < span[1] < 0.5:
        raise InputError(f"a span from {span[0]:g} to {span[1]:g} is not within ±0.5", key="span")
    if points < 5:
        raise InputError(f"{points} volumes are too few for an equation of state", key="points", mend="5 or more")
    steps = np.diff(temperatures)
    if len(temperatures) < 6 or steps.min() <= 0 or temperatures[0] < 0 or np.ptp(steps) > 1e-6 * steps.max():
        raise InputError("temperatures must rise from 0 K or above in six or more equal steps", key="temperatures")


def _symmetry_defect(cell: PrimitiveCell, calculator: Any) -> float:
    if has_bloch_matrix(calculator):
        return space_group_defect(BlochMatrices(cell.atoms, calculator), cell, GENERAL_Q)
    return force_symmetry_defect(cell, calculator)


def _phonons_at(
    cell: PrimitiveCell,
    volume: float,
    calculator: Any,
    grid: QMesh,
    isotropic: bool,
    supercell: Any,
    displacement: float,
    fmax: float,
) -> VolumePhonons:
    """D on the mesh at one volume.

    Raises:
        InputError: A mode is imaginary.
    """
    here, _ = at_volume(cell, volume, calculator, isotropic=isotropic, fmax=fmax)
    matrices = _matrices(here, calculator, supercell, displacement).at(grid.q)
    frequencies = frequencies_thz(np.linalg.eigvalsh((matrices + matrices.conj().swapaxes(-1, -2)) / 2))
    real = without_translations(frequencies, grid)
    worst = int(np.nanargmin(real.min(axis=1)))
    if real.min() < -IMAGINARY:
        q = ", ".join(f"{x:.3f}" for x in grid.q[worst])
        raise InputError(
            f"at {volume:.3f} Å³ ({100 * (volume / cell.atoms.get_volume() - 1):+.1f} %) the crystal has an "
            f"imaginary mode of {abs(real.min()):.2f}i THz at q = ({q}): no harmonic free energy",
            mend="narrow the volumes, or mend the model",
        )
    energy = float(attached(here.atoms, calculator).get_potential_energy())
    return VolumePhonons(here.atoms, volume, energy, matrices, real)


def without_translations(frequencies: Array, grid: QMesh) -> Array:
    """The same with the three acoustic modes at Γ set to +∞, where every harmonic sum takes them as frozen."""
    values = frequencies.copy()
    for row in np.flatnonzero(np.all(np.abs(grid.q) < 1e-12, axis=1)):
        values[row, np.argsort(np.abs(values[row]))[:3]] = np.inf
    return values


def _matrices(cell: PrimitiveCell, calculator: Any, supercell: Any, displacement: float) -> DynamicalMatrices:
    if has_bloch_matrix(calculator):
        return BlochMatrices(cell.atoms, calculator)
    phonon = phonopy_for(cell.atoms, supercell_matrix(supercell, cell.atoms), symmetric=True)
    fill_from_displacements(phonon, calculator, displacement)
    return FourierMatrices(phonon)


def _sum(function: Callable[[Array, float], Array], frequencies: Array, weights: Array, t: float) -> float:
    """Σ over modes and mesh of a harmonic quantity; frozen modes left out."""
    finite = np.isfinite(frequencies)
    values = np.zeros_like(frequencies)
    values[finite] = function(np.maximum(frequencies[finite], 1e-3), t)
    return float(weights @ values.sum(axis=1))


def _expand(each: Sequence[VolumePhonons], grid: QMesh, temperatures: Array, pressure: float, fit: Fit) -> Expansion:
    more = np.append(temperatures, 2 * temperatures[-1] - temperatures[-2])  # phonopy gives no derivative at the last
    table = np.array(
        [
            [[_sum(f, v.frequencies, grid.weights, t) for v in each] for t in more]
            for f in (free_energy, heat_capacity, entropy)
        ]
    )
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        qha = PhonopyQHA(
            volumes=[v.volume for v in each],
            electronic_energies=[v.energy for v in each],
            temperatures=more,
            free_energy=table[0],
            cv=table[1],
            entropy=table[2],
            pressure=pressure,
            eos=fit,
        )
    n = len(qha.thermal_expansion)
    return Expansion(
        temperature=more[:n],
        volume=np.array(qha.volume_temperature)[:n],
        expansion=np.array(qha.thermal_expansion),
        bulk=np.array(qha.bulk_modulus_temperature)[:n],
        heat_capacity=np.array(qha.heat_capacity_P_numerical)[:n],
        gibbs=np.array(qha.gibbs_temperature)[:n],
        free_energies=np.array(qha.helmholtz_volume)[:n],
        constant_volume=table[1][:n],
        fit=cast("str", fit),
    )


def _checks(result: QuasiHarmonicResult) -> list[Check]:
    """Volumes within the scan, F(V) as smooth as the fit, and expansion against the modes' Grüneisen sum."""
    found, first, last = result.expansion, result.volumes[0].volume, result.volumes[-1].volume
    middle, half = (first + last) / 2, (last - first) / 2
    rows = [Check("V(T) within the scan", float(np.abs(found.volume - middle).max() / half), 1.0, "of the scan")]
    grueneisen = result.grueneisen_expansion()
    if grueneisen is not None:
        t, ours = grueneisen
        theirs = np.interp(t, found.temperature, found.expansion)
        rows.append(
            Check(
                "expansion against γ C_v/(B V)",
                float(np.abs(ours - theirs).max() / np.abs(theirs).max()),
                0.03,
                "relative",
            )
        )
    return rows
