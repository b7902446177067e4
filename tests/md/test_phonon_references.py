"""References from elsewhere, compared at equal q; and polar crystals, whose dipole term is counted once."""

from __future__ import annotations

import json

import numpy as np
import phonopy
import pytest
from ase.build import bulk

from mlip.errors import InputError
from mlip.md import phonons, read_reference
from mlip.md.bands import band_path
from mlip.md.dynamical import FourierMatrices
from mlip.md.mesh import SampledMesh
from mlip.md.reference import on_path
from mlip.md.reference_files import reference_from_phonopy
from mlip.md.structure import primitive_cell
from mlip.md.thermal import thermal_table


def test_our_own_files_are_references_without_a_difference(silicon_phonons, tmp_path):
    silicon_phonons.write(tmp_path)
    for name in ("phonopy.yaml", "bands.yaml"):
        compared = silicon_phonons.compared_with(read_reference(tmp_path / name)).references[0]
        assert compared.worst[0] < 1e-5
        assert not np.isnan(compared.places).any()


def test_a_reference_in_another_setting_is_compared_at_the_same_q(silicon_phonons, sw, quick):
    """Turned, another primitive basis, 2 % larger: q points must still correspond."""
    other = bulk("Si", a=5.43095)
    other.set_cell(np.array([[1, 1, 0], [0, 1, 0], [0, 0, -1]]) @ other.cell.array, scale_atoms=False)
    other.rotate(40, (1, 0, 2), rotate_cell=True)
    theirs = phonons(other, sw, method="hessian", **quick)
    compared = silicon_phonons.compared_with(reference_from_phonopy(theirs.phonon, "turned")).references[0]
    assert compared.worst[0] < 1e-4


def test_dfpt_json_is_compared_at_its_own_points(silicon_phonons, tmp_path):
    """The layout of the embedded silicon set, in another primitive basis than ours."""
    cell = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]) * 5.43095
    q = [[0, 0, 0], [0.5, 0.5, 0.0], [0.5, 0.0, 0.0]]
    ours = silicon_phonons.special_points()
    values = [list(ours[name]) for name in ("GAMMA", "X", "L")]
    file = tmp_path / "dfpt.json"
    content = {
        "cell": cell.tolist(),
        "scaled_positions": [[0] * 3, [0.25] * 3],
        "mass": 28.085,
        "q_points": q,
        "frequencies": values,
        "bands": {"q_points": [[0.375, 0.375, 0.75]], "frequencies": [list(ours["K"])]},
    }
    file.write_text(json.dumps(content))
    compared = silicon_phonons.compared_with(read_reference(file)).references[0]
    assert compared.worst[0] < 1e-5
    assert not np.isnan(compared.places).any()
    assert set(compared.by_branch()) == {"TA", "LA", "TO", "LO"}


def test_equivalent_points_are_found_on_the_path(silicon):
    cell = primitive_cell(silicon)
    path = band_path(cell, "GAMMA X", 10)
    places = on_path(np.array([[0.5, 0.5, 0.0], [-0.5, 0.0, -0.5], [0.5, 0.0, 0.0]]), cell, path)
    assert places[:2] == pytest.approx(path.distance[-1], abs=1e-9)
    assert np.isnan(places[2])


def test_published_silicon_is_read_and_drawn_in(silicon_phonons, data_folder):
    file = data_folder / "phonopy" / "Si" / "phonopy_params_Si.yaml"
    if not file.is_file():
        pytest.skip("phonopy's silicon is not there")
    result = silicon_phonons.compared_with(read_reference(file))
    compared = result.references[0]
    gamma = compared.theirs[0]
    assert gamma[3:] == pytest.approx(15.107, abs=0.01)
    assert compared.mean > 1.0  # Stillinger and Weber's silicon is stiff
    assert "TA" in compared.line
    legend = result.plot().legends[0].get_texts()
    assert any("phonopy_params_Si.yaml" in text.get_text() for text in legend)


@pytest.mark.parametrize(
    ("file", "q", "expected"),
    [
        ("NaCl/phonopy_disp.yaml", [0.5, 0.0, 0.5], [2.414, 2.414, 4.066, 4.867, 4.867, 5.256]),
        ("NaCl/FORCE_SETS", [0.5, 0.5, 0.5], [3.273, 3.273, 3.760, 3.760, 5.116, 6.242]),
    ],
)
def test_published_force_sets_give_their_known_frequencies(data_folder, file, q, expected):
    path = data_folder / "phonopy" / file
    if not path.is_file():
        pytest.skip("phonopy's rock salt is not there")
    reference = read_reference(path)
    standard = np.array([q]) @ np.linalg.inv(reference.cell.atoms.cell.array).T @ reference.lattice.T
    assert reference.solve(standard)[0] == pytest.approx(expected, abs=0.01)


def test_thermal_properties_of_published_rock_salt(data_folder):
    """Per mole of primitive cells, which hold one formula unit here."""
    folder = data_folder / "phonopy" / "NaCl"
    if not folder.is_dir():
        pytest.skip("phonopy's rock salt is not there")
    phonon = phonopy.load(
        folder / "phonopy_disp.yaml",
        force_sets_filename=folder / "FORCE_SETS",
        born_filename=folder / "BORN",
        log_level=0,
    )
    mesh = SampledMesh(phonon, FourierMatrices(phonon), 100.0, symmetric=True)
    room = thermal_table(mesh, [0.0, 300.0]).at(300.0)
    assert room["free_energy"] == pytest.approx(-6.942, abs=0.02)
    assert room["entropy"] == pytest.approx(74.92, abs=0.05)
    assert room["heat_capacity"] == pytest.approx(48.03, abs=0.02)


def test_soft_modes_of_a_published_perovskite(data_folder):
    path = data_folder / "perovskites" / "BaTiO3_mp-2998_phonopy.yaml.xz"
    if not path.is_file():
        pytest.skip("the barium titanate file is not there")
    frequencies = read_reference(path).solve(np.array([[0, 0, 0], [0.0, 0.5, 0.0]]))
    assert frequencies[0, :3] == pytest.approx(-6.05, abs=0.02)
    assert frequencies[1, 0] == pytest.approx(-4.88, abs=0.02)


def test_a_reference_of_another_crystal_is_refused(silicon_phonons, data_folder):
    path = data_folder / "phonopy" / "NaCl" / "phonopy_disp.yaml"
    if not path.is_file():
        pytest.skip("phonopy's rock salt is not there")
    with pytest.raises(InputError, match="NaCl"):
        silicon_phonons.compared_with(read_reference(path))


@pytest.mark.parametrize(
    ("name", "text"), [("a.yaml", "x: 1\n"), ("b.json", "{}"), ("phonopy_disp.yaml", "supercell_matrix:\n")]
)
def test_files_that_are_no_reference_are_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=name):
        read_reference(tmp_path / name)
    with pytest.raises(InputError, match="no such"):
        read_reference(tmp_path / "absent.yaml")
