"""What a worker is asked to do, read from its argument, and the training step that all packages share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structures
import torch
from ase import Atoms
from torch import Tensor, nn


@dataclass
class Task:
    """One call on one batch of structures.

    Attributes:
        structure: A name in `structures.NAMED`.
        model: The hyper-parameters, in the package's own words.
        call: ``evaluate`` (energy, forces, stress), ``train`` (a step) or ``hessian``.
        dtype: ``float32`` or ``float64``.
    """

    structure: str = "Si 216"
    model: dict[str, Any] = field(default_factory=dict)
    call: str = "evaluate"
    dtype: str = "float32"

    def frames(self) -> list[Atoms]:
        """The structures."""
        return structures.NAMED[self.structure]()

    def species(self) -> list[str]:
        """Their elements, by atomic number."""
        numbers = {int(z): symbol for a in self.frames() for z, symbol in zip(a.numbers, a.symbols, strict=True)}
        return [numbers[z] for z in sorted(numbers)]

    @property
    def torch_dtype(self) -> torch.dtype:
        """The precision of the weights."""
        return getattr(torch, self.dtype)


def asked() -> Task:
    """The task in the worker's argument."""
    return Task(**json.loads(sys.argv[1]))


class TrainingStep:
    """Squared errors of energy per atom and forces, their gradient, and a step of Adam.

    The gradient is computed as the package's own trainer does: of the parameters alone (ours), or of all leaves,
    positions included (peers).

    Args:
        model: What is trained.
        predict: → energies (B,) and forces (N, 3), differentiable by the weights.
        frames: The labelled batch.
        inputs: What is differentiated by; all leaves unless given.
    """

    def __init__(
        self,
        model: nn.Module,
        predict: Callable[[], tuple[Tensor, Tensor]],
        frames: list[Atoms],
        inputs: list[nn.Parameter] | None = None,
    ) -> None:
        self.predict, self.inputs = predict, inputs
        self.optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
        self.energies, self.forces = (torch.from_numpy(x) for x in structures.labels(frames))
        self.atoms = torch.tensor([len(atoms) for atoms in frames])

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        energies, forces = self.predict()
        errors = (energies.double() - self.energies) / self.atoms
        loss = errors.square().mean() + (forces.double() - self.forces).square().mean()
        loss.backward(inputs=self.inputs)
        self.optimizer.step()


def facts(package: str, model: nn.Module, edges: int) -> dict[str, object]:
    """What the table says of a worker."""
    return {"package": package, "parameters": sum(p.numel() for p in model.parameters()), "edges": edges}
