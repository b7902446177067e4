"""The recipes of the embedded sets: k points that are those of one crystal, displacements of the group asked for."""

from __future__ import annotations

import numpy as np
import pytest
import spglib
from ase.neighborlist import neighbor_list

from mlip.datasets.perovskite.recipe.patterns import GROUPS, build, generated, invariant, tilts
from mlip.datasets.perovskite.recipe.plan import frames
from mlip.datasets.perovskite.recipe.structures import SUPERCELLS, structure
from mlip.datasets.recipes.espresso import (
    folded_k_points,
    folded_numerators,
    lattice_k_points,
    lattice_rotations,
    reduced,
)
from mlip.datasets.recipes.frames import label_all, spread
from mlip.datasets.silicon.recipe import espresso as silicon
from mlip.datasets.silicon.recipe.broken import folds_evenly
from mlip.datasets.silicon.recipe.structures import SUPERCELLS as SILICON_CELLS

CUBIC = np.eye(3, dtype=np.int64)


def mean_of_waves(points, weights, vectors):
    """Weighted mean of cos 2π k·R: what a mesh makes of a function's Fourier component at R."""
    return np.cos(2 * np.pi * vectors @ points.T) @ weights


def crystal_mean(mesh, vectors):
    """The same for the half-shifted mesh of a cubic crystal, written as a product of sums."""
    axes = [(2 * np.arange(n) + 1) / (2 * n) for n in mesh]
    waves = [np.exp(2j * np.pi * np.outer(vectors[:, i], axis)).mean(axis=1) for i, axis in enumerate(axes)]
    return np.prod(waves, axis=0).real


@pytest.mark.parametrize("mesh", [(4, 4, 4), (6, 6, 6), (4, 4, 2), (3, 5, 5)])
@pytest.mark.parametrize("name", list(SUPERCELLS))
def test_folded_points_sample_the_crystal_as_its_own_mesh_does(name, mesh):
    """A lattice sum in the supercell equals that of the cubic cell: the same aliases, hence the same energy."""
    cell = SUPERCELLS[name]
    points, weights = folded_k_points(cell, mesh, CUBIC)
    supercell_vectors = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    np.testing.assert_allclose(
        mean_of_waves(points, weights, supercell_vectors), crystal_mean(mesh, supercell_vectors @ cell), atol=1e-12
    )


def test_silicon_cells_share_one_mesh_also_a_thinned_one():
    """Fractions of the primitive cell's vectors of every point, unfolded from the conventional cell, agree."""
    for mesh in ((4, 4, 4), (4, 4, 2)):
        conventional, weights = silicon.folded_k_points(silicon.CONVENTIONAL, mesh)
        primitive, others = silicon.folded_k_points(CUBIC, mesh)
        shells = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        np.testing.assert_allclose(
            mean_of_waves(conventional, weights, shells),
            mean_of_waves(primitive, others, shells @ silicon.CONVENTIONAL),
            atol=1e-12,
        )


def test_a_thinned_mesh_is_not_cubic():
    """Cubic shells have the same lattice sum on the honest mesh, and not on the one thinned along z."""
    along = np.array([[2, 0, 0], [0, 2, 0], [0, 0, 2]])
    honest = mean_of_waves(*silicon.folded_k_points(silicon.CONVENTIONAL, (4, 4, 4)), along)
    broken = mean_of_waves(*silicon.folded_k_points(silicon.CONVENTIONAL, (4, 4, 2)), along)
    np.testing.assert_allclose(honest, 0.0, atol=1e-12)
    np.testing.assert_allclose(broken, [0.0, 0.0, -1.0], atol=1e-12)


def test_only_cells_that_keep_the_thinned_mesh_are_labelled_with_it():
    """A cell that folds it evenly has n times fewer points; one that does not would be a denser mesh."""
    count = len(folded_numerators(CUBIC, (4, 4, 2), silicon.CONVENTIONAL)[0])
    distinct = {}
    for name, cell in SILICON_CELLS.items():
        points, _ = folded_numerators(cell, (4, 4, 2), silicon.CONVENTIONAL)
        distinct[name] = len(np.unique(points, axis=0)) * round(np.linalg.det(cell))
    everywhere = distinct["primitive2"]
    assert count >= everywhere == 128
    assert {name for name, number in distinct.items() if number == everywhere} == {
        name for name, cell in SILICON_CELLS.items() if folds_evenly(cell)
    }
    assert not folds_evenly(SILICON_CELLS["rod111x4"])
    assert folds_evenly(SILICON_CELLS["cubic8"])


@pytest.mark.parametrize("name", list(SUPERCELLS))
def test_symmetry_keeps_the_lattice_sum_of_symmetric_functions(name):
    """The reduced points give every star of lattice vectors the mean that all points give it."""
    cell = SUPERCELLS[name]
    lattice = cell * 3.9
    rotations = lattice_rotations(lattice)
    every, few = folded_k_points(cell, (6, 6, 6), CUBIC), lattice_k_points(lattice, cell, (6, 6, 6), CUBIC)
    assert len(few[0]) < len(every[0])
    assert few[1].sum() == pytest.approx(1.0)
    for vector in np.random.default_rng(1).integers(-5, 6, (20, 3)):
        star = np.array([vector @ np.rint(np.linalg.inv(r)).astype(int) for r in rotations])
        assert mean_of_waves(*few, star).mean() == pytest.approx(mean_of_waves(*every, star).mean(), abs=1e-12)


