"""Our side. The argument is a `task.Task` as JSON; its model are our settings.

Energies, forces and stress are computed as the calculator computes them, with tables for the radial networks where
those repay their making; ``tables: false`` among the settings keeps the networks. With ``compiled: true`` the step is
that of ``training.compile``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import worker
from compiled_evaluation import CompiledEvaluation
from task import Task, TrainingStep, asked, facts
from torch import Tensor

import mlip
from mlip import Potential
from mlip.datasets.frame import LabelledFrame
from mlip.derivatives import evaluate, hessian
from mlip.graph import AtomicGraph, batch_graphs
from mlip.inference import for_inference, tables_repay
from mlip.training.compiled import CompiledGradients
from mlip.training.data import collate, sample
from mlip.training.loss import Loss
from mlip.training.settings import LossTermSettings


def main() -> None:
    task = asked()
    tables, compiled = task.model.pop("tables", True), task.model.pop("compiled", False)
    potential = Potential.from_config(task.model, task.species()).to(task.torch_dtype)
    graph = batch_graphs([potential.graph(atoms) for atoms in task.frames()])
    call = ahead(task, potential, graph) if compiled else prepared(task, potential, graph, tables)
    warm_up = 0 if task.call == "hessian" else 3
    worker.serve(call, facts(f"curie-mlip {mlip.__version__}", potential, graph.num_edges), warm_up)


class CompiledTrainingStep:
    """`task.TrainingStep` with the gradients of ``training.compile``."""

    def __init__(self, potential: Potential, task: Task) -> None:
        frames = [LabelledFrame(a, energy=a.get_potential_energy(), forces=a.get_forces()) for a in task.frames()]
        self.batch = collate([sample(f, potential.graph(f.atoms), k) for k, f in enumerate(frames)])
        loss = Loss.from_settings([LossTermSettings(target=target) for target in ("energy", "forces")])
        self.potential, self.factors = potential, loss.factors(loss.counts(self.batch))
        self.gradients = CompiledGradients(loss)
        self.optimizer = torch.optim.Adam(potential.parameters(), lr=1e-4, fused=True)

    def __call__(self) -> None:
        outcome = self.gradients(self.potential, self.batch, self.factors)
        for parameter, gradient in zip(self.potential.parameters(), outcome.gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()


def ahead(task: Task, potential: Potential, graph: AtomicGraph) -> Callable[[], object]:
    """What is timed of a compiled model; the compiler runs in the first call."""
    return CompiledTrainingStep(potential, task) if task.call == "train" else CompiledEvaluation(potential, graph)


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
