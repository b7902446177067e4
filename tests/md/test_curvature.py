"""Minimum or saddle under every kind of constraint, against the projected full Hessian; blocks of the Hessian."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLength, FixCartesian, FixedLine, FixedPlane, FixSymmetry

from mlip.md import relax
from mlip.md.curvature import (
    curvature,
    fixed_directions,
    full_hessian,
    hessian_product,
    highest_frequency,
)
from mlip.md.units import THZ_PER_SQRT_EV_A2_AMU


@pytest.fixture
def rattled(silicon8):
    atoms = silicon8.copy()
    atoms.rattle(0.05, seed=3)
    return atoms


def vibrations_left(atoms, sw):
    """Eigenvalues of the Hessian on what constraints allow, without the translations that cost nothing."""
    fixed, _ = fixed_directions(atoms)
    free = np.linalg.svd(fixed)[2][len(fixed) :] if len(fixed) else np.eye(3 * len(atoms))
    values = np.linalg.eigvalsh(free @ full_hessian(atoms, sw) @ free.T)
    return values[np.abs(values) > 1e-9]


CONSTRAINTS = {
    "atoms": [FixAtoms([0, 1])],
    "cartesian": [FixCartesian([2, 5], mask=(True, False, True))],
    "plane": [FixedPlane([0, 3], (1, 1, 0))],
    "line": [FixedLine([4], (1, 1, 1))],
    "all in a plane": [FixedPlane(list(range(8)), (0, 0, 1))],
    "overlapping": [FixAtoms([0]), FixCartesian([0, 1], mask=(True, False, False)), FixedLine([2], (0, 0, 1))],
    "none": [],
}


@pytest.mark.parametrize("constraints", CONSTRAINTS.values(), ids=CONSTRAINTS)
def test_constrained_directions_are_left_out(rattled, sw, constraints):
    rattled.set_constraint(constraints)
    found = curvature(rattled, sw)
    values = vibrations_left(rattled, sw)
    assert found.lowest == pytest.approx(values.min(), abs=1e-4 * values.max())
    assert found.highest == pytest.approx(values.max(), rel=1e-4)
    assert found.zero_modes == 24 - len(values)
    fixed, _ = fixed_directions(rattled)
    assert np.abs(fixed @ found.mode.ravel()).max(initial=0) < 1e-8
    assert found.ignored == ()


@pytest.mark.parametrize(
    ("constraint", "count"),
    [
        (FixAtoms([0]), 3),
        (FixCartesian([0], mask=(False, True, False)), 1),
        (FixedPlane([0], (1, 2, 3)), 1),
        (FixedLine([0], (1, 2, 3)), 2),
    ],
    ids=["atoms", "cartesian", "plane", "line"],
)
def test_forbidden_directions_are_those_ase_forbids(rattled, constraint, count):
    """A step that ASE lets through has no component along them."""
    rattled.set_constraint(constraint)
    fixed, _ = fixed_directions(rattled)
    assert len(fixed) == count
    moved = rattled.copy()
    step = np.random.default_rng(1).normal(size=(8, 3))
    moved.set_positions(rattled.positions + step)
    allowed = (moved.positions - rattled.positions).ravel()
    assert np.abs(fixed @ allowed).max() < 1e-12
    assert allowed == pytest.approx(step.ravel() - fixed.T @ (fixed @ step.ravel()))


def test_a_saddle_across_a_fixed_line_is_not_seen():
    """Three atoms on a line buckle; held to the line, they are at a minimum."""
    chain = Atoms("Cu3", [[0, 0, 0], [2.3, 0, 0], [4.6, 0, 0]])
    chain.set_constraint(FixedLine([0, 1, 2], (1, 0, 0)))
    held = relax(chain, EMT(), fmax=1e-3)
    assert held.curvature.kind == "minimum"
    free = held.to_atoms()
    free.set_constraint()
    assert curvature(free, EMT()).lowest < held.curvature.lowest


def test_what_is_not_considered_is_said(rattled, sw):
    rattled.set_constraint([FixBondLength(0, 1), FixSymmetry(bulk("Si", cubic=True))])
    found = curvature(rattled, sw)
    assert found.ignored == ("FixBondLengths",)
    assert "FixBondLengths not considered" in found.line


def test_rotations_about_a_fixed_atom_cost_nothing():
    molecule = relax(Atoms("Cu3", [[0, 0, 0], [2.3, 0, 0], [1.1, 2.0, 0]]), EMT(), fmax=1e-4).to_atoms()
    molecule.set_constraint(FixAtoms([0]))
    found = curvature(molecule, EMT())
    assert found.zero_modes == 6
    assert found.kind == "minimum"


def test_fixed_atoms_do_not_vibrate(silicon8, sw):
    held = silicon8.copy()
    held.set_constraint(FixAtoms([0, 1, 2]))
    rest = list(range(3, 8))
    values = np.linalg.eigvalsh(full_hessian(silicon8, sw, rest) / silicon8.get_masses()[0])
    assert highest_frequency(held, sw) == pytest.approx(THZ_PER_SQRT_EV_A2_AMU * np.sqrt(values[-1]), rel=1e-3)


@pytest.mark.parametrize("indices", [[3], [5, 0, 2]], ids=str)
def test_the_block_of_some_atoms(rattled, sw, small_calculator, indices):
    rows = (3 * np.array(indices)[:, None] + np.arange(3)).ravel()
    for calculator in (sw, small_calculator):
        whole = full_hessian(rattled, calculator)
        block = full_hessian(rattled, calculator, indices)
        assert block == pytest.approx(whole[np.ix_(rows, rows)], abs=1e-11 * np.abs(whole).max())


def test_a_block_times_a_vector(rattled, small_calculator):
    """Displacing the chosen atoms alone: their rows of H·v are the block times v."""
    v = np.zeros((8, 3))
    v[[1, 4]] = np.random.default_rng(0).normal(size=(2, 3))
    image = hessian_product(rattled, small_calculator)(v)[[1, 4]].ravel()
    block = full_hessian(rattled, small_calculator, [1, 4])
    assert block @ v[[1, 4]].ravel() == pytest.approx(image, abs=1e-10 * np.abs(image).max())
