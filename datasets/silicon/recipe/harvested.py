"""Label structures of a file exactly as the frames of the set are: the middle of an active-learning round.

Usage: ``python -m mlip.datasets.silicon.recipe.harvested IN.xyz OUT.xyz --supercell cubic8 --scratch DIR``.
Finished calculations are read, not repeated; ``OUT.xyz`` holds all finished frames while it runs.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read

from mlip.datasets.recipes.frames import rounded, write_frames
from mlip.datasets.silicon.recipe.espresso import Settings, single_point
from mlip.datasets.silicon.recipe.label import basis_correction
from mlip.datasets.silicon.recipe.structures import PRIMITIVE, SUPERCELLS


def require_supercell(atoms: Atoms, name: str) -> None:
    """See that the k points of a supercell are right for a structure: its cell is that one, more or less strained.

    Raises:
        ValueError: It is another cell.
    """
    shape = SUPERCELLS[name] @ PRIMITIVE
    scale = (atoms.get_volume() / abs(np.linalg.det(shape))) ** (1 / 3)
    strain = np.linalg.solve(scale * shape, atoms.cell.array) - np.eye(3)
    if np.abs(strain).max() > 0.2:
        raise ValueError(f"a cell of {atoms.cell.cellpar().round(3)} is not a strained {name}")


def label(atoms: Atoms, supercell: str, place: Path) -> Atoms:
    """A structure with its labels as those of the set are stored; what the file said of it stays."""
    require_supercell(atoms, supercell)
    bare = Atoms(atoms.symbols, positions=np.round(atoms.positions, 6), cell=np.round(atoms.cell, 8), pbc=True)
    bare.info = {"config_type": "harvested", "supercell": supercell, "name": place.name}
    run = single_point(bare, SUPERCELLS[supercell], Settings(), place)
    return rounded(run, basis_correction(run))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("structures", type=Path)
    parser.add_argument("labelled", type=Path)
    parser.add_argument("--supercell", choices=sorted(SUPERCELLS), default="cubic8")
    default = os.environ.get("SILICON_SCRATCH")
    parser.add_argument("--scratch", type=Path, default=default, required=default is None)
    return parser.parse_args()


def main() -> None:
    """Label all structures of the file, one after another."""
    given = arguments()
    structures = read(given.structures, index=":")
    labelled: list[Atoms] = []
    for number, atoms in enumerate(structures):
        start = time.perf_counter()
        place = given.scratch.resolve() / given.structures.stem / f"{number:03d}"
        labelled.append(label(atoms, given.supercell, place))
        write_frames(given.labelled, labelled)
        print(f"{number + 1}/{len(structures)} {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
