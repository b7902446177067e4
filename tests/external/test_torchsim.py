"""torch-sim runs our potential: its own validation, and our calculator's numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import bulk

from mlip import MLIPCalculator, Potential

torch_sim = pytest.importorskip("torch_sim", reason="torch-sim is not installed (pip install torch-sim-atomistic)")

nve = pytest.importorskip("torch_sim.integrators").nve

SETTINGS = {"cutoff": 4.0, "num_layers": 2, "num_channels": 4, "lmax": 1, "zbl": True, "seed": 1}


@pytest.fixture(scope="module")
def potential():
    return Potential.from_config(SETTINGS, ["Si", "Fe"]).double()


@pytest.fixture
def model(potential):
    from mlip.torchsim import TorchSimModel

    return TorchSimModel(potential)


@pytest.fixture
def systems():
    """A skewed primitive cell smaller than the cutoff, moved out of it, and a larger one."""
    rng = np.random.default_rng(1)
    first, second = bulk("Si", a=5.43), bulk("Fe", "fcc", a=3.6, cubic=True)
    first.set_cell(first.cell.array @ np.array([[1.02, 0.01, 0], [0, 0.99, 0.02], [0, 0, 1]]), scale_atoms=True)
    for atoms in (first, second):
        atoms.positions += 0.1 * rng.standard_normal(atoms.positions.shape)
    first.positions[0] += first.cell[1]
    return [first, second]


def test_its_own_validation_passes(model):
    from torch_sim.models.interface import validate_model_outputs

    validate_model_outputs(model, torch.device("cpu"), torch.float64)


def test_a_batch_has_the_numbers_of_the_calculator(model, potential, systems):
    state = torch_sim.io.atoms_to_state(systems, torch.device("cpu"), torch.float64)
    found = model(state)
    calculator = MLIPCalculator(potential)
    for k, atoms in enumerate(systems):
        atoms.calc = calculator
        chosen = (state.system_idx == k).numpy()
        assert float(found["energy"][k]) == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
        np.testing.assert_allclose(found["forces"].numpy()[chosen], atoms.get_forces(), atol=1e-10)
        np.testing.assert_allclose(found["stress"].numpy()[k], atoms.get_stress(voigt=False), atol=1e-10)


def test_it_integrates(model, systems):
    """A microcanonical run of both systems at once keeps each one's energy."""
    start = torch_sim.io.atoms_to_state(systems, torch.device("cpu"), torch.float64)
    femtosecond, kelvin = 1e-3 * torch_sim.units.MetalUnits.time, torch_sim.units.MetalUnits.temperature
    init, update = nve(model, dt=torch.tensor(0.5 * femtosecond), kT=torch.tensor(300.0 * kelvin), seed=1)
    state = init(start)
    before = total_energy(state)
    for _ in range(20):
        state = update(state)
    assert float((state.positions - start.positions).abs().max()) > 1e-3
    assert float((total_energy(state) - before).abs().max()) < 1e-3


def total_energy(state):
    kinetic = (state.momenta.square().sum(1) / state.masses) / 2
    return state.energy.clone().index_add(0, state.system_idx, kinetic)


def test_precision_is_that_of_the_model(potential, systems):
    from mlip.torchsim import TorchSimModel

    single = TorchSimModel(Potential.from_config(SETTINGS, ["Si", "Fe"]), dtype="float32")
    state = torch_sim.io.atoms_to_state(systems, torch.device("cpu"), torch.float32)
    found = single(state)
    assert {x.dtype for x in found.values()} == {torch.float32}