def test_the_cubic_mesh_has_ten_special_points():
    assert len(lattice_k_points(3.9 * CUBIC, CUBIC, (6, 6, 6), CUBIC)[0]) == 10
    assert len(lattice_k_points(3.9 * CUBIC, CUBIC, (4, 4, 4), CUBIC)[0]) == 4
    assert len(lattice_rotations(np.diag([3.9, 3.9, 4.1]))) == 16
    assert len(lattice_rotations(np.array([[3.9, 0.1, 0], [0, 3.9, 0.2], [0, 0, 4.1]]))) == 2


def test_reduction_by_wrong_rotations_is_noticed():
    """A rotation that does not map the mesh onto itself changes the lattice sums."""
    numerators, period = folded_numerators(CUBIC, (4, 4, 2), CUBIC)
    quarter = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    wrong = reduced(numerators, period, [CUBIC, quarter])
    right = folded_k_points(CUBIC, (4, 4, 2), CUBIC)
    vectors = np.array([[0, 0, 2], [0, 2, 0]])
    assert not np.allclose(mean_of_waves(*wrong, vectors), mean_of_waves(*right, vectors))


@pytest.mark.parametrize(
    ("group", "symbol"),
    [("4mm", "P4mm"), ("3m", "R3m"), ("mm2", "Pmm2"), ("mxy", "Cm"), ("mm2xy", "Amm2"), ("1", "P1")],
)
def test_averaged_displacements_have_the_group_asked_for(group, symbol):
    atoms = build(CUBIC, 3.9)
    noise = np.random.default_rng(4).normal(0.0, 0.05, (5, 3))
    atoms.positions += invariant(noise, CUBIC, generated(*GROUPS[group]))
    found = spglib.get_symmetry_dataset((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), 1e-5)
    assert found.international == symbol


def test_averaging_is_a_projection():
    cell = SUPERCELLS["rod110"]
    noise = np.random.default_rng(5).normal(0.0, 0.05, (10, 3))
    once = invariant(noise, cell, generated(*GROUPS["mm2xy"]))
    np.testing.assert_allclose(invariant(once, cell, generated(*GROUPS["mm2xy"])), once, atol=1e-14)
    assert np.vdot(noise - once, once) == pytest.approx(0.0, abs=1e-14)


def test_tilts_turn_rigid_octahedra():
    """To first order the six Ti-O bonds keep their lengths, in cells that hold M and R; X holds no rotation."""
    assert not tilts(SUPERCELLS["rod100"])
    for name, count in (("rod110", 1), ("rod111", 3), ("cubic40", 6)):
        fields = tilts(SUPERCELLS[name])
        assert len(fields) == count
        for field in fields:
            atoms = build(SUPERCELLS[name], 4.0)
            atoms.positions += 1e-4 * field
            bonds = neighbor_list("d", atoms, {("Ti", "O"): 2.3})
            assert len(bonds) == 2 * 6 * np.sum(atoms.numbers == 22)
            np.testing.assert_allclose(bonds, 2.0, atol=1e-7)


def test_the_plan_has_no_two_frames_of_one_name_and_no_atoms_on_top_of_each_other():
    plan = frames()
    assert len({frame.name for frame in plan}) == len(plan)
    assert len(plan) >= 200
    for frame in plan:
        atoms = structure(frame)
        distances = atoms.get_all_distances(mic=True)
        assert distances[distances > 0].min() > 1.5


def test_a_prefix_of_merged_lists_has_its_share_of_each():
    merged = spread([list("aaaaaaaa"), list("bbbb")])
    assert merged[:6].count("b") == 2
    assert sorted(merged) == sorted("aaaaaaaabbbb")


class Named:
    def __init__(self, name, split):
        self.name, self.split = name, split


def test_labelling_goes_on_where_it_stopped(tmp_path):
    """Files hold all finished frames after each one; finished frames are not computed again."""
    plan = [Named("a", "train"), Named("b", "test"), Named("c", "train")]
    computed = []

    def label(frame, place, stop_at="c"):
        if not place.exists():
            if frame.name == stop_at:
                raise KeyboardInterrupt
            place.mkdir(parents=True)
            computed.append(frame.name)
        atoms = build(CUBIC, 3.9)
        atoms.info["name"] = frame.name
        return atoms

    with pytest.raises(KeyboardInterrupt):
        label_all(plan, label, tmp_path / "runs", tmp_path, finished=lambda place: place.exists())
    assert (tmp_path / "train.xyz").read_text().count("name=") == 1
    label_all(plan, lambda f, p: label(f, p, ""), tmp_path / "runs", tmp_path, finished=lambda place: place.exists())
    assert computed == ["a", "b", "c"]
    assert (tmp_path / "train.xyz").read_text().count("name=") == 2


def test_two_frames_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="same name"):
        label_all([Named("a", "train")] * 2, lambda f, p: build(CUBIC, 3.9), tmp_path, tmp_path, lambda p: False)
