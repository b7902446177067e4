"""Good files of every kind."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mlip import Potential
from mlip.datasets import read_frames, write_cache

MODEL = {"cutoff": 3.0, "num_layers": 1, "num_channels": 2, "lmax": 1, "num_radial": 2, "radial_width": 2}
PHONOPY = """phonopy: {version: '4.0.0'}
supercell:
  lattice: [[3.0, 0, 0], [0, 3.0, 0], [0, 0, 3.0]]
  points:
  - {symbol: Po, coordinates: [0, 0, 0], mass: 209.0}
displacements:
- atom: 1
  displacement: [0.01, 0.0, 0.0]
  forces:
  - [-0.1, 0.0, 0.0]
"""


def crystals() -> list[Atoms]:
    """Three labelled frames."""
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(3):
        atoms = Atoms("SiO2", rng.uniform(0, 4, (3, 3)), cell=np.diag([4.0, 4.5, 5.0]), pbc=True)
        results = {"energy": rng.normal(), "forces": rng.normal(size=(3, 3)), "stress": rng.normal(size=6)}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    return frames


@pytest.fixture(scope="session")
def good(tmp_path_factory) -> dict[str, bytes]:
    """Contents of a good file by name."""
    folder = tmp_path_factory.mktemp("good")
    write(folder / "frames.xyz", crystals())
    write_cache(read_frames(folder / "frames.xyz"), folder / "frames.h5")
    rng = np.random.default_rng(1)
    np.savez(
        folder / "water.npz", R=rng.normal(size=(2, 3, 3)), z=[8, 1, 1], E=rng.normal(size=2), F=np.zeros((2, 3, 3))
    )
    (folder / "phonopy.yaml").write_text(PHONOPY)
    Potential.from_config(MODEL, ["O", "Si"]).save(folder / "model.mlip")
    return {path.name: path.read_bytes() for path in folder.iterdir()}
