"""LO and TO of a model that feels a field: the dipole term against the model's own answer to a finite field.

A longitudinal wave of vanishing q makes the field ε₀ ℰ = −ΔP·q̂ along q̂, in which its forces act. Nothing but first
derivatives of E(x, field) enters that answer: no Born charges, no ε∞, no Ewald sum.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms

from mlip import MLIPCalculator, Potential
from mlip.md.dynamical import frequencies_at
from mlip.md.polar import born_of_model
from mlip.md.solution import Recipe
from mlip.md.structure import primitive_cell
from mlip.response import VACUUM_PERMITTIVITY, field_response

SMALL = {"cutoff": 3.2, "num_layers": 2, "num_channels": 4, "lmax": 2, "num_radial": 4, "radial_width": 8, "seed": 5}
DIRECTIONS = {"c": [0, 0, 1.0], "a": [1.0, 0, 0], "general": [0.3, -0.5, 0.9]}


@pytest.fixture(scope="module")
def potential() -> Potential:
    """Random weights, the port's large enough for charges of 0.7 e and ε∞ of 3.1 along a and 4.5 along c."""
    model = Potential.from_config({**SMALL, "anisotropy": {"source": "field"}}, ["Ba", "O", "Ti"]).double()
    rng = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=rng))
        for parameter in model.network.port.parameters():
            parameter.mul_(150.0)
    return model.eval()


@pytest.fixture(scope="module")
def crystal() -> Atoms:
    """Tetragonal BaTiO3 (P4mm): Born charges and ε∞ that differ along a and c, and a polarization of its own."""
    scaled = [(0, 0, 0), (0.5, 0.5, 0.52), (0.5, 0.5, -0.03), (0.5, 0, 0.48), (0, 0.5, 0.48)]
    return Atoms("BaTiO3", scaled_positions=scaled, cell=np.diag([3.97, 3.97, 4.3]), pbc=True)


@pytest.fixture(scope="module")
def cell(crystal):
    return primitive_cell(crystal)


class Longitudinal:
    """Forces of a crystal that keeps D·q̂ at its value at rest."""

    def __init__(self, potential: Potential, atoms: Atoms, direction: np.ndarray) -> None:
        self.potential, self.atoms, self.direction = potential, atoms, direction
        self.rest = self.answer(atoms, 0.0)[0]

    def answer(self, atoms: Atoms, field: float) -> tuple[float, np.ndarray]:
        """Dipole along the direction (e Å) and forces in a field (V/Å) along it."""
        placed = atoms.copy()
        placed.info["electric_field"] = field * self.direction
        found = field_response(self.potential, self.potential.graph(placed), second=False)
        forces = found.evaluation.forces.detach().numpy()
        return float(found.dipole[0].detach().numpy() @ self.direction), forces

    def forces(self, atoms: Atoms) -> np.ndarray:
        """By the secant method in the field."""
        stiffness = VACUUM_PERMITTIVITY * self.atoms.get_volume()

        def mismatch(field: float) -> float:
            return stiffness * field + self.answer(atoms, field)[0] - self.rest

        old, field = 0.0, 1e-3
        before, now = mismatch(old), mismatch(field)
        for _ in range(20):
            if abs(now) < 1e-13 or now == before:
                break
            old, field, before = field, field - now * (field - old) / (now - before), now
            now = mismatch(field)
        return self.answer(atoms, field)[1]

    def curvature(self, step: float = 1e-3) -> np.ndarray:
        """Mass-weighted second derivatives (3n, 3n), eV/Å²/amu, by central differences."""
        rows = []
        for k in range(3 * len(self.atoms)):
            ends = []
            for sign in (1, -1):
                moved = self.atoms.copy()
                moved.positions.flat[k] += sign * step
                ends.append(self.forces(moved).ravel())
            rows.append((ends[1] - ends[0]) / (2 * step))
        weights = np.repeat(self.atoms.get_masses() ** -0.5, 3)
        matrix = np.array(rows) * np.outer(weights, weights)
        return (matrix + matrix.T) / 2


def frequencies(matrix: np.ndarray) -> np.ndarray:
    values = np.linalg.eigvalsh(matrix)
    return np.sign(values) * np.sqrt(np.abs(values)) * 15.633302


@pytest.fixture(scope="module")
def polar(potential, cell):
    """D(q) with the model's own charges, as `phonons(…, born="model")` has them."""
    return (
        Recipe("exact", 2 * np.eye(3, dtype=np.int64), born="model").solve(cell, MLIPCalculator(potential)).matrices
    )


@pytest.mark.parametrize("name", DIRECTIONS)
def test_the_dipole_term_is_the_finite_field_answer(name, potential, cell, polar):
    direction = np.array(DIRECTIONS[name]) / np.linalg.norm(DIRECTIONS[name])
    expected = frequencies(Longitudinal(potential, cell.atoms, direction).curvature())
    q = 1e-4 * direction @ cell.atoms.cell.array.T / (2 * np.pi)
    found = frequencies_at(polar, q[None])[0]
    split = np.abs(expected - frequencies_at_gamma(potential, cell)).max()
    assert split > 0.1  # THz: the field does something
    np.testing.assert_allclose(found, expected, atol=2e-3 * split)


def frequencies_at_gamma(potential, cell) -> np.ndarray:
    matrix = MLIPCalculator(potential).get_dynamical_matrix(cell.atoms, np.zeros(3))[0]
    return frequencies(matrix)


def test_the_split_depends_on_the_direction(cell, polar):
    """A matrix without the term is analytic: at q → 0 it is one and the same from every side."""
    ends = [np.array(d) / np.linalg.norm(d) @ cell.atoms.cell.array.T * 1e-4 for d in DIRECTIONS.values()]
    found = frequencies_at(polar, np.array(ends))
    assert np.abs(found[0] - found[1]).max() > 0.1


def test_charges_of_all_atoms_add_up_to_nothing(potential, cell):
    """ΣZ = 0 whatever the weights: moved together, atoms of a neutral crystal make no dipole."""
    found = born_of_model(MLIPCalculator(potential), cell)
    assert np.abs(found.charges).max() > 0.05
    assert found.charge_sum < 1e-12
    assert all(check.passed for check in found.checks)


def test_charges_are_slopes_of_the_dipole(potential, cell):
    """Z[i, a, b] = ∂μ_a/∂x_ib by central differences of the first derivative."""
    calculator = MLIPCalculator(potential)
    charges = calculator.get_field_response(cell.atoms)["born_charges"]
    step = 1e-4
    for i in (1, 3):
        for b in range(3):
            ends = []
            for sign in (1, -1):
                moved = cell.atoms.copy()
                moved.positions[i, b] += sign * step
                found = field_response(potential, potential.graph(moved), second=False)
                ends.append(found.dipole[0].detach().numpy())
            np.testing.assert_allclose(charges[i, :, b], (ends[0] - ends[1]) / (2 * step), atol=1e-7)
