"""Physics of the embedded molecules: what a potential trained on them, or a vibration program, may rely on."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units

from mlip.datasets import molecules, read_frames

HELD_OUT = "methyl_hydroperoxide"


@pytest.fixture(scope="module")
def frames():
    return {split: list(read_frames(str(molecules.path(split)))) for split in molecules.SPLITS}


@pytest.fixture(scope="module")
def every(frames):
    return [frame for images in frames.values() for frame in images]


@pytest.fixture(scope="module")
def curved(every):
    return [frame for frame in every if frame.hessian is not None]


def name_of(frame):
    return frame.atoms.info["name"]


def test_the_set_is_small():
    assert sum(file.stat().st_size for file in molecules.FOLDER.iterdir() if file.is_file()) < 2_000_000


def test_names_are_unique_and_one_molecule_is_held_out(frames, every):
    assert len(every) >= 200
    names = [name_of(frame) for frame in every]
    assert len(set(names)) == len(names)
    kinds = {split: {frame.atoms.info["molecule"] for frame in images} for split, images in frames.items()}
    assert kinds["train"] == {"hydrogen_peroxide", "methanol"}
    assert HELD_OUT not in kinds["train"] | kinds["validation"]


def test_no_kind_of_frame_is_in_two_splits(frames):
    kinds = {}
    for split, images in frames.items():
        for frame in images:
            info = frame.atoms.info
            angle = name_of(frame).split("_")[-2] if frame.config_type == "torsion" else None
            kinds.setdefault((info["molecule"], frame.config_type, info.get("temperature"), angle), set()).add(split)
    assert all(len(splits) == 1 for splits in kinds.values())


def test_nothing_pushes_or_turns_a_molecule(every):
    for frame in every:
        np.testing.assert_allclose(frame.forces.sum(axis=0), 0.0, atol=1e-4)
        torque = np.cross(frame.atoms.positions, frame.forces).sum(axis=0)
        np.testing.assert_allclose(torque, 0.0, atol=2e-3)


def test_hessians_are_symmetric_and_translations_cost_nothing(curved):
    assert len(curved) >= 40
    for frame in curved:
        np.testing.assert_allclose(frame.hessian, frame.hessian.T, atol=1e-9)
        rows = frame.hessian.reshape(3 * len(frame.atoms), -1, 3).sum(axis=1)
        assert np.abs(rows).max() < 0.02
        assert np.abs(rows).max() < 1e-3 * np.abs(frame.hessian).max()


def test_hessians_turn_with_the_forces(curved):
    """H (n × r) = n × (dE/dr): the Hessian along a rotation is the turned gradient, at the minimum or not."""
    for frame in curved:
        arms = frame.atoms.positions
        for axis in np.eye(3):
            change = (frame.hessian @ np.cross(axis, arms).ravel()).reshape(-1, 3)
            np.testing.assert_allclose(change, np.cross(axis, -frame.forces), atol=0.03)


def test_minima_are_minima_and_vibrate_as_molecules_do():
    minima = molecules.minima()
    for one in minima.values():
        assert one.wavenumbers.shape == (3 * len(one.atoms) - 6,)
        assert one.wavenumbers[0] > 50
        assert np.abs(one.rigid_wavenumbers).max() < 60
        assert 3300 < one.wavenumbers[-1] < 3900  # the OH stretch
        np.testing.assert_allclose(one.atoms.get_center_of_mass(), 0.0, atol=1e-5)
    peroxide, methanol = minima["hydrogen_peroxide"], minima["methanol"]
    assert np.sum(peroxide.wavenumbers > 2500) == 2
    assert np.sum(methanol.wavenumbers > 2500) == 4
    assert peroxide.wavenumbers[0] < 450  # the torsions
    assert methanol.wavenumbers[0] < 400


def test_stored_wavenumbers_are_those_of_the_stored_hessian(curved):
    """sqrt of the eigenvalues of the mass-weighted Hessian in cm^-1, on the vibrations' space."""
    to_wavenumber = np.sqrt(units._e * 1e20 / units._amu) / (2 * np.pi * 100 * units._c)
    found = 0
    for frame in curved:
        if frame.config_type != "minimum":
            continue
        minimum = molecules.minima()[frame.atoms.info["molecule"]]
        np.testing.assert_allclose(frame.atoms.positions, minimum.atoms.positions, atol=1e-6)
        root = np.repeat(np.sqrt(minimum.atoms.get_masses()), 3)
        values = np.linalg.eigvalsh(frame.hessian / np.outer(root, root))
        np.testing.assert_allclose(to_wavenumber * np.sqrt(values[6:]), minimum.wavenumbers, atol=3.0)
        found += 1
    assert found == 3


def test_forces_are_the_slope_of_the_torsion_curve(every):
    """Along a rigid turn, dE/dφ = -Σ F·(n × r): the integral of the labels' torque is the labels' energy."""
    turns = [f for f in every if f.config_type == "torsion" and f.atoms.info["molecule"] == "hydrogen_peroxide"]
    turns = [f for f in turns if "temperature" not in f.atoms.info]
    rest = [f for f in every if f.config_type == "minimum" and f.atoms.info["molecule"] == "hydrogen_peroxide"]
    angles, energies, torques = [], [], []
    for frame in turns + rest:
        positions = frame.atoms.positions
        axis = positions[1] - positions[0]
        axis /= np.linalg.norm(axis)
        slope = -np.vdot(frame.forces[3], np.cross(axis, positions[3] - positions[1]))
        angles.append(np.radians(float(name_of(frame).split("_")[-2])))
        energies.append(frame.energy)
        torques.append(slope)
    assert len(angles) >= 12
    waves = np.arange(1, 6)
    phases = np.outer(angles, waves)
    basis = np.hstack([np.ones((len(angles), 1)), np.cos(phases), np.sin(phases)])
    slopes = np.hstack([np.zeros((len(angles), 1)), -waves * np.sin(phases), waves * np.cos(phases)])
    series = np.linalg.lstsq(basis, energies, rcond=None)[0]
    np.testing.assert_allclose(slopes @ series, torques, atol=0.02)
    assert np.ptp(energies) > 0.2


def test_polarizabilities_are_symmetric_and_positive(every):
    for frame in every:
        alpha = np.asarray(frame.info["polarizability"])
        np.testing.assert_allclose(alpha, alpha.T, atol=1e-9)
        assert np.linalg.eigvalsh(alpha).min() > 0.04
        assert np.linalg.norm(frame.info["dipole"]) < 1.0


def test_paths():
    with pytest.raises(ValueError, match="no split 'training'"):
        molecules.path("training")


def test_free_atoms_are_less_bound_than_molecules():
    """Atomisation energies near those of experiment (11.6, 22.2 eV); PBE binds a little more."""
    free = {f.atoms.get_chemical_formula(): f.energy for f in read_frames(str(molecules.path(molecules.ATOMS)))}
    assert set(free) == {"H", "C", "O"}
    for name, minimum in molecules.minima().items():
        binding = sum(free[s] for s in minimum.atoms.get_chemical_symbols()) - minimum.energy
        low, high = {"hydrogen_peroxide": (11, 13), "methanol": (21, 24), HELD_OUT: (24, 27)}[name]
        assert low < binding < high, (name, binding)
