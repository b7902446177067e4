"""The label doctor finds wrong signs, units and single wrong frames without a model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from mlip.datasets import LabelledFrame, diagnose


@pytest.mark.parametrize("kind", ["copper_frames", "molecule_frames"])
def test_consistent_labels_are_called_good(kind, request):
    found = diagnose(request.getfixturevalue(kind))
    assert found.slope == pytest.approx(1.0, abs=0.03)
    assert found.verdict.startswith("good")
    assert found.healthy


@pytest.mark.parametrize(
    ("factor", "word"),
    [
        (-1.0, "SIGN"),
        (23.0605, "energies in kcal/mol with forces in eV/Å"),
        (0.0433641, "energies in eV with forces in kcal/mol/Å"),
        (51.4221, "energies in eV with forces in Hartree/Bohr"),
        (1.8897, "energies in Hartree with forces in Hartree/Bohr"),
        (1 / 27.2114, "energies in Hartree with forces in eV/Å"),
        (1 / 51.4221, "energies in Hartree with forces in eV/Å, positions in Bohr"),
        (-23.0605, "the sign is wrong"),
        (0.6, "BAD"),
    ],
)
def test_wrong_units_and_signs_are_named(molecule_frames, factor, word):
    found = diagnose([replace(frame, energy=frame.energy * factor) for frame in molecule_frames])
    assert found.slope == pytest.approx(factor, rel=0.03)
    assert word in found.verdict
    assert not found.healthy


def test_energies_per_atom_are_recognised(copper_frames):
    assert (
        "PER ATOM" in diagnose([replace(f, energy=f.energy / 8, stress=f.stress / 8) for f in copper_frames]).verdict
    )


def test_a_flipped_stress_and_its_unit_are_recognised(copper_frames):
    assert "stress agrees" in diagnose(copper_frames).verdict
    assert "STRESS SIGN" in diagnose([replace(f, stress=-f.stress) for f in copper_frames]).verdict
    assert "GPa" in diagnose([replace(f, stress=160.2177 * f.stress) for f in copper_frames]).verdict


@pytest.mark.parametrize("kind", ["copper_frames", "molecule_frames"])
def test_a_single_wrong_energy_is_named(kind, request):
    frames = list(request.getfixturevalue(kind))
    frames[17] = replace(frames[17], energy=frames[17].energy + 1.0)
    found = diagnose(frames)
    assert found.slope == pytest.approx(1.0, abs=0.03)
    assert found.outliers[0].position == 17
    assert found.outliers[0].residual == pytest.approx(1.0, abs=0.1)


def test_a_single_frame_of_flipped_forces_is_named_in_a_real_set(data_file):
    from mlip.datasets import read_frames

    frames = list(read_frames(data_file("si/Si_222_rd200.extxyz")))
    frames[42] = replace(frames[42], forces=-frames[42].forces)
    assert [outlier.position for outlier in diagnose(frames).outliers] == [42]


def test_forces_of_other_frames_are_called_bad(molecule_frames):
    others = [*molecule_frames[1:], molecule_frames[0]]
    mixed = [replace(frame, energy=other.energy) for frame, other in zip(molecule_frames, others, strict=True)]
    found = diagnose(mixed)
    assert found.verdict.startswith("BAD")
    assert not found.healthy


def test_unrelated_structures_are_not_testable():
    rng = np.random.default_rng(0)
    frames = [
        LabelledFrame(Atoms("C8", positions=rng.normal(scale=3, size=(8, 3))), energy=0.0, forces=np.zeros((8, 3)))
        for _ in range(20)
    ]
    found = diagnose(frames)
    assert not found.testable
    assert "not testable" in found.verdict


def test_forces_without_energies_are_not_testable(copper_frames):
    assert not diagnose([replace(frame, energy=None) for frame in copper_frames]).testable


def test_identical_frames_do_not_divide_by_zero(copper_frames):
    assert not diagnose([copper_frames[0]] * 10).testable


def test_labels_that_are_all_zero_are_not_called_good():
    rng = np.random.default_rng(0)
    frames = [
        LabelledFrame(
            Atoms("C4", positions=np.eye(4, 3) + rng.normal(scale=0.02, size=(4, 3))),
            energy=0.0,
            forces=np.zeros((4, 3)),
        )
        for _ in range(20)
    ]
    assert not diagnose(frames).testable
