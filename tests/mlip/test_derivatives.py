"""Forces are −dE/dx and stress is dE/dε/V, by five-point differences in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlip.derivatives import evaluate
from mlip.testing import check_forces, check_stress, forces_of, strained, stress_of


def test_forces_and_stress_of_a_crystal(calculator_for, variant, lmax, triclinic, tolerances):
    calculator = calculator_for(triclinic, lmax=lmax, **variant)
    assert np.abs(forces_of(calculator, triclinic)).max() > 0.05
    for check in (check_forces, check_stress):
        result = check(calculator, triclinic, tolerances.derivative)
        assert result.passed, result


@pytest.mark.parametrize("settings", [
    {"norm": True}, {"node_square": False}, {"num_layers": 1}, {"num_layers": 2}, {"num_layers": 5},
    {"zbl": True}, {"num_channels": (5, 2)}, {"radial_depth": 1}, {"lmax": 3, "max_filter_degree": 6},
], ids=str)  # fmt: skip
def test_every_option(calculator_for, variant, triclinic, tolerances, settings):
    calculator = calculator_for(triclinic, **variant | settings)
    for check in (check_forces, check_stress):
        result = check(calculator, triclinic, tolerances.derivative)
        assert result.passed, result


def test_forces_of_axis_aligned_bonds(calculator_for, variant, star, tolerances):
    result = check_forces(calculator_for(star, **variant), star, tolerances.derivative)
    assert result.passed, result


def test_energies_of_atoms_sum_to_the_energy(potential_for, variant, triclinic, tolerances):
    potential = potential_for(triclinic, **variant)
    result = evaluate(potential, potential.graph(triclinic), stress=True)
    assert float(result.atomic_energies.sum()) == pytest.approx(float(result.energy), rel=tolerances.exact)
    assert torch.equal(result.stress, result.stress.transpose(1, 2))


def test_work_along_a_closed_path_vanishes(calculator_for, variant, triclinic):
    """∮ F·dx + V σ:dε = 0 along a loop through positions and cell: Gauss–Legendre quadrature on a triangle."""
    calculator = calculator_for(triclinic, **variant)
    rng = np.random.default_rng(4)
    corners = [(0.05 * rng.normal(size=(3, 3)), np.zeros((3, 3))) for _ in range(3)]
    corners[1][1][0, 1] = corners[2][1][2, 2] = 0.02
    nodes, weights = np.polynomial.legendre.leggauss(12)
    work = pieces = 0.0
    for (x0, e0), (x1, e1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            strain = e0 + node * (e1 - e0)
            atoms = triclinic.copy()
            atoms.positions += x0 + node * (x1 - x0)
            atoms = strained(atoms, strain)
            rate = (e1 - e0) @ np.linalg.inv(np.eye(3) + strain)
            moved = (x1 - x0) @ (np.eye(3) + strain).T
            along = -np.sum(forces_of(calculator, atoms) * moved)
            along += atoms.cell.volume * np.sum(stress_of(calculator, atoms) * (rate + rate.T) / 2)
            work, pieces = work + weight * along, pieces + abs(weight * along)
    assert abs(work) < 1e-8 * pieces
