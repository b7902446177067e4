"""A potential with Grimme's D3 dispersion (`pip install dftd3`): energies, forces, Hessian of the sum."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import molecule
from matscipy.numerical import numerical_hessian

from mlip import MLIPCalculator, Potential
from mlip.md import vibrations
from mlip.sum_calculator import SumCalculator
from mlip.testing import energy_of, forces_of

dftd3 = pytest.importorskip("dftd3.ase", reason="dftd3 cannot be imported (pip install dftd3 cffi)")


@pytest.fixture
def methanol():
    atoms = molecule("CH3OH")
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.fixture
def parts():
    settings = {"cutoff": 4.0, "num_layers": 2, "num_channels": 4, "lmax": 1, "seed": 1}
    potential = Potential.from_config(settings, ["H", "C", "O"]).double()
    return MLIPCalculator(potential), dftd3.DFTD3(method="pbe", damping="d3bj")


def test_energies_and_forces_add_up(methanol, parts):
    total = SumCalculator(list(parts))
    assert energy_of(parts[1], methanol) < -0.01
    assert energy_of(total, methanol) == pytest.approx(sum(energy_of(part, methanol) for part in parts), abs=1e-10)
    added = sum((forces_of(part, methanol) for part in parts), np.zeros(1))
    np.testing.assert_allclose(forces_of(total, methanol), added, atol=1e-10)


def test_the_hessian_holds_the_dispersion(methanol, parts):
    total = SumCalculator(list(parts))
    hessian = total.get_hessian(methanol)
    methanol.calc = total
    numerical = np.asarray(numerical_hessian(methanol, d=1e-4).toarray())
    np.testing.assert_allclose(hessian, numerical, atol=1e-5 * np.abs(hessian).max())
    assert np.abs(hessian - parts[0].get_hessian(methanol)).max() > 1e-3


def test_vibrations_with_dispersion(methanol, parts):
    result = vibrations(methanol, SumCalculator(list(parts)), relax_first=False)
    assert len(result.frequencies) == 3 * len(methanol) - 6
