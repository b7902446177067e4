"""Frames are chosen by what they are, not by how they are turned, numbered or repeated."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.io import read, write
from scipy.spatial.transform import Rotation

from mlip import MLIPCalculator, Potential
from mlip.__main__ import main
from mlip.datasets.frame import LabelledFrame
from mlip.datasets.selection import describe, farthest_points, select_frames
from mlip.errors import InputError

SPECIES = ["O", "Mg"]
MODEL = {"cutoff": 4.0, "num_layers": 1, "num_channels": 4, "lmax": 1}


@pytest.fixture
def crystal():
    atoms = bulk("MgO", "rocksalt", a=4.2, cubic=True)
    atoms.rattle(0.1, seed=3)
    return atoms


def test_the_description_is_invariant(crystal, tolerances):
    before = describe(crystal, SPECIES)
    turned = crystal.copy()
    turned.set_cell(crystal.cell.array @ Rotation.random(random_state=1).as_matrix(), scale_atoms=True)
    mirrored = crystal.copy()
    mirrored.set_cell(-crystal.cell.array, scale_atoms=True)
    moved = crystal.copy()
    moved.translate([0.3, -7.0, 1.1])
    order = np.random.default_rng(0).permutation(len(crystal))
    large = make_supercell(crystal, [[1, 1, 0], [0, 1, 0], [0, 0, 2]])
    for other in (turned, mirrored, moved, crystal[order], large):
        np.testing.assert_allclose(describe(other, SPECIES), before, atol=tolerances.symmetry)


def test_the_description_tells_structures_apart(crystal):
    stretched = crystal.copy()
    stretched.set_cell(crystal.cell.array * [1.03, 1, 1], scale_atoms=True)
    swapped = crystal.copy()
    swapped.symbols = ["Mg" if s == "O" else "O" for s in crystal.get_chemical_symbols()]
    for other in (stretched, swapped):
        assert np.linalg.norm(describe(other, SPECIES) - describe(crystal, SPECIES)) > 0.01


def test_bond_angles_are_seen():
    """Two neighbours at equal distance: straight and bent differ in nothing but the angle at the first atom."""
    straight = Atoms("OMg2", [[0, 0, 0], [2, 0, 0], [-2, 0, 0]])
    bent = Atoms("OMg2", [[0, 0, 0], [2, 0, 0], [0, 2, 0]])
    first = [describe(atoms, SPECIES, cutoff=2.5) for atoms in (straight, bent)]
    assert np.linalg.norm(first[0] - first[1]) > 0.01


def test_farthest_points_are_the_corners():
    points = np.array([[0.5, 0.5], [0, 0], [0.4, 0.5], [1, 1], [0.9, 1.0], [0.02, 0.0]])
    chosen, gaps = farthest_points(points, 3)
    assert chosen[0] in (0, 2)
    assert set(chosen[1:]) == {1, 3}
    assert gaps[1] >= gaps[2] > 0.5
    assert farthest_points(points, 1, known=points[[1, 0]])[0] == [3]


def frames_of(sizes):
    """Dimers in a row of distances."""
    return [LabelledFrame(Atoms("Cu2", [[0, 0, 0], [length, 0, 0]])) for length in sizes]


def test_what_is_known_is_not_chosen_again():
    frames = frames_of([2.0, 2.01, 2.5, 2.99, 3.0])
    assert {*select_frames(frames, 2, known=frames_of([2.0]))[0]} == {4, 2}
    with pytest.raises(InputError, match="6 of 5"):
        select_frames(frames, 6)


def test_a_committee_chooses_where_it_disagrees():
    potentials = [Potential.from_config({**MODEL, "seed": seed}, ["Cu"]) for seed in (1, 2, 3)]
    committee = MLIPCalculator(potentials)
    frames = frames_of(np.linspace(1.5, 6.0, 40))
    chosen, spread = select_frames(frames, 3, committee=committee)
    forces = np.array([[a["forces"] for a in p.evaluate([f.atoms for f in frames], ("forces",))] for p in potentials])
    largest = np.linalg.norm(forces.std(axis=0, ddof=1), axis=2).max(axis=1)
    np.testing.assert_allclose(spread, largest[chosen], rtol=1e-5)
    assert largest[chosen].min() >= np.sort(largest)[-15]
    assert all(len(frames[i].atoms) and frames[i].atoms.get_distance(0, 1) < 4.0 for i in chosen)


def test_the_command(tmp_path, capsys):
    write(tmp_path / "pool.xyz", [frame.atoms for frame in frames_of(np.linspace(2, 3, 30))])
    arguments = ["data", "select", str(tmp_path / "pool.xyz"), "--count", "4", "--out", str(tmp_path / "few.xyz")]
    assert main(arguments) == 0
    lengths = sorted(atoms.get_distance(0, 1) for atoms in read(tmp_path / "few.xyz", ":"))
    assert lengths[0] < 2.05
    assert lengths[-1] > 2.95
    assert np.diff(lengths).min() > 0.1
    assert main(arguments) == 2
    assert "--force" in capsys.readouterr().err
