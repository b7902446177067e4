"""Second derivatives by strain equal differences of first ones, at any stress, for every architecture."""

from __future__ import annotations

from functools import partial
from itertools import combinations_with_replacement

import numpy as np
import pytest
import torch

from mlip.derivatives import HessianOperator, evaluate, hessian
from mlip.errors import InputError
from mlip.graph import batch_graphs
from mlip.strain import internal_response, strain_derivatives


def five_point(function, step):
    return (function(-2 * step) - 8 * function(-step) + 8 * function(step) - function(2 * step)) / (12 * step)


def strained(atoms, strain):
    copy = atoms.copy()
    copy.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return copy


def unit_strain(a, b):
    basis = np.zeros((3, 3))
    basis[a, b] += 0.5
    basis[b, a] += 0.5
    return basis


def energy_gradient(potential, atoms, strain):
    """dE/dε at strain ε, by symmetric strain: sym(Σ d⁰ ⊗ ∂E/∂d), d⁰ the unstrained edges."""
    result = evaluate(potential, potential.graph(strained(atoms, strain)))
    edges = potential.graph(strained(atoms, strain)).edge_vectors() @ torch.as_tensor(
        np.linalg.inv(np.eye(3) + strain)
    )
    gradient = (edges.t() @ result.edge_forces).numpy()
    return (gradient + gradient.T) / 2


def test_mixed_derivatives_are_the_forces_that_strain_calls_forth(potential_for, variant, triclinic, tolerances):
    potential = potential_for(triclinic, **variant)
    mixed = strain_derivatives(potential, potential.graph(triclinic)).mixed.numpy()

    def forces(basis, t):
        return evaluate(potential, potential.graph(strained(triclinic, t * basis))).forces.numpy()

    for a, b in combinations_with_replacement(range(3), 2):
        slope = five_point(partial(forces, unit_strain(a, b)), 1e-3)
        assert np.abs(slope + mixed[..., a, b]).max() < tolerances.derivative * np.abs(mixed).max()


def test_strain_derivatives_are_differences_of_the_energy_gradient(potential_for, variant, triclinic, tolerances):
    potential = potential_for(triclinic, **variant)
    second = strain_derivatives(potential, potential.graph(triclinic)).strain.numpy()

    def gradient(basis, t):
        return energy_gradient(potential, triclinic, t * basis)

    for a, b in combinations_with_replacement(range(3), 2):
        slope = five_point(partial(gradient, unit_strain(a, b)), 1e-3)
        assert np.abs(slope - second[..., a, b]).max() < tolerances.derivative * np.abs(second).max()


def test_symmetries_of_the_tensors(potential_for, variant, triclinic, tolerances):
    """ε is symmetric, derivatives commute, and moving all atoms together calls no force forth."""
    potential = potential_for(triclinic, **variant)
    found = strain_derivatives(potential, potential.graph(triclinic))
    mixed, second = found.mixed.numpy(), found.strain.numpy()
    limit = tolerances.symmetry * np.abs(second).max()
    assert np.array_equal(mixed, mixed.swapaxes(2, 3))
    assert np.array_equal(second, second.swapaxes(2, 3))
    assert np.abs(second - second.transpose(2, 3, 0, 1)).max() < limit
    assert np.abs(mixed.sum(0)).max() < limit


def test_twice_the_cell_has_twice_the_second_derivative(potential_for, triclinic, tolerances):
    potential = potential_for(triclinic)
    one = strain_derivatives(potential, potential.graph(triclinic))
    two = strain_derivatives(potential, potential.graph(triclinic.repeat((1, 2, 1))))
    assert (two.strain - 2 * one.strain).abs().max() < tolerances.symmetry * two.strain.abs().max()
    assert (two.mixed - one.mixed.repeat(2, 1, 1, 1)).abs().max() < tolerances.symmetry * one.mixed.abs().max()


