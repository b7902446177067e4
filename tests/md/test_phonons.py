"""Phonons: the same by every route, with the crystal's symmetry, and comparable with others' files."""

from __future__ import annotations

import json

import numpy as np
import phonopy
import pytest
import yaml
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from mlip.errors import InputError
from mlip.md import interpolation_baseline, phonons
from mlip.md.bands import band_path
from mlip.md.dynamical import (
    BlochMatrices,
    SumRuleMatrices,
    SymmetricMatrices,
    hermitian_defect,
    space_group_defect,
    sum_rule_blocks,
)
from mlip.md.structure import primitive_cell

Q = np.array([[0.1, 0.2, 0.3], [0.5, 0.0, 0.5], [0.0, 0.0, 0.0]])


# -- routes -----------------------------------------------------------------------------------------------


def test_finite_displacements_give_the_analytic_hessians_phonons(silicon8, new_sw, quick):
    exact = phonons(silicon8, new_sw(), method="hessian", **quick)
    differences = phonons(silicon8, new_sw(), method="displacement", displacement=1e-3, **quick)
    assert differences.frequencies(Q) == pytest.approx(exact.frequencies(Q), abs=1e-4)
    assert all(check.passed for check in [*exact.checks, *differences.checks])


def test_exact_matrices_are_those_of_finite_displacements(silicon, small_calculator):
    """At the commensurate points; the model is asked without relaxation, at a structure that symmetry fixes."""
    settings = {"points": 10, "dos_mesh": [3, 3, 3], "supercell": 2}
    exact = phonons(silicon, small_calculator, **settings)
    differences = phonons(silicon, small_calculator, method="displacement", displacement=5e-4, **settings)
    q = np.array([[0, 0, 0], [0.5, 0, 0], [0.5, 0.5, 0]])
    gap = np.abs(exact.matrices.at(q) - differences.matrices.at(q)).max()
    assert exact.method == "exact"
    assert gap < 1e-5 * np.abs(exact.matrices.at(q)).max()
    assert exact.frequencies(q[1:]) == pytest.approx(differences.frequencies(q[1:]), abs=1e-4)


def test_interpolated_force_constants_come_back_to_the_exact_matrices(silicon, small_calculator):
    """A supercell beyond twice the model's reach (2 layers of 4 Å) interpolates without an error."""
    result = phonons(silicon, small_calculator, points=10, dos_mesh=[3, 3, 3], supercell=5)
    assert result.interpolation_error < 1e-3
    small = phonons(silicon, small_calculator, points=10, dos_mesh=[3, 3, 3], supercell=2)
    assert small.interpolation_error > result.interpolation_error


def test_baseline_is_the_hessian_of_the_training_cell(silicon_phonons, sw, small_calculator):
    atoms = silicon_phonons.cell.atoms
    assert interpolation_baseline(atoms, sw, 3, Q) == pytest.approx(silicon_phonons.frequencies(Q), abs=1e-6)
    commensurate = np.array([[0.5, 0, 0], [0.5, 0.5, 0]])
    d = BlochMatrices(atoms, small_calculator).at(commensurate)
    values = np.linalg.eigvalsh(d)
    expected = np.sign(values) * np.sqrt(np.abs(values)) * 15.633304
    assert interpolation_baseline(atoms, small_calculator, 2, commensurate) == pytest.approx(expected, abs=1e-6)


# -- physics ----------------------------------------------------------------------------------------------


def test_silicon_of_stillinger_and_weber(silicon_phonons):
    points = silicon_phonons.special_points()
    assert points["GAMMA"][3:] == pytest.approx(17.83, abs=0.05)
    assert points["X"][0] == pytest.approx(points["X"][1])
    assert silicon_phonons.lowest[0] > 0
    assert silicon_phonons.imaginary == []
    assert silicon_phonons.cell.space_group == "Fd-3m (227)"


def test_heat_capacity_tends_to_dulong_and_petit_and_states_count_the_modes(silicon_phonons):
    assert silicon_phonons.thermal.at(1000)["heat_capacity"] == pytest.approx(6 * 8.314, rel=0.06)
    assert silicon_phonons.thermal.left_out == 0
    dos = silicon_phonons.dos
    assert np.trapezoid(dos.total, dos.frequency) == pytest.approx(6, rel=0.02)


def test_every_frequency_falls_with_the_root_of_the_mass(silicon, sw, silicon_phonons, quick):
    heavy = silicon.copy()
    heavy.set_masses([4 * m for m in silicon.get_masses()])
    result = phonons(heavy, sw, method="hessian", **quick)
    assert result.frequencies(Q) == pytest.approx(silicon_phonons.frequencies(Q) / 2, abs=1e-6)


