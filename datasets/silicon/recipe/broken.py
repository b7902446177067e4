"""Label frames of the set again with a k mesh that is thinned along one cubic axis.

Usage: ``python -m mlip.datasets.silicon.recipe.broken --scratch DIR`` (or ``SILICON_SCRATCH``).  The geometries
are those of the stored frames; energies, forces and stress differ by what the mesh breaks.  ``broken.xyz`` holds
all finished frames; stop the program whenever you like.

Only cells into which the thinned mesh folds evenly take part: in the others it would be a denser mesh, that is,
another crystal.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read

from mlip.datasets.recipes.espresso import IntArray
from mlip.datasets.recipes.frames import rounded, write_frames
from mlip.datasets.silicon.recipe.espresso import CONVENTIONAL, Settings, single_point
from mlip.datasets.silicon.recipe.label import DESTINATION, basis_correction
from mlip.datasets.silicon.recipe.plan import frames
from mlip.datasets.silicon.recipe.structures import SUPERCELLS, scratch_argument

MESH = (4, 4, 2)  # of the conventional cell: two instead of four divisions along [001]


def folds_evenly(supercell: IntArray) -> bool:
    """Whether the lattice whose cell the thinned mesh repeats is made of cells of the supercell."""
    repeated = np.diag(MESH) @ CONVENTIONAL @ np.linalg.inv(supercell)
    return bool(np.allclose(repeated, np.rint(repeated), atol=1e-9))


def honest_frames() -> list[tuple[str, Atoms]]:
    """The stored frames that take part, up to sixteen atoms, and their splits, in the order of the plan."""
    stored = {
        atoms.info["name"]: (split, atoms)
        for split in ("train", "validation", "test")
        for atoms in read(DESTINATION / f"{split}.xyz", index=":")
        if len(atoms) <= 16 and folds_evenly(SUPERCELLS[atoms.info["supercell"]])
    }
    return [stored[frame.name] for frame in frames() if frame.name in stored]


def bare(split: str, atoms: Atoms) -> Atoms:
    """The geometry and its keys, without the labels of the honest mesh."""
    result = Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=True)
    result.info = {**atoms.info, "split": split, "mesh": " ".join(str(n) for n in MESH)}
    return result


def label(atoms: Atoms, place: Path) -> Atoms:
    """The labels as stored, with the basis correction of the honest frames."""
    settings = replace(Settings(), mesh=MESH)
    run = single_point(atoms, SUPERCELLS[atoms.info["supercell"]], settings, place)
    return rounded(run, basis_correction(run))


def main() -> None:
    """Compute what is missing."""
    folder = scratch_argument(__doc__) / "broken"
    labelled: list[Atoms] = []
    honest = honest_frames()
    for number, (split, atoms) in enumerate(honest):
        start = time.perf_counter()
        place = folder / atoms.info["name"]
        is_new = not (place / "pw.out").exists()
        labelled.append(label(bare(split, atoms), place))
        if is_new:
            write_frames(DESTINATION / "broken.xyz", labelled)
            seconds = time.perf_counter() - start
            print(f"{number + 1}/{len(honest)} {atoms.info['name']} {seconds:.1f} s", flush=True)
    write_frames(DESTINATION / "broken.xyz", labelled)


if __name__ == "__main__":
    main()
