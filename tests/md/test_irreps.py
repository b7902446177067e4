"""Representations of modes: names and activity at Γ, little groups elsewhere, complex pairs, coinciding levels."""

from __future__ import annotations

import numpy as np
import phonopy
import pytest
import spglib
from ase import Atoms
from ase.spacegroup import crystal
from phonopy.phonon.character_table import character_table

from mlip.md.bands import band_path, bands_along
from mlip.md.dynamical import BlochMatrices, FourierMatrices, from_phonopy
from mlip.md.irrep_names import named_characters
from mlip.md.irreps import gamma_modes, is_irreducible, modes_at
from mlip.md.little_groups import level_sets, little_group
from mlip.md.stability import imaginary_modes, lowest_frequency
from mlip.md.structure import primitive_cell

PYRITE = {"symbols": ["Fe", "S"], "basis": [(0, 0, 0), (0.385, 0.385, 0.385)], "spacegroup": 205,
          "cellpar": [5.42, 5.42, 5.42, 90, 90, 90]}  # fmt: skip
SCHEELITE = {"symbols": ["Ca", "W", "O"], "basis": [(0, 0.25, 0.625), (0, 0.25, 0.125), (0.15, 0.0086, 0.211)],
             "spacegroup": 88, "setting": 2, "cellpar": [5.243, 5.243, 11.376, 90, 90, 90]}  # fmt: skip

GAP = 1e-6  # THz: frequencies of random weights are small, and lie close together


@pytest.fixture
def from_dft(data_folder):
    """The primitive cell and D(q) of one of the published force sets."""

    def load(name):
        folder = data_folder / "phonopy" / name
        if name == "Si":
            found = phonopy.load(folder / "phonopy_params_Si.yaml", log_level=0, is_nac=False)
        else:
            found = phonopy.load(
                folder / "phonopy_disp.yaml",
                force_sets_filename=folder / "FORCE_SETS",
                log_level=0,
                is_nac=False,
            )
        cell = primitive_cell(from_phonopy(found.primitive))
        rows = np.linalg.solve(found.unitcell.cell.T, cell.atoms.cell.array.T)
        again = phonopy.Phonopy(found.unitcell, found.supercell_matrix, primitive_matrix=rows)
        again.dataset = found.dataset
        again.produce_force_constants()
        again.symmetrize_force_constants()  # as for the published frequencies
        gap = again.primitive.scaled_positions - cell.atoms.get_scaled_positions()
        assert np.abs(gap - np.rint(gap)).max() < 1e-8
        return cell, FourierMatrices(again)

    return load


@pytest.fixture
def random_matrices():
    """Exact D(q) of random weights: no physics but the symmetry."""
    import mlip

    def make(atoms):
        settings = {"architecture": "nequip", "cutoff": 3.2, "num_layers": 2, "num_channels": 4, "lmax": 2, "seed": 5}
        potential = mlip.Potential.from_config(settings, species=sorted(set(atoms.get_chemical_symbols()))).double()
        cell = primitive_cell(atoms)
        return cell, BlochMatrices(cell.atoms, mlip.MLIPCalculator(potential))

    return make


def counted(table):
    """{(irrep, activity): how many}."""
    found: dict[tuple[str, str], int] = {}
    for one in table.sets:
        found[one.label, one.activity] = found.get((one.label, one.activity), 0) + 1
    return found


# -- published crystals -----------------------------------------------------------------------------------


def test_rutile_by_density_functional_theory(from_dft):
    cell, matrices = from_dft("SnO2")
    table = gamma_modes(matrices, cell)
    assert counted(table) == {
        ("B1g", "Raman"): 1, ("Eg", "Raman"): 1, ("A1g", "Raman"): 1, ("B2g", "Raman"): 1,
        ("Eu", "IR"): 3, ("A2u", "IR"): 1, ("A2g", "silent"): 1, ("B1u", "silent"): 2,
    }  # fmt: skip
    assert table.acoustic == "A2u + Eu"
    assert all(one.irreducible for one in table.sets)


def test_silicon_and_rocksalt_by_density_functional_theory(from_dft):
    (silicon,) = gamma_modes(*reversed(from_dft("Si"))).sets
    assert (silicon.label, silicon.activity, silicon.degeneracy) == ("T2g", "Raman", 3)
    assert silicon.frequency == pytest.approx(15.1, abs=0.02)
    (rocksalt,) = gamma_modes(*reversed(from_dft("NaCl"))).sets
    assert (rocksalt.label, rocksalt.activity, rocksalt.degeneracy) == ("T1u", "IR", 3)
    assert rocksalt.frequency == pytest.approx(4.616, abs=5e-3)


