"""Attention: a softmax that nothing enters or leaves abruptly, whose gradient is right at any size of the logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from mlip.exchange import Exchange
from mlip.nn.attention_weights import EnvelopedSoftmax, smooth_leaky_relu
from mlip.nn.features import EdgeContext

TARGET = torch.tensor([0, 0, 0, 1, 1, 3])
HEADS = 2


@pytest.fixture
def context(edge_context):
    """Six edges at three of four nodes, some close to the cutoff of 4 Å."""
    lengths = torch.tensor([1.5, 2.5, 3.9, 3.2, 3.95, 3.99], dtype=torch.float64)
    turns = Rotation.random(6, random_state=1).as_matrix()
    vectors = lengths[:, None] * torch.from_numpy(turns[:, 0])
    exchange = Exchange(torch.tensor([1, 2, 3, 0, 2, 0]), TARGET, 4)

    def make(scale: float = 1.0) -> EdgeContext:
        return edge_context(vectors * scale, exchange, torch.zeros(6, 1, dtype=torch.float64), 1)

    return make


def softmax_with_null(null: float) -> EnvelopedSoftmax:
    softmax = EnvelopedSoftmax(HEADS).double().requires_grad_(False)
    with torch.no_grad():
        softmax.null.fill_(null)
    return softmax


def direct(logits: torch.Tensor, softmax: EnvelopedSoftmax, edges: EdgeContext) -> torch.Tensor:
    """The definition without the shift: enough digits at moderate logits."""
    mass = edges.geometry.envelope.square() * torch.exp(logits)
    null = torch.nn.functional.softplus(softmax.null)
    totals = torch.stack([null + mass[node == TARGET].sum(0) for node in range(4)])
    return mass / totals[TARGET]


@pytest.mark.parametrize("offset", [-30.0, -3.0, 0.0, 3.0, 30.0])
def test_it_is_the_definition_and_its_gradient_is_right(context, offset, tolerances):
    """Also where |s| ~ 30: a null mass that forgot exp(−m) would give wrong gradients there."""
    softmax, edges = softmax_with_null(0.3), context()
    rng = torch.Generator().manual_seed(2)
    logits = (offset + torch.randn(6, HEADS, generator=rng, dtype=torch.float64)).requires_grad_(True)
    values = torch.randn(6, HEADS, generator=rng, dtype=torch.float64)
    weights = softmax(logits, edges)
    assert torch.allclose(weights, direct(logits, softmax, edges), rtol=1e-12, atol=0)

    def objective(x: torch.Tensor) -> torch.Tensor:
        return torch.log((softmax(x, edges) * values).square().sum())

    (gradient,) = torch.autograd.grad(objective(logits), logits)
    steps = 1e-3 * torch.eye(12, dtype=torch.float64).view(12, 6, HEADS)
    x = logits.detach()
    slopes = [
        (8 * (objective(x + h) - objective(x - h)) - (objective(x + 2 * h) - objective(x - 2 * h))) / 12e-3
        for h in steps
    ]
    assert (torch.stack(slopes).view(6, HEADS) - gradient).abs().max() < tolerances.derivative * gradient.abs().max()


def test_a_null_mass_without_the_shift_is_noticed(context, monkeypatch):
    """A test of the test: without exp(−m) the value depends on a shift that carries no gradient."""
    softmax, edges = softmax_with_null(0.3), context()
    largest = edges.exchange.largest
    logits = torch.full((6, HEADS), 3.0, dtype=torch.float64)
    healthy = softmax(logits, edges)
    original = torch.exp
    monkeypatch.setattr(torch, "exp", lambda x: torch.ones_like(x) if x.shape[0] == 4 else original(x))
    assert float(largest(logits).max()) == 3.0
    assert (softmax(logits, edges) - healthy).abs().max() > 0.1


def test_weights_of_a_target_sum_to_less_than_one(context):
    softmax, edges = softmax_with_null(-2.0), context()
    sums = edges.exchange.collect(softmax(torch.zeros(6, HEADS, dtype=torch.float64), edges))
    assert bool((sums < 1).all())
    assert float(sums[0].min()) > 0.5  # two close neighbours
    assert float(sums[2].max()) == 0.0  # none
    assert float(sums[3].max()) < 1e-10  # one that is about to leave


def test_large_logits_in_single_precision(context):
    softmax, edges = softmax_with_null(0.0).float(), context()
    for size in (-80.0, 80.0):
        weights = softmax(torch.full((6, HEADS), size), edges)
        assert bool(torch.isfinite(weights).all())
        assert (weights.sum() > 1) == (size > 0)


def test_the_activation_is_smooth_and_leaks():
    x = torch.linspace(-20, 20, 401, dtype=torch.float64)
    y = smooth_leaky_relu(x)
    np.testing.assert_allclose(y[[0, -1]], [-4.0, 20.0], atol=1e-5)
    assert float(y.diff().diff().abs().max()) < 0.01


def test_what_targets_hold_and_the_largest_of_what_arrives():
    exchange = Exchange(torch.tensor([1, 2, 0]), torch.tensor([0, 0, 2]), 3)
    nodes = torch.arange(12.0).view(3, 2, 2)
    assert torch.equal(exchange.receive(nodes), nodes[[0, 0, 2]])
    messages = torch.tensor([[1.0, -2.0], [3.0, -1.0], [-5.0, 0.5]], requires_grad=True)
    largest = exchange.largest(messages)
    assert largest.tolist() == [[3.0, 0.0], [0.0, 0.0], [0.0, 0.5]]
    assert not largest.requires_grad
