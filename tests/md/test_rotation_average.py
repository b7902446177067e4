"""Averages over rotations: what they cancel exactly, how well the error bar covers the rest, conservation."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from numpy.polynomial import Legendre

from mlip.errors import InputError
from mlip.md import (
    RotationAveragedCalculator,
    check,
    find_distortions,
    phonons,
    relax,
    rotational_spread,
    run_md,
    symmetry_error,
)
from mlip.md.probes import force_error, stress_error
from mlip.md.rotation_average import rotation_grid, standard_error


class Leaning(Calculator):
    """Pairs that know the z axis: Σ_{i<j} w(r) [1 + Σ_l a_l P_l(z/r)], w Gaussian, and springs that hold."""

    implemented_properties = ("energy", "free_energy", "forces")

    def __init__(self, coefficients, depth=1.0, width=3.0, spring=0.0, length=2.0):
        super().__init__()
        self.series = Legendre([1.0, *(coefficients.get(l, 0.0) for l in range(1, 8))])
        self.depth, self.width, self.spring, self.length = depth, width, spring, length

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        i, j = np.triu_indices(len(self.atoms), 1)
        d = self.atoms.positions[j] - self.atoms.positions[i]
        r = np.linalg.norm(d, axis=1)
        n, c = d / r[:, None], d[:, 2] / r
        w = self.depth * np.exp(-((r / self.width) ** 2))
        energy = (w * self.series(c)).sum() + 0.5 * self.spring * ((r - self.length) ** 2).sum()
        radial = -2 * r / self.width**2 * w * self.series(c) + self.spring * (r - self.length)
        slope = radial[:, None] * n + (w * self.series.deriv()(c) / r)[:, None] * (np.eye(3)[2] - c[:, None] * n)
        forces = np.zeros((len(self.atoms), 3))
        np.add.at(forces, i, slope)
        np.add.at(forces, j, -slope)
        self.results = {"energy": float(energy), "free_energy": float(energy), "forces": forces}


@pytest.fixture
def cluster():
    positions = [[0, 0, 0], [1.9, 0.2, 0.1], [0.3, 1.8, -0.4], [0.9, 0.7, 1.7]]
    return Atoms("CSiGeSn", positions=positions)


def energy(atoms, calculator):
    copy = atoms.copy()
    copy.calc = calculator
    return copy.get_potential_energy()


@pytest.mark.parametrize("grid", ["icosahedral", "octahedral"])
def test_low_degrees_cancel_exactly(cluster, grid):
    """E0 + a1 P1 + a2 P2 + a3 P3 gives E0, with and without inversion."""
    plain = energy(cluster, Leaning({}))
    leaning = Leaning({1: 0.4, 2: -0.7, 3: 0.5})
    assert abs(energy(cluster, leaning) - plain) > 0.1
    for inversion in (True, False):
        averaged = RotationAveragedCalculator(leaning, grid=grid, replicas=2, inversion=inversion)
        assert abs(energy(cluster, averaged) - plain) < 1e-10
        assert averaged.results["energy_std_error"] < 1e-10
        assert averaged.results["rotational_spread"] > 0.01


@pytest.mark.parametrize(("grid", "exact"), [("icosahedral", 5), ("octahedral", 3), ("tetrahedral", 2)])
def test_what_a_grid_leaves(grid, exact):
    """Degrees up to ``exact`` vanish, the next does not; the icosahedron's next ones are 6 and, at odd l, 15."""
    turns = rotation_grid(grid, inversion=False)
    u = np.array([0.3, -0.5, 0.8])
    cosine = turns @ (u / np.linalg.norm(u)) @ (np.array([0.1, 0.7, 0.4]) / np.linalg.norm([0.1, 0.7, 0.4]))
    means = [abs(Legendre.basis(l)(cosine).mean()) for l in range(1, 8)]
    assert max(means[:exact]) < 1e-12
    assert means[exact] > 1e-3
    if grid == "icosahedral":
        assert all(abs(Legendre.basis(l)(cosine).mean()) < 1e-12 for l in (7, 8, 9))


