"""Isotropy subgroups of the perovskite against Howard and Stokes, and the group of a supercell against itself."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import spglib
from ase import Atoms
from ase.build import bulk

from mlip.symmetry import SupercellGroup, isotropy_classes, isotropy_subgroups, supercell_irreps
from mlip.symmetry.isotropy import coupled_subgroups, maximal_subgroups
from mlip.symmetry.supercell import commensurate_points, lattice_points

# Howard & Stokes, Acta Cryst. B54, 782 (1998): Glazer's symbol → (R4+, M3+, space group).
TILTS = {
    "a0a0a0": ((0, 0, 0), (0, 0, 0), 221),
    "a0a0c-": ((0, 0, 1), (0, 0, 0), 140), "a0a0c+": ((0, 0, 0), (0, 0, 1), 127),
    "a0b-b-": ((0, 1, 1), (0, 0, 0), 74), "a0b+b+": ((0, 0, 0), (0, 1, 1), 139),
    "a-a-a-": ((1, 1, 1), (0, 0, 0), 167),
    "a+a+a+": ((0, 0, 0), (1, 1, 1), 204), "a+b-b-": ((0, 1, 1), (0.7, 0, 0), 62),
    "a0b+c-": ((0, 0, 1), (0, 0.7, 0), 63), "a+b-c-": ((0, 1, 0.6), (0.7, 0, 0), 11),
    "a+b+c+": ((0, 0, 0), (1, 0.7, 0.4), 71), "a-b-b-": ((0.6, 1, 1), (0, 0, 0), 15),
    "a0b-c-": ((0, 1, 0.6), (0, 0, 0), 12), "a-b-c-": ((1, 0.7, 0.4), (0, 0, 0), 2),
    "a+a+c-": ((0, 0, 1), (0.7, 0.7, 0), 137),
}  # fmt: skip


def perovskite():
    scaled = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    return Atoms("CaTiO3", scaled_positions=scaled, cell=4.0 * np.eye(3), pbc=True)


@pytest.fixture(scope="module")
def cube():
    return SupercellGroup(perovskite(), 2 * np.eye(3, dtype=int))


@pytest.fixture(scope="module")
def components(cube):
    return {c.name: c for c in supercell_irreps(cube)}


def tilt(cube, r, m, size=0.05):
    """Rigid rotations ω of the octahedra, linear in ω: alternating everywhere (R) or within planes (M)."""
    a, positions = 4.0, cube.atoms.get_positions()
    u = np.zeros_like(positions)
    for n in product(range(2), repeat=3):
        omega = np.array(r, float) * (-1) ** sum(n)
        for i in range(3):
            omega[i] += m[i] * (-1) ** sum(n[k] for k in range(3) if k != i)
        for axis in range(3):
            site = (np.array(n) + 0.5) * a + 0.5 * a * np.eye(3)[axis]
            gap = positions - site
            gap -= np.rint(gap / (2 * a)) * 2 * a
            u[np.linalg.norm(gap, axis=1).argmin()] = size * a * np.cross(omega, 0.5 * np.eye(3)[axis])
    return u


def space_group(cube, displacement):
    atoms = cube.atoms.copy()
    atoms.positions += displacement
    return spglib.get_symmetry_dataset((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=1e-4)


@pytest.mark.parametrize("glazer", TILTS)
def test_tilts(cube, components, glazer):
    r, m, number = TILTS[glazer]
    u = tilt(cube, r, m)
    found = space_group(cube, u)
    assert found.number == number
    assert cube.stabiliser(u).sum() == len(found.rotations)  # spglib counts the supercell's translations too
    if np.any(u):
        assert np.isclose(components["R4+"].share(u) + components["M3+"].share(u), 1)


def test_coupled_tilts_have_25_classes(cube, components):
    bases = [components[name].basis for name in ("R4+", "M3+")]
    each = [isotropy_subgroups(cube.matrices(basis)) for basis in bases]
    both = coupled_subgroups(*each)
    assert len(both) == 124
    classes = isotropy_classes(cube, both, bases)
    assert len(classes) == 25
    assert sum(c.members for c in classes) == 124
    zero = (0, 0, 0)
    units = [
        np.stack([tilt(cube, e, zero).ravel() for e in np.eye(3)]),
        np.stack([tilt(cube, zero, e).ravel() for e in np.eye(3)]),
    ]
    rng = np.random.default_rng(0)
    simple = []
    for c in classes:
        fixed = cube.fixed(c.mask)
        inside = [np.einsum("kix,jix->kj", fixed, basis) for basis in bases]
        weights = rng.normal(size=len(fixed))
        u = sum(np.einsum("k,kj,jix->ix", weights, x, basis) for x, basis in zip(inside, bases, strict=True))
        assert sum(np.linalg.matrix_rank(x, tol=1e-6) for x in inside) == c.dimension
        found = space_group(cube, 0.1 * u / max(np.abs(u).max(), 1e-9))
        assert len(found.rotations) == c.order
        values = [basis.reshape(3, -1) @ u.ravel() for basis in bases]
        axes = [v @ basis.reshape(3, -1) @ unit.T for v, basis, unit in zip(values, bases, units, strict=True)]
        if not any(abs(axes[0][i]) > 1e-6 and abs(axes[1][i]) > 1e-6 for i in range(3)):
            simple.append(found.number)
    assert sorted(simple) == sorted(number for _, _, number in TILTS.values())


def test_coupling_by_intersection_equals_the_closure_on_the_sum(cube, components):
    """The short cut against the plain algorithm: intersecting fixed subspaces of the six-dimensional sum."""
    r, m = (cube.matrices(components[name].basis) for name in ("R4+", "M3+"))
    zero = np.zeros_like(r)
    direct = np.concatenate([np.concatenate([r, zero], axis=2), np.concatenate([zero, m], axis=2)], axis=1)
    plain = {mask.tobytes() for mask in isotropy_subgroups(direct)}
    assert plain == {mask.tobytes() for mask in coupled_subgroups(isotropy_subgroups(r), isotropy_subgroups(m))}


def test_polar_subgroups(cube, components):
    """Γ T1u of Pm-3m: P4mm, Amm2 and R3m are the maximal ones; Pm and two kinds of Cm follow, then P1."""
    basis = cube.span(np.tile(np.eye(3)[:, None], (1, 40, 1)) * (cube.atoms.numbers == 22)[None, :, None])
    subgroups = isotropy_subgroups(cube.matrices(basis))
    classes = isotropy_classes(cube, subgroups, [basis])
    assert sorted(c.order // 8 for c in classes) == [1, 2, 2, 4, 6, 8, 48]
    maximal = maximal_subgroups(subgroups)  # stabilisers of lines: 3 + 6 + 4 directions
    assert sorted(int(m.sum()) // 8 for m in maximal) == [4] * 6 + [6] * 4 + [8] * 3


def test_irreps_of_the_perovskite(components):
    """Their number at each point (Ti at the origin): 4 Γ4- + Γ5- and so on; together complete and orthogonal."""
    counted = {name: c.multiplicity for name, c in components.items()}
    assert {k: n for k, n in counted.items() if k[0] == "Γ"} == {"Γ4-": 4, "Γ5-": 1}
    assert {k: n for k, n in counted.items() if k[0] == "R"} == {"R1+": 1, "R3+": 1, "R4+": 1, "R5+": 2, "R4-": 1}
    assert counted["M3+"] == 1
    assert counted["M3-"] == 2
    basis = np.concatenate([c.basis for c in components.values()]).reshape(120, 120)
    assert np.allclose(basis @ basis.T, np.eye(120), atol=1e-9)


def test_irrep_spaces_are_invariant(cube, components):
    for component in components.values():
        matrices = cube.matrices(component.basis)
        assert np.allclose(matrices @ matrices.transpose(0, 2, 1), np.eye(len(component.basis)), atol=1e-9)


def test_complex_stars_are_complete():
    """A 3 × 1 × 1 cell has arms at ±q that are not equivalent, and a shape without the crystal's symmetry."""
    group = SupercellGroup(bulk("Si"), np.diag([3, 1, 1]))
    basis = np.concatenate([c.basis for c in supercell_irreps(group)])
    assert len(basis) == 18
    flat = basis.reshape(18, 18)
    assert np.allclose(flat @ flat.T, np.eye(18), atol=1e-9)


