"""Muon: steps along the orthogonalised momentum of each weight matrix, Adam for everything that is not a matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

# Quintic Newton–Schulz iteration of Jordan et al. (2024): drives singular values towards one within five rounds.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5
# Below this a matrix has too few directions for orthogonalising to mean anything.
_SMALLEST_SIDE = 8


class Muon(Optimizer):
    """Muon for matrices and stacks of matrices, Adam for the rest, with one learning rate for both.

    The update of a matrix is scaled to an rms of one per element, the size of Adam's, so that schedules and
    learning rates carry over. torch's own Muon refuses stacks of matrices (one per degree or species here) and
    iterates in bfloat16, in which a resumed or distributed run would not repeat itself.

    Args:
        parameters: What to optimise.
        lr: Learning rate.
        momentum: Of the matrices' gradients, Nesterov style.
        betas: Adam's, for the other parameters.
        weight_decay: Decoupled, of matrices alone.
        eps: Guards divisions.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float = 0.01,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        chosen = list(parameters)
        groups = [
            {"params": [p for p in chosen if is_matrix(p)], "matrices": True, "weight_decay": weight_decay},
            {"params": [p for p in chosen if not is_matrix(p)], "matrices": False, "weight_decay": 0.0},
        ]
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update from the gradients that are there."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            updates = self._orthogonal if group["matrices"] else self._adaptive
            trained = [p for p in group["params"] if p.grad is not None]
            for parameter, update in zip(trained, updates(trained, group), strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])
        return loss

    def _orthogonal(self, parameters: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        """Matrices of one shape are orthogonalised together, whichever parameters they belong to."""
        directions = [self._with_momentum(p, group["momentum"]) for p in parameters]
        shapes = [d.shape[-2:] for d in directions]
        for shape in dict.fromkeys(shapes):
            chosen = [k for k, other in enumerate(shapes) if other == shape]
            stacks = [directions[k].reshape(-1, *shape) for k in chosen]
            done = orthogonalize(torch.cat(stacks), group["eps"]) * max(shape) ** 0.5
            for k, part in zip(chosen, done.split([len(stack) for stack in stacks]), strict=True):
                directions[k] = part.reshape(directions[k].shape)
        return directions

    def _with_momentum(self, parameter: Tensor, momentum: float) -> Tensor:
        state, gradient = self.state[parameter], _gradient(parameter)
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        average = state["momentum"].mul_(momentum).add_(gradient)
        return gradient + momentum * average

    def _adaptive(self, parameters: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        return [self._adam(p, group) for p in parameters]

    def _adam(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        state, gradient = self.state[parameter], _gradient(parameter)
        if "count" not in state:
            state.update(count=0, mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter))
        state["count"] += 1
        first, second = group["betas"]
        mean = state["mean"].lerp_(gradient, 1 - first) / (1 - first ** state["count"])
        square = state["square"].lerp_(gradient.square(), 1 - second) / (1 - second ** state["count"])
        return mean / (square.sqrt() + group["eps"])


def _gradient(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        raise RuntimeError("a parameter without gradient cannot be stepped")
    return parameter.grad


def is_matrix(parameter: Tensor) -> bool:
    """Whether a parameter is a matrix, or a stack of matrices, worth orthogonalising."""
    return parameter.ndim >= 2 and min(parameter.shape[-2:]) >= _SMALLEST_SIDE


def orthogonalize(matrices: Tensor, eps: float = 1e-8) -> Tensor:
    """The nearest semi-orthogonal matrices, roughly: U·Vᵀ with singular values between about 0.7 and 1.2.

    Args:
        matrices: (…, m, n).
        eps: Guards the division by the norm.

    Returns:
        (…, m, n); zero where the input is zero.
    """
    x = matrices / (matrices.flatten(-2).norm(dim=-1)[..., None, None] + eps**2)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    a, b, c = _COEFFICIENTS
    for _ in range(_ROUNDS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.mT if tall else x