def test_atoms_that_follow_a_strain_feel_no_new_force(potential_for, triclinic, tolerances):
    """Φ·(∂u/∂ε) + ∂²E/∂u∂ε = 0, the translations held."""
    potential = potential_for(triclinic)
    graph = potential.graph(triclinic)
    matrix, mixed = hessian(potential, graph).detach(), strain_derivatives(potential, graph).mixed
    response = internal_response(matrix, mixed)
    residual = matrix @ response.reshape(9, 9) + mixed.reshape(9, 9)
    assert residual.abs().max() < tolerances.symmetry * mixed.abs().max()
    assert response.sum(0).abs().max() < tolerances.symmetry * response.abs().max()


def test_one_atom_in_a_cell_has_nothing_to_follow(potential_for, triclinic):
    lone = triclinic[:1]
    potential = potential_for(triclinic)
    graph = potential.graph(lone)
    found = strain_derivatives(potential, graph)
    assert float(found.mixed.abs().max()) < 1e-12
    assert not internal_response(hessian(potential, graph), found.mixed).any()


def test_atoms_without_a_place_are_refused(potential_for, triclinic):
    potential = potential_for(triclinic)
    mixed = strain_derivatives(potential, potential.graph(triclinic)).mixed
    floppy = torch.diag(torch.tensor([0.0] * 4 + [1.0] * 5, dtype=torch.float64))
    with pytest.raises(InputError, match="no cost in energy"):
        internal_response(floppy, mixed)


def test_molecules_and_batches_are_refused(potential_for, calculator_for, cluster, triclinic):
    potential = potential_for(triclinic)
    with pytest.raises(InputError, match="one crystal"):
        strain_derivatives(potential, batch_graphs([potential.graph(triclinic)] * 2))
    with pytest.raises(InputError, match="one crystal"):
        strain_derivatives(potential, potential.graph(cluster))
    slab = triclinic.copy()
    slab.pbc = [True, True, False]
    with pytest.raises(InputError, match="periodic in all three"):
        calculator_for(triclinic).get_strain_derivatives(slab)


def test_a_committee_gives_the_mean(potential_for, triclinic, tolerances):
    from mlip import MLIPCalculator

    members = [potential_for(triclinic, seed=seed) for seed in (1, 2)]
    mixed, second = MLIPCalculator(members).get_strain_derivatives(triclinic)
    apart = [strain_derivatives(p, p.graph(triclinic)) for p in members]
    assert np.abs(mixed - np.mean([m.mixed.numpy() for m in apart], axis=0)).max() < tolerances.exact
    assert np.abs(second - np.mean([m.strain.numpy() for m in apart], axis=0)).max() < tolerances.symmetry


def test_the_block_of_some_atoms_is_that_of_the_whole_hessian(calculator_for, variant, triclinic, tolerances):
    calculator = calculator_for(triclinic, **variant)
    whole = calculator.get_hessian(triclinic)
    chosen = [2, 0]
    rows = (3 * np.array(chosen)[:, None] + np.arange(3)).ravel()
    block = calculator.get_hessian(triclinic, indices=chosen)
    assert np.abs(block - whole[np.ix_(rows, rows)]).max() < tolerances.exact * np.abs(whole).max()


def test_a_block_costs_its_own_columns_only(potential_for, triclinic, monkeypatch):
    calls = []
    plain = HessianOperator.__call__
    monkeypatch.setattr(HessianOperator, "__call__", lambda self, v: calls.append(1) or plain(self, v))
    potential = potential_for(triclinic)
    hessian(potential, potential.graph(triclinic), [1])
    assert len(calls) == 3


@pytest.mark.parametrize(("indices", "word"), [([3], "no atom 3"), ([-1], "no atom -1"), ([1, 1], "twice")])
def test_wrong_atoms_are_named(calculator_for, triclinic, indices, word):
    with pytest.raises(InputError, match=word):
        calculator_for(triclinic).get_hessian(triclinic, indices=indices)


def test_no_atoms_no_block(calculator_for, triclinic):
    assert calculator_for(triclinic).get_hessian(triclinic, indices=[]).shape == (0, 0)
