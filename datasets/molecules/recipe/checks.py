"""Print the checks of the reference calculation (they stand in the README).

Usage: ``python -m mlip.datasets.molecules.recipe.checks --scratch DIR`` (or ``MOLECULES_SCRATCH``).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms

from mlip.datasets.molecules.recipe.minima import minimum, wavenumbers
from mlip.datasets.molecules.recipe.quantum import (
    FloatArray,
    Settings,
    converged,
    dipole,
    forces,
    labels,
    polarizability,
)
from mlip.datasets.molecules.recipe.structures import scratch_argument

MOLECULE = "hydrogen_peroxide"


def distorted(atoms: Atoms, size: float = 0.05) -> Atoms:
    """The molecule with every atom moved at random."""
    moved = atoms.copy()
    moved.positions += np.random.default_rng(2).normal(0.0, size, (len(atoms), 3))
    return moved


def print_grids(atoms: Atoms, folder: Path, settings: Settings) -> None:
    """Energy, forces and wavenumbers against the last grid; wavenumbers of rigid motions."""
    rows = []
    for grid in (3, 4, 5):
        found = labels(atoms, replace(settings, grid=grid), True, folder / f"grid-{grid}")
        rows.append((grid, found, *wavenumbers(atoms, found["hessian"])))
    last = rows[-1]
    print("\n| grid | ΔE (meV) | Δforce, largest (meV/Å) | ΔHessian, largest (eV/Å^2) | Δwavenumber, largest (cm^-1) "
          "| rigid motions (cm^-1) |")  # fmt: skip
    print("|---|---|---|---|---|---|")
    for grid, found, vibrations, every in rows:
        rigid = np.sort(every[np.argsort(np.abs(every))[:6]])
        changes = [np.abs(found[key] - last[1][key]).max() for key in ("energy", "forces", "hessian")]
        print(f"| {grid} | {1e3 * changes[0]:.2f} | {1e3 * changes[1]:.2f} | {changes[2]:.4f} "
              f"| {np.abs(vibrations - last[2]).max():.2f} | {' '.join(f'{w:.0f}' for w in rigid)} |")  # fmt: skip


def finite_difference_hessian(atoms: Atoms, settings: Settings, step: float = 0.005) -> FloatArray:
    """(3N, 3N) central differences of the forces, eV/Å^2."""
    size = 3 * len(atoms)
    rows = np.empty((size, size))
    for row in range(size):
        pair = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[row // 3, row % 3] += sign * step
            pair.append(forces(converged(moved, settings)).ravel())
        rows[row] = (pair[1] - pair[0]) / (2 * step)
    return (rows + rows.T) / 2


def print_derivatives(atoms: Atoms, folder: Path, settings: Settings) -> None:
    """Each analytic derivative against central differences of the quantity before it."""
    moved = distorted(atoms)
    found = labels(moved, settings, True, folder / "distorted")
    print(f"\nDistorted {MOLECULE}: net force {np.abs(found['forces'].sum(axis=0)).max():.1e} eV/Å.")
    numeric = finite_difference_hessian(moved, settings)
    difference = np.abs(numeric - found["hessian"])
    moved_by = np.abs(wavenumbers(moved, numeric)[0] - wavenumbers(moved, found["hessian"])[0]).max()
    print(f"Hessian against differences of the forces: largest {difference.max():.4f}, rms "
          f"{np.sqrt((difference**2).mean()):.4f} eV/Å^2, of {np.abs(numeric).max():.1f}; wavenumbers "
          f"{moved_by:.2f} cm^-1.")  # fmt: skip
    step = 0.003
    slope = np.empty((len(atoms), 3))
    for atom, axis in np.ndindex(slope.shape):
        energies = []
        for sign in (1, -1):
            shifted = moved.copy()
            shifted.positions[atom, axis] += sign * step
            energies.append(float(labels(shifted, settings, False, folder / f"e{atom}{axis}{sign:+d}")["energy"]))
        slope[atom, axis] = (energies[0] - energies[1]) / (2 * step)
    error = np.abs(slope + found["forces"]).max()
    print(f"Forces against differences of the energy: largest {1e3 * error:.2f} meV/Å, of "
          f"{np.abs(found['forces']).max():.2f} eV/Å.")  # fmt: skip


def print_field(atoms: Atoms, settings: Settings, field: float = 0.02) -> None:
    """The polarizability against dipoles in a uniform field (V/Å)."""
    moved = distorted(atoms)
    analytic = polarizability(converged(moved, settings))
    columns = [
        (dipole(converged(moved, settings, field * axis)) - dipole(converged(moved, settings, -field * axis)))
        / (2 * field)
        for axis in np.eye(3)
    ]
    print(f"Polarizability against dipoles in a field: largest {np.abs(analytic - np.array(columns)).max():.1e} of "
          f"{np.abs(analytic).max():.3f} e^2 Å^2/eV.")  # fmt: skip


def main() -> None:
    """Run (or read) every calculation and print what it says."""
    scratch, settings = scratch_argument(__doc__), Settings()
    atoms, _ = minimum(MOLECULE, settings, scratch / "minima")
    print_grids(atoms, scratch / "checks", settings)
    print_derivatives(atoms, scratch / "checks", settings)
    print_field(atoms, settings)


if __name__ == "__main__":
    main()
