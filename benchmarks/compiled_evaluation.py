"""Energy, forces and stress of one structure, compiled: what a compiled calculator would do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mlip import Potential
from mlip.derivatives import evaluate
from mlip.graph import AtomicGraph
from mlip.training.compiled import compiled


class Evaluation:
    """Positions and connectivity → energies of the atoms, forces and stress, with the weights as constants."""

    fixed = 0

    def __init__(self, potential: Potential, graph: AtomicGraph) -> None:
        self.potential, self.graph = potential, graph

    def arguments(self) -> list[Tensor]:
        """What changes from step to step."""
        g = self.graph
        return [g.positions, g.species, g.source, g.target, g.shifts, g.structure]

    def __call__(self, *tensors: Tensor) -> list[Tensor]:
        names = ("positions", "species", "source", "target", "shifts", "structure")
        graph = AtomicGraph(**dict(zip(names, tensors, strict=True)), cells=self.graph.cells)
        found = evaluate(self.potential, graph, stress=True)
        return [found.atomic_energies, found.forces, found.stress]


class CompiledEvaluation:
    """The same for any number of edges, compiled in the first call."""

    def __init__(self, potential: Potential, graph: AtomicGraph) -> None:
        self._eager = Evaluation(potential.requires_grad_(False), graph)

    @cached_property
    def _function(self) -> Any:
        return compiled(self._eager, self._eager.arguments())

    def __call__(self) -> Sequence[Tensor]:
        with torch.no_grad():
            found: Sequence[Tensor] = self._function(list(self._eager.arguments()))
        return found
