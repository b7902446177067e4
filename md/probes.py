"""Single measurements that `mlip.md.checking` puts together: derivatives, symmetries, smoothness.

Every probe takes a structure with its calculator attached, leaves it alone, and returns plain numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from numpy.typing import NDArray
from scipy.stats import special_ortho_group

from mlip.md.calculators import attached, has_stress
from mlip.md.invariance import placed
from mlip.md.units import GPA_PER_EV_A3
from mlip.surroundings import turned as axes_turned

Array = NDArray[np.float64]


def five_point(function: Callable[[float], Any], step: float) -> Any:
    """df/dt at 0 to fourth order: [f(−2h) − 8 f(−h) + 8 f(h) − f(2h)] / 12h."""
    h = step
    return (function(-2 * h) - 8 * function(-h) + 8 * function(h) - function(2 * h)) / (12 * h)


def moved(atoms: Atoms, positions: Array, cell: Array | None = None) -> Atoms:
    """The same atoms and calculator elsewhere."""
    copy = attached(atoms, atoms.calc)
    if cell is not None:
        copy.set_cell(cell, scale_atoms=False)
    copy.set_positions(positions)
    return copy


def directions(atoms: Atoms, count: int, seed: int = 0) -> Array:
    """(count, N, 3) random directions of unit length in 3N dimensions."""
    v = np.random.default_rng(seed).normal(size=(count, len(atoms), 3))
    return v / np.linalg.norm(v, axis=(1, 2), keepdims=True)


# -- derivatives ------------------------------------------------------------------------------------------


def _energy_along(atoms: Atoms, x: Array, u: Array, t: float) -> float:
    return float(moved(atoms, x + t * u).get_potential_energy())


def _forces_along(atoms: Atoms, x: Array, u: Array, t: float) -> Array:
    return np.asarray(moved(atoms, x + t * u).get_forces(), dtype=np.float64)


def force_error(atoms: Atoms, step: float, count: int = 8) -> float:
    """Largest |dE/dt + F·v| over random directions v, relative to the rms force."""
    forces, x = atoms.get_forces(), atoms.get_positions()
    rms = max(float(np.sqrt((forces**2).mean())), 1e-3)
    # The largest displacement of an atom is what limits the step, not the length in 3N dimensions.
    worst = 0.0
    for v in directions(atoms, count):
        u = v / np.linalg.norm(v, axis=1).max()
        slope = float(five_point(partial(_energy_along, atoms, x, u), step))
        worst = max(worst, float(abs(slope + (forces * u).sum()) / np.linalg.norm(u)))
    return worst / rms


def stress_error(atoms: Atoms, step: float) -> float:
    """Largest |σ − dE/dε / V| in GPa over the six strains."""
    stress, volume = atoms.get_stress(voigt=False), atoms.get_volume()
    x, cell = atoms.get_positions(), atoms.cell.array
    worst = 0.0
    for a in range(3):
        for b in range(a + 1):
            strain = np.zeros((3, 3))
            strain[a, b] += 0.5
            strain[b, a] += 0.5

            def energy(t: float, strain: Array = strain) -> float:
                deform = np.eye(3) + t * strain
                return float(moved(atoms, x @ deform, cell @ deform).get_potential_energy())

            slope = five_point(energy, step / 5) / volume
            worst = max(worst, abs(slope - float((stress * strain).sum())))
    return worst * GPA_PER_EV_A3


def hessian_errors(atoms: Atoms, hessian: Array, step: float, count: int = 4) -> tuple[float, float]:
    """(|H − H^T|, |H·v + dF/dt|), both relative to the largest element."""
    scale = np.abs(hessian).max()
    x, worst = atoms.get_positions(), 0.0
    for v in directions(atoms, count, seed=1):
        u = v / np.linalg.norm(v, axis=1).max()
        slope = five_point(partial(_forces_along, atoms, x, u), step / 5)
        image = (hessian @ u.ravel()).reshape(-1, 3)
        worst = max(worst, float(np.abs(image + slope).max()) / max(float(np.abs(image).max()), 1e-6))
    return float(np.abs(hessian - hessian.T).max() / scale), worst


# -- symmetries -------------------------------------------------------------------------------------------


def covariance_errors(
    atoms: Atoms, other: Atoms, turn: Array, order: NDArray[np.int64] | None = None
) -> tuple[float, float]:
    """(meV/atom, relative): how far ``other`` is from ``atoms`` turned by the orthogonal matrix ``turn``.

    Args:
        atoms: The original.
        other: The same atoms after an operation under which energies are invariant.
        turn: (3, 3), acting on column vectors.
        order: (N,) index in ``atoms`` of each atom of ``other``.
    """
    forces = atoms.get_forces()
    forces = forces if order is None else forces[order]
    energy = abs(other.get_potential_energy() - atoms.get_potential_energy()) / len(atoms) * 1000
    scale = max(float(np.abs(forces).max()), 1e-3)
    vectors = float(np.abs(other.get_forces() - forces @ turn.T).max()) / scale
    if has_stress(atoms, atoms.calc):
        stress = atoms.get_stress(voigt=False)
        gap = other.get_stress(voigt=False) - turn @ stress @ turn.T
        vectors = max(vectors, float(np.abs(gap).max() / max(np.abs(stress).max(), 1e-3)))
    return float(energy), vectors


def turned(atoms: Atoms, turn: Array) -> Atoms:
    """The structure and its laboratory turned by an orthogonal matrix (which may be improper)."""
    return attached(axes_turned(placed(atoms, atoms.calc), turn), atoms.calc)


def orthogonal_matrices(seed: int = 0) -> dict[str, Array]:
    """A random rotation, the inversion, and a mirror plane of random orientation."""
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=3)
    normal /= np.linalg.norm(normal)
    return {
        "rotation": special_ortho_group(3, seed=rng).rvs(),
        "inversion": -np.eye(3),
        "mirror": np.eye(3) - 2 * np.outer(normal, normal),
    }


def translated(atoms: Atoms, seed: int = 0) -> Atoms:
    """All atoms moved together by some Å, then wrapped back into the cell where it is periodic."""
    shift = np.random.default_rng(seed).uniform(-3, 3, size=3)
    copy = moved(atoms, atoms.get_positions() + shift)
    copy.wrap()
    return copy


def permuted(atoms: Atoms, seed: int = 0) -> tuple[Atoms, NDArray[np.int64]]:
    """The atoms in another order, and that order."""
    order = np.random.default_rng(seed).permutation(len(atoms))
    copy = atoms[order]
    copy.set_constraint()
    copy.calc = atoms.calc
    return copy, order


def doubled(atoms: Atoms) -> Atoms:
    """Twice the crystal along its first periodic direction, or a second copy of a molecule 100 Å away."""
    if atoms.pbc.any():
        copies = atoms.copy()
        copies.set_constraint()
        repeat = [1, 1, 1]
        repeat[int(np.flatnonzero(atoms.pbc)[0])] = 2
        copies = copies.repeat(repeat)
    else:
        copies, other = atoms.copy(), atoms.copy()
        other.translate([100.0, 0.0, 0.0])
        copies += other
    copies.calc = atoms.calc
    return copies


# -- smoothness -------------------------------------------------------------------------------------------


def line_scan(atoms: Atoms, path: Callable[[float], Array], points: int = 120) -> tuple[Array, float, float]:
    """Walk along a line of configurations and look for jumps.

    The energy's jump is what ∫F·dx (trapezoids) leaves over, the forces' what a straight line through the
    neighbouring values leaves over; the worst intervals are bisected until smooth changes have died out.

    Args:
        atoms: With calculator.
        path: t ∈ [0, 1] ↦ positions (N, 3).
        points: Samples before bisection.

    Returns:
        (points, 3) columns t, energy (eV), largest force (eV/Å); jump of the energy in meV; of the forces in meV/Å.
    """

    def at(t: float) -> tuple[float, float, Array, Array]:
        there = moved(atoms, path(t))
        return t, float(there.get_potential_energy()), there.get_forces(), there.get_positions()

    samples = [at(t) for t in np.linspace(0, 1, points)]
    table = np.array([[t, e, np.abs(f).max()] for t, e, f, _ in samples])
    pairs = list(pairwise(samples))
    energy = max(_refined(pair, at, _energy_gap, 12) for pair in _worst(pairs, _energy_gap))
    force = max(_refined(pair, at, _force_gap, 16) for pair in _worst(pairs, _force_gap))
    return table, 1000 * energy, 1000 * force


def _energy_gap(a: Any, b: Any) -> float:
    return abs(b[1] - a[1] + float(((a[2] + b[2]) / 2 * (b[3] - a[3])).sum()))


def _force_gap(a: Any, b: Any) -> float:
    return float(np.abs(b[2] - a[2]).max())


def _worst(pairs: list[Any], gap: Callable[[Any, Any], float]) -> list[Any]:
    """The intervals whose gap stands out most from their neighbours' mean, and the largest gaps of all."""
    size = np.array([gap(*pair) for pair in pairs])
    padded = np.pad(size, 1, mode="edge")
    outstanding = np.abs(size - (padded[:-2] + padded[2:]) / 2)
    chosen = {*np.argsort(-outstanding)[:4], *np.argsort(-size)[:2]}
    return [pairs[i] for i in chosen]


def _refined(pair: Any, at: Callable[[float], Any], gap: Callable[[Any, Any], float], levels: int) -> float:
    """Bisect towards the larger gap; a jump stays, a smooth change shrinks with the interval."""
    a, b = pair
    for _ in range(levels):
        middle = at((a[0] + b[0]) / 2)
        a, b = max((a, middle), (middle, b), key=lambda ends: gap(*ends))
    return gap(a, b)


def pair_curve(
    pair: tuple[int, int],
    calculator: Any,
    longest: float,
    points: int = 120,
    info: dict[str, Any] | None = None,
) -> tuple[Array, Array]:
    """Energy in eV of an isolated pair of atoms (atomic numbers) from 0.6 Å to ``longest`` Å.

    ``info`` is what the structure says of its laboratory, for a calculator that wants to know.
    """
    distance = np.linspace(0.6, longest, points)
    # Some calculators want a cell even where nothing is periodic.
    dimer = Atoms(numbers=pair, positions=np.zeros((2, 3)), cell=np.eye(3) * (longest + 30), info=info)
    dimer.calc = calculator
    energies = [moved(dimer, np.outer([0, 1], [r, 0, 0])).get_potential_energy() for r in distance]
    return distance, np.array(energies, dtype=np.float64)


def repulsion_hole(pair: tuple[int, int], distance: Array, energy: Array) -> float:
    """eV: how far the energy falls on approach below 0.7 of the sum of covalent radii, where it must only rise."""
    near = distance < 0.7 * sum(covalent_radii[z] for z in pair)
    if near.sum() < 2:
        return 0.0
    inner = energy[near]
    return float(max(0.0, (np.maximum.accumulate(inner[::-1])[::-1] - inner).max()))
