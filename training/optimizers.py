"""Optimisers: Muon by default, Adam and AdamW from torch."""

from __future__ import annotations

from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from mlip.training.muon import Muon
from mlip.training.settings import LoopSettings


def make_optimizer(model: nn.Module, settings: LoopSettings) -> Optimizer:
    """The optimiser of the settings, of all parameters of a module; biases and other vectors are not decayed."""
    if settings.optimizer == "muon":
        trained = [p for p in model.parameters() if p.requires_grad]
        return Muon(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    groups = parameter_groups(model, settings.weight_decay)
    if settings.optimizer == "adamw":
        return AdamW(groups, lr=settings.learning_rate, fused=True)
    return Adam(groups, lr=settings.learning_rate, amsgrad=settings.optimizer == "adam_amsgrad", fused=True)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Matrices, which decay, and vectors, which do not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in parameters if p.ndim >= 2]
    vectors = [p for p in parameters if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate
