"""The default optimiser: orthogonal steps, of Adam's size, that repeat themselves after a restart."""

import copy

import pytest
import torch
from torch import nn

from mlip.training.muon import Muon, is_matrix, orthogonalize


def matrices(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8)])
def test_singular_values_are_driven_towards_one(shape):
    values = torch.linalg.svdvals(orthogonalize(matrices(*shape)))
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_singular_vectors_are_kept():
    matrix = matrices(12, 30)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    rotated = u.T @ orthogonalize(matrix) @ v.T
    assert torch.allclose(rotated, torch.diag(torch.diagonal(rotated)), atol=1e-12)


def test_the_size_of_the_gradient_does_not_matter():
    assert torch.allclose(orthogonalize(matrices(10, 20)), orthogonalize(1e-6 * matrices(10, 20)), atol=1e-12)


def test_a_stack_is_treated_matrix_by_matrix():
    stack = matrices(3, 10, 20)
    assert torch.allclose(orthogonalize(stack), torch.stack([orthogonalize(m) for m in stack]), atol=1e-13)


def test_no_gradient_no_step():
    assert not orthogonalize(torch.zeros(2, 8, 8)).any()


@pytest.mark.parametrize("shape", [(16, 64), (64, 16), (4, 32, 32)])
def test_a_step_has_the_rms_of_the_learning_rate(shape):
    weight = nn.Parameter(torch.zeros(*shape, dtype=torch.float64))
    weight.grad = matrices(*shape)
    Muon([weight], lr=0.01).step()
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.01, rel=0.3)


def test_vectors_and_thin_matrices_follow_adam():
    weight, other = (nn.Parameter(matrices(64, 1)) for _ in range(2))
    assert not is_matrix(weight)
    ours, adam = Muon([weight], lr=0.01), torch.optim.Adam([other], lr=0.01)
    for seed in range(5):
        weight.grad = other.grad = matrices(64, 1, seed=seed)
        ours.step()
        adam.step()
    assert torch.allclose(weight, other, atol=1e-14)


def test_a_restored_optimiser_goes_on_as_if_nothing_had_happened():
    def problem():
        return [nn.Parameter(matrices(12, 12)), nn.Parameter(matrices(12, seed=1))]

    def steps(parameters, optimizer, seeds):
        for seed in seeds:
            for k, parameter in enumerate(parameters):
                parameter.grad = matrices(*parameter.shape, seed=10 * seed + k)
            optimizer.step()

    whole = problem()
    steps(whole, Muon(whole, lr=0.01), range(6))
    halves = problem()
    first = Muon(halves, lr=0.01)
    steps(halves, first, range(3))
    second = Muon(halves, lr=0.5)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    steps(halves, second, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(whole, halves, strict=True))


def test_weight_decay_shrinks_matrices_alone():
    weight, bias = nn.Parameter(matrices(8, 8)), nn.Parameter(matrices(8))
    before = weight.detach().clone(), bias.detach().clone()
    weight.grad, bias.grad = torch.zeros_like(weight), torch.zeros_like(bias)
    Muon([weight, bias], lr=0.1, weight_decay=0.5).step()
    assert torch.allclose(weight, before[0] * 0.95, atol=1e-14)
    assert torch.equal(bias, before[1])
