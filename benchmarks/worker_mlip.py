"""Our side. The argument is a `task.Task` as JSON; its model are our settings.

Energies, forces and stress are computed as the calculator computes them, with tables for the radial networks where
those repay their making; ``tables: false`` among the settings keeps the networks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import worker
from task import Task, TrainingStep, asked, facts
from torch import Tensor

import mlip
from mlip import Potential
from mlip.derivatives import evaluate, hessian
from mlip.graph import AtomicGraph, batch_graphs
from mlip.inference import for_inference, tables_repay


def main() -> None:
    task = asked()
    tables = task.model.pop("tables", True)
    potential = Potential.from_config(task.model, task.species()).to(task.torch_dtype)
    graph = batch_graphs([potential.graph(atoms) for atoms in task.frames()])
    call = prepared(task, potential, graph, tables)
    warm_up = 0 if task.call == "hessian" else 3
    worker.serve(call, facts(f"curie-mlip {mlip.__version__}", potential, graph.num_edges), warm_up)


def prepared(task: Task, potential: Potential, graph: AtomicGraph, tables: bool) -> Callable[[], object]:
    """What is timed."""

    def predict() -> tuple[Tensor, Tensor]:
        found = evaluate(potential, graph, create_graph=True)
        return found.energy, found.forces

    if task.call == "train":
        return TrainingStep(potential, predict, task.frames(), list(potential.parameters()))
    frozen = potential.requires_grad_(False)
    if task.call == "hessian":
        return lambda: hessian(frozen, graph)

    @cache
    def fast() -> Potential:  # the tables are made in the first call, whose time is told
        return for_inference(frozen) if tables and tables_repay(frozen, graph) else frozen

    return lambda: evaluate(fast(), graph, stress=True)


if __name__ == "__main__":
    main()