def test_the_standard_error_covers_what_is_left(cluster):
    """P6 leaks through: |mean − truth| ≤ s/√n in 66 ± 3 % of 2000 draws at n = 8 (Student with 7 degrees: 65 %)."""
    u = np.array([0.3, -0.5, 0.8])
    u /= np.linalg.norm(u)
    p6 = Legendre.basis(6)
    covered = {8: 0, 2: 0}
    draws = 2000
    for seed in range(draws):
        averaged = RotationAveragedCalculator(Leaning({}), replicas=8, seed=seed, inversion=False)
        means = p6((averaged.rotations @ u)[..., 2]).mean(axis=1)
        for n in covered:
            covered[n] += abs(means[:n].mean()) <= standard_error(means[:n])
    assert abs(covered[8] / draws - 0.66) < 0.03
    assert covered[2] / draws < 0.55  # two replicas are too few, as the documentation says


def test_the_calculator_reports_that_error(cluster):
    dimer = cluster[:2]
    averaged = RotationAveragedCalculator(Leaning({6: 0.5}), replicas=4, seed=3)
    value = energy(dimer, averaged)
    d = dimer.positions[1] - dimer.positions[0]
    r = np.linalg.norm(d)
    cosine = (averaged.rotations @ (d / r))[..., 2]
    energies = np.exp(-((r / 3.0) ** 2)) * (1 + 0.5 * Legendre.basis(6)(cosine))
    assert np.isclose(value, energies.mean())
    assert np.isclose(averaged.results["energy_std_error"], standard_error(energies.mean(axis=1)))
    assert np.isclose(averaged.results["rotational_spread"], energies.std())
    assert averaged.results["replicas"] == 4


def test_forces_are_those_of_the_averaged_energy(cluster):
    cluster.calc = RotationAveragedCalculator(Leaning({2: 0.4, 6: 0.5}), grid="tetrahedral", replicas=2)
    assert force_error(cluster, 5e-3, count=3) < 1e-6


