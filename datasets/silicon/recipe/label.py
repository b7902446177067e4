"""Label the planned frames with DFT, one after another, and refresh the three files on the way.

Usage: ``python -m mlip.datasets.silicon.recipe.label --scratch DIR`` (or
``SILICON_SCRATCH``).  Stop it whenever you like: every frame has its folder, finished ones are read, and
the files always hold all finished frames.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mlip.datasets.silicon.recipe.espresso import Settings, single_point
from mlip.datasets.silicon.recipe.plan import frames
from mlip.datasets.silicon.recipe.structures import (
    BASIS_CORRECTION,
    LATTICE_CONSTANT,
    SUPERCELLS,
    Frame,
    scratch_argument,
    structure,
)

DESTINATION = Path(__file__).resolve().parent.parent


def basis_correction(atoms: Atoms) -> float:
    """Energy (eV) that turns a fixed cut-off into a fixed number of plane waves.

    The stress is the derivative of the energy at a fixed number of plane waves, the energies of different
    volumes V are computed at a fixed cut-off.  The difference is N c ln(V / V0) with c = -(2/3) dE/d(ln cut-off)
    per atom (Francis and Payne, J. Phys.: Condens. Matter 2, 4395 (1990)); it vanishes at V0, so forces and
    unstrained frames are untouched.
    """
    relaxed = LATTICE_CONSTANT**3 / 8
    return len(atoms) * BASIS_CORRECTION * float(np.log(atoms.get_volume() / len(atoms) / relaxed))


def rounded(atoms: Atoms) -> Atoms:
    """The labels as stored: corrected energy to 1e-6 eV, forces to 1e-5 eV/Å, stress to 1e-7 eV/Å^3."""
    energy = float(atoms.get_potential_energy()) + basis_correction(atoms)
    result = atoms.copy()
    result.calc = SinglePointCalculator(
        result,
        energy=round(energy, 6),
        forces=np.round(atoms.get_forces(), 5),
        stress=np.round(atoms.get_stress(), 7),
    )
    return result


def write_split(split: str, labelled: Iterable[tuple[Frame, Atoms]]) -> None:
    """Write one extxyz file, whole or not at all."""
    images = [rounded(atoms) for frame, atoms in labelled if frame.split == split]
    if not images:
        return
    partial = DESTINATION / f".{split}.partial"
    write(partial, images, format="extxyz")
    partial.replace(DESTINATION / f"{split}.xyz")


def main() -> None:
    """Compute what is missing."""
    folder = scratch_argument(__doc__) / "frames"
    plan = frames()
    names = [frame.name for frame in plan]
    if len(set(names)) != len(names):
        raise ValueError("two frames of the plan have the same name")
    labelled: list[tuple[Frame, Atoms]] = []
    for number, frame in enumerate(plan):
        start = time.perf_counter()
        place = folder / frame.name
        is_new = not (place / "pw.out").exists()
        atoms = single_point(structure(frame), SUPERCELLS[frame.supercell], Settings(), place)
        labelled.append((frame, atoms))
        if is_new or number + 1 == len(plan):
            write_split(frame.split, labelled)
            seconds = time.perf_counter() - start
            print(f"{number + 1}/{len(plan)} {frame.split} {frame.name} {seconds:.1f} s", flush=True)
    for split in ("train", "validation", "test"):
        write_split(split, labelled)


if __name__ == "__main__":
    main()
