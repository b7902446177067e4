"""Fixtures of the reading, checking and splitting tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from mlip.datasets import LabelledFrame


@pytest.fixture(scope="session")
def data_file(data_folder):
    """``data_file("zuo/Si_train.xyz")``: that file of the external data, or skip."""

    def find(name: str) -> Path:
        if not (data_folder / name).exists():
            pytest.skip(f"{name} is not there")
        return data_folder / name

    return find


@pytest.fixture
def write_xyz(tmp_path):
    """Write frames of two hydrogen atoms with the given comment lines; returns the file."""

    def write(*comments: str, properties: str = "species:S:1:pos:R:3:forces:R:3", columns: str = "0.1 0.2 0.3"):
        lines = []
        for comment in comments:
            lines += ["2", f"Properties={properties} {comment}", f"H 0 0 0 {columns}", f"H 0 0 0.74 {columns}"]
        path = tmp_path / "frames.xyz"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


@pytest.fixture(scope="session")
def copper_frames() -> list[LabelledFrame]:
    """40 strained and rattled copper cells of 8 atoms, labelled by EMT."""
    rng = np.random.default_rng(3)
    frames = []
    for index in range(40):
        atoms = bulk("Cu", cubic=True).repeat((2, 1, 1))
        strain = rng.normal(scale=0.005, size=(3, 3))
        atoms.set_cell(atoms.cell @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
        atoms.positions += rng.normal(scale=0.01, size=(8, 3))
        frames.append(_labelled(atoms, index))
    return frames


@pytest.fixture(scope="session")
def molecule_frames() -> list[LabelledFrame]:
    """60 randomly turned and distorted CO2-like N–O chains, labelled by EMT."""
    rng = np.random.default_rng(5)
    frames = []
    for index in range(60):
        atoms = Atoms("OCHH", positions=[[0, 0, 1.2], [0, 0, 0], [0.9, 0, -0.6], [-0.9, 0, -0.6]])
        atoms.positions += rng.normal(scale=0.02, size=(4, 3))
        atoms.rotate(float(rng.uniform(0, 360)), rng.normal(size=3))
        atoms.positions += rng.normal(scale=5, size=3)
        frames.append(_labelled(atoms, index))
    return frames


def _labelled(atoms: Atoms, index: int) -> LabelledFrame:
    atoms.calc = EMT()
    stress = atoms.get_stress(voigt=False) if atoms.pbc.all() else None
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    return LabelledFrame(
        atoms.copy(), energy=float(energy), forces=forces, stress=stress, index=index, file=Path("emt.xyz")
    )
