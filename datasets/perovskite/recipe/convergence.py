"""Print the convergence tables of the reference calculation (they stand in the README).

Usage: ``python -m mlip.datasets.perovskite.recipe.convergence --scratch DIR TABLE...``
(or ``PEROVSKITE_SCRATCH``) with tables of mesh, cutoff, volume, cells, shifts; finished runs are reused.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.units import GPa

from mlip.datasets.perovskite.recipe.calculation import LATTICE_CONSTANT, PBTIO3, SETTINGS, single_point
from mlip.datasets.perovskite.recipe.patterns import POLAR, build, phases, polar
from mlip.datasets.perovskite.recipe.plan import volume
from mlip.datasets.perovskite.recipe.structures import SUPERCELLS, Frame, normalised, structure
from mlip.datasets.recipes import espresso
from mlip.datasets.recipes.espresso import FloatArray, Settings, folded_k_points

ONE = SUPERCELLS["single5"]
COARSE = replace(SETTINGS, mesh=(4, 4, 4))


def cubic(cell: str = "single5") -> Atoms:
    """The undisplaced crystal."""
    return build(SUPERCELLS[cell], LATTICE_CONSTANT)


def ferroelectric(cell: str = "single5", amplitude: float = 0.08) -> Atoms:
    """The cubic cell stretched by 4 % along z and polarised, close to the tetragonal phase."""
    atoms = cubic(cell)
    atoms.set_cell(atoms.cell @ np.diag([0.995, 0.995, 1.04]), scale_atoms=True)
    pattern = normalised(polar(2, POLAR, phases(SUPERCELLS[cell])[0]))
    atoms.positions += amplitude * pattern
    return atoms


def print_depth(folder: Path, name: str, cases: list[tuple[str, Settings]]) -> None:
    """Energy of the polarised crystal against the cubic one, its forces and stress against those of the last row."""
    rows = []
    for label, settings in cases:
        place = folder / f"depth-{settings.cutoff:g}-{settings.mesh[0]}"
        flat = single_point(cubic(), ONE, settings, place / "cubic")
        run = single_point(ferroelectric(), ONE, settings, place / "polar")
        depth = run.get_potential_energy() - flat.get_potential_energy()
        rows.append((label, depth, run.get_forces(), run.get_stress()[:3] / GPa, flat.get_stress()[0] / GPa))
    last = rows[-1]
    print(f"\n| {name} | E(polar) - E(cubic) (meV) | ΔE (meV) | Δforce, largest (meV/Å) | Δstress, largest (GPa) "
          "| cubic stress (GPa) |")  # fmt: skip
    print("|---|---|---|---|---|---|")
    for label, depth, forces, stress, flat_stress in rows:
        print(
            f"| {label} | {1e3 * depth:.2f} | {1e3 * (depth - last[1]):+.2f} | "
            f"{1e3 * np.abs(forces - last[2]).max():.1f} | {np.abs(stress - last[3]).max():.3f} | "
            f"{flat_stress:+.3f} |"
        )


def print_mesh(scratch: Path) -> None:
    """Divisions of the k mesh."""
    print_depth(scratch / "convergence", "mesh", [(f"{m}", replace(SETTINGS, mesh=(m, m, m))) for m in (4, 5, 6, 8)])


def print_cutoff(scratch: Path) -> None:
    """Cut-off, with a coarse mesh."""
    print("\nAt the 4 × 4 × 4 mesh:")
    print_depth(
        scratch / "convergence", "cut-off (Ry)", [(f"{c:g}", replace(COARSE, cutoff=c)) for c in (25.0, 30.0, 40.0)]
    )


def print_volume(scratch: Path) -> None:
    """E(V) against the integral of the stress; their difference is the Pulay error that is corrected.

    The runs are frames of the set.
    """
    scales = (-0.06, -0.04, -0.02, 0.0, 0.02, 0.04, 0.06)
    volumes, energies, slopes = [], [], []
    for scale in scales:
        frame = Frame("train", "strain", strain=volume(scale))
        run = single_point(structure(frame), ONE, SETTINGS, scratch / "frames" / frame.name)
        volumes.append(run.get_volume() / 5)
        energies.append(run.get_potential_energy() / 5)
        slopes.append(run.get_stress()[:3].mean())
    v, middle = np.array(volumes), len(scales) // 2
    integral = np.polynomial.Polynomial.fit(v, slopes, 4).integ()
    from_stress = integral(v) - integral(v[middle])
    energy = np.array(energies) - energies[middle]
    logarithm = np.log(v / v[middle])
    correction = float(logarithm @ (from_stress - energy) / (logarithm @ logarithm))
    corrected = energy + correction * logarithm
    print(f"\nE(V), corrected by {correction:.4f} eV ln(V/V0) per atom:\n")
    print("| V/V0 - 1 (%) | E - E0 (meV/atom) | ∫ stress dV (meV/atom) | difference | corrected |")
    print("|---|---|---|---|---|")
    for scale, e, s, c in zip(scales, energy, from_stress, corrected, strict=True):
        print(f"| {100 * scale:+.0f} | {1e3 * e:.2f} | {1e3 * s:.2f} | {1e3 * (e - s):+.2f} | {1e3 * (c - s):+.2f} |")
    print(f"\nAt V0: stress {slopes[middle] / GPa:+.3f} GPa; bulk modulus "
          f"{v[middle] * integral.deriv(2)(v[middle]) / GPa:.1f} GPa from the stress.")  # fmt: skip


def print_cells(scratch: Path) -> None:
    """Energy per formula unit of one polarised crystal in several cells, with and without symmetry."""
    folder, settings = scratch / "convergence", COARSE
    print("\nAt the 4 × 4 × 4 mesh:")
    print("\n| cell | atoms | symmetry used | points of the mesh | E per formula unit (eV) | difference (meV) |")
    print("|---|---|---|---|---|---|")
    reference = None
    free = replace(PBTIO3, symmetric=False)
    for name, crystal in (
        ("single5", PBTIO3),
        ("single5", free),
        ("rod100", PBTIO3),
        ("rod110", PBTIO3),
        ("rod111", PBTIO3),
    ):
        cell = SUPERCELLS[name]
        place = folder / f"cell-{name}-{'symmetric' if crystal.symmetric else 'free'}"
        run = espresso.single_point(ferroelectric(name), cell, settings, crystal, place)
        energy = run.get_potential_energy() / len(run) * 5
        reference = energy if reference is None else reference
        count = len(folded_k_points(cell, settings.mesh, crystal.conventional)[0])
        used = "yes" if crystal.symmetric else "no"
        print(f"| {name} | {len(run)} | {used} | {count} | {energy:.6f} | {1e3 * (energy - reference):+.3f} |")


def print_shifts(scratch: Path, shifts: int = 3) -> None:
    """Scatter of energy, forces and stress when a polarised crystal is shifted along z against the FFT grid."""
    folder = scratch / "convergence"
    energies, stresses = [], []
    forces: list[FloatArray] = []
    for number in range(shifts):
        atoms = ferroelectric()
        atoms.positions[:, 2] += 0.037 * number
        place = (
            folder / f"shift-{number}"
            if number
            else folder / f"depth-{SETTINGS.cutoff:g}-{SETTINGS.mesh[0]}" / "polar"
        )
        run = single_point(atoms, ONE, SETTINGS, place)
        forces.append(run.get_forces())
        energies.append(run.get_potential_energy())
        stresses.append(run.get_stress())
    noise = np.std(forces, axis=0)
    print(
        f"\nRigid shifts of the polarised cell along z ({shifts} positions, {0.037} Å apart): forces rms "
        f"{np.sqrt(np.mean(np.square(forces))):.3f} eV/Å, scatter rms {1e3 * np.sqrt((noise**2).mean()):.2f} meV/Å, "
        f"largest {1e3 * noise.max():.2f} meV/Å; energy {1e3 * np.std(energies):.3f} meV per formula unit; "
        f"stress {np.std(stresses, axis=0).max() / GPa:.4f} GPa."
    )


TABLES = {
    "mesh": print_mesh,
    "volume": print_volume,
    "cells": print_cells,
    "shifts": print_shifts,
    "cutoff": print_cutoff,
}


def main() -> None:
    """Run (or read) the calculations of the chosen tables and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("PEROVSKITE_SCRATCH")
    parser.add_argument("--scratch", type=Path, default=default, required=default is None)
    parser.add_argument("tables", nargs="*", choices=list(TABLES))
    chosen = parser.parse_args()
    for table in chosen.tables or TABLES:
        TABLES[table](Path(chosen.scratch).resolve())


if __name__ == "__main__":
    main()
