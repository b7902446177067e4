"""The training step, compiled: loss, predictions and gradients of the weights as one graph of plain operations.

torch cannot differentiate a compiled function twice, and a loss on forces needs that. So all derivatives are taken
first, while the step is traced once on tensors without values; what is left is compiled by inductor for any number
of structures, atoms and edges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch._guards import TracingContext, tracing
from torch._inductor import config
from torch._inductor.compile_fx import compile_fx_inner
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.virtualized import V
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from mlip.errors import InputError
from mlip.potential import Potential
from mlip.training.data import Batch
from mlip.training.loss import Loss, Prediction
from mlip.training.state import TrainingState
from mlip.training.step import Share, Step, predict

_GRAPH = ("positions", "species", "source", "target", "shifts", "cells", "structure")
_LABELS = ("energy", "forces", "stress", "has_energy", "has_forces", "has_stress", "weight", "num_atoms")
aten = torch.ops.aten
_CHECKS = 2  # batches of different sizes, so that a size which was taken for a constant is found
# In-place buffers of torch 2.13 are sometimes freed before their last use.
_OPTIONS = {"inplace_buffers": False}
# Largest deviations from the eager step: energy per atom in the network's unit, the others relative.
_ENERGY, _FORCES, _GRADIENT = 1e-5, 1e-4, 1e-4


@dataclass(frozen=True)
class Outcome:
    """What a step computes.

    Attributes:
        value: The loss, a float64 scalar.
        prediction: Energies, forces and, where the loss asks for it, stress.
        gradients: Of the trained weights; None where the loss does not depend on one.
    """

    value: Tensor
    prediction: Prediction
    gradients: list[Tensor | None]

    def flat(self) -> list[Tensor | None]:
        """All of it in one list."""
        p = self.prediction
        return [self.value, p.energy, p.forces, p.stress, *self.gradients]

    @classmethod
    def of(cls, flat: Sequence[Any]) -> Outcome:
        """From that list."""
        value, energy, forces, stress, *gradients = flat
        return cls(value, Prediction(energy, forces, stress), gradients)


class _Predictor(nn.Module):
    """`predict` as a module, so that the weights can be handed in."""

    def __init__(self, model: Potential, targets: set[str]) -> None:
        super().__init__()
        self.model, self.targets = model, targets

    def forward(self, batch: Batch) -> Prediction:
        return predict(self.model, batch, self.targets, create_graph=True)


class StepFunction:
    """Weights, batch and factors of the terms → ``Outcome``, as a function of a flat list of tensors.

    Args:
        model: The potential; its trained weights are those that require a gradient.
        loss: What is minimised.
        pattern: A batch whose tensors are replaced.
    """

    def __init__(self, model: Potential, loss: Loss, pattern: Batch) -> None:
        self.predictor = _Predictor(model, loss.targets)
        self.loss, self.pattern = loss, replace(pattern, frames=())
        self.trained = [name for name, p in self.predictor.named_parameters() if p.requires_grad]
        self.state = [*dict(self.predictor.named_parameters()), *dict(self.predictor.named_buffers())]

    def arguments(self, batch: Batch, factors: Tensor) -> list[Tensor]:
        """What the function is called with: weights and constants, the factors, the batch."""
        own = {**dict(self.predictor.named_parameters()), **dict(self.predictor.named_buffers())}
        graph = [getattr(batch.graph, name) for name in _GRAPH]
        return [*(own[name].detach() for name in self.state), factors, *graph, *(getattr(batch, n) for n in _LABELS)]

    @property
    def fixed(self) -> int:
        """How many arguments have the same shape in every batch."""
        return len(self.state) + 1

    def __call__(self, *arguments: Tensor) -> list[Tensor | None]:
        """`Outcome.flat` of these arguments."""
        state = dict(zip(self.state, arguments[: len(self.state)], strict=True))
        state |= {name: state[name].detach().requires_grad_(True) for name in self.trained}
        batch = self._batch(arguments[self.fixed :])
        with torch.enable_grad():
            prediction = torch.func.functional_call(self.predictor, state, (batch,))
            value = torch.stack(self.loss.sums(prediction, batch)) @ arguments[len(self.state)]
            gradients = torch.autograd.grad(value, [state[name] for name in self.trained], allow_unused=True)
        flat = Outcome(value, prediction, list(gradients)).flat()
        return [None if tensor is None else tensor.detach() for tensor in flat]

    def _batch(self, tensors: Sequence[Tensor]) -> Batch:
        graph = dict(zip(_GRAPH, tensors[: len(_GRAPH)], strict=True))
        labels: dict[str, Any] = dict(zip(_LABELS, tensors[len(_GRAPH) :], strict=True))
        return replace(self.pattern, graph=replace(self.pattern.graph, **graph), **labels)


def traced(function: StepFunction, arguments: Sequence[Tensor]) -> GraphModule:
    """The function as a graph of plain operations that no longer differentiates, for batches of any size."""
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    fakes = [_fake(mode, tensor, growing=k >= function.fixed) for k, tensor in enumerate(arguments)]
    with mode:  # without the table some gradients of this trace are wrong
        return make_fx(function, decomposition_table={**select_decomp_table(), aten.index_add.default: _summed})(
            *fakes
        )


def compiled(function: StepFunction, arguments: Sequence[Tensor]) -> Callable[[list[Tensor]], Sequence[Any]]:
    """The function for batches of any size, from one example; takes a list of tensors.

    Raises:
        InputError: torch's compiler failed, or there is no C++ compiler.
    """
    try:
        graph = traced(function, arguments)
        inputs = [node.meta["val"] for node in graph.graph.find_nodes(op="placeholder")]
        mode = inputs[0].fake_mode
        with torch.no_grad(), V.set_fake_mode(mode), tracing(TracingContext(mode)), config.patch(_OPTIONS):
            result: Callable[[list[Tensor]], Sequence[Any]] = compile_fx_inner(graph, inputs)
            result(list(arguments))
    except Exception as error:  # whatever a compiler can raise
        first = next(iter(str(error).strip().splitlines()), "")
        raise InputError(
            f"torch could not compile the step: {type(error).__name__}: {first}",
            key="training.compile",
            mend="a C++ compiler (g++) is needed; or training.compile: false",
        ) from error
    return result


@torch.library.custom_op("mlip::index_add", mutates_args=())
def _index_add(total: Tensor, dim: int, index: Tensor, source: Tensor, alpha: float) -> Tensor:
    """Torch's own, hidden from inductor, whose loops of scattered sums are sometimes read before they have run."""
    return total.index_add(dim, index, source, alpha=alpha)


