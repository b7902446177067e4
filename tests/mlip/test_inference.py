"""Tables of radial networks give what the networks give, to rounding, and nothing where they cannot."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from ase import Atoms

from mlip import MLIPCalculator, Potential
from mlip.derivatives import evaluate, hessian
from mlip.errors import InputError
from mlip.inference import _put, _tables, for_inference
from mlip.nn.network import RadialEmbedding
from mlip.nn.radial_table import Addressing, Table

FLOOR = 2e-6  # what float32 may lose by chance, relative to the largest value


@pytest.fixture
def single(potential_for, cluster, variant) -> Potential:
    """In float32, its largest force on the cluster 1 eV/Å."""
    return potential_for(cluster, **variant).float()


def smooth(potential: Potential) -> Potential:
    """Weights of the size that training starts from: those of ``potential_for`` make steeper radial functions."""
    return Potential.from_config(potential.settings, potential.species, potential.normalization)


def errors(potential: Potential, exact: Potential, atoms: Atoms) -> np.ndarray:
    """Deviations of energy, forces and stress from float64, relative to the largest force and stress."""
    found = evaluate(potential, potential.graph(atoms), stress=True)
    reference = evaluate(exact, exact.graph(atoms), stress=True)
    scales = [reference.forces.abs().max(), reference.forces.abs().max(), reference.stress.abs().max()]
    pairs = [(getattr(found, n), getattr(reference, n)) for n in ("energy", "forces", "stress")]
    return np.array([float((a - b).abs().max() / s) for (a, b), s in zip(pairs, scales, strict=True)])


def test_tables_are_as_close_to_float64_as_the_networks_in_float32(potential_for, triclinic, variant):
    potential = smooth(potential_for(triclinic, **variant))
    fast, exact = for_inference(potential), deepcopy(potential).double()
    assert isinstance(fast.network.radial, Addressing)
    assert (errors(fast, exact, triclinic) < FLOOR + 2 * errors(potential, exact, triclinic)).all()


def test_forces_are_the_gradient_of_the_tabulated_energy(potential_for, cluster):
    """Tables in float64 are a potential of their own: five-point differences of its energy are its forces."""
    fast = smooth(potential_for(cluster)).double()
    _put(_tables(deepcopy(fast).network), fast)
    step, atom = 1e-3, 1
    forces = evaluate(fast, fast.graph(cluster)).forces
    for axis in range(3):
        energies = []
        for k in (-2, -1, 1, 2):
            moved = cluster.copy()
            moved.positions[atom, axis] += k * step
            energies.append(float(evaluate(fast, fast.graph(moved)).energy))
        slope = np.dot(energies, [1, -8, 8, -1]) / (12 * step)
        assert -slope == pytest.approx(float(forces[atom, axis]), abs=1e-8 * float(forces.abs().max()))


def test_an_atom_may_sit_at_the_cutoff(potential_for, cluster):
    """The last cell reaches beyond the cutoff, so that rounding cannot lead out of the table."""
    fast = for_inference(smooth(potential_for(cluster)))
    pair = cluster[:2]
    pair.positions[:] = [[0, 0, 0], [np.nextafter(fast.cutoff, 0), 0, 0]]
    assert evaluate(fast, fast.graph(pair)).forces.abs().max() == 0


def test_float64_keeps_its_digits(potential_for, cluster):
    fast = for_inference(potential_for(cluster))
    assert not any(isinstance(module, Table | Addressing) for module in fast.modules())


def test_networks_that_a_table_cannot_follow_stay(potential_for, cluster):
    """A hundredfold argument makes radial functions too steep for the cells."""
    potential = potential_for(cluster).float()
    with torch.no_grad():
        potential.network.radial.linear.weight.mul_(100)
    fast = for_inference(potential)
    assert isinstance(fast.network.radial, RadialEmbedding)
    graph = potential.graph(cluster)
    assert torch.equal(evaluate(fast, graph).forces, evaluate(potential, graph).forces)


def test_tables_that_would_be_too_large_are_not_made(potential_for, cluster, monkeypatch):
    monkeypatch.setattr("mlip.inference.MAX_TABLE_BYTES", 1000)
    fast = for_inference(smooth(potential_for(cluster)))
    assert isinstance(fast.network.radial, RadialEmbedding)


def test_the_original_is_left_alone(single, cluster):
    before = {name: value.clone() for name, value in single.state_dict().items()}
    for_inference(single)
    assert isinstance(single.network.radial, RadialEmbedding)
    assert all(torch.equal(value, before[name]) for name, value in single.state_dict().items())
    assert all(parameter.requires_grad for parameter in single.parameters())


def test_second_derivatives_of_tables_are_refused_and_the_calculator_gives_exact_ones(potential_for, triclinic):
    crystal = triclinic * (3, 3, 2)
    potential = smooth(potential_for(triclinic))
    with pytest.raises(RuntimeError, match="not implemented"):
        hessian(for_inference(potential), potential.graph(triclinic))
    exact, calculator = deepcopy(potential).double(), MLIPCalculator(potential)
    found = calculator.get_property("forces", crystal)
    reference = evaluate(exact, exact.graph(crystal)).forces.numpy()
    assert calculator._fast_members is not None
    np.testing.assert_allclose(found, reference, atol=1e-5 * np.abs(reference).max())
    expected = hessian(exact, exact.graph(triclinic)).numpy()
    np.testing.assert_allclose(calculator.get_hessian(triclinic), expected, atol=1e-12 * np.abs(expected).max())


def test_the_calculator_makes_no_tables_for_a_molecule(potential_for, cluster):
    calculator = MLIPCalculator(smooth(potential_for(cluster)))
    calculator.get_property("energy", cluster)
    assert calculator._fast_members is None


def test_a_potential_with_tables_is_not_saved(potential_for, cluster, tmp_path):
    fast = for_inference(smooth(potential_for(cluster)))
    with pytest.raises(InputError, match="use the original"):
        fast.save(tmp_path / "fast.mlip")
    assert not list(tmp_path.iterdir())
