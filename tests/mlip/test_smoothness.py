"""Nothing jumps where an atom enters a neighbourhood, and a lone atom has its reference energy."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from mlip import MLIPCalculator, Potential
from mlip.nn import geometry
from mlip.potential import Normalization
from mlip.testing import check_cutoff, energy_of, five_point, forces_of

CUTOFF = 4.0


def jumps(calculator: MLIPCalculator, place, delta: float) -> np.ndarray:
    """Differences of E, F, H·v and d(H·v)/dr across the cutoff, from ``delta`` inside to ``delta`` outside.

    ``place(r)`` is the structure in which the atom that enters stands at distance r.
    """

    vector = np.random.default_rng(1).normal(size=(len(place(CUTOFF)), 3))

    def stiffness(distance: float) -> np.ndarray:
        return calculator.get_hessian_vector_product(place(distance), vector)

    inside, outside = place(CUTOFF - delta), place(CUTOFF + delta)
    slopes = [five_point(lambda h, r=r: stiffness(r + h), delta / 8) for r in (CUTOFF - delta, CUTOFF + delta)]
    changes = [
        energy_of(calculator, inside) - energy_of(calculator, outside),
        forces_of(calculator, inside) - forces_of(calculator, outside),
        stiffness(CUTOFF - delta) - stiffness(CUTOFF + delta),
        slopes[0] - slopes[1],
    ]
    return np.array([np.abs(change).max() for change in changes])


def dimer(distance: float) -> Atoms:
    return Atoms("SiO", [(0, 0, 0), distance * np.array([0.48, 0.6, 0.64])])


@pytest.fixture
def entering(cluster):
    """An atom that comes from afar, along a line towards one atom of a cluster, which it reaches first."""
    towards = np.array([0.2, -0.9, -0.4])
    towards /= np.linalg.norm(towards)
    others = cluster.positions[1:] - cluster.positions[0]
    assert (np.linalg.norm(others - CUTOFF * towards, axis=1) > CUTOFF + 0.1).sum() >= 3

    def place(distance: float) -> Atoms:
        return cluster + Atoms("O", [cluster.positions[0] + distance * towards])

    return place


@pytest.fixture
def crossing(triclinic):
    """A crystal in which one atom is pulled along y until an image of another is at the cutoff."""
    bond = triclinic.positions[1] - triclinic.positions[0] + triclinic.cell.array[0]
    assert np.linalg.norm(bond) > CUTOFF

    def place(distance: float) -> Atoms:
        moved = triclinic.copy()
        moved.positions[1] += bond * (distance / np.linalg.norm(bond) - 1)
        return moved

    return place


@pytest.mark.parametrize("norm", [False, True], ids=["", "norm"])
def test_nothing_jumps(calculator_for, variant, cluster, triclinic, entering, crossing, norm):
    """Each jump over ±δ shrinks with δ: energy, forces, Hessian and its derivative are continuous."""
    molecule = calculator_for(cluster, norm=norm, cutoff=CUTOFF, **variant)
    crystal = calculator_for(triclinic, norm=norm, cutoff=CUTOFF, **variant)
    for calculator, place in ((molecule, dimer), (molecule, entering), (crystal, crossing)):
        wide, narrow = jumps(calculator, place, 4e-3), jumps(calculator, place, 1e-3)
        assert (narrow <= 0.5 * wide + 1e-12).all(), (wide, narrow)


@pytest.mark.parametrize("attention", ["plain", "sum"])
def test_nothing_jumps_with_other_attention(calculator_for, cluster, entering, attention):
    calculator = calculator_for(cluster, architecture="equiformer", attention=attention, cutoff=CUTOFF)
    for place in (dimer, entering):
        wide, narrow = jumps(calculator, place, 4e-3), jumps(calculator, place, 1e-3)
        assert (narrow <= 0.5 * wide + 1e-12).all(), (wide, narrow)


def test_an_envelope_of_lower_order_is_noticed(monkeypatch, calculator_for, cluster):
    """A test of the test: with u³ at the end, dH/dr jumps."""
    monkeypatch.setattr(geometry, "envelope", lambda x: (1 - x) ** 3 * (1 + 3 * x + 6 * x * x))
    calculator = calculator_for(cluster, cutoff=CUTOFF)
    wide, narrow = jumps(calculator, dimer, 4e-3), jumps(calculator, dimer, 1e-3)
    continuous = narrow <= 0.5 * wide + 1e-12
    assert continuous[:3].all()
    assert not continuous[3]


def test_a_dimer_ends_with_the_fourth_power(calculator_for, variant, cluster):
    calculator = calculator_for(cluster, **variant)
    assert check_cutoff(calculator, ["Si", "O"], calculator.potential.cutoff).passed
    assert check_cutoff(calculator, ["O", "O"], calculator.potential.cutoff).passed


def test_the_envelope_has_no_cancellation():
    """Next to the cutoff the envelope is 70 u⁴ to its last digits, not a difference of large terms."""
    import torch

    u = torch.tensor([1e-4, 1e-6, 1e-9], dtype=torch.float64)
    value = geometry.envelope(1 - u)
    assert (value / (70 * u**4) - 1).abs()[0] < 1e-3
    assert (value / (70 * u**4) - 1).abs()[1:].max() < 1e-5
    x = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    derivative = x
    for value in ((1.0, 0.0), None, None, None):
        derivative = geometry.envelope(x) if value else torch.autograd.grad(derivative.sum(), x, create_graph=True)[0]
        assert derivative.tolist() == list(value or (0.0, 0.0))


@pytest.mark.parametrize("settings", [{}, {"norm": True}, {"zbl": True}, {"num_layers": 1}], ids=str)
def test_a_lone_atom_has_its_reference_energy(calculator_for, variant, cluster, settings):
    """Exactly, whatever the weights, alone or beyond the reach of others, molecule or cell."""
    calculator = calculator_for(cluster, **variant | settings)
    alone = Atoms("Si"), Atoms("Si", cell=30 * np.eye(3), pbc=True)
    assert [energy_of(calculator, atoms) for atoms in alone] == [-4.0, -4.0]
    assert np.abs(forces_of(calculator, alone[1])).max() == 0.0
    assert np.abs(calculator.get_hessian(alone[0])).max() == 0.0
    assert energy_of(calculator, Atoms("SiO", [(0, 0, 0), (0, 0, 4.0001)])) == -5.5
    with_guest = cluster + Atoms("O", [(40, 0, 0)])
    assert energy_of(calculator, with_guest) == pytest.approx(energy_of(calculator, cluster) - 1.5, abs=1e-12)


def test_the_shift_fades_for_a_lone_atom(variant):
    """The mean energy of the data is added where there are neighbours, and only there."""
    settings = {"cutoff": 4.0, "num_channels": 2, "num_layers": 2, **variant}
    plain = Potential.from_config(settings, ["O"], Normalization(e0={"O": -2.0})).double()
    shifted = Potential.from_config(settings, ["O"], Normalization(e0={"O": -2.0}, energy_shift=-3.0)).double()
    dense = Atoms("O8", 1.4 * np.array(list(np.ndindex(2, 2, 2))))
    energies = [MLIPCalculator(p).get_property("energies", dense) for p in (plain, shifted)]
    assert np.abs(energies[1] - energies[0] + 3.0).max() < 0.1
    assert energy_of(MLIPCalculator(shifted), Atoms("O")) == -2.0
    assert check_cutoff(MLIPCalculator(shifted), ["O", "O"], 4.0).passed