@_index_add.register_fake
def _(total: Tensor, dim: int, index: Tensor, source: Tensor, alpha: float) -> Tensor:  # noqa: ARG001
    return torch.empty_like(total, memory_format=torch.contiguous_format)


def _summed(total: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1.0) -> Tensor:
    summed: Tensor = _index_add(total, dim, index, source, float(alpha))
    return summed


def _fake(mode: FakeTensorMode, tensor: Tensor, *, growing: bool) -> Tensor:
    """The tensor without values, its first dimension open where it grows with the batch."""
    if not growing:
        return mode.from_tensor(tensor, static_shapes=True)
    dims = [DimDynamic.DUCK, *[DimDynamic.STATIC] * (tensor.dim() - 1)]
    return mode.from_tensor(tensor, symbolic_context=StatelessSymbolicContext(dynamic_sizes=dims))


class CompiledGradients:
    """Loss, predictions and gradients of a batch, compiled at the first batch and held against the eager step.

    Args:
        loss: What is minimised.
    """

    def __init__(self, loss: Loss) -> None:
        self.loss = loss
        self._function: StepFunction | None = None
        self._compiled: Any = None
        self._checked: set[tuple[int, ...]] = set()

    @staticmethod
    def serves(batch: Batch) -> bool:
        """Whether the three sizes of a batch are different and none is one, which torch takes for a constant."""
        sizes = _sizes(batch)
        return min(sizes) > 1 and len(set(sizes)) == len(sizes)

    def __call__(self, model: Potential, batch: Batch, factors: Sequence[float]) -> Outcome:
        """Loss, predictions and gradients.

        Args:
            model: The same in every call; its weights may differ.
            batch: One that it serves.
            factors: Weight over count of every term.

        Raises:
            InputError: torch could not compile the step, or the compiled step is not the eager one.
        """
        if self._function is None:
            self._function = StepFunction(model, self.loss, batch)
        weights = torch.tensor(factors, dtype=torch.float64, device=model.device)
        arguments = self._function.arguments(batch, weights)
        if self._compiled is None:
            self._compiled = compiled(self._function, arguments)
        with torch.no_grad():
            outcome = Outcome.of(self._compiled(list(arguments)))
        if len(self._checked) < _CHECKS and _sizes(batch) not in self._checked:
            self._checked.add(_sizes(batch))
            check(outcome, Outcome.of(self._function(*arguments)), batch, float(model.reference.scale))
        return outcome


