"""Print the convergence tables of the reference calculation (they stand in the README).

Usage: ``python -m mlip.datasets.silicon.recipe.convergence --scratch DIR``
(or ``SILICON_SCRATCH``); finished runs are reused.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.units import GPa

from mlip.datasets.recipes.espresso import FloatArray
from mlip.datasets.silicon.recipe.espresso import (
    CONVENTIONAL,
    Settings,
    folded_k_points,
    single_point,
)
from mlip.datasets.silicon.recipe.structures import SUPERCELLS, build, primitive, scratch_argument

ONE = np.eye(3, dtype=np.int64)


def displaced() -> Atoms:
    """The primitive cell with one atom moved by 0.02 Å along x: its force measures Γ's optic mode."""
    atoms = primitive()
    atoms.positions[1, 0] += 0.02
    return atoms


def print_settings_table(folder: Path, name: str, cases: list[tuple[float, Settings]]) -> None:
    """Energy per atom, pressure, and the force on the displaced atom, against the last row."""
    rows = []
    for value, settings in cases:
        run = single_point(displaced(), ONE, settings, folder / f"{name}-{settings.cutoff:g}-{settings.mesh[0]}")
        pressure = -run.get_stress()[:3].mean() / GPa
        rows.append((value, run.get_potential_energy() / 2, pressure, run.get_forces()[1, 0]))
    _, energy, pressure, force = rows[-1]
    print(f"\n| {name} | ΔE (meV/atom) | Δp (GPa) | force (eV/Å) | Δforce (%) |")
    print("|---|---|---|---|---|")
    for value, e, p, f in rows:
        print(
            f"| {value:g} | {1e3 * (e - energy):.2f} | {p - pressure:+.3f} | {f:.5f} | {100 * (f / force - 1):+.3f} |"
        )


def print_equation_of_state(folder: Path, settings: Settings) -> None:
    """E(V) against the integral of the stress.

    Their difference is the Pulay error, which `label.basis_correction` removes.  The stress is integrated by a
    quartic fit of -p(V); both curves start at the central volume.
    """
    scales = np.linspace(-0.06, 0.06, 7)
    volumes, energies, slopes = [], [], []
    for scale in scales:
        atoms = primitive()
        atoms.set_cell(atoms.cell * (1 + scale) ** (1 / 3), scale_atoms=True)
        run = single_point(atoms, ONE, settings, folder / f"eos-{settings.cutoff:g}-{scale:+.3f}")
        volumes.append(atoms.get_volume() / 2)
        energies.append(run.get_potential_energy() / 2)
        slopes.append(run.get_stress()[:3].mean())
    v = np.array(volumes)
    integral = np.polynomial.Polynomial.fit(v, slopes, 4).integ()
    from_stress = integral(v) - integral(v[3])
    energy = np.array(energies) - energies[3]
    curve = np.polynomial.Polynomial.fit(v, energies, 4)
    logarithm = np.log(v / v[3])
    correction = float(logarithm @ (from_stress - energy) / (logarithm @ logarithm))
    corrected = energy + correction * logarithm
    print(f"\nE(V), cut-off {settings.cutoff:g} Ry; corrected by {correction:.4f} eV ln(V/V0) per atom:\n")
    print("| V/V0 - 1 (%) | E - E0 (meV/atom) | ∫ stress dV (meV/atom) | difference | corrected |")
    print("|---|---|---|---|---|")
    for scale, e, s, c in zip(scales, energy, from_stress, corrected, strict=True):
        print(f"| {100 * scale:+.0f} | {1e3 * e:.2f} | {1e3 * s:.2f} | {1e3 * (e - s):+.2f} | {1e3 * (c - s):+.2f} |")
    print(
        f"\nAt V0: stress {slopes[3] / GPa:+.3f} GPa, dE/dV {curve.deriv()(v[3]) / GPa:+.3f} GPa; bulk modulus "
        f"{v[3] * integral.deriv(2)(v[3]) / GPa:.1f} GPa from the stress, "
        f"{v[3] * curve.deriv(2)(v[3]) / GPa:.1f} GPa from E(V)."
    )


def print_cells(folder: Path, settings: Settings) -> None:
    """Energy per atom of the perfect crystal in cells of different size and shape."""
    print("\n| cell | atoms | k points | E/atom (eV) | difference to 2 atoms (meV) |")
    print("|---|---|---|---|---|")
    reference = None
    for name in ("primitive2", "cubic8", "rod111x4", "tetragonal16"):
        run = single_point(build(name), SUPERCELLS[name], settings, folder / f"cell-{name}")
        energy = run.get_potential_energy() / len(run)
        reference = energy if reference is None else reference
        count = len(folded_k_points(SUPERCELLS[name], settings.mesh)[0])
        print(f"| {name} | {len(run)} | {count} | {energy:.6f} | {1e3 * (energy - reference):+.3f} |")


def print_rigid_shifts(folder: Path, settings: Settings, shifts: int = 4) -> None:
    """Scatter of energy, forces and stress when a rattled crystal is shifted against the FFT grid."""
    rng = np.random.default_rng(7)
    atoms = build("cubic8")
    atoms.positions += rng.normal(0.0, 0.03, (8, 3))
    forces: list[FloatArray] = []
    energies, stresses = [], []
    for number in range(shifts):
        moved = atoms.copy()
        moved.positions += rng.uniform(0.0, 0.3, 3) if number else 0.0
        run = single_point(moved, CONVENTIONAL, settings, folder / f"shift-{number}")
        forces.append(run.get_forces())
        energies.append(run.get_potential_energy() / 8)
        stresses.append(run.get_stress())
    rms = np.sqrt(np.mean(np.square(forces)))
    noise = np.std(forces, axis=0)
    print(
        f"\nRigid shifts of one rattled 8-atom cell ({shifts} positions): forces rms {rms:.3f} eV/Å, "
        f"scatter rms {1e3 * np.sqrt((noise**2).mean()):.3f} meV/Å, "
        f"largest {1e3 * noise.max():.3f} meV/Å; "
        f"energy {1e3 * np.std(energies):.4f} meV/atom; "
        f"stress {np.std(stresses, axis=0).max() / GPa:.4f} GPa."
    )


def main() -> None:
    """Run (or read) every calculation and print the tables."""
    folder = scratch_argument(__doc__) / "convergence"
    base = Settings()
    cutoffs = [(c, replace(base, cutoff=c)) for c in (16.0, 20.0, 24.0, 28.0, 32.0, 40.0)]
    print_settings_table(folder, "cut-off (Ry)", cutoffs)
    print_settings_table(folder, "mesh", [(m, replace(base, mesh=(m, m, m))) for m in (2, 3, 4, 6)])
    for cutoff in (24.0, base.cutoff):
        print_equation_of_state(folder, replace(base, cutoff=cutoff))
    print_cells(folder, base)
    print_rigid_shifts(folder, base)


if __name__ == "__main__":
    main()
