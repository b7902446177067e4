"""Every file of the external data with energies or forces is read by a short entry, traps included."""

from __future__ import annotations

import numpy as np
import pytest

from mlip.datasets import diagnose, read_frames
from mlip.errors import InputError

# file, further settings, frames, (energies, forces, stresses, Hessians), mean energy per atom (eV) or None
FILES = [
    ("3bpa/train_300K.xyz", {}, 500, (500, 500, 0, 0), -654.0901),
    ("3bpa/iso_atoms.xyz", {}, 4, (4, 0, 0, 0), None),
    ("acac/train_300K.xyz", {}, 500, (500, 500, 0, 0), -626.0925),
    ("acac/train_600K.xyz", {}, 500, (500, 500, 0, 0), -626.0591),
    ("acac/isolated_atoms.xyz", {}, 3, (3, 0, 0, 0), None),
    ("rmd17/aspirin_train_01.xyz", {"pbc": False}, 1000, (1000, 1000, 0, 0), -838.9397),
    ("rmd17/benzene_train_01.xyz", {"pbc": False}, 1000, (1000, 1000, 0, 0), -525.5416),
    ("rmd17/ethanol_train_01.xyz", {"pbc": False}, 1000, (1000, 1000, 0, 0), -467.7361),
    ("rmd17/toluene_train_01.xyz", {"pbc": False}, 1000, (1000, 1000, 0, 0), -491.5663),
    ("zuo/Si_train.xyz", {}, 214, (214, 214, 0, 0), -5.1185),
    ("zuo/Si_test.xyz", {}, 25, (25, 25, 0, 0), -5.0691),
    ("zuo/Cu_train.xyz", {}, 262, (262, 262, 0, 0), -3.9741),
    ("zuo/Ge_train.xyz", {}, 228, (228, 228, 0, 0), -4.2413),
    ("mgo/MgO_train1.extxyz", {}, 270, (270, 270, 270, 0), -5.8670),
    ("si/Si_222_rd200.extxyz", {}, 200, (200, 200, 0, 0), -5.7363),
    ("si/Si_111_rd1000.extxyz", {}, 1000, (0, 1000, 0, 0), None),
    ("nacl/NaCl_rd.extxyz", {}, 100, (100, 100, 0, 0), -3.4982),
    ("nacl/phono3py_params_NaCl.yaml.xz", {}, 102, (102, 102, 0, 0), -3.4982),
    ("diamond/C_diamond_111_rd100.extxyz", {}, 100, (100, 100, 0, 0), -9.0733),
    ("perovskites/BaTiO3_2x2x2_aimd_random_80.extxyz", {}, 80, (80, 80, 80, 0), -8.3537),
    ("perovskites/BaTiO3_mp-2998_phonopy.yaml.xz", {}, 4, (0, 4, 0, 0), None),
    ("batio3_field/BaTiO3_59.xyz", {}, 59, (59, 59, 59, 0), -747.6134),
    ("hessian_molecules", {"pbc": False}, 20, (20, 20, 0, 20), None),
    ("hessian_molecules/H10C5N2O", {"pbc": False}, 9, (9, 9, 0, 9), -576.3166),
    ("hessian_molecules/H8C4N2O", {"pbc": False}, 11, (11, 11, 0, 11), -620.2630),
    ("phonopy/NaCl/FORCE_SETS", {}, 2, (0, 2, 0, 0), None),
    ("phonopy/NaCl-rd/FORCE_SETS", {}, 10, (0, 10, 0, 0), None),
    ("phonopy/SnO2", {}, 3, (0, 3, 0, 0), None),
    ("phonopy/CaTiO3", {}, 4, (0, 4, 0, 0), None),
    ("phonopy/Si/phonopy_params_Si.yaml", {}, 1, (1, 1, 0, 0), None),
    ("phonopy/NaCl-dfpt/vasprun.xml", {}, 1, (1, 1, 1, 1), -3.3879),
    ("born/phonon_becs_epsilon.xyz", {}, 1520, (0, 0, 0, 0), None),
    ("qm7x/qm7x_reduced_100.xyz", {}, 100, (0, 0, 0, 0), None),
]


@pytest.mark.parametrize(("name", "settings", "count", "labels", "energy"), FILES, ids=[row[0] for row in FILES])
def test_each_file_is_read_with_all_its_labels(data_file, name, settings, count, labels, energy):
    frames = read_frames(data_file(name), **settings)
    assert len(frames) == count
    assert tuple(frames.source.counts.values()) == labels
    assert not frames.source.masked
    assert all(frame.atoms.calc is None and not frame.atoms.constraints for frame in frames)
    if energy is not None:
        mean = np.mean([frame.energy / len(frame) for frame in frames])
        assert mean == pytest.approx(energy, abs=1e-4)


@pytest.mark.parametrize(
    "name", ["born/phonon_becs_epsilon.xyz", "qm7x/qm7x_reduced_100.xyz", "si/Si_111_rd1000.extxyz"]
)
def test_a_file_without_energies_says_so(data_file, name):
    with pytest.raises(InputError, match="no frame has energy"):
        read_frames(data_file(name), require=["energy"])


