"""Curie's principle as a selection rule: which order parameters a symmetric network asks for.

Smidt, Geiger & Miller (2007.02005): a square is to become a rectangle. A strict network given only the square
cannot do it, and the gradient of its loss with respect to an order-parameter input of value zero says what is
missing: it is non-zero only in tensors that the rectangle's point group leaves alone.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from e3nn import o3

from mlip.symmetry import invariant_count, point_group
from mlip.symmetry.characters import wigner_matrices

SQUARE = torch.tensor([[1, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0.0]], dtype=torch.float64) / 2
INPUTS = o3.Irreps([(1, (l, p)) for l in range(5) for p in (1, -1)])


class Network(torch.nn.Module):
    """One equivariant convolution over all pairs of corners, with an input b at each of them."""

    def __init__(self):
        super().__init__()
        self.harmonics = o3.Irreps.spherical_harmonics(4)
        pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
        self.source, self.target = (torch.tensor(v) for v in zip(*pairs, strict=True))
        self.product = o3.FullyConnectedTensorProduct(o3.Irreps("1x0e") + INPUTS, self.harmonics, "1x1o")

    def forward(self, b):
        edges = SQUARE[self.source] - SQUARE[self.target]
        angular = o3.spherical_harmonics(self.harmonics, edges, True, "component") / edges.norm(dim=1, keepdim=True)
        x = torch.cat([torch.ones(4, 1), b.expand(4, -1)], 1)
        messages = self.product(x[self.source], angular)
        return torch.zeros(4, 3).index_add(0, self.target, messages)


@pytest.fixture
def gradient(e3nn_float64):
    torch.manual_seed(0)
    network = Network()
    target = SQUARE * torch.tensor([0.5, -0.5, 0.0])
    zero = torch.zeros(INPUTS.dim, requires_grad=True)
    moved = network(zero)
    (result,) = torch.autograd.grad((moved - target).pow(2).mean(), zero)
    return moved.detach(), result.detach()


def test_a_strict_network_cannot_break_the_square(gradient):
    """Without an order parameter the corners move as D4h allows: radially, and all alike."""
    moved, _ = gradient
    assert torch.allclose(moved, SQUARE * (moved[0] @ SQUARE[0]) / (SQUARE[0] @ SQUARE[0]), atol=1e-12)


def test_the_gradient_names_the_missing_order_parameter(gradient):
    """Non-zero in 0e, 2e, 3e, 4e only, and within what D2h (mirrors x, y, z) leaves alone."""
    _, g = gradient
    group = point_group("D2h")
    size = float(g.norm())
    assert size > 1e-3
    inside = 0.0
    for part, (_, irrep) in zip(INPUTS.slices(), INPUTS, strict=True):
        v = g[part].numpy()
        projector = wigner_matrices(group.elements, irrep.l, irrep.p).mean(axis=0)
        allowed = invariant_count(group, irrep.l, irrep.p)
        assert np.isclose(np.trace(projector), allowed)
        assert np.linalg.norm(v - projector @ v) < 1e-12 * max(size, 1)
        if not allowed:
            assert np.linalg.norm(v) < 1e-12
        inside += float(np.linalg.norm(projector @ v) > 1e-8 * size)
    assert inside >= 3  # 2e and 4e among them, with 0e or 3e
    second = g[INPUTS.slices()[4]]
    assert str(INPUTS[4].ir) == "2e"
    assert second[4].abs() > 1e-6 * size  # z² − x² in e3nn's order: what tells x from y
