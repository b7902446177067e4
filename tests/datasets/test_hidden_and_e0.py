"""Hidden variables, the noise floor, and atomic reference energies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from mlip.datasets import E0Settings, LabelledFrame, hidden_variables, read_frames, reference_energies, refuse_hidden
from mlip.errors import InputError


def _with_info(frames, key, values):
    changed = []
    for frame, value in zip(frames, values, strict=False):
        atoms = frame.atoms.copy()
        if value is not None:
            atoms.info[key] = value
        changed.append(replace(frame, atoms=atoms))
    return changed


@pytest.mark.parametrize(
    ("key", "values", "quantity"),
    [
        ("charge", [0, 1, 0], "charge"), ("total_charge", [0, -1, 0], "charge"), ("spin", [1, 3, 1], "spin"),
        ("multiplicity", [1, 1, None], "spin"), ("kpts", [np.array([2, 2, 2]), np.array([3, 3, 3]), None], "k mesh"),
        ("functional", ["PBE", "PBEsol", "PBE"], "functional"), ("sigma", [0.1, 0.2, 0.1], "smearing"),
        ("electric_field", [np.zeros(3), np.array([0, 0, 0.1]), np.zeros(3)], "electric field"),
    ],
)  # fmt: skip
def test_what_varies_and_is_no_input_is_refused(copper_frames, key, values, quantity):
    frames = _with_info(copper_frames[:3], key, values)
    assert [variable.quantity for variable in hidden_variables(frames).variables] == [quantity]
    with pytest.raises(InputError, match=f"{quantity} varies"):
        refuse_hidden(frames)
    refuse_hidden(frames, inputs=[quantity])


def test_what_is_constant_or_a_label_is_not_hidden(copper_frames):
    frames = _with_info(copper_frames[:3], "charge", [0, 0.0, np.int64(0)])
    assert hidden_variables(_with_info(frames, "dihedral", [1, 2, 3])).variables == []


def test_magnetic_patterns_count(copper_frames):
    frames = []
    for frame, pattern in zip(copper_frames[:4], ([1] * 8, [1, -1] * 4, [1.02] * 8, [1] * 8), strict=True):
        atoms = frame.atoms.copy()
        atoms.set_initial_magnetic_moments(pattern)
        frames.append(replace(frame, atoms=atoms))
    (found,) = hidden_variables(frames).variables
    assert found.quantity == "magnetic moments"
    assert sorted(found.values.values()) == [1, 3]
    assert hidden_variables([frames[0], frames[2], frames[3]]).variables == []


def test_copies_with_other_energies_are_the_noise_floor(molecule_frames):
    twin = molecule_frames[0].atoms.copy()
    twin.rotate(40, (1, 2, 3))
    twin.positions += 7
    again = replace(molecule_frames[0], atoms=twin, energy=molecule_frames[0].energy + 0.02, index=99)
    report = hidden_variables([*molecule_frames[:20], again])
    assert report.noise.energy == pytest.approx(0.02)
    assert report.noise.energy_per_atom == pytest.approx(0.005)
    assert "noise floor" in report.lines()[-1]
    assert hidden_variables(molecule_frames).noise is None


def test_real_sets_have_no_hidden_variables(data_file):
    for name in ("zuo/Si_train.xyz", "mgo/MgO_train1.extxyz", "acac/train_300K.xyz", "batio3_field/BaTiO3_59.xyz"):
        assert hidden_variables(read_frames(data_file(name))).lines() == []


# --- E0 ---

TRUE = {"H": -13.6, "C": -1029.5, "O": -2042.0}


def _molecules(names, extra=0.0):
    frames = []
    for name in names:
        atoms = molecule(name)
        energy = sum(TRUE[s] for s in atoms.get_chemical_symbols()) + extra * len(atoms)
        frames.append(LabelledFrame(atoms, energy=energy))
    return frames


def test_a_fit_over_independent_compositions_is_exact():
    found = reference_energies(_molecules(["H2O", "CH4", "CO2", "CH3OH"]), "fit")
    assert found.rank == 3
    assert found.values == pytest.approx(TRUE, rel=1e-12)
    assert found.residual < 1e-9


def test_one_composition_gives_minimum_norm_and_says_what_is_meaningless():
    frames = _molecules(["CH3OH", "CH3OH"])
    found = reference_energies(frames, "fit")
    assert found.rank == 1
    assert found.total(frames[0].atoms.get_chemical_symbols()) == pytest.approx(frames[0].energy, rel=1e-13)
    # minimum norm: E0 is proportional to the composition
    assert found.values["H"] / found.values["C"] == pytest.approx(4)
    assert any("meaningless" in note and "rank 1" in note for note in found.notes)


def test_isolated_atoms_are_taken_as_they_are():
    atoms = [LabelledFrame(Atoms(s), energy=e) for s, e in TRUE.items()]
    frames = _molecules(["CH3OH"], extra=-4.0)
    found = reference_energies(frames, "isolated", isolated=atoms)
    assert found.values == TRUE
    assert found.subtract(frames[0]) == pytest.approx(-24.0, abs=1e-9)
    assert reference_energies([*frames, *atoms], "isolated").values == TRUE
    with pytest.raises(InputError, match="no isolated atom with an energy for C, O"):
        reference_energies(frames, "isolated", isolated=atoms[:1])


def test_real_isolated_atoms_give_atomisation_energies(data_file):
    frames = read_frames(data_file("acac/train_300K.xyz"))
    found = reference_energies(frames, "isolated", isolated=read_frames(data_file("acac/isolated_atoms.xyz")))
    per_atom = np.array([found.subtract(frame) for frame in frames]) / 15
    assert -6.5 < per_atom.mean() < -3.5
    assert per_atom.std() < 0.05


def test_large_energies_lose_no_digits():
    frames = [LabelledFrame(molecule("H2O"), energy=-30000.000000001 - n * 1e-9) for n in range(3)]
    found = reference_energies(frames, "explicit", values={"H": -10000.0, "O": -10000.0})
    assert [found.subtract(f) for f in frames] == pytest.approx([-1e-9, -2e-9, -3e-9], abs=8e-12)


def test_isolated_atoms_do_not_enter_a_fit():
    frames = _molecules(["H2O", "CH4", "CO2"], extra=-3.0)
    with_atoms = [*frames, LabelledFrame(Atoms("H"), energy=TRUE["H"])]
    assert reference_energies(with_atoms, "fit").values == pytest.approx(reference_energies(frames, "fit").values)


@pytest.mark.parametrize(
    "settings", [{"method": "explicit"}, {"method": "fit", "values": {"H": 1.0}}, {"method": "fit", "path": "a.xyz"}]
)
def test_contradictory_settings_are_refused(settings):
    with pytest.raises(ValueError, match="method"):
        E0Settings(**settings)


def test_missing_values_are_named():
    with pytest.raises(InputError, match="no value for C"):
        reference_energies(_molecules(["CH4"]), "explicit", values={"H": 1.0})
    with pytest.raises(InputError, match="no frame with an energy"):
        reference_energies([LabelledFrame(molecule("H2O"))], "fit")
