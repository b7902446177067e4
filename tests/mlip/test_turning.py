"""Turning on the way is the same mathematics as copying and multiplying, to any derivative."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from ase.build import bulk
from torch._subclasses.fake_tensor import FakeTensorMode

from mlip.derivatives import evaluate
from mlip.exchange import Exchange
from mlip.nn.geometry import EdgeFrames
from mlip.turning import TurningExchange, exchange_within, pattern

NODES = 5
FRAMES = [(lmax, mmax) for lmax in (1, 2, 3, 4) for mmax in range(lmax + 1)]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ends(edges: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Not sorted, and node 4 has no edge."""
    source, target = torch.randint(NODES - 1, (2, edges), generator=torch.Generator().manual_seed(1))
    return source, target


def frames(lmax: int, mmax: int, edges: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """Natural and pseudo frame matrices of random edges."""
    direction = torch.nn.functional.normalize(draw(edges, 3), dim=1)
    natural, pseudo = EdgeFrames(lmax, pseudo=True, mmax=mmax).double()(direction)
    assert pseudo is not None
    return natural, pseudo


@pytest.mark.parametrize(("lmax", "mmax"), FRAMES)
def test_pattern_is_where_frame_matrices_are_not_zero(lmax, mmax):
    for matrix in frames(lmax, mmax):
        found = torch.zeros(matrix.shape[1:], dtype=torch.bool)
        where = pattern(*found.shape, last=len(found))
        found[where.rows, where.columns] = True
        assert torch.equal(found, (matrix != 0).any(0))


@pytest.mark.parametrize(("lmax", "mmax"), FRAMES)
def test_gather_and_collect(tolerances, lmax, mmax):
    """Values and both derivatives; messages with all rows, and without those of m = 0."""
    plain, turning = (kind(*ends(7), NODES) for kind in (Exchange, TurningExchange))
    for matrix in frames(lmax, mmax):
        _, rows, columns = matrix.shape
        nodes, zero = draw(NODES, columns, 3), lmax + columns - (lmax + 1) ** 2 + 1
        pairs = [[e.gather_turned(matrix, nodes) for e in (plain, turning)]]
        for sent in {rows, rows - zero} - {0}:
            messages, back = draw(7, sent, 3), (matrix * draw(7, 1, 1)).transpose(1, 2)
            pairs.append([e.collect_turned(back, messages) for e in (plain, turning)])
        for expected, found in pairs:
            torch.testing.assert_close(found, expected, rtol=tolerances.exact, atol=tolerances.exact)


@pytest.mark.parametrize("second", [False, True])
def test_derivatives(second):
    """First and second derivatives by matrices, nodes and messages, against finite differences."""
    check = torch.autograd.gradgradcheck if second else torch.autograd.gradcheck

    def there_and_back(matrix, nodes, messages):
        exchange = TurningExchange(*ends(4), NODES)  # a new one: it keeps the entries of a matrix
        turned = exchange.gather_turned(matrix, nodes)
        return exchange.collect_turned(matrix.transpose(1, 2), turned * messages)

    inputs = [frames(2, 2, edges=4)[0], draw(NODES, 8, 2), draw(4, 8, 2, seed=3)]
    # entries outside of the blocks are taken for zero, so only a matrix that keeps them so may be varied
    blocks = (inputs[0] != 0).any(0)
    varied = [tensor.requires_grad_(True) for tensor in inputs]
    assert check(lambda m, x, y: there_and_back(m * blocks, x, y), varied)


@pytest.fixture
def evaluated(monkeypatch):
    """Everything that is differentiated: E, F, and ∂/∂weights of |F|² and of v·H·v."""

    def run(potential, atoms, kind):
        potential = deepcopy(potential)
        monkeypatch.setattr("mlip.potential.exchange_within", lambda s, t, n, _: kind(s, t, n))
        graph = potential.graph(atoms)
        result = evaluate(potential, graph, create_graph=True)
        assert result.edge_forces is not None
        edges = draw(graph.num_edges, 3).to(potential.dtype)
        (response,) = torch.autograd.grad(
            (result.edge_forces * edges).sum(), list(potential.parameters())[:1], create_graph=True, allow_unused=True
        )
        loss = result.forces.square().sum() + (0 if response is None else response.square().sum())
        gradients = torch.autograd.grad(loss, list(potential.parameters()), allow_unused=True)
        return [result.energy.detach(), result.forces.detach(), *(g for g in gradients if g is not None)]

    return run


def test_potentials_and_the_gradients_of_their_weights(potential_for, triclinic, variant, evaluated, tolerances):
    potential = potential_for(triclinic, **variant)
    expected, found = (evaluated(potential, triclinic, kind) for kind in (Exchange, TurningExchange))
    assert len(expected) == len(found) > 10
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(b, a, rtol=0, atol=tolerances.symmetry * float(a.abs().max()) + 1e-14)


def test_a_wrong_entry_would_be_seen(monkeypatch, potential_for, triclinic, evaluated):
    """The comparison above has teeth."""
    potential = potential_for(triclinic)
    expected = evaluated(potential, triclinic, Exchange)
    true = pattern

    def lacking(rows, columns, last):
        where = deepcopy(true(rows, columns, last))
        where.columns[-1] = 0  # outside of its block, so that an entry is missing
        return where

    monkeypatch.setattr("mlip.turning.pattern", lacking)
    found = evaluated(potential, triclinic, TurningExchange)
    assert (found[1] - expected[1]).abs().max() > 1e-3 * expected[1].abs().max()


def test_it_is_taken_where_it_is_faster():
    def taken(edges: int, **options) -> type[Exchange]:
        return type(exchange_within(*ends(edges), NODES, torch.zeros(edges, 3, **options)))

    assert taken(2000) is TurningExchange
    assert taken(2000, dtype=torch.float64) is taken(500) is taken(0) is Exchange
    for without in (FakeTensorMode(), torch.inference_mode()):
        with without:
            assert taken(2000) is Exchange


def test_single_precision(potential_for, variant, tolerances):
    """Where it is taken by itself: 96 atoms in float32, beside float64."""
    atoms = bulk("SiO", "rocksalt", a=4.6, cubic=True) * (3, 2, 2)
    atoms.rattle(0.1, seed=0)
    exact = potential_for(atoms, **variant)
    single = deepcopy(exact).float()
    assert single.graph(atoms).num_edges > 1500
    expected, found = (evaluate(p, p.graph(atoms), stress=True) for p in (exact, single))
    for name in ("forces", "stress"):
        a, b = getattr(expected, name), getattr(found, name)
        assert (a - b).abs().max() < tolerances.single * a.abs().max()
