"""What second derivatives cost, in units of one force call, by process time."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from ase.build import bulk

from mlip import Potential
from mlip.derivatives import HessianOperator, evaluate, hessian_vector_product


def cost(function: Callable[[], object], unit: Callable[[], object], repeats: int = 12) -> float:
    """Cost of one call in units of another: the shortest of several runs, taken in turn."""
    times: dict[Callable[[], object], list[float]] = {function: [], unit: []}
    for _ in range(repeats):
        for each in (unit, function):
            start = time.process_time()
            each()
            times[each].append(time.process_time() - start)
    return min(times[function]) / min(times[unit])


@pytest.fixture
def workload():
    atoms = bulk("Si", cubic=True).repeat(2)
    atoms.rattle(0.05, seed=1)
    potential = Potential.from_config({"preset": "small"}, ["Si"]).requires_grad_(False)
    graph = potential.graph(atoms)
    return potential, graph, torch.ones(64, 3).cumsum(0) * 0.01


@pytest.mark.slow
def test_hessian_vector_product(workload):
    potential, graph, vector = workload
    assert cost(lambda: hessian_vector_product(potential, graph, vector), lambda: evaluate(potential, graph)) <= 2.5


@pytest.mark.slow
def test_hessian_column(workload):
    """The graph of the first derivative is kept: each further column is one backward pass."""
    potential, graph, vector = workload
    operator = HessianOperator(potential, graph)
    assert cost(lambda: operator(vector), lambda: evaluate(potential, graph)) <= 1.5
