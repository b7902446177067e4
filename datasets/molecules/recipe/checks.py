"""Print the checks of the reference calculation (they stand in the README).

Usage: ``python -m mlip.datasets.molecules.recipe.checks --scratch DIR`` (or ``MOLECULES_SCRATCH``).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms

from mlip.datasets.molecules.recipe.minima import minimum, wavenumbers
from mlip.datasets.molecules.recipe.quantum import Settings, converged, dipole, labels, polarizability
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
        place = folder / "minima" / MOLECULE if grid == settings.grid else folder / "checks" / f"grid-{grid}"
        found = labels(atoms, replace(settings, grid=grid), True, place)
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


def print_derivatives(atoms: Atoms, folder: Path, settings: Settings, step: float = 0.005) -> None:
    """Forces against the energy, and the Hessian against the forces, along a random direction.

    Args:
        atoms: the relaxed molecule; it is distorted first.
        folder: of the runs.
        settings: Kohn-Sham settings.
        step: of the central difference, Å along a unit vector.
    """
    moved = distorted(atoms)
    found = labels(moved, settings, True, folder / "distorted")
    direction = np.random.default_rng(3).normal(size=(len(atoms), 3))
    direction /= np.linalg.norm(direction)
    ends = []
    for sign in (1, -1):
        shifted = moved.copy()
        shifted.positions += sign * step * direction
        ends.append(labels(shifted, settings, False, folder / f"distorted{sign:+d}"))
    slope = float(ends[0]["energy"] - ends[1]["energy"]) / (2 * step)
    bend = (ends[1]["forces"] - ends[0]["forces"]).ravel() / (2 * step)
    row = found["hessian"] @ direction.ravel()
    error = row - bend
    print(f"\nDistorted {MOLECULE} (0.05 Å), central differences on a random line: net force "
          f"{np.abs(found['forces'].sum(axis=0)).max():.0e} eV/Å; slope {-np.vdot(direction, found['forces']):.5f} "
          f"eV/Å, from energies {slope:.5f}; Hessian row rms {np.sqrt(np.mean(row**2)):.3f} eV/Å^2, from forces "
          f"it differs by {np.sqrt(np.mean(error**2)):.4f}, at most {np.abs(error).max():.4f}.")  # fmt: skip


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
    print_grids(atoms, scratch, settings)
    print_derivatives(atoms, scratch / "checks", settings)
    print_field(atoms, settings)


if __name__ == "__main__":
    main()
