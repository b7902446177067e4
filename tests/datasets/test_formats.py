"""Formats other than extended XYZ: npz, deepmd, ASE's own, phonopy in other units, compressed files."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mlip.datasets import read_frames
from mlip.errors import InputError

KCAL = 0.0433641153
WATER = np.array([8, 1, 1])
POSITIONS = np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], dtype=float)


@pytest.fixture
def water(tmp_path):
    """An npz of three water molecules; keyword arguments replace arrays, None removes them."""

    def save(**changes):
        arrays = {
            "R": np.stack([POSITIONS] * 3), "z": WATER, "E": np.full((3, 1), -76.4 * 627.5095),
            "F": np.ones((3, 3, 3)),
        }  # fmt: skip
        arrays = {k: v for k, v in (arrays | changes).items() if v is not None}
        path = tmp_path / "water.npz"
        np.savez(path, **arrays)
        return path

    return save


def test_md17_units_are_recognised_from_the_total_energy(water):
    frames = read_frames(water())
    assert frames[0].energy == pytest.approx(-76.4 * 27.2114, rel=1e-5)
    assert frames[0].forces[0, 0] == pytest.approx(KCAL)
    assert "recognised" in frames.source.lines()[0]
    assert "kcal/mol" in frames.source.lines()[0]


def test_rmd17_names_are_known_and_old_labels_ignored(water):
    energies = np.full(3, -76.4 * 627.5095)
    path = water(
        R=None, z=None, E=None, F=None, coords=np.stack([POSITIONS] * 3), nuclear_charges=WATER,
        energies=energies,
        forces=np.ones((3, 3, 3)), old_energies=energies + 1, old_forces=np.zeros((3, 3, 3)),
        old_indices=np.arange(3),
    )  # fmt: skip
    frames = read_frames(path, index="1:")
    assert [frame.index for frame in frames] == [1, 2]
    assert frames[0].forces[0, 0] == pytest.approx(KCAL)


def test_interaction_energies_need_a_unit(water):
    path = water(E=np.full((3, 1), -2.5))
    with pytest.raises(InputError, match="--unit energy=kcal/mol"):
        read_frames(path)
    assert read_frames(path, units={"energy": "kcal/mol"})[0].energy == pytest.approx(-2.5 * KCAL)


def test_units_written_in_the_archive_are_used(water):
    frames = read_frames(water(E=np.full(3, -2.5), e_unit="kcal/mol", r_unit="Ang"))
    assert frames[0].energy == pytest.approx(-2.5 * KCAL)


def test_deepmd_virial_and_open_boundaries(tmp_path):
    folder = tmp_path / "system" / "set.000"
    folder.mkdir(parents=True)
    (folder.parent / "type.raw").write_text("0 1 1\n")
    (folder.parent / "type_map.raw").write_text("O\nH\n")
    np.save(folder / "coord.npy", POSITIONS.reshape(1, 9))
    np.save(folder / "box.npy", 5 * np.eye(3).reshape(1, 9))
    np.save(folder / "energy.npy", np.array([-14.0]))
    np.save(folder / "force.npy", np.arange(9.0).reshape(1, 9))
    np.save(folder / "virial.npy", 125 * np.eye(3).reshape(1, 9))
    frame = read_frames(folder.parent)[0]
    assert frame.atoms.get_chemical_formula() == "H2O"
    assert frame.stress == pytest.approx(-np.eye(3))
    assert frame.forces[1].tolist() == [3, 4, 5]
    (folder.parent / "nopbc").touch()
    open_frame = read_frames(folder.parent)[0]
    assert not open_frame.atoms.pbc.any()
    assert open_frame.stress is None


@pytest.mark.parametrize("suffix", ["traj", "db", "json", "extxyz"])
def test_formats_of_ase(tmp_path, suffix):
    images = []
    for shift in (0.0, 0.1):
        atoms = Atoms("OHH", positions=POSITIONS + shift)
        atoms.calc = SinglePointCalculator(atoms, energy=-14.0 - shift, forces=np.full((3, 3), shift))
        images.append(atoms)
    path = tmp_path / f"water.{suffix}"
    write(path, images)
    frames = read_frames(path)
    assert [frame.energy for frame in frames] == [-14.0, -14.1]
    assert frames[1].forces == pytest.approx(0.1)


def test_a_compressed_file_is_read(tmp_path):
    with gzip.open(tmp_path / "a.xyz.gz", "wt") as stream:
        stream.write("1\nenergy=-1\nH 0 0 0\n")
    assert read_frames(tmp_path / "a.xyz.gz")[0].energy == -1


def test_phonopy_files_of_other_programs_are_converted(tmp_path):
    """Quantum ESPRESSO's phonopy files are in Bohr and Ry/Bohr."""
    cell = "[[7.0, 0.0, 0.0], [0.0, 7.0, 0.0], [0.0, 0.0, 7.0]]"
    (tmp_path / "phonopy.yaml").write_text(
        "phonopy: {version: '4.0.0', calculator: qe}\ncalculator: qe\n"
        "physical_unit: {length: au, force: Ry/au, force_constants: Ry/au^2, atomic_mass: AMU}\n"
        f"supercell:\n  lattice: {cell}\n  points:\n  - {{symbol: Po, coordinates: [0, 0, 0], mass: 209.0}}\n"
        "displacements:\n- atom: 1\n  displacement: [0.02, 0.0, 0.0]\n  forces:\n  - [0.001, 0.0, 0.0]\n"
    )
    frame = read_frames(tmp_path / "phonopy.yaml")[0]
    assert frame.atoms.cell[0, 0] == pytest.approx(7 * 0.529177, rel=1e-6)
    assert frame.atoms.positions[0, 0] == pytest.approx(0.02 * 0.529177, rel=1e-6)
    assert frame.forces[0, 0] == pytest.approx(0.001 * 25.711033, rel=1e-6)


def test_reading_a_thousand_frames_takes_about_a_second(data_file):
    import time

    path = data_file("rmd17/ethanol_train_01.xyz")
    start = time.process_time()
    read_frames(path)
    assert time.process_time() - start < 2.0