# -- complex pairs, which no real modes split --------------------------------------------------------------


def test_pyrite_has_the_modes_of_th(random_matrices):
    """Γ = Ag + Eg + 3 Tg + 2 Au + 2 Eu + 6 Tu, of which one Tu is acoustic."""
    cell, matrices = random_matrices(crystal(**PYRITE))
    table = gamma_modes(matrices, cell, GAP)
    assert table.point_group == "m-3"
    assert counted(table) == {
        ("Ag", "Raman"): 1, ("Eg", "Raman"): 1, ("Tg", "Raman"): 3,
        ("Au", "silent"): 2, ("Eu", "silent"): 2, ("Tu", "IR"): 5,
    }  # fmt: skip
    assert all(one.irreducible for one in table.sets)
    group = little_group(cell, np.zeros(3))
    names = named_characters(group.rotations)
    pair = names.characters[names.labels.index("Eg")]
    assert (pair**2).mean() == pytest.approx(2)  # the plain norm would call it reducible
    assert is_irreducible(pair, group)
    assert not is_irreducible(pair + names.characters[names.labels.index("Ag")], group)


def test_scheelite_has_the_modes_of_c4h(random_matrices):
    """Γ = 3 Ag + 5 Bg + 5 Eg + 5 Au + 3 Bu + 5 Eu, of which Au + Eu are acoustic."""
    cell, matrices = random_matrices(crystal(**SCHEELITE))
    assert len(cell.atoms) == 12
    table = gamma_modes(matrices, cell, GAP)
    assert table.point_group == "4/m"
    assert counted(table) == {
        ("Ag", "Raman"): 3, ("Bg", "Raman"): 5, ("Eg", "Raman"): 5,
        ("Au", "IR"): 4, ("Bu", "silent"): 3, ("Eu", "IR"): 4,
    }  # fmt: skip


# -- little groups -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", [PYRITE, SCHEELITE], ids=["pyrite", "scheelite"])
def test_the_little_group_commutes_with_d_and_multiplies_like_the_space_group(random_matrices, structure):
    cell, matrices = random_matrices(crystal(**structure))
    for q in [np.zeros(3), *list(cell.points.values())[:3], np.array([0.1, 0.1, 0.1])]:
        group, d = little_group(cell, q), matrices.at(q)[0]
        gap = group.matrices @ d - d @ group.matrices
        assert np.abs(gap).max() < 1e-9 * np.abs(d).max()
        g, h = len(group.rotations) - 1, len(group.rotations) // 2
        product = group.rotations[g] @ group.rotations[h]
        k = int(np.abs(group.rotations - product).sum(axis=(1, 2)).argmin())
        surplus = group.translations[g] + group.rotations[g] @ group.translations[h] - group.translations[k]
        expected = np.exp(-2j * np.pi * q @ surplus) * group.matrices[k]
        assert np.abs(group.matrices[g] @ group.matrices[h] - expected).max() < 1e-9


def test_small_representations_fill_the_modes_everywhere(random_matrices):
    """At the zone boundary of pyrite everything sticks together; dimensions add up to the degeneracies."""
    cell, matrices = random_matrices(crystal(**PYRITE))
    for q in cell.points.values():
        table = modes_at(matrices, cell, q, GAP)
        assert sum(one.degeneracy for one in table.sets) == (36 if q.any() else 33)
        assert all(sum(one.small) == one.degeneracy for one in table.sets)
    boundary = modes_at(matrices, cell, cell.points["R"], GAP)
    assert all(one.irrep is None and "unnamed" in one.label for one in boundary.sets)
    assert {one.degeneracy for one in boundary.sets} <= {2, 4, 6}


def test_names_at_the_zone_boundary_of_a_symmorphic_crystal(from_dft):
    """Rocksalt: TA X5, LA X4' by the old names; here Eu and A2u of 4/mmm about the cation."""
    cell, matrices = from_dft("NaCl")
    table = modes_at(matrices, cell, cell.points["X"])
    assert [(one.label, one.degeneracy) for one in table.sets] == [("Eu", 2), ("A2u", 1), ("Eu", 2), ("A2u", 1)]
    assert table.sets[0].frequency == pytest.approx(2.414, abs=5e-3)
    assert table.sets[0].activity == ""


# -- coinciding and cut levels -----------------------------------------------------------------------------


def test_levels_that_coincide_are_named_as_a_sum(from_dft):
    """A tolerance that merges levels is seen: the set is reducible, and its name says what is in it."""
    cell, matrices = from_dft("SnO2")
    merged = gamma_modes(matrices, cell, gap=0.2).sets
    pair = next(one for one in merged if one.degeneracy == 3)
    assert pair.label == "Eg + A2u"
    assert pair.activity == "IR+Raman"
    assert not pair.irreducible


