"""Relax the molecules and write their harmonic frequencies: ``minima.json``.

Usage: ``python -m mlip.datasets.molecules.recipe.minima --scratch DIR`` (or ``MOLECULES_SCRATCH``);
finished relaxations are read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.io import read, write
from ase.optimize import BFGS
from ase.units import Hartree

from mlip.datasets.molecules.recipe.quantum import FloatArray, Settings, converged, forces, labels
from mlip.datasets.molecules.recipe.structures import MOLECULES, rigid_motions, scratch_argument

DESTINATION = Path(__file__).resolve().parent.parent
# hbar sqrt(eV / Å^2 / amu) in cm^-1
CENTIMETRES = units._hbar * np.sqrt(units._e * 1e20 / units._amu) / units._e * 8065.544  # noqa: SLF001


class KohnSham(Calculator):
    """Energies and forces of `quantum` for ASE's optimiser."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = None, system_changes: list[str] = all_changes
    ) -> None:
        """One self-consistent calculation."""
        super().calculate(atoms, properties, system_changes)
        calculation = converged(self.atoms, self.settings)
        self.results = {"energy": calculation.e_tot * Hartree, "forces": forces(calculation)}


def relaxed(name: str, settings: Settings, folder: Path) -> Atoms:
    """The molecule at its minimum, centre of mass at the origin, axes of inertia along x, y, z."""
    place = folder / name
    file = place / "relaxed.xyz"
    if not file.exists():
        place.mkdir(parents=True, exist_ok=True)
        molecule = MOLECULES[name]
        atoms = Atoms(molecule.symbols, positions=molecule.start)
        atoms.calc = KohnSham(settings)
        BFGS(atoms, logfile=str(place / "relax.log")).run(fmax=3e-4, steps=200)
        still = Atoms(molecule.symbols, positions=upright(atoms))
        write(place / "partial.xyz", still, format="xyz", fmt="%.8f")
        (place / "partial.xyz").replace(file)
    atoms = read(file, format="xyz")
    if not isinstance(atoms, Atoms):
        raise TypeError(f"{file} holds no molecule")
    return atoms


def upright(atoms: Atoms) -> FloatArray:
    """(N, 3) positions from the centre of mass in the frame of the axes of inertia, the handedness kept."""
    _, axes = atoms.get_moments_of_inertia(vectors=True)
    axes = axes * np.sign(np.linalg.det(axes))
    return np.round((atoms.positions - atoms.get_center_of_mass()) @ axes.T, 6)


def wavenumbers(atoms: Atoms, hessian: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Harmonic wavenumbers in cm^-1, ascending, imaginary ones negative.

    Returns:
        (3N - 6,) with translations and rotations projected out, and (3N,) without.
    """
    root = np.repeat(np.sqrt(atoms.get_masses()), 3)
    weighted = hessian / np.outer(root, root)
    basis = np.linalg.qr(rigid_motions(atoms).T)[0]
    projector = np.eye(len(root)) - basis @ basis.T
    projected = np.linalg.eigvalsh(projector @ weighted @ projector)
    vibrations = np.sort(projected[np.argsort(np.abs(projected))[6:]])
    every = np.linalg.eigvalsh(weighted)
    return (
        CENTIMETRES * np.sign(vibrations) * np.sqrt(np.abs(vibrations)),
        CENTIMETRES * np.sign(every) * np.sqrt(np.abs(every)),
    )


def settings_of(name: str) -> Settings:
    """The settings with the molecule's own integration grid."""
    return Settings(grid=MOLECULES[name].grid)


def minimum(name: str, settings: Settings, folder: Path) -> tuple[Atoms, dict[str, FloatArray]]:
    """A relaxed molecule and all its labels."""
    atoms = relaxed(name, settings, folder)
    return atoms, labels(atoms, settings, True, folder / name)


def stored(atoms: Atoms, found: dict[str, FloatArray]) -> dict[str, Any]:
    """What ``minima.json`` says of a molecule."""
    vibrations, every = wavenumbers(atoms, found["hessian"])
    zero = every[np.argsort(np.abs(every))[:6]]
    return {
        "symbols": atoms.get_chemical_symbols(),
        "positions": np.round(atoms.positions, 6).tolist(),
        "masses": atoms.get_masses().tolist(),
        "energy": round(float(found["energy"]), 6),
        "largest_force": round(float(np.abs(found["forces"]).max()), 6),
        "wavenumbers": np.round(vibrations, 2).tolist(),
        "rigid_wavenumbers": np.round(np.sort(zero), 2).tolist(),
        "dipole": np.round(found["dipole"], 5).tolist(),
        "polarizability": np.round(found["polarizability"], 6).tolist(),
    }


def main() -> None:
    """Relax what is missing and write what there is."""
    folder = scratch_argument(__doc__) / "minima"
    settings = Settings()
    grids = {name: molecule.grid for name, molecule in MOLECULES.items()}
    contents: dict[str, Any] = {
        "units": "energy eV, positions Å, masses amu, forces eV/Å, dipole e Å, polarizability e^2 Å^2/eV (times "
        "14.39964 Å^3), wavenumbers cm^-1: harmonic, translations and rotations projected out; rigid_wavenumbers: "
        "the six smallest without the projection",
        "settings": {"functional": settings.functional, "basis": settings.basis, "grid": grids},
        "molecules": {},
    }
    for name in MOLECULES:
        atoms, found = minimum(name, settings_of(name), folder)
        contents["molecules"][name] = stored(atoms, found)
        print(name, contents["molecules"][name], flush=True)
        partial = DESTINATION / ".minima.partial"
        partial.write_text(json.dumps(contents, indent=1, ensure_ascii=False) + "\n")
        partial.replace(DESTINATION / "minima.json")


if __name__ == "__main__":
    main()
