"""Label the planned frames with DFT, one after another, and refresh the three files on the way.

Usage: ``python -m mlip.datasets.perovskite.recipe.label --scratch DIR`` (or
``PEROVSKITE_SCRATCH``).  Stop it whenever you like: every frame has its folder, finished ones are read, and
the files always hold all finished frames; those that they hold are not computed again.
"""

from __future__ import annotations

from pathlib import Path

from ase import Atoms

from mlip.datasets.perovskite.recipe.calculation import SETTINGS, basis_correction, single_point
from mlip.datasets.perovskite.recipe.plan import frames
from mlip.datasets.perovskite.recipe.structures import SUPERCELLS, Frame, scratch_argument, structure
from mlip.datasets.recipes.frames import label_all, rounded, stored_frames

DESTINATION = Path(__file__).resolve().parent.parent


def label(frame: Frame, place: Path) -> Atoms:
    """A frame with its labels as stored."""
    atoms = single_point(structure(frame), SUPERCELLS[frame.supercell], SETTINGS, place)
    return rounded(atoms, basis_correction(atoms))


def main() -> None:
    """Compute what is missing."""
    folder = scratch_argument(__doc__) / "frames"
    plan = frames()
    stored = stored_frames(DESTINATION, plan, structure)
    label_all(plan, label, folder, DESTINATION, lambda place: (place / "pw.out").exists(), stored)


if __name__ == "__main__":
    main()
