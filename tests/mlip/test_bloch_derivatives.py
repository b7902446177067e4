"""Derivatives of H(q) by wavevector, strain and sublattices, against differences of exact H(q)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlip import InputError
from mlip.bloch import BlochHessian
from mlip.bloch_derivatives import BlochDerivatives
from mlip.graph import batch_graphs
from mlip.testing import five_point, strained

POINTS = [(0.137, -0.291, 0.443), (0.0, 0.0, 0.0), (0.5, 0.0, 0.5), (0.25, 0.0, 0.0)]


@pytest.fixture
def waves():
    """Four complex waves of three atoms."""
    rng = np.random.default_rng(5)
    return torch.as_tensor(rng.normal(size=(4, 3, 3)) + 1j * rng.normal(size=(4, 3, 3)))


def curvatures(potential, atoms, points, waves):
    """Re v† H(q) v from whole matrices."""
    operator = BlochHessian(potential, potential.graph(atoms))
    rows = [torch.as_tensor(np.asarray(q)) for q in points]
    flat = waves.flatten(1)
    return np.array([float((v.conj() @ operator(q) @ v).real) for q, v in zip(rows, flat, strict=True)])


def with_positions(atoms, positions):
    copy = atoms.copy()
    copy.positions = positions
    return copy


def test_curvatures_and_all_their_derivatives(potential_for, variant, triclinic, waves):
    potential = potential_for(triclinic, num_layers=2, **variant)
    points = np.array(POINTS)
    found = BlochDerivatives(potential, potential.graph(triclinic))(torch.as_tensor(points), waves)
    assert found.curvature.numpy() == pytest.approx(curvatures(potential, triclinic, points, waves), rel=1e-10)

    # One direction at random says what every component of a gradient says.
    rng = np.random.default_rng(2)
    k, strain, shift = rng.normal(size=3), rng.normal(size=(3, 3)), rng.normal(size=(3, 3))
    step_q = k @ triclinic.cell.array.T / (2 * np.pi)

    def displaced(h):
        return with_positions(triclinic, triclinic.positions + h * shift)

    slopes = {
        "by_wavevector": (k, lambda h: curvatures(potential, triclinic, points + h * step_q, waves)),
        "by_strain": (strain, lambda h: curvatures(potential, strained(triclinic, h * strain), points, waves)),
        "by_position": (shift, lambda h: curvatures(potential, displaced(h), points, waves)),
    }
    for name, (direction, function) in slopes.items():
        ours = (getattr(found, name).numpy() * direction).reshape(4, -1).sum(1)
        assert ours == pytest.approx(five_point(function, 5e-4), abs=1e-6 * np.abs(ours).max()), name


def test_moving_all_sublattices_together_changes_nothing(potential_for, triclinic, waves, tolerances):
    potential = potential_for(triclinic, num_layers=2)
    found = BlochDerivatives(potential, potential.graph(triclinic))(torch.tensor(POINTS).double(), waves)
    assert found.by_position.sum(1).abs().max() < tolerances.symmetry * found.by_position.abs().max()


def test_a_rotation_of_the_crystal_and_its_waves_changes_nothing(potential_for, triclinic, waves, tolerances):
    """s is invariant when d → (1 + ω) d and v → (1 + ω) v with ω antisymmetric: at Γ, ω·ds/dε = −2 Re v†H ω v."""
    potential = potential_for(triclinic, num_layers=2)
    graph, zero = potential.graph(triclinic), torch.zeros(4, 3, dtype=torch.float64)
    found = BlochDerivatives(potential, graph)(zero, waves)
    matrix = BlochHessian(potential, graph)(zero[0])
    turn = torch.tensor([[0, -1.0, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.complex128)
    turned = (waves @ turn.t()).flatten(1)
    expected = -2 * torch.stack([(v.flatten().conj() @ matrix @ w).real for v, w in zip(waves, turned, strict=True)])
    slope = found.by_strain[:, 1, 0] - found.by_strain[:, 0, 1]
    assert (slope - expected).abs().max() < tolerances.symmetry * found.by_strain.abs().max()


def test_groups_of_waves_give_what_single_waves_give(potential_for, variant, triclinic, waves, tolerances):
    potential = potential_for(triclinic, num_layers=2, **variant)
    graph, points = potential.graph(triclinic), torch.tensor(POINTS).double()
    one_by_one = BlochDerivatives(potential, graph, max_edges=0)(points, waves)
    together = BlochDerivatives(potential, graph, max_edges=10**9)(points, waves)
    for name in vars(together):
        first, second = getattr(one_by_one, name), getattr(together, name)
        assert (first - second).abs().max() < tolerances.exact * first.abs().max()


def test_several_crystals_at_once_are_refused(potential_for, triclinic):
    potential = potential_for(triclinic, num_layers=2)
    graph = potential.graph(triclinic)
    with pytest.raises(InputError, match="one crystal at a time"):
        BlochDerivatives(potential, batch_graphs([graph, graph]))