def test_one_isotope_lowers_the_symmetry_and_splits_the_zone_boundary(silicon, sw, silicon_phonons, quick):
    mixed = silicon.copy()
    mixed.set_masses([28.0, 30.0])
    result = phonons(mixed, sw, method="displacement", **quick)
    assert result.cell.space_group == "F-43m (216)"
    at_x = result.frequencies(np.array([[0.5, 0.0, 0.5]]))[0]
    before = silicon_phonons.frequencies(np.array([[0.5, 0.0, 0.5]]))[0]
    assert abs(before[2] - before[3]) < 1e-4  # LA and LO meet in silicon
    assert at_x[3] - at_x[2] > 0.1


def test_a_supercell_is_reduced_and_the_way_back_is_kept(silicon8, new_sw, quick, silicon_phonons):
    big = silicon8.repeat((2, 1, 1))
    big.rotate(30, (1, 2, 3), rotate_cell=True)
    result = phonons(big, new_sw(), method="hessian", **quick)
    assert len(result.cell.atoms) == 2
    assert np.allclose(result.cell.transformation.T @ big.cell.array, result.cell.atoms.cell.array, atol=1e-8)
    assert result.frequencies(Q) == pytest.approx(silicon_phonons.frequencies(Q), abs=1e-5)


def test_an_unstable_crystal_is_reported_with_its_modes():
    simple = bulk("Cu", "bcc", a=2.86)  # EMT copper prefers fcc
    result = phonons(simple, EMT(), supercell=4, points=40, dos_mesh=[4, 4, 4])
    assert result.lowest[0] < -0.5
    assert result.imaginary
    assert all(mode.frequency < 0 for mode in result.imaginary)
    assert not result.checks[-1].passed
    assert result.thermal.left_out > 0


def test_relaxation_moves_free_coordinates_within_the_group(sw, quick):
    """Diamond silicon pulled apart along [111] keeps one free coordinate, which relaxes back."""
    strained = bulk("Si", a=5.431)
    strained.positions[1] += 0.03
    result = phonons(strained, sw, method="hessian", symprec=1e-3, **quick)
    assert result.relaxation.steps > 0
    bond = result.cell.atoms.get_distance(0, 1, mic=True)
    assert bond == pytest.approx(5.431 * np.sqrt(3) / 4, abs=1e-4)


# -- corrections, only when asked -------------------------------------------------------------------------


def test_nothing_is_corrected_unless_asked(silicon, sw, altered, quick):
    """A calculator that pins atoms to the lab breaks the sum rule: visible, until --asr."""

    def pinned(atoms, results):
        u = atoms.get_positions()
        results["forces"] = results["forces"] - 0.05 * np.sin(u)
        results["energy"] -= 0.05 * np.cos(u).sum()
        return results

    plain = phonons(silicon, altered(sw, pinned), relax_first=None, **quick)
    assert not {c.name: c for c in plain.checks}["acoustic sum rule residual"].passed
    corrected = phonons(silicon, altered(sw, pinned), relax_first=None, asr=True, **quick)
    assert {c.name: c for c in corrected.checks}["acoustic sum rule residual"].value < 1e-6


def test_sum_rule_and_symmetry_corrections_do_what_they_say(silicon, small_calculator):
    cell = primitive_cell(silicon)
    masses = cell.atoms.get_masses()
    exact = BlochMatrices(cell.atoms, small_calculator)

    class Broken:
        def at(self, q):
            d = exact.at(q).copy()
            d[:, 0, 0] += 0.1
            return d

    corrected = SumRuleMatrices(Broken(), masses)
    assert np.abs(sum_rule_blocks(corrected.at(np.zeros((1, 3)))[0], masses)).max() < 1e-12
    q = np.array([0.1, 0.2, 0.35])
    assert space_group_defect(exact, cell, q) < 1e-10
    assert space_group_defect(Broken(), cell, q) > 1e-3
    assert space_group_defect(SymmetricMatrices(Broken(), cell), cell, q, most=4) < 1e-10
    assert hermitian_defect(exact.at(q[None])) < 1e-12


