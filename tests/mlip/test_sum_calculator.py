"""Sums of calculators: a potential with a dispersion correction, Hessian included."""

from __future__ import annotations

import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from matscipy.calculators.pair_potential import LennardJonesQuadratic, PairPotential
from matscipy.numerical import numerical_hessian

from mlip import InputError
from mlip.sum_calculator import SumCalculator
from mlip.testing import energy_of, forces_of


def tail(sigma=2.0):
    """A weak pair attraction with an analytic Hessian."""
    return PairPotential({(14, 14): LennardJonesQuadratic(0.02, sigma, 6.0)})


@pytest.fixture
def silicon(triclinic):
    triclinic.symbols[:] = "Si"
    return triclinic


def test_energies_forces_and_stresses_add_up(calculator_for, silicon):
    model, correction = calculator_for(silicon), tail()
    total = SumCalculator([model, correction])
    assert energy_of(total, silicon) == pytest.approx(energy_of(model, silicon) + energy_of(correction, silicon))
    np.testing.assert_allclose(forces_of(total, silicon), forces_of(model, silicon) + forces_of(correction, silicon))
    silicon.calc = total
    np.testing.assert_allclose(silicon.get_stress(), model.get_stress(silicon) + correction.get_stress(silicon))


def test_the_hessian_is_the_sum_of_analytic_ones(calculator_for, silicon, tolerances):
    model, correction = calculator_for(silicon), tail()
    total = SumCalculator([model, correction])
    hessian = total.get_hessian(silicon)
    alone = model.get_hessian(silicon)
    silicon.calc = total
    numerical = np.asarray(numerical_hessian(silicon, d=1e-4).toarray())
    scale = np.abs(hessian).max()
    np.testing.assert_allclose(hessian, numerical, atol=tolerances.derivative * scale)
    assert np.abs(hessian - alone).max() > 100 * tolerances.derivative * scale  # the correction is there
    v = np.random.default_rng(1).standard_normal((len(silicon), 3))
    np.testing.assert_allclose(total.get_hessian_vector_product(silicon, v).ravel(), hessian @ v.ravel(), atol=1e-10)
    rows = [6, 7, 8, 0, 1, 2]
    np.testing.assert_allclose(total.get_hessian(silicon, indices=[2, 0]), hessian[np.ix_(rows, rows)], atol=1e-10)
    with pytest.raises(InputError):
        total.get_hessian(silicon, indices=[3])


def test_members_without_a_hessian_are_differenced(calculator_for, silicon, tolerances):
    model, plain = calculator_for(silicon), LennardJones(sigma=2.0, epsilon=0.02, rc=5.0, smooth=True, ro=4.0)
    assert not hasattr(plain, "get_hessian")
    total = SumCalculator([model, plain])
    silicon.calc = total
    numerical = np.asarray(numerical_hessian(silicon, d=1e-4).toarray())
    hessian = total.get_hessian(silicon)
    np.testing.assert_allclose(hessian, numerical, atol=tolerances.derivative * np.abs(hessian).max())


def test_dftd3_as_the_correction(calculator_for, silicon, tolerances):
    ase_dftd3 = pytest.importorskip("dftd3.ase", reason="dftd3 cannot be imported (pip install dftd3 cffi)")
    model, correction = calculator_for(silicon), ase_dftd3.DFTD3(method="PBE", damping="d3bj")
    total = SumCalculator([model, correction], displacement=1e-3)
    silicon.calc = total
    numerical = np.asarray(numerical_hessian(silicon, d=1e-3).toarray())
    hessian = total.get_hessian(silicon)
    np.testing.assert_allclose(hessian, numerical, atol=10 * tolerances.derivative * np.abs(hessian).max())
