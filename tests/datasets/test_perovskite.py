"""Physics of the embedded PbTiO3 set: what a potential trained on it may rely on."""

from __future__ import annotations

import numpy as np
import pytest
import spglib
from ase.units import GPa

from mlip.datasets import perovskite, read_frames
from mlip.datasets.entry import DatasetEntry


@pytest.fixture(scope="module")
def frames():
    return {split: list(read_frames(str(perovskite.path(split)))) for split in perovskite.SPLITS}


@pytest.fixture(scope="module")
def every(frames):
    return [frame for images in frames.values() for frame in images]


@pytest.fixture(scope="module")
def perfect(every):
    return next(frame for frame in every if frame.atoms.info["name"] == "strain_single5_0.000_0")


def per_cell(frame):
    return 5 * frame.energy / len(frame.atoms)


def test_the_set_is_small_and_of_every_kind(every):
    assert sum(file.stat().st_size for file in perovskite.FOLDER.iterdir() if file.is_file()) < 1_000_000
    assert {frame.config_type for frame in every} == {"strain", "polar", "tilt", "soft", "rattle", "mixed"}
    assert len(every) == 203
    assert {len(frame.atoms) for frame in every} == {5, 10, 40}
    assert {frame.atoms.info["supercell"] for frame in every} == {"single5", "rod100", "rod110", "rod111", "cubic40"}


def test_no_kind_of_frame_is_in_two_splits(frames):
    kinds = {}
    for split, images in frames.items():
        for frame in images:
            info = frame.atoms.info
            kind = (frame.config_type, info["amplitude"])
            if frame.config_type == "strain":
                kind += tuple(np.round(frame.atoms.cell.array.ravel(), 5))
            kinds.setdefault(kind, set()).add(split)
    assert all(len(splits) == 1 for splits in kinds.values())
    names = [frame.atoms.info["name"] for images in frames.values() for frame in images]
    assert len(set(names)) == len(names)


def test_no_net_force(every):
    """Within what the augmentation charges on the FFT grid leave (README)."""
    for frame in every:
        np.testing.assert_allclose(frame.forces.sum(axis=0), 0.0, atol=2e-3 * len(frame.atoms))


def test_labels_have_the_symmetry_of_the_structure(every):
    for frame in every:
        atoms = frame.atoms
        dataset = spglib.get_symmetry_dataset((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), 1e-5)
        lattice = atoms.cell.array
        for rotation in dataset.rotations:
            cartesian = lattice.T @ rotation @ np.linalg.inv(lattice.T)
            np.testing.assert_allclose(cartesian @ frame.stress @ cartesian.T, frame.stress, atol=2e-5)


def test_the_perfect_crystal_is_at_rest(perfect):
    np.testing.assert_allclose(perfect.forces, 0.0, atol=1e-3)
    np.testing.assert_allclose(perfect.stress / GPa, 0.0, atol=0.05)


def test_energies_of_all_cells_are_those_of_one_crystal(every, perfect):
    """No frame lies far below the cubic crystal, or above it by more than its displacements explain."""
    for frame in every:
        assert -0.15 < per_cell(frame) - per_cell(perfect) < 3.0


def test_the_ferroelectric_instability_is_there(every, perfect):
    """The polar pattern lowers the energy already in the cubic cell, and more where the cell is stretched."""
    polar = [frame for frame in every if frame.config_type == "polar" and "_001" in frame.atoms.info["name"]]
    unstrained = [f for f in polar if np.allclose(f.atoms.cell.array, perfect.atoms.cell.array)]
    stretched = [f for f in polar if f.atoms.cell[2, 2] > 1.02 * perfect.atoms.cell[2, 2]]
    gains = [per_cell(perfect) - min(map(per_cell, group)) for group in (unstrained, stretched)]
    assert 0.005 < gains[0] < gains[1] < 0.1


def test_energy_and_stress_belong_together(every):
    """E(V) of the cubic crystal is the integral of the mean stress, within 0.3 meV/atom."""
    isotropic = [
        f for f in every if f.config_type == "strain" and np.allclose(f.stress, np.eye(3) * f.stress[0, 0], atol=1e-5)
    ]
    assert len(isotropic) >= 5
    volumes = np.array([f.atoms.get_volume() / 5 for f in isotropic])
    energies = np.array([f.energy / 5 for f in isotropic])
    stresses = [np.trace(f.stress) / 3 for f in isotropic]
    integral = np.polynomial.Polynomial.fit(volumes, stresses, 4).integ()
    assert np.ptp(energies - integral(volumes)) < 6e-4


def test_phases_are_at_rest_and_have_their_space_groups():
    phases = perovskite.phases()
    assert next(iter(phases)) == "cubic"
    for phase in phases.values():
        atoms = phase.atoms
        dataset = spglib.get_symmetry_dataset((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), 1e-3)
        assert dataset.international == phase.space_group
        assert phase.largest_force < 0.003
        assert phase.largest_stress < 0.03
    assert phases["cubic"].energy_above_cubic == 0.0


def test_the_tetragonal_phase_is_the_lowest():
    """As in nature: PbTiO3 has no other ferroelectric phase at ambient pressure."""
    phases = perovskite.phases()
    assert list(phases) == ["cubic", "tetragonal", "rhombohedral", "orthorhombic"]
    assert min(phases, key=lambda name: phases[name].energy_above_cubic) == "tetragonal"
    lengths = phases["tetragonal"].atoms.cell.lengths()
    assert 1.02 < lengths[2] / lengths[0] < 1.10
    assert -0.12 < phases["tetragonal"].energy_above_cubic < -0.03


def test_paths():
    with pytest.raises(ValueError, match="no split 'training'"):
        perovskite.path("training")
    assert DatasetEntry(path=str(perovskite.path("train"))).path.endswith("train.xyz")