def test_a_calculator_without_the_crystals_symmetry_is_not_symmetrised(silicon, sw, altered, quick):
    """A field along x that stiffens x: phonopy's reduction would average it away without a word."""

    def lopsided(atoms, results):
        u = atoms.get_positions()[1] - atoms.get_positions()[0]
        results["energy"] += 0.2 * u[0] ** 2 / 2
        results["forces"][1, 0] -= 0.2 * u[0]
        results["forces"][0, 0] += 0.2 * u[0]
        return results

    result = phonons(silicon, altered(sw, lopsided), relax_first=None, **{**quick, "supercell": 1})
    assert not {c.name: c for c in result.checks}["space-group defect"].passed
    assert not result.phonon.symmetry.dataset or len(result.phonon.symmetry.symmetry_operations["rotations"]) == 1
    optical = result.frequencies(np.zeros((1, 3)))[0, 3:]
    assert np.ptp(optical) > 0.02


# -- structures -------------------------------------------------------------------------------------------


def test_a_rounded_file_is_snapped_and_the_move_is_known(silicon8):
    rounded = silicon8.copy()
    rounded.positions = rounded.positions.round(3)
    cell = primitive_cell(rounded)
    assert cell.space_group == "Fd-3m (227)"
    assert 1e-4 < cell.largest_move < 1e-2


def test_a_group_just_out_of_reach_is_mentioned(silicon8):
    rounded = silicon8.copy()
    rounded.positions[0, 0] += 0.02
    cell = primitive_cell(rounded)
    assert cell.space_group != "Fd-3m (227)"
    assert "it would be Fd-3m (227)" in cell.line


def test_a_large_move_is_refused(silicon8):
    rattled = silicon8.copy()
    rattled.rattle(0.02, seed=1)
    with pytest.raises(InputError, match="would move"):
        primitive_cell(rattled, symprec=0.2)


def test_without_snapping_only_what_is_exact_counts(silicon8):
    rounded = silicon8.copy()
    rounded.positions = rounded.positions.round(2)
    assert primitive_cell(rounded, snap=False).space_group != "Fd-3m (227)"


def test_orientation_and_origin_of_the_user_are_kept(silicon8):
    turned = silicon8.copy()
    turned.rotate(25, (1, 1, 3), rotate_cell=True)
    turned.translate([0.3, 0.1, 0.2])
    cell = primitive_cell(turned)
    for position, source in zip(cell.atoms.positions, cell.source, strict=True):
        gap = np.linalg.solve(cell.atoms.cell.array.T, position - turned.positions[source])
        assert np.abs(gap - np.rint(gap)).max() < 1e-8


def test_a_molecule_is_refused(sw, quick):
    with pytest.raises(InputError, match="three periodic directions"):
        phonons(Atoms("Si2", [[0, 0, 0], [2.3, 0, 0]]), sw, **quick)


@pytest.mark.parametrize("text", ["GAMMA X U | K GAMMA L", "G-X", "GAMMA 0.1,0.2,0.3", "Γ→L"])
def test_paths_as_people_write_them(silicon, text):
    path = band_path(primitive_cell(silicon), text, 20)
    assert np.allclose(path.q[0], 0)
    assert path.ticks[1][0] == "Γ"


@pytest.mark.parametrize("text", ["GAMMA Q", "X", "GAMMA 0.1,0.2"])
def test_unreadable_paths_are_refused(silicon, text):
    with pytest.raises(InputError, match="path"):
        band_path(primitive_cell(silicon), text, 20)


# -- files ------------------------------------------------------------------------------------------------


def test_phonopy_reads_our_files_back(silicon_phonons, tmp_path):
    files = silicon_phonons.write(tmp_path)
    assert all(file.stat().st_size > 0 for file in files)
    again = phonopy.load(tmp_path / "phonopy.yaml", log_level=0, symmetrize_fc=False)
    theirs, ours = np.array(again.run_qpoints(Q).frequencies), silicon_phonons.frequencies(Q)
    assert theirs[:2] == pytest.approx(ours[:2], abs=1e-9)
    assert theirs[2] == pytest.approx(ours[2], abs=1e-6)  # the root of rounding, at Γ
    bands = yaml.safe_load((tmp_path / "bands.yaml").read_text())
    assert bands["nqpoint"] == len(bands["phonon"]) == len(silicon_phonons.bands.path.q)
    assert json.loads((tmp_path / "bands.json").read_text())["labels"][0] == "Γ"
    for name in ("bands.png", "thermal.png"):
        assert (tmp_path / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"method": "magic"}, "method"),
        ({"method": "exact"}, "exact"),
        ({"supercell": [1, 2]}, "supercell"),
        ({"supercell": 0}, "supercell"),
    ],
)
def test_wrong_settings_are_named(silicon, sw, quick, settings, word):
    with pytest.raises(InputError, match=word):
        phonons(silicon, sw, **{**quick, **settings})
