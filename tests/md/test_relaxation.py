"""Relaxation finds minima, says when it found a saddle, and leaves its input alone."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from mlip.errors import InputError
from mlip.md import relax
from mlip.md.curvature import curvature, full_hessian, hessian_product, highest_frequency, rigid_motions


def test_a_rattled_crystal_goes_back_to_its_minimum(silicon8, sw):
    start = silicon8.copy()
    start.rattle(0.1, seed=1)
    kept = start.get_positions()
    result = relax(start, sw, cell="free", fmax=1e-6)
    assert result.converged
    assert result.verdict.startswith("minimum")
    assert result.space_groups == ("P1 (1)", "Fd-3m (227)")
    assert result.atoms.cell.lengths() == pytest.approx(5.43095, abs=1e-4)
    assert np.abs(result.stress).max() < 1e-4
    assert np.array_equal(start.get_positions(), kept)
    assert start.calc is None


def test_pressure_is_reached(silicon8, sw):
    result = relax(silicon8, sw, cell="isotropic", pressure=5.0, fmax=1e-6)
    assert -result.stress[:3].mean() == pytest.approx(5.0, abs=1e-3)


def test_volume_is_kept_where_only_the_shape_may_change(silicon8, sw):
    sheared = silicon8.copy()
    sheared.set_cell(sheared.cell.array @ np.array([[1.02, 0.01, 0], [0, 1, 0], [0, 0, 0.99]]), scale_atoms=True)
    result = relax(sheared, sw, cell="shape", fmax=1e-5)
    assert result.atoms.get_volume() == pytest.approx(sheared.get_volume(), rel=1e-8)
    stress = result.stress[:3]
    assert np.ptp(stress) < 1e-3


def test_symmetry_is_held(sw):
    compressed = bulk("Si", a=5.2, cubic=True)
    result = relax(compressed, sw, cell="free", keep_symmetry=True, fmax=1e-6)
    assert result.space_groups == ("Fd-3m (227)", "Fd-3m (227)")
    assert np.ptp(result.atoms.cell.lengths()) < 1e-10


def test_a_linear_trimer_is_a_saddle_and_a_triangle_a_minimum():
    linear = relax(Atoms("Cu3", [[0, 0, 0], [2.4, 0, 0], [4.8, 0, 0]]), EMT())
    triangle = relax(Atoms("Cu3", [[0, 0, 0], [2.4, 0, 0], [1.3, 2.0, 0]]), EMT())
    assert linear.verdict.startswith("saddle, lowest eigenvalue -")
    assert triangle.verdict.startswith("minimum")
    assert linear.energies[-1] > triangle.energies[-1]
    # The way down from the saddle is the bend: across the axis, the middle atom against the ends.
    mode = linear.curvature.mode
    assert np.abs(mode[:, 0]).max() < 1e-3
    assert mode[1] @ mode[0] < 0


def test_the_lowest_eigenvalue_is_that_of_the_full_hessian(silicon8, sw):
    rattled = silicon8.copy()
    rattled.rattle(0.05, seed=3)
    shape = curvature(rattled, sw)
    values = np.linalg.eigvalsh(full_hessian(rattled, sw))
    vibrations = np.delete(values, np.argsort(np.abs(values))[:3])
    assert shape.lowest == pytest.approx(vibrations.min(), rel=1e-4)
    assert shape.highest == pytest.approx(vibrations.max(), rel=1e-4)


def test_differences_of_forces_give_the_hessian_product(silicon8, sw):
    rattled = silicon8.copy()
    rattled.rattle(0.05, seed=3)
    v = np.random.default_rng(0).normal(size=(8, 3))
    exact = (full_hessian(rattled, sw) @ v.ravel()).reshape(-1, 3)
    assert hessian_product(rattled, sw)(v) == pytest.approx(exact, abs=1e-5 * np.abs(exact).max())


def test_highest_frequency_is_the_optical_phonon_of_silicon(silicon8, sw):
    values = np.linalg.eigvalsh(full_hessian(silicon8, sw) / silicon8.get_masses()[0])
    assert highest_frequency(silicon8, sw) == pytest.approx(15.633304 * np.sqrt(values.max()), rel=1e-3)


def test_heavier_isotopes_vibrate_more_slowly(silicon, sw):
    heavy = silicon.copy()
    heavy.set_masses([4 * m for m in silicon.get_masses()])
    assert highest_frequency(heavy, sw) == pytest.approx(highest_frequency(silicon, sw) / 2, rel=1e-6)


@pytest.mark.parametrize(
    ("atoms", "count"),
    [
        (Atoms("Cu"), 3),
        (Atoms("Cu2", [[0, 0, 0], [2, 0, 0]]), 5),
        (Atoms("Cu3", [[0, 0, 0], [2, 0, 0], [1, 2, 0]]), 6),
        (Atoms("Cu2", [[0, 0, 0], [1, 2, 0]], cell=[3, 9, 9], pbc=[True, False, False]), 4),
        (Atoms("Cu2", [[0, 0, 0], [1, 2, 0]], cell=[3, 3, 9], pbc=[True, True, False]), 3),
        (Atoms("Cu2", [[0, 0, 0], [1, 2, 0]], cell=[3, 3, 3], pbc=True), 3),
    ],
    ids=["atom", "linear molecule", "bent molecule", "wire", "slab", "crystal"],
)
def test_number_of_rigid_motions(atoms, count):
    assert len(rigid_motions(atoms)) == count


def test_fixed_atoms_stay_and_are_not_asked_about():
    slab = bulk("Cu", cubic=True)
    slab.rattle(0.05, seed=1)
    slab.set_constraint(FixAtoms([0, 1]))
    result = relax(slab, EMT())
    assert np.array_equal(result.atoms.positions[:2], slab.positions[:2])
    assert result.curvature.zero_modes == 6
    assert result.converged


def test_without_enough_steps_it_says_so(silicon8, sw):
    start = silicon8.copy()
    start.rattle(0.1, seed=1)
    result = relax(start, sw, steps=2)
    assert result.verdict.startswith("not converged")
    assert not result.checks[0].passed


@pytest.mark.parametrize(
    ("settings", "word"),
    [({"cell": "loose"}, "cell"), ({"optimiser": "newton"}, "optimiser"), ({"pressure": 1.0}, "pressure")],
)
def test_wrong_choices_are_named(silicon, sw, settings, word):
    with pytest.raises(InputError, match=word):
        relax(silicon, sw, **settings)


def test_one_atom_in_a_crystal_has_nowhere_to_go():
    assert "minimum by symmetry" in relax(bulk("Cu"), EMT()).verdict


def test_a_soft_mode_does_not_hold_lanczos_up(sw):
    """A long thin cell has acoustic modes near zero."""
    rod = bulk("Si", a=5.43095).repeat((1, 1, 12))
    shape = curvature(rod, sw)
    values = np.sort(np.linalg.eigvalsh(full_hessian(rod, sw)))
    assert shape.kind == "minimum"
    assert shape.lowest == pytest.approx(values[3], abs=1e-4 * values[-1])


def test_a_molecule_has_no_cell_to_relax():
    with pytest.raises(InputError, match="periodic"):
        relax(Atoms("Cu2", [[0, 0, 0], [2.4, 0, 0]]), EMT(), cell="free")


def test_a_models_own_product_is_used(silicon8, small_calculator):
    start = silicon8.copy()
    start.rattle(0.05, seed=2)
    shape = curvature(start, small_calculator)
    values = np.linalg.eigvalsh(small_calculator.get_hessian(start))
    vibrations = np.delete(values, np.argsort(np.abs(values))[:3])
    assert shape.lowest == pytest.approx(vibrations.min(), rel=1e-4)
