"""One D(q) of each star is enough, and the others are the same to rounding."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.spacegroup import crystal

from mlip import MLIPCalculator, Potential
from mlip.md.dynamical import BlochMatrices
from mlip.md.stars import StarMatrices
from mlip.md.structure import primitive_cell

SETTINGS = {"architecture": "nequip", "cutoff": 3.4, "num_layers": 2, "num_channels": 2, "lmax": 2, "seed": 3}


class Counted:
    """D(q) that says how often it was asked."""

    def __init__(self, matrices):
        self.matrices, self.asked = matrices, 0

    def at(self, q):
        self.asked += len(q)
        return self.matrices.at(q)


def rutile():
    atoms = crystal(["Sn", "O"], [(0, 0, 0), (0.307, 0.307, 0)], spacegroup=136, cellpar=[4.7, 4.7, 3.2, 90, 90, 90])
    return Atoms(atoms.symbols, cell=atoms.cell, positions=atoms.positions, pbc=True)


@pytest.mark.parametrize(
    ("atoms", "most"),
    [(bulk("Si", a=5.43), 0.2), (bulk("NaCl", "rocksalt", a=5.6), 0.2), (rutile(), 0.35), (bulk("Zn"), 0.35)],
    ids=["diamond", "rock salt", "rutile (glides and screws)", "hexagonal"],
)
def test_a_mesh_from_its_stars_is_the_mesh(atoms, most):
    cell = primitive_cell(atoms)
    potential = Potential.from_config(SETTINGS, species=sorted(set(atoms.get_chemical_symbols())))
    plain = Counted(BlochMatrices(cell.atoms, MLIPCalculator(potential, dtype="float64")))
    grid = np.stack(np.meshgrid(*[np.arange(3) / 3] * 3, indexing="ij"), -1).reshape(-1, 3)
    q = np.concatenate([grid, np.add(grid[5:8], [1, -2, 0]), [[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]]])
    found = StarMatrices(plain, cell, symmetric=True).at(q)
    assert plain.asked < most * len(q) + 1
    exact = plain.matrices.at(q)
    assert np.abs(found - exact).max() < 1e-10 * np.abs(exact).max()


def test_without_the_space_group_only_time_reversal_is_used(silicon, small_calculator):
    cell = primitive_cell(silicon)
    plain = Counted(BlochMatrices(cell.atoms, small_calculator))
    q = np.array([[0.1, 0.2, 0.3], [-0.1, 0.8, -0.3], [0.2, 0.1, 0.3], [0.0, 0.0, 0.0]])
    found = StarMatrices(plain, cell, symmetric=False).at(q)
    assert plain.asked == 3
    exact = plain.matrices.at(q)
    assert np.abs(found - exact).max() < 1e-10 * np.abs(exact).max()


def test_a_wrong_claim_of_symmetry_shows(silicon):
    """The defect that the caller has to measure: with it, the stars' matrices are not the crystal's."""

    class Askew:
        def __init__(self, cell):
            self.size = 3 * len(cell.atoms)

        def at(self, q):
            bias = np.zeros((self.size, self.size))
            bias[0, 0] = 1.0
            return np.array([np.eye(self.size) + bias * np.cos(2 * np.pi * point[0]) for point in q], dtype=complex)

    cell = primitive_cell(silicon)
    q = np.array([[0.1, 0.2, 0.3], [0.2, 0.1, 0.3]])
    wrong = StarMatrices(Askew(cell), cell, symmetric=True).at(q)
    assert np.abs(wrong - Askew(cell).at(q)).max() > 0.01