def test_labels_do_not_depend_on_the_supercell(components):
    long = {c.name for c in supercell_irreps(SupercellGroup(perovskite(), np.diag([2, 1, 1])))}
    assert long == {name for name in components if name[0] in "ΓX"}


def test_zone_boundary_of_a_nonsymmorphic_crystal_is_complete():
    group = SupercellGroup(bulk("Si"), 2 * np.eye(3, dtype=int))
    found = supercell_irreps(group)
    assert sum(len(c.basis) for c in found) == 48
    assert {c.name for c in found if c.point == "Γ"} == {"Γ T1u", "Γ T2g"}


@pytest.mark.parametrize("matrix", [np.diag([2, 2, 2]), np.array([[1, 1, 0], [1, -1, 0], [0, 0, 2]])])
def test_the_table_is_that_of_the_operations(matrix):
    group = SupercellGroup(perovskite(), matrix)
    rng = np.random.default_rng(0)
    for a, b in rng.integers(group.order, size=(60, 2)):
        product_ = group.table[a, b]
        assert (group.images[a][group.images[b]] == group.images[product_]).all()
        assert np.allclose(group.turns[a] @ group.turns[b], group.turns[product_])
    assert (group.table[np.arange(group.order), group.inverses] == group.identity).all()


def test_an_operation_maps_the_crystal_onto_itself(cube):
    atoms = cube.atoms
    for g in np.random.default_rng(1).integers(cube.order, size=20):
        moved = atoms.get_positions() @ cube.turns[g].T
        gap = (atoms.get_positions()[cube.images[g]] - moved) @ np.linalg.inv(atoms.cell.array)
        gap = gap - gap[0]  # the translation part
        assert np.abs(gap - np.rint(gap)).max() < 1e-9
        assert (atoms.numbers[cube.images[g]] == atoms.numbers).all()


def test_commensurate_points_fit():
    matrix = np.array([[1, 1, 0], [1, -1, 0], [0, 0, 2]])
    q = commensurate_points(matrix)
    assert len(q) == len(lattice_points(matrix)) == 4
    assert np.allclose(matrix @ q.T, np.rint(matrix @ q.T))
    assert len(np.unique(np.round(q - np.floor(q), 6), axis=0)) == 4
