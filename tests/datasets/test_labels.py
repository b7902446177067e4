"""Labels: shapes, signs, orders, units, masks, and names that are ambiguous."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import write

from mlip.datasets import LabelledFrame, as_frame, read_frames
from mlip.errors import InputError

CELL = 'Lattice="6 0 0 0 6 0 0 0 6" pbc="T T T"'


def test_compression_gives_negative_stress(tmp_path):
    """ASE's sign: a compressed crystal has negative stress, and dE = V σ : ε."""
    atoms = bulk("Cu", cubic=True)
    atoms.set_cell(atoms.cell * 0.97, scale_atoms=True)
    atoms.calc = EMT()
    atoms.get_stress(), atoms.get_forces()
    write(tmp_path / "a.xyz", atoms)
    frame = read_frames(tmp_path / "a.xyz")[0]
    assert np.trace(frame.stress) < 0
    energies = []
    for factor in (0.9699, 0.9701):
        other = bulk("Cu", cubic=True)
        other.set_cell(other.cell * factor, scale_atoms=True)
        other.calc = EMT()
        energies.append(other.get_potential_energy())
    slope = (energies[1] - energies[0]) / (0.0002 / 0.97)
    assert atoms.get_volume() * np.trace(frame.stress) == pytest.approx(slope, rel=1e-4)


def test_stress_is_the_same_as_nine_numbers_as_six_and_as_virial(write_xyz):
    stress = np.array([[1.0, 0.4, 0.5], [0.4, 2.0, 0.6], [0.5, 0.6, 3.0]]) / 100
    nine = " ".join(str(x) for x in stress.ravel())
    six = " ".join(str(x) for x in stress.ravel()[[0, 4, 8, 5, 2, 1]])
    virial = " ".join(str(-216 * x) for x in stress.ravel())
    for text in (f'stress="{nine}"', f'stress="{six}"', f'virial="{virial}"', f'REF_stress="{nine}"'):
        frame = read_frames(write_xyz(f"{CELL} energy=-1 {text}"))[0]
        assert frame.stress == pytest.approx(stress, abs=1e-14)


def test_pressure_like_stress_is_turned_around(write_xyz):
    path = write_xyz(f'{CELL} energy=-1 stress="1 0 0 0 2 0 0 0 3"')
    frames = read_frames(path, stress_sign="vasp", units={"stress": "kbar"})
    assert np.diag(frames[0].stress) == pytest.approx(-np.array([1, 2, 3]) * 6.241509e-4, rel=1e-6)


def test_stress_of_a_molecule_is_left_out(write_xyz):
    frames = read_frames(write_xyz(f'{CELL} energy=-1 stress="1 0 0 0 2 0 0 0 3"'), pbc=False)
    assert frames[0].stress is None
    assert "not periodic" in " ".join(frames.source.notes)


def test_the_frame_matrix_is_row_major(write_xyz):
    frame = read_frames(write_xyz('energy=-1 frame="1 2 3 4 5 6 7 8 9"'))[0]
    assert frame.atoms.info["frame"].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    again = read_frames(write_xyz('energy=-1 frame="_JSON [[1, 2, 3], [4, 5, 6], [7, 8, 9]]"'))[0]
    assert again.atoms.info["frame"].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_forces_of_fixed_atoms_are_read(tmp_path):
    atoms = bulk("Cu", cubic=True)
    forces = np.arange(12.0).reshape(4, 3)
    atoms.set_constraint(FixAtoms([0, 1]))
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=forces)
    write(tmp_path / "a.traj", atoms)
    frame = read_frames(tmp_path / "a.traj")[0]
    assert frame.forces.tolist() == forces.tolist()
    assert frame.atoms.constraints == []
    assert as_frame(atoms).forces.tolist() == forces.tolist()


def test_free_energy_is_preferred_and_reported(tmp_path):
    atoms = Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.5]])
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, free_energy=-1.25, forces=np.zeros((2, 3)))
    write(tmp_path / "a.xyz", atoms)
    frames = read_frames(tmp_path / "a.xyz")
    assert frames[0].energy == -1.25
    assert frames.source.keys["energy"] == "free_energy"
    assert any("free_energy" in line for line in frames.source.lines()[1:])
    assert read_frames(tmp_path / "a.xyz", keys={"energy": "energy"})[0].energy == -1.0


def test_several_names_are_refused_until_one_is_chosen(write_xyz):
    path = write_xyz("energy=-1 REF_energy=-2")
    with pytest.raises(InputError, match=r"'REF_energy', 'energy'.*--key energy=") as error:
        read_frames(path)
    assert "\n" not in str(error.value)
    assert read_frames(path, keys={"energy": "REF_energy"})[0].energy == -2


def test_stress_and_virial_together_are_refused_until_one_is_chosen(write_xyz):
    path = write_xyz(f'{CELL} energy=-1 stress="1 0 0 0 1 0 0 0 1" virial="1 0 0 0 1 0 0 0 1"')
    with pytest.raises(InputError, match="both stress and virial"):
        read_frames(path)
    assert read_frames(path, keys={"virial": "virial"})[0].stress[0, 0] == pytest.approx(-1 / 216)
    assert read_frames(path, keys={"stress": "stress"})[0].stress[0, 0] == 1


def test_a_label_can_be_left_unread(write_xyz):
    frames = read_frames(write_xyz("energy=-1 REF_energy=-2"), keys={"energy": None})
    assert frames[0].energy is None
    assert frames[0].forces is not None