def _sizes(batch: Batch) -> tuple[int, int, int]:
    return batch.graph.num_structures, batch.graph.num_atoms, batch.graph.num_edges


def check(found: Outcome, eager: Outcome, batch: Batch, scale: float) -> None:
    """Hold a compiled step against the eager one.

    Args:
        found: Of the compiled step.
        eager: Of the eager step.
        batch: What both were computed on.
        scale: The network's unit of energy, eV.

    Raises:
        InputError: Energies differ by more than 1e-5 units per atom, forces or stress by more than 1e-4 of the
            largest, or the gradient of a weight by more than 1e-4 of its norm.
    """
    energy = (found.prediction.energy - eager.prediction.energy).abs() / batch.num_atoms
    deviations = {"energy": float(energy.max()) / (scale * _ENERGY)}
    deviations["forces"] = _largest(found.prediction.forces, eager.prediction.forces) / _FORCES
    if eager.prediction.stress is not None and found.prediction.stress is not None:
        deviations["stress"] = _largest(found.prediction.stress, eager.prediction.stress) / _FORCES
    deviations["gradient"] = _gradient_deviation(found.gradients, eager.gradients) / _GRADIENT
    worst = max(deviations, key=lambda name: deviations[name])
    if not all(value <= 1.0 for value in deviations.values()):
        times = f"{deviations[worst]:.3g} times what rounding may do"
        raise InputError(
            f"the compiled step differs from the eager one: {worst}, {times}",
            key="training.compile",
            mend="training.compile: false",
        )


def _largest(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


def _gradient_deviation(found: Sequence[Tensor | None], expected: Sequence[Tensor | None]) -> float:
    """Largest ‖Δg‖/‖g‖ of any weight; below a hundredth of the whole gradient, relative to that."""
    if [g is None for g in found] != [g is None for g in expected]:
        return float("inf")
    pairs = [(f, e) for f, e in zip(found, expected, strict=True) if f is not None and e is not None]
    norms = torch.stack([e.norm() for _, e in pairs])
    errors = torch.stack([(f - e).norm() for f, e in pairs])
    return float((errors / norms.clamp(min=float(norms.norm()) * 1e-2)).max())


@dataclass(frozen=True)
class CompiledStep(Step):
    """A step whose gradients come from the compiled graph; see :class:`mlip.training.step.Step`."""

    @cached_property
    def gradients(self) -> CompiledGradients:
        """Compiled at the first batch."""
        return CompiledGradients(self.loss)

    def _differentiate(
        self, state: TrainingState, share: Share, parameters: Sequence[nn.Parameter]
    ) -> tuple[Tensor, Prediction | None]:
        """As the eager step does; a batch of one structure, which the graph does not serve, goes through that."""
        if share.batch is None or not self.gradients.serves(share.batch):
            return super()._differentiate(state, share, parameters)
        outcome = self.gradients(state.model, share.batch, self.loss.factors(share.counts, share.progress))
        for parameter, gradient in zip(parameters, outcome.gradients, strict=True):
            parameter.grad = gradient
        return outcome.value, outcome.prediction
