"""Label the planned frames with DFT, one after another, and refresh the three files on the way.

Usage: ``python -m mlip.datasets.silicon.recipe.label --scratch DIR`` (or
``SILICON_SCRATCH``).  Stop it whenever you like: every frame has its folder, finished ones are read, and
the files always hold all finished frames.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms

from mlip.datasets.recipes.frames import label_all, rounded
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


def label(frame: Frame, place: Path) -> Atoms:
    """A frame with its labels as stored."""
    atoms = single_point(structure(frame), SUPERCELLS[frame.supercell], Settings(), place)
    return rounded(atoms, basis_correction(atoms))


def main() -> None:
    """Compute what is missing."""
    folder = scratch_argument(__doc__) / "frames"
    label_all(frames(), label, folder, DESTINATION, finished=lambda place: (place / "pw.out").exists())


if __name__ == "__main__":
    main()