def test_stress_is_that_of_the_averaged_energy(sw, altered):
    def lean(atoms, results):
        """A field on the lattice: E += V k ε_zz-like term, here the length of the first cell vector along z."""
        cell = atoms.cell.array
        value = cell[0, 2] ** 2
        results["energy"] += 0.05 * value
        slope = np.zeros((3, 3))
        # dE/dF for r → r F: cell[0] → cell[0] F.
        slope[:, 2] += 2 * 0.05 * cell[0, 2] * cell[0]
        symmetric = (slope + slope.T) / 2 / atoms.get_volume()
        results["stress"] = results["stress"] + symmetric[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        return results

    crystal = bulk("Si", a=5.4)
    crystal.positions[1] += [0.05, -0.02, 0.1]
    crystal.calc = RotationAveragedCalculator(altered(sw, lean), grid="tetrahedral", replicas=2)
    assert stress_error(crystal, 5e-3) < 1e-3


def test_a_fixed_grid_conserves_energy_as_the_base_does(cluster):
    settings = {"ensemble": "nve", "temperature": 100.0, "timestep": 1.0, "steps": 200, "seed": 1}
    base = Leaning({2: 0.3, 6: 0.3}, depth=0.2, spring=4.0)
    plain = run_md(cluster, base, **settings)
    averaged = run_md(
        cluster, RotationAveragedCalculator(base, grid="tetrahedral", replicas=2, inversion=False), **settings
    )
    assert abs(averaged.drift - plain.drift) < 3 * np.hypot(averaged.drift_error, plain.drift_error) + 1e-3
    assert averaged.fluctuation < 2 * plain.fluctuation + 1e-6


def test_fresh_rotations_do_not_conserve_and_are_refused(cluster, silicon):
    fresh = RotationAveragedCalculator(Leaning({6: 0.5}), grid="none", replicas=2, fresh=True)
    assert energy(cluster, fresh) != energy(cluster, fresh)
    fixed = RotationAveragedCalculator(Leaning({6: 0.5}), grid="none", replicas=2)
    assert energy(cluster, fixed) == energy(cluster, fixed)
    for refuse in (
        lambda: relax(cluster, fresh),
        lambda: run_md(cluster, fresh, steps=1, timestep=1.0),
        lambda: phonons(silicon, fresh),
        lambda: find_distortions(silicon, fresh),
    ):
        with pytest.raises(InputError, match="fresh random rotations"):
            refuse()


def test_replicas_are_added_until_the_tolerance(cluster):
    averaged = RotationAveragedCalculator(Leaning({6: 0.5}), replicas=2, tolerance=5e-3, inversion=False)
    energy(cluster, averaged)
    assert averaged.results["energy_std_error"] <= 5e-3 * len(cluster)
    number = averaged.replicas
    assert number > 2
    moved = cluster.copy()
    moved.positions[0] += 0.3
    energy(moved, averaged)
    assert averaged.replicas == number  # fixed once found: one energy surface


def test_our_models_are_evaluated_in_batches(small_calculator, silicon8):
    silicon8.rattle(0.05, seed=0)
    averaged = RotationAveragedCalculator(small_calculator, grid="tetrahedral", replicas=2)
    one_by_one = RotationAveragedCalculator(_Hidden(small_calculator), grid="tetrahedral", replicas=2)
    silicon8.calc = averaged
    first = silicon8.get_potential_energy(), silicon8.get_forces(), silicon8.get_stress()
    silicon8.calc = one_by_one
    second = silicon8.get_potential_energy(), silicon8.get_forces(), silicon8.get_stress()
    for a, b in zip(first, second, strict=True):
        assert np.allclose(a, b, atol=1e-9)
    assert averaged.results["rotational_spread"] < 1e-9  # a strict model has none


class _Hidden(Calculator):
    """A calculator that does not show what it is made of."""

    implemented_properties = ("energy", "free_energy", "forces", "stress")

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        copy = self.atoms.copy()
        copy.calc = self.inner
        self.results = {name: copy.calc.get_property(name, copy) for name in ("energy", "forces", "stress")}


def pull(atoms, results):
    """A pull along z on every other atom: as a broken model would, relative to the laboratory."""
    sign = np.where(np.arange(len(atoms)) % 2 == 0, 1.0, -1.0)
    results["energy"] -= 0.1 * float((sign * atoms.positions[:, 2]).sum())
    results["forces"][:, 2] += 0.1 * sign
    return results


def test_spread_of_a_strict_and_of_a_leaning_calculator(cluster, sw, silicon8):
    silicon8.rattle(0.05, seed=0)
    assert max(rotational_spread(silicon8, sw)) < 1e-9
    spread, forces = rotational_spread(cluster, Leaning({2: 0.4}))
    assert spread > 1e-3
    assert forces > 1e-2


def test_check_reports_the_rotational_spread(sw, altered, silicon8):
    names = "rotational spread of the energy"
    good = {c.name: c for c in check(sw, silicon8, nve_steps=0).checks}
    bad = {c.name: c for c in check(altered(sw, pull), silicon8, nve_steps=0).checks}
    assert good[names].passed
    assert not bad[names].passed


def test_symmetry_error_is_zero_for_a_strict_model_only(sw, altered, silicon8):
    crystal = silicon8.repeat((2, 1, 1))
    strict = symmetry_error(crystal, sw)
    assert strict.space_group.endswith("(227)")
    assert strict.operations > 48  # pure translations of the supercell among them
    assert max(strict.energy, strict.forces, strict.stress) < 1e-9
    broken = symmetry_error(crystal, altered(sw, pull))
    assert broken.energy > 1e-5
    assert broken.forces > 0.05


def test_wrong_settings_are_refused():
    with pytest.raises(InputError, match="two replicas"):
        RotationAveragedCalculator(Leaning({}), replicas=1)
    with pytest.raises(InputError, match="none of"):
        RotationAveragedCalculator(Leaning({}), grid="lebedev")