def test_extra_labels_come_in_cartesian_shapes(data_file):
    frame = read_frames(data_file("batio3_field/BaTiO3_59.xyz"), index=0)[0]
    charges = frame.info["born_charges"]
    assert charges.shape == (135, 3, 3)
    assert charges[0, 0] == pytest.approx([2.66974552, -0.00749730, -0.00394008])
    assert np.abs(charges.sum(axis=0)).max() < 0.2  # acoustic sum rule
    assert frame.info["polarization"].shape == (3,)
    assert frame.info["polarizability"].shape == (3, 3)


def test_displaced_supercells_have_the_displacement_that_was_asked_for(data_file):
    plus = read_frames(data_file("phonopy/NaCl/FORCE_SETS"))
    first, second = (frame.atoms.positions for frame in plus)
    moved = np.linalg.norm(first - second, axis=1)
    assert sorted(moved)[-2:] == pytest.approx([0.01, 0.01])
    assert moved[np.argsort(moved)[:-2]] == pytest.approx(0, abs=1e-12)


def test_the_dfpt_hessian_is_a_stable_translation_invariant_matrix(data_file):
    hessian = read_frames(data_file("phonopy/NaCl-dfpt/vasprun.xml"))[0].hessian
    assert np.abs(hessian - hessian.T).max() < 1e-6
    assert np.abs(hessian.reshape(64, 3, 64, 3).sum(axis=2)).max() < 0.05
    assert np.linalg.eigvalsh(hessian)[3:].min() > -0.02


def test_the_dfpt_hessian_predicts_the_forces_of_displaced_supercells(data_file):
    """Two VASP calculations at slightly different volumes: force constants agree to some percent."""
    dfpt = read_frames(data_file("phonopy/NaCl-dfpt/vasprun.xml"))[0]
    displaced = read_frames(data_file("phonopy/NaCl/FORCE_SETS"))[0]
    on_site = -displaced.forces[np.abs(displaced.forces).max(axis=1).argmax(), 0] / 0.01
    assert dfpt.hessian[0, 0] == pytest.approx(on_site, rel=0.1)


def test_molecular_hessians_are_symmetric_and_follow_from_the_forces_of_nothing_else(data_file):
    for frame in read_frames(data_file("hessian_molecules"), pbc=False):
        assert np.abs(frame.hessian - frame.hessian.T).max() < 2e-3
        assert np.abs(frame.hessian.reshape(-1, len(frame), 3).sum(axis=1)).max() < 0.05


def test_the_two_nacl_files_hold_the_same_displacements(data_file):
    text = read_frames(data_file("nacl/NaCl_rd.extxyz"))
    yaml = read_frames(data_file("nacl/phono3py_params_NaCl.yaml.xz"), index=":100")
    for a, b in zip(text, yaml, strict=True):
        assert a.energy == pytest.approx(b.energy, abs=1e-8)
        assert np.abs(a.forces - b.forces).max() < 1e-7


# Slope of ΔE against −½(F₁+F₂)·Δx, for all files with energies and forces of more than one frame.
SLOPES = [
    ("3bpa/train_300K.xyz", 0.907, 0.05),
    ("acac/train_300K.xyz", 1.040, 0.03),
    ("acac/train_600K.xyz", 0.958, 0.05),
    ("rmd17/aspirin_train_01.xyz", 1.005, 0.01),
    ("rmd17/benzene_train_01.xyz", 1.001, 0.005),
    ("rmd17/ethanol_train_01.xyz", 0.985, 0.015),
    ("rmd17/toluene_train_01.xyz", 0.995, 0.015),
    ("zuo/Si_train.xyz", 0.957, 0.025),
    ("zuo/Cu_train.xyz", 0.989, 0.02),
    ("zuo/Ge_train.xyz", 1.059, 0.025),
    ("mgo/MgO_train1.extxyz", 0.994, 0.002),
    ("si/Si_222_rd200.extxyz", 0.988, 0.01),
    ("nacl/NaCl_rd.extxyz", 0.986, 0.015),
    ("diamond/C_diamond_111_rd100.extxyz", 0.987, 0.007),
    ("perovskites/BaTiO3_2x2x2_aimd_random_80.extxyz", 0.886, 0.06),
    ("batio3_field/BaTiO3_59.xyz", 0.966, 0.012),
]


@pytest.mark.parametrize(("name", "slope", "tolerance"), SLOPES, ids=[row[0] for row in SLOPES])
def test_published_labels_are_consistent(data_file, name, slope, tolerance):
    found = diagnose(read_frames(data_file(name), pbc=False if "rmd17" in name else None))
    assert found.testable
    assert found.slope == pytest.approx(slope, abs=tolerance)
    assert found.verdict.startswith("good")
    assert not found.outliers


def test_the_stresses_of_strained_cells_agree_with_their_energies(data_file):
    found = diagnose(read_frames(data_file("mgo/MgO_train1.extxyz")))
    assert found.stress_slope == pytest.approx(1.0, abs=0.1)