def test_predictions_of_models_are_not_labels(write_xyz):
    assert read_frames(write_xyz("MACE_energy=-1"))[0].energy is None


def test_labels_that_are_not_numbers_are_masked_and_counted(write_xyz):
    frames = read_frames(write_xyz("energy=-1", "energy=nan", "energy=inf"), require=["energy"])
    assert [frame.energy for frame in frames] == [-1.0, None, None]
    assert frames.source.masked == {"energy": 2}
    assert any("2 of 3 frames have no energy" in note for note in frames.source.notes)
    with pytest.raises(InputError, match="finite energy"):
        read_frames(write_xyz("energy=nan"), require=["energy"])


def test_frames_with_one_bad_force_lose_their_forces_only(write_xyz):
    frame = read_frames(write_xyz("energy=-1", columns="nan 0 0"))[0]
    assert frame.forces is None
    assert frame.energy == -1.0


def test_energies_keep_all_digits(write_xyz):
    assert read_frames(write_xyz("energy=-30123.456789012345"))[0].energy == -30123.456789012345


def test_units_are_converted(write_xyz):
    frame = read_frames(write_xyz("energy=-1"), units={"energy": "Hartree", "length": "Bohr"})[0]
    assert frame.energy == pytest.approx(-27.211386, rel=1e-7)
    assert frame.forces[0, 0] == pytest.approx(0.1 * 51.422067, rel=1e-7)
    assert frame.atoms.get_distance(0, 1) == pytest.approx(0.74 * 0.529177, rel=1e-6)
    mixed = read_frames(write_xyz("energy=-1"), units={"energy": "kcal/mol", "forces": "Hartree/Bohr"})[0]
    assert mixed.energy == pytest.approx(-0.0433641, rel=1e-6)
    assert mixed.forces[0, 0] == pytest.approx(0.1 * 51.422067, rel=1e-7)


def test_weights_and_config_types_are_read(write_xyz):
    frames = read_frames(write_xyz("energy=-1 config_type=bulk weight=3", "energy=-1"), weight=0.5)
    assert [frame.weight for frame in frames] == [1.5, 0.5]
    assert [frame.config_type for frame in frames] == ["bulk", None]


def test_a_dummy_box_is_noticed_and_dropped_on_request(write_xyz):
    path = write_xyz('Lattice="50 0 0 0 50 0 0 0 50" energy=-1')
    frames = read_frames(path)
    assert frames[0].atoms.pbc.all()
    assert any("--no-pbc" in note for note in frames.source.notes)
    free = read_frames(path, pbc=False)
    assert not free[0].atoms.pbc.any()
    assert free[0].atoms.cell.volume == 0
    assert not any("--no-pbc" in note for note in free.source.notes)


def test_a_molecule_across_the_boundary_is_still_in_a_dummy_box(tmp_path):
    (tmp_path / "a.xyz").write_text('2\nLattice="20 0 0 0 20 0 0 0 20" energy=-1\nH 0 0 -0.4\nH 0 0 59.9\n')
    assert "--no-pbc" in " ".join(read_frames(tmp_path / "a.xyz").source.notes)


def test_a_slab_is_not_a_dummy_box(tmp_path):
    (tmp_path / "a.xyz").write_text('1\nLattice="3 0 0 0 3 0 0 0 30" energy=-1\nCu 0 0 0\n')
    frames = read_frames(tmp_path / "a.xyz")
    assert not frames.source.notes
    assert not frames[0].is_isolated_atom


def test_isolated_atoms_are_recognised():
    assert LabelledFrame(Atoms("H")).is_isolated_atom
    assert LabelledFrame(Atoms("H", cell=[20, 20, 20], pbc=True)).is_isolated_atom
    assert not LabelledFrame(bulk("Cu")).is_isolated_atom
    assert not LabelledFrame(Atoms("H2", positions=[[0, 0, 0], [0, 0, 1]])).is_isolated_atom


@pytest.mark.parametrize(
    ("index", "expected"),
    [("0:2", [0, 1]), ("::2", [0, 2]), ("-1", [3]), (1, [1]), ("::-1", [3, 2, 1, 0]), (":", [0, 1, 2, 3])],
)
def test_frames_are_counted_as_python_does(write_xyz, index, expected):
    frames = read_frames(write_xyz(*(f"energy={n}" for n in range(4))), index=index)
    assert [frame.index for frame in frames] == expected
    assert [frame.energy for frame in frames] == expected


def test_a_missing_file_is_looked_for_among_the_external_data(write_xyz, monkeypatch):
    path = write_xyz("energy=-1")
    monkeypatch.setenv("MLIP_DATA", str(path.parent))
    assert len(read_frames(path.name)) == 1


def test_undeclared_columns_are_mentioned(write_xyz):
    frames = read_frames(write_xyz("energy=-1", properties="species:S:1:pos:R:3"))
    assert any("more columns" in note for note in frames.source.notes)


def test_per_atom_energies_of_ase_are_not_taken_for_totals(tmp_path):
    atoms = bulk("Cu")
    atoms.calc = EMT()
    atoms.get_potential_energy()
    write(tmp_path / "a.xyz", atoms)
    frames = read_frames(tmp_path / "a.xyz")
    assert frames[0].energy == atoms.get_potential_energy()
    assert "energies" in frames[0].info
