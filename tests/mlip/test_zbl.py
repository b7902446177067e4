"""The nuclear repulsion: the universal curve, gone with three derivatives at the sum of covalent radii."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii

from mlip import MLIPCalculator
from mlip.nn.zbl import ZBL
from mlip.testing import check_forces, energy_of

PAIRS = [("Si", "Si"), ("Si", "O"), ("H", "U")]


def pair_energy(first: str, second: str, distances: np.ndarray) -> torch.Tensor:
    """Energy of the pair, eV: both halves."""
    species = sorted({first, second})
    vectors = torch.zeros(len(distances), 3, dtype=torch.float64)
    vectors[:, 1] = torch.as_tensor(distances)
    kinds = [torch.full((len(distances),), species.index(s)) for s in (first, second)]
    zbl = ZBL(species).double()
    return zbl(vectors, kinds[0], kinds[1]) + zbl(-vectors, kinds[1], kinds[0])


def universal(first: str, second: str, r: np.ndarray) -> np.ndarray:
    """Ziegler, Biersack and Littmark (1985), in atomic units."""
    bohr, hartree = 0.529177210903, 27.211386245988
    z1, z2 = atomic_numbers[first], atomic_numbers[second]
    x = r / bohr * (z1**0.23 + z2**0.23) / 0.8854
    terms = [(0.18175, 3.1998), (0.50986, 0.94229), (0.28022, 0.4029), (0.02817, 0.20162)]
    return z1 * z2 / (r / bohr) * hartree * sum(a * np.exp(-b * x) for a, b in terms)


def reach(first: str, second: str) -> float:
    return covalent_radii[atomic_numbers[first]] + covalent_radii[atomic_numbers[second]]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_it_is_the_universal_curve_times_a_switch(first, second):
    r = np.linspace(0.05, 0.95, 10) * reach(first, second)
    expected = universal(first, second, r) * (1 - r / reach(first, second)) ** 4
    np.testing.assert_allclose(pair_energy(first, second, r).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_it_repels_at_every_distance_and_ends(first, second):
    end = reach(first, second)
    energy = pair_energy(first, second, np.linspace(0.02, 1.2, 200) * end)
    inside = energy[energy > 0]
    assert (inside.diff() < 0).all()
    assert float(pair_energy(first, second, np.array([end, 1.5 * end])).abs().max()) == 0.0


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_three_derivatives_are_continuous_at_its_reach(first, second):
    end = reach(first, second)
    zbl = ZBL(sorted({first, second})).double()
    kinds = [torch.tensor([sorted({first, second}).index(s)]) for s in (first, second)]
    sizes = []
    for gap in (1e-3, 5e-4):
        r = torch.tensor([end - gap], dtype=torch.float64, requires_grad=True)
        value = zbl(torch.stack([0 * r, r, 0 * r], 1), *kinds).sum()
        derivatives = []
        for _ in range(4):
            derivatives.append(float(value.detach().abs()))
            (value,) = torch.autograd.grad(value, r, create_graph=True)
        sizes.append(derivatives)
    powers = np.log2(np.array(sizes[0]) / np.array(sizes[1]))
    np.testing.assert_allclose(powers, [4, 3, 2, 1], atol=0.01)


def test_close_atoms_repel_whatever_the_network_says(calculator_for, variant, cluster, tolerances):
    with_zbl = calculator_for(cluster, zbl=True, **variant)
    without = calculator_for(cluster, zbl=False, **variant)
    for distance in (0.3, 0.6):
        pair = Atoms("SiO", [(0, 0, 0), (0, distance, 0)])
        difference = energy_of(with_zbl, pair) - energy_of(without, pair)
        expected = float(pair_energy("Si", "O", np.array([distance]))[0])
        assert difference == pytest.approx(expected, rel=1e-9)
    near = Atoms("SiO", [(0, 0, 0), (0.2, 0.5, 0.1)])
    assert check_forces(with_zbl, near, tolerances.derivative).passed


def test_bonded_atoms_do_not_feel_it(calculator_for, tolerances):
    """Beyond the covalent radii the potential is the network alone."""
    wide = Atoms("SiO2", [(0, 0, 0), (2.0, 0, 0), (0, 2.3, 0)])
    energies = [energy_of(calculator_for(wide, zbl=zbl), wide) for zbl in (True, False)]
    assert energies[0] == pytest.approx(energies[1], rel=tolerances.exact)


def test_constants_keep_their_digits():
    first, second = ZBL(["Si", "O"]).double(), ZBL(["Si", "O"]).float().double()
    for name, constant in first.constants.named_buffers():
        assert torch.equal(constant, dict(second.constants.named_buffers())[name]), name


def test_it_is_the_same_in_a_calculator_of_either_precision(calculator_for, cluster, tolerances):
    calculator = calculator_for(cluster, zbl=True)
    rough = MLIPCalculator(calculator.potential, dtype="float32")
    near = Atoms("SiO", [(0, 0, 0), (0.2, 0.5, 0.1)])
    assert energy_of(rough, near) == pytest.approx(energy_of(calculator, near), rel=tolerances.single)
