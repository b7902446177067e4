"""Relax cubic, tetragonal, orthorhombic and rhombohedral PbTiO3 with DFT; write ``reference.json``.

Usage: ``python -m mlip.datasets.perovskite.recipe.reference --scratch DIR`` (or ``PEROVSKITE_SCRATCH``);
finished runs are read.  The file holds all finished phases, in the order of `PHASES`.

pw.x relaxes at a fixed number of plane waves, that of the starting cell.  So each relaxation starts again from
its own result until the stress of a fresh calculation there is as small as asked.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read
from ase.units import GPa

from mlip.datasets.perovskite.recipe.calculation import (
    LATTICE_CONSTANT,
    PBTIO3,
    SETTINGS,
    basis_correction,
    single_point,
)
from mlip.datasets.perovskite.recipe.patterns import POLAR, build, phases, polar
from mlip.datasets.perovskite.recipe.structures import SUPERCELLS, normalised, scratch_argument
from mlip.datasets.recipes.espresso import input_text, points_for, run_once

DESTINATION = Path(__file__).resolve().parent.parent
ONE = SUPERCELLS["single5"]
# Space group, direction of the polarisation, first guess of the strain.
PHASES = {
    "cubic": ("Pm-3m", (0, 0, 0), (0, 0, 0, 0, 0, 0)),
    "tetragonal": ("P4mm", (0, 0, 1), (-0.005, -0.005, 0.04, 0, 0, 0)),
    "rhombohedral": ("R3m", (1, 1, 1), (0.005, 0.005, 0.005, 0.01, 0.01, 0.01)),
    "orthorhombic": ("Amm2", (1, 1, 0), (0.01, 0.01, -0.003, 0, 0, 0.015)),
}
FORCE, STRESS = 0.003, 0.03  # eV/Å, GPa: what a relaxed structure may have left
RELAXATION = """&ions
  ion_dynamics = 'bfgs'
/
&cell
  cell_dynamics = 'bfgs', press_conv_thr = 0.1
/
"""


def guess(direction: tuple[int, ...], strain: tuple[float, ...]) -> Atoms:
    """The cubic cell, strained and polarised."""
    atoms = build(ONE, LATTICE_CONSTANT)
    xx, yy, zz, yz, xz, xy = strain
    small = np.array([[xx, xy / 2, xz / 2], [xy / 2, yy, yz / 2], [xz / 2, yz / 2, zz]])
    atoms.set_cell(atoms.cell @ (np.eye(3) + small), scale_atoms=True)
    if any(direction):
        field = np.sum([n * polar(i, POLAR, phases(ONE)[0]) for i, n in enumerate(direction)], axis=0)
        atoms.positions += 0.08 * normalised(field)
    return atoms


def left(atoms: Atoms) -> tuple[float, float]:
    """Largest force (eV/Å) and stress (GPa)."""
    return float(np.abs(atoms.get_forces()).max()), float(np.abs(atoms.get_stress()).max() / GPa)


def symmetric_cell(atoms: Atoms) -> Atoms:
    """The structure with the strain of its cell made symmetric: no rotation against the cubic axes."""
    gradient = atoms.cell.array / LATTICE_CONSTANT
    left_vectors, values, _ = np.linalg.svd(gradient)
    upright = atoms.copy()
    upright.set_cell(left_vectors @ np.diag(values) @ left_vectors.T * LATTICE_CONSTANT, scale_atoms=True)
    return upright


def relax(name: str, folder: Path, rounds: int = 6) -> Atoms:
    """A phase at rest, labelled by a fresh calculation.

    Raises:
        RuntimeError: it did not come to rest.
    """
    _, direction, strain = PHASES[name]
    atoms = guess(direction, strain)
    for number in range(rounds):
        labelled = single_point(atoms, ONE, SETTINGS, folder / f"{name}-{number}")
        force, stress = left(labelled)
        print(f"{name} {number}: energy {labelled.get_potential_energy():.6f} eV, {force:.4f} eV/Å, {stress:.3f} GPa",
              flush=True)  # fmt: skip
        if force < FORCE and stress < STRESS:
            return labelled
        points = points_for(atoms, ONE, SETTINGS, PBTIO3)
        text = input_text(atoms, *points, SETTINGS, PBTIO3, "vc-relax", RELAXATION)
        relaxed = read(run_once(text, folder / f"{name}-{number}", "relax"), format="espresso-out")
        atoms = symmetric_cell(relaxed)
        atoms.positions -= atoms.positions[0]
    raise RuntimeError(f"{name} is not at rest after {rounds} relaxations")


def stored(name: str, atoms: Atoms, cubic: Atoms) -> dict[str, Any]:
    """What the reference says of a phase."""
    energy = atoms.get_potential_energy() + basis_correction(atoms)
    above = energy - cubic.get_potential_energy() - basis_correction(cubic)
    force, stress = left(atoms)
    return {
        "space_group": PHASES[name][0],
        "energy": round(energy, 6),
        "energy_above_cubic": round(above, 6) + 0.0,  # not -0.0
        "cell": np.round(atoms.cell.array, 6).tolist(),
        "lengths": np.round(atoms.cell.lengths(), 5).tolist(),
        "angles": np.round(atoms.cell.angles(), 4).tolist(),
        "volume": round(float(atoms.get_volume()), 5),
        "symbols": atoms.get_chemical_symbols(),
        "scaled_positions": np.round(atoms.get_scaled_positions(wrap=False), 6).tolist(),
        "largest_force": round(force, 5),
        "largest_stress": round(stress, 4),
    }


def write_reference(found: dict[str, Atoms]) -> None:
    """Write ``reference.json``, whole or not at all."""
    contents = {
        "units": "energies eV per formula unit, lengths Å, angles degrees, volume Å^3, forces eV/Å, stress GPa; "
        "cell: rows are vectors, the cubic axes along x, y, z",
        "phases": {name: stored(name, atoms, found["cubic"]) for name, atoms in found.items()},
    }
    partial = DESTINATION / ".reference.partial"
    partial.write_text(json.dumps(contents, indent=1, ensure_ascii=False) + "\n")
    partial.replace(DESTINATION / "reference.json")


def main() -> None:
    """Relax what is missing and write what there is."""
    folder = scratch_argument(__doc__) / "reference"
    found: dict[str, Atoms] = {}
    for name in PHASES:
        found[name] = relax(name, folder)
        write_reference(found)


if __name__ == "__main__":
    main()
