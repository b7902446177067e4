"""Label the planned frames, one after another, and refresh the three files on the way.

Usage: ``python -m mlip.datasets.molecules.recipe.label --scratch DIR`` (or ``MOLECULES_SCRATCH``).  Stop it
whenever you like: every frame has its folder, finished ones are read, and the files always hold all
finished frames.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlip.datasets.molecules.recipe.minima import minimum, settings_of
from mlip.datasets.molecules.recipe.plan import frames
from mlip.datasets.molecules.recipe.quantum import FloatArray, labels
from mlip.datasets.molecules.recipe.structures import Frame, scratch_argument, structure
from mlip.datasets.recipes.frames import label_all, stored_frames

DESTINATION = Path(__file__).resolve().parent.parent


def with_labels(atoms: Atoms, found: dict[str, FloatArray]) -> Atoms:
    """The labels as stored: energy to 1e-6 eV, forces to 1e-5 eV/Å, Hessian to 1e-4 eV/Å^2."""
    result = atoms.copy()
    result.info["polarizability"] = np.round(found["polarizability"], 6).ravel()
    if "hessian" in found:
        result.info["hessian"] = np.round(found["hessian"], 4).ravel()
    result.calc = SinglePointCalculator(
        result,
        energy=round(float(found["energy"]), 6),
        forces=np.round(found["forces"], 5),
        dipole=np.round(found["dipole"], 6),
    )
    return result


def main() -> None:
    """Compute what is missing."""
    scratch = scratch_argument(__doc__)

    def label(frame: Frame, place: Path) -> Atoms:
        settings = settings_of(frame.molecule)
        atoms, found = minimum(frame.molecule, settings, scratch / "minima")
        if frame.config_type == "minimum":
            place = scratch / "minima" / frame.molecule
        planned = structure(frame, atoms, found["hessian"])
        return with_labels(planned, labels(planned, settings, frame.has_hessian, place))

    plan = frames()
    stored = stored_frames(DESTINATION, plan)
    label_all(plan, label, scratch / "frames", DESTINATION, lambda place: (place / "labels.npz").exists(), stored)


if __name__ == "__main__":
    main()
