"""Polar crystals: the dipole term is counted once, and Born charges belong to their atoms and axes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import phonopy
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes

from mlip.errors import InputError
from mlip.md import phonons
from mlip.md.alignment import align, bases_with_metric
from mlip.md.dynamical import from_phonopy
from mlip.md.polar import read_born, symmetric_charges, trained_supercell
from mlip.md.reference_files import reference_from_phonopy
from mlip.md.structure import primitive_cell

CONVENTIONAL = np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
SHORT = {"points": 30, "dos_mesh": [6, 6, 6], "relax_first": None}


class Tabulated(Calculator):
    """A crystal at rest whose D(q) is that of published force constants."""

    implemented_properties = ("energy", "forces")

    def __init__(self, phonon):
        super().__init__()
        self.phonon = phonon

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((len(self.atoms), 3))}

    def get_dynamical_matrix(self, atoms, q):
        return np.array(self.phonon.run_qpoints(q, with_dynamical_matrices=True).dynamical_matrices)


@pytest.fixture
def rock_salt(data_folder):
    """Published force sets of NaCl: phonopy's object without and with the dipole term, and the file of charges."""
    folder = data_folder / "phonopy" / "NaCl"
    if not folder.is_dir():
        pytest.skip("phonopy's rock salt is not there")
    files = {"force_sets_filename": folder / "FORCE_SETS", "log_level": 0, "symmetrize_fc": False}
    plain = phonopy.load(folder / "phonopy_disp.yaml", is_nac=False, **files)
    polar = phonopy.load(folder / "phonopy_disp.yaml", born_filename=folder / "BORN", **files)
    return plain, polar, folder / "BORN"


@pytest.fixture
def rutile(data_folder):
    """Published force sets of SnO2, whose Born charges differ from atom to atom and from axis to axis."""
    folder = data_folder / "phonopy" / "SnO2"
    if not folder.is_dir():
        pytest.skip("phonopy's rutile is not there")
    return phonopy.load(
        folder / "phonopy_disp.yaml",
        force_sets_filename=folder / "FORCE_SETS",
        born_filename=folder / "BORN",
        log_level=0,
    )


def test_dipoles_split_the_optical_modes_of_rock_salt(rock_salt):
    """DFT force constants without the dipole term, ours added: TO 4.616 and LO 7.396 THz at Γ, and nothing twice."""
    plain, polar, born = rock_salt
    salt = primitive_cell(from_phonopy(plain.primitive))
    assert np.allclose(salt.atoms.cell.array, plain.primitive.cell)
    result = phonons(
        salt.atoms,
        Tabulated(plain),
        supercell=2 * CONVENTIONAL,
        born=born,
        path="GAMMA X",
        references=[reference_from_phonopy(polar, "DFT")],
        **SHORT,
    )
    assert result.bands.frequencies[0, 3:] == pytest.approx([4.616, 4.616, 7.396], abs=0.02)
    assert result.references[0].worst[0] < 2e-3
    assert {c.name: c for c in result.checks}["sum of the Born charges"].passed


def test_the_branch_keeps_its_slope_beyond_gamma(rock_salt):
    """LO of DFT with | without the dipole term towards X: 7.334 | 4.775 at 0.05, 7.148 | 5.164, 6.849 | 5.597."""
    plain, _, born = rock_salt
    salt = primitive_cell(from_phonopy(plain.primitive))
    settings = {"supercell": 2 * CONVENTIONAL, "path": "GAMMA X", **SHORT}
    towards_x = np.array([[x, 0.0, x] for x in (0.05, 0.10, 0.15)])
    with_term = phonons(salt.atoms, Tabulated(plain), born=born, **settings)
    without = phonons(salt.atoms, Tabulated(plain), **settings)
    assert with_term.frequencies(towards_x)[:, -1] == pytest.approx([7.334, 7.148, 6.849], abs=0.01)
    assert without.frequencies(towards_x)[:, -1] == pytest.approx([4.775, 5.164, 5.597], abs=0.01)


def test_what_phonopy_reads_back_has_the_term_once(rock_salt, tmp_path):
    plain, _, born = rock_salt
    salt = primitive_cell(from_phonopy(plain.primitive))
    result = phonons(salt.atoms, Tabulated(plain), supercell=2 * CONVENTIONAL, born=born, path="GAMMA X", **SHORT)
    again = phonopy.load(result.to_phonopy(tmp_path / "phonopy.yaml"), log_level=0, symmetrize_fc=False)
    q = np.array([[0.05, 0.0, 0.05], [0.1, 0.2, 0.3]])
    assert again.run_qpoints(q).frequencies == pytest.approx(result.frequencies(q), abs=1e-4)


