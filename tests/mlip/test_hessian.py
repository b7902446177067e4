"""Second derivatives: symmetric, equal to differences of forces, and H·v is H times v."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlip.derivatives import evaluate, hessian, hessian_vector_product
from mlip.graph import batch_graphs
from mlip.testing import check_hessian


@pytest.mark.parametrize(
    ("structure", "norm"), [("cluster", False), ("triclinic", False), ("triclinic", True)], ids=str
)
def test_hessian_is_the_derivative_of_forces(request, calculator_for, variant, tolerances, structure, norm):
    atoms = request.getfixturevalue(structure)
    calculator = calculator_for(atoms, norm=norm, **variant)
    result = check_hessian(calculator, atoms, tolerances.derivative)
    assert result.passed, result


@pytest.mark.parametrize("structure", ["cluster", "triclinic", "star"])
def test_hessian_is_symmetric(request, calculator_for, variant, lmax, tolerances, structure):
    atoms = request.getfixturevalue(structure)
    matrix = calculator_for(atoms, lmax=lmax, **variant).get_hessian(atoms)
    assert np.abs(matrix - matrix.T).max() < tolerances.symmetry * np.abs(matrix).max()
    assert np.abs(matrix.reshape(-1, len(atoms), 3).sum(1)).max() < tolerances.symmetry * np.abs(matrix).max()


def test_product_with_a_vector(calculator_for, variant, triclinic, tolerances):
    calculator = calculator_for(triclinic, **variant)
    matrix = calculator.get_hessian(triclinic)
    vector = np.random.default_rng(1).normal(size=(3, 3))
    product = calculator.get_hessian_vector_product(triclinic, vector)
    assert np.abs(product.ravel() - matrix @ vector.ravel()).max() < tolerances.exact * np.abs(product).max()


def test_products_of_a_batch_are_those_of_its_structures(potential_for, variant, triclinic, cluster, tolerances):
    potential = potential_for(triclinic, **variant)
    graphs = [potential.graph(atoms) for atoms in (cluster, triclinic)]
    vector = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    batch = hessian_vector_product(potential, batch_graphs(graphs), vector)
    apart = [hessian_vector_product(potential, g, v) for g, v in zip(graphs, vector.split([5, 3]), strict=True)]
    assert (batch - torch.cat(apart)).abs().max() < tolerances.exact * batch.abs().max()


def test_hessian_of_a_lone_atom_vanishes(potential_for, triclinic):
    potential = potential_for(triclinic)
    lone = triclinic[:1]
    lone.pbc = False
    assert float(hessian(potential, potential.graph(lone)).abs().sum()) == 0.0


def test_single_against_double_precision(potential_for, variant, triclinic, tolerances):
    double = potential_for(triclinic, **variant)
    exact = hessian(double, double.graph(triclinic)).detach()
    single = double.float()
    rough = hessian(single, single.graph(triclinic)).detach().double()
    assert (rough - exact).abs().max() < tolerances.single * exact.abs().max()


def loss_of_product(potential, graph, vector, create_graph=True):
    product = hessian_vector_product(potential, graph, vector, create_graph=create_graph)
    return (product * torch.linspace(-1, 2, product.numel(), dtype=torch.float64).view_as(product)).sum()


def loss_of_forces(potential, graph, vector, create_graph=True):
    result = evaluate(potential, graph, stress=True, create_graph=create_graph)
    return (result.forces * vector).sum() + 5 * result.stress.square().sum() + result.energy.sum()


@pytest.mark.parametrize("loss", [loss_of_forces, loss_of_product])
@pytest.mark.parametrize("settings", [{}, {"norm": True, "zbl": True}], ids=["", "norm-zbl"])
def test_gradient_by_the_parameters(potential_for, variant, triclinic, tolerances, loss, settings):
    """What training on forces, stress and H·v rests on."""
    potential = potential_for(triclinic, **variant, **settings)
    graph = potential.graph(triclinic)
    rng = torch.Generator().manual_seed(3)
    vector = torch.randn(3, 3, dtype=torch.float64, generator=rng)
    loss(potential, graph, vector).backward()
    directions = [torch.randn(p.shape, generator=rng, dtype=torch.float64) for p in potential.parameters()]
    expected = sum(
        float((p.grad * d).sum())
        for p, d in zip(potential.parameters(), directions, strict=True)
        if p.grad is not None
    )

    def moved(step: float) -> float:
        with torch.no_grad():
            for p, d in zip(potential.parameters(), directions, strict=True):
                p.add_(step * d)
        value = float(loss(potential, graph, vector, False).detach())
        with torch.no_grad():
            for p, d in zip(potential.parameters(), directions, strict=True):
                p.sub_(step * d)
        return value

    h = 1e-4
    slope = (8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * h)
    assert slope == pytest.approx(expected, rel=tolerances.derivative)
    assert abs(expected) > 1e-3
