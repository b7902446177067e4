"""Neighbours: every image within the cutoff, once, in one order; the skin list never misses one."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import primitive_neighbor_list

from mlip.graph import neighbor_pairs
from mlip.neighbors import SkinNeighbors
from mlip.testing import strained

CUTOFF = 3.3


@pytest.mark.parametrize("pbc", [False, True, (True, False, True), (False, False, True)], ids=str)
def test_pairs_are_those_of_another_code(triclinic, pbc):
    triclinic.pbc = pbc
    triclinic.positions += [[9.0, -20, 3], [0, 0, 0], [-14, 2, 0]] @ np.diag(triclinic.pbc).astype(float)
    source, target, shifts = neighbor_pairs(triclinic, CUTOFF)
    i, j, s = primitive_neighbor_list("ijS", triclinic.pbc, triclinic.cell, triclinic.positions, CUTOFF)
    mine = sorted(zip(target, source, map(tuple, shifts), strict=True))
    assert mine == sorted(zip(i, j, map(tuple, s), strict=True))
    assert len(mine) > 0


def test_each_pair_appears_both_ways(triclinic):
    source, target, shifts = neighbor_pairs(triclinic, CUTOFF)
    pairs = set(zip(source, target, map(tuple, shifts), strict=True))
    assert len(pairs) == len(source)
    assert pairs == {(t, s, tuple(-np.array(shift))) for s, t, shift in pairs}


def test_shifts_match_the_positions_as_they_stand(triclinic):
    triclinic.positions[1] += 3 * triclinic.cell.array[0] - triclinic.cell.array[2]
    source, target, shifts = neighbor_pairs(triclinic, CUTOFF)
    vectors = triclinic.positions[source] + shifts @ triclinic.cell.array - triclinic.positions[target]
    assert np.linalg.norm(vectors, axis=1).max() < CUTOFF


def test_a_tiny_cell_has_many_images_of_itself():
    atoms = Atoms("Si", cell=1.6 * np.eye(3), pbc=True)
    source, _, shifts = neighbor_pairs(atoms, 4.0)
    grid = np.array(list(np.ndindex(7, 7, 7))) - 3
    expected = [tuple(g) for g in grid if 0 < 1.6 * np.linalg.norm(g) < 4.0]
    assert len(source) == len(expected)
    assert sorted(map(tuple, shifts)) == sorted(expected)


@pytest.mark.parametrize("case", ["crystal", "molecule", "slab", "strained"])
def test_the_skin_list_equals_a_fresh_search(triclinic, cluster, case):
    """During a random walk of atoms and cell: the same pairs in the same order, at every step."""
    rng = np.random.default_rng(2)
    atoms = cluster if case == "molecule" else triclinic.repeat((2, 1, 1))
    atoms.pbc = {"molecule": False, "slab": (True, True, False)}.get(case, True)
    neighbors = SkinNeighbors(CUTOFF, skin=0.6)
    searches, last = 0, None
    for _ in range(60):
        atoms.positions += rng.normal(scale=0.03, size=(len(atoms), 3))
        if case == "strained":
            atoms = strained(atoms, rng.normal(scale=0.004, size=(3, 3)))
        kept = neighbors.pairs(atoms)
        searches += neighbors._pairs is not last
        last = neighbors._pairs
        for one, other in zip(kept, neighbor_pairs(atoms, CUTOFF), strict=True):
            np.testing.assert_array_equal(one, other)
    assert 1 < searches < 50  # it did search again, and not at every step


def test_uniform_strain_alone_does_not_count_as_motion(triclinic):
    """Atoms carried along by the cell keep the list while nothing can have come within reach."""
    neighbors = SkinNeighbors(CUTOFF, skin=0.6)
    neighbors.pairs(triclinic)
    kept = neighbors._pairs
    for strain in (0.01, -0.01):
        neighbors.pairs(strained(triclinic, strain * np.eye(3)))
        assert neighbors._pairs is kept
    squeezed = strained(triclinic, -0.2 * np.eye(3))
    for one, other in zip(neighbors.pairs(squeezed), neighbor_pairs(squeezed, CUTOFF), strict=True):
        np.testing.assert_array_equal(one, other)
    assert neighbors._pairs is not kept


def test_no_skin_searches_each_time(triclinic):
    neighbors = SkinNeighbors(CUTOFF, skin=0.0)
    for one, other in zip(neighbors.pairs(triclinic), neighbor_pairs(triclinic, CUTOFF), strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_structure_is_not_taken_for_a_move(triclinic, cluster):
    """Equal numbers of atoms, other periodicity, other places: the list is made anew."""
    neighbors = SkinNeighbors(CUTOFF, skin=0.6)
    other = cluster[:3]
    for atoms in (triclinic, other, triclinic, triclinic.repeat(2), other):
        for one, fresh in zip(neighbors.pairs(atoms), neighbor_pairs(atoms, CUTOFF), strict=True):
            np.testing.assert_array_equal(one, fresh)