def test_charges_follow_a_turned_and_reordered_cell(rutile, tmp_path):
    """The YAML keeps its own axes and order; our cell is turned, mirrored, sheared and shuffled."""
    rutile.save(tmp_path / "phonopy.yaml")
    theirs = from_phonopy(rutile.primitive)
    ours = theirs[[3, 0, 5, 2, 1, 4]]
    ours.positions += [0.3, -0.2, 0.4]
    ours.set_cell(np.array([[1, 0, 0], [2, 1, 0], [0, -1, 1]]) @ ours.cell.array, scale_atoms=False)
    ours.rotate(35, (1, 2, 3), rotate_cell=True)
    turn = np.linalg.lstsq(theirs.cell.array, np.linalg.inv([[1, 0, 0], [2, 1, 0], [0, -1, 1]]) @ ours.cell.array)[
        0
    ].T
    expected = np.array([turn @ z @ turn.T for z in np.array(rutile.nac_params["born"])])
    cell = primitive_cell(ours)
    found = read_born(tmp_path / "phonopy.yaml", cell)
    assert found.charges == pytest.approx(expected[[3, 0, 5, 2, 1, 4]][cell.source], abs=1e-6)
    assert found.dielectric == pytest.approx(turn @ rutile.nac_params["dielectric"] @ turn.T, abs=1e-6)
    assert all(check.passed for check in found.checks)


def test_charges_on_the_wrong_atoms_or_axes_fail_a_check(rutile):
    cell = primitive_cell(from_phonopy(rutile.primitive))
    charges, dielectric = np.array(rutile.nac_params["born"]), np.array(rutile.nac_params["dielectric"])
    assert all(c.passed for c in symmetric_charges(charges, dielectric, cell).checks)
    wrong_axes = symmetric_charges(charges[:, [1, 2, 0]][:, :, [1, 2, 0]], dielectric, cell)
    wrong_atoms = symmetric_charges(charges[[2, 3, 0, 1, 4, 5]], dielectric, cell)
    unbalanced = symmetric_charges(charges + 0.1 * np.eye(3), dielectric, cell)
    assert wrong_axes.asymmetry > 0.05
    assert wrong_atoms.asymmetry > 0.05
    assert not {c.name: c for c in unbalanced.checks}["sum of the Born charges"].passed


def test_a_yaml_without_charges_or_of_another_crystal_is_refused(rutile, silicon, tmp_path):
    rutile.save(tmp_path / "phonopy.yaml")
    with pytest.raises(InputError, match="not the same crystal"):
        read_born(tmp_path / "phonopy.yaml", primitive_cell(silicon))
    rutile.nac_params = None
    rutile.save(tmp_path / "bare.yaml")
    with pytest.raises(InputError, match="no Born charges"):
        read_born(tmp_path / "bare.yaml", primitive_cell(from_phonopy(rutile.primitive)))


def test_alignment_undoes_any_change_of_setting(rutile):
    theirs = from_phonopy(rutile.primitive)
    ours = theirs[[1, 0, 4, 5, 2, 3]]
    ours.set_cell(1.01 * np.array([[0, 1, 0], [1, 0, 0], [1, 1, -1]]) @ ours.cell.array, scale_atoms=False)
    ours.positions *= 1.01
    ours.rotate(70, (3, -1, 1), rotate_cell=True)
    found = align(theirs, ours)
    gap = ours.positions / 1.01 - (theirs.positions @ found.rotation.T)[found.order]
    gap = (gap - gap[0]) @ np.linalg.inv(theirs.cell.array @ found.rotation.T)
    assert np.abs(gap - np.rint(gap)).max() < 1e-8
    assert found.rotation @ found.rotation.T == pytest.approx(np.eye(3), abs=1e-12)


def trained_on(cell):
    """A calculator whose header says what it was trained on."""
    return SimpleNamespace(potential=SimpleNamespace(metadata={"ranges": {"largest_cell": cell.tolist()}}))


def test_the_cell_of_training_is_found_whatever_its_orientation():
    primitive = bulk("NaCl", "rocksalt", a=5.6)
    training = bulk("NaCl", "rocksalt", a=5.65, cubic=True) * 2
    training.rotate(20, (1, 1, 0), rotate_cell=True)
    matrix = trained_supercell(trained_on(training.cell.array), primitive)
    assert round(np.linalg.det(matrix)) == 32
    assert (matrix @ primitive.cell.array) @ (matrix @ primitive.cell.array).T == pytest.approx(
        11.2**2 * np.eye(3), abs=1e-9
    )
    assert trained_supercell(trained_on(np.diag([9.0, 9.0, 10.0])), primitive) is None
    assert trained_supercell(object(), primitive) is None
    assert not bases_with_metric(np.eye(3), np.diag([1.5, 1, 1]), 0.03)


@pytest.mark.parametrize("shape", [np.diag([4.0, 4.0, 4.3]), np.diag([4.0, 4.1, 4.3]), np.diag([4.0, 4.0, 4.0])])
def test_the_cell_of_training_is_right_handed(shape):
    """phonopy takes no supercell of negative volume."""
    assert np.linalg.det(trained_supercell(trained_on(3 * shape), Atoms("H", cell=shape, pbc=True))) == pytest.approx(
        27
    )


def test_a_born_file_of_another_crystal_is_refused(silicon, sw, quick, tmp_path):
    (tmp_path / "BORN").write_text("14.4\n1 0 0 0 1 0 0 0 1\n")
    with pytest.raises(InputError, match="BORN"):
        phonons(silicon, sw, born=tmp_path / "BORN", **quick)