def test_a_level_that_was_cut_is_put_together_again(from_dft):
    cell, matrices = from_dft("NaCl")
    d = matrices.at(np.zeros((1, 3)))[0]
    values, vectors = np.linalg.eigh((d + d.conj().T) / 2)
    split = values + 1e-3 * np.arange(6)
    sets = level_sets(split, vectors, little_group(cell, np.zeros(3)), gap=1e-9)
    assert [s.stop - s.start for s in sets] == [3, 3]


def test_copper_has_no_optical_modes():
    from ase.build import bulk

    class One:
        def at(self, q):
            return np.zeros((len(q), 3, 3), dtype=complex)

    assert gamma_modes(One(), primitive_cell(bulk("Cu"))).line == "no optical modes"


# -- character tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 3, 6, 10, 16, 25, 47, 75, 81, 83, 89, 99, 111, 115, 123, 143, 147, 149,
                                    150, 156, 157, 162, 164, 168, 174, 175, 177, 183, 187, 189, 191, 195, 200, 207,
                                    215, 221])  # fmt: skip
def test_every_point_group_has_its_table(number):
    """In a general position each representation occurs as often as its dimension over the reals says."""
    hall = next(h for h in range(1, 531) if spglib.get_spacegroup_type(h).number == number)
    rotations = np.unique(spglib.get_symmetry_from_database(hall)["rotations"], axis=0)
    table = named_characters(rotations.astype(np.int64), np.eye(3))
    assert table is not None
    identity = int(np.trace(rotations, axis1=1, axis2=2).argmax())
    regular = np.zeros(len(rotations), dtype=complex)
    regular[identity] = len(rotations)
    found = table.decompose(regular)
    norms = (table.characters**2).mean(axis=1)
    expected = {
        label: round(row[identity] / n) for label, row, n in zip(table.labels, table.characters, norms, strict=True)
    }
    assert found == expected
    assert len(character_table) == 32


def test_characters_that_belong_to_no_representation_have_no_name():
    rotations = spglib.get_symmetry_from_database(1)["rotations"].astype(np.int64)
    assert named_characters(rotations).name(np.array([0.5 + 0j])) is None


def test_a_molecule_like_cell_without_symmetry_has_one_kind_of_mode(random_matrices):
    rng = np.random.default_rng(0)
    lattice = [[4, 0.1, 0.2], [0, 4.3, 0.4], [0.3, 0, 4.6]]
    atoms = Atoms("FeS2", scaled_positions=rng.uniform(size=(3, 3)), cell=lattice, pbc=True)
    cell, matrices = random_matrices(atoms)
    table = gamma_modes(matrices, cell)
    assert {(one.label, one.activity) for one in table.sets} == {("A", "IR+Raman")}


def test_the_ferroelectric_instability_of_a_perovskite(data_folder):
    """Cubic BaTiO3: the polar T1u mode at Γ and its continuations at X and M, with their q and irrep."""
    path = data_folder / "perovskites" / "BaTiO3_mp-2998_phonopy.yaml.xz"
    if not path.is_file():
        pytest.skip("the barium titanate file is not there")
    phonon = phonopy.load(path, log_level=0, is_nac=False)
    cell = primitive_cell(from_phonopy(phonon.primitive))
    gap = phonon.primitive.scaled_positions - cell.atoms.get_scaled_positions()
    assert np.abs(gap - np.rint(gap)).max() < 1e-6
    matrices = FourierMatrices(phonon)
    bands = bands_along(matrices, cell, band_path(cell, "GAMMA X | M R", 12))
    lowest = lowest_frequency(bands, np.zeros((0, 3)), np.zeros((0, 15)))
    found = {mode.point: mode for mode in imaginary_modes(matrices, cell, bands, lowest, symmetric=True)}
    assert set(found) == {"Γ", "X", "M"}
    assert (found["Γ"].irrep, found["Γ"].degeneracy, found["Γ"].point_group) == ("T1u", 3, "m-3m")
    assert found["Γ"].frequency == pytest.approx(-6.05, abs=0.03)
    assert found["X"].point_group == found["M"].point_group == "4/mmm"
    assert found["X"].irrep is not None
    assert "unnamed" not in found["X"].irrep + found["M"].irrep
    assert (found["X"].degeneracy, found["M"].degeneracy) == (2, 1)
    without = imaginary_modes(matrices, cell, bands, lowest, symmetric=False)
    assert len(without) == 6
    assert all(mode.irrep is None for mode in without)
