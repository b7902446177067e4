"""The exponential moving average of the weights, which is what is validated and saved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class WeightAverage:
    """A second model whose weights follow w̄ ← d w̄ + (1 − d) w, with d = min(decay, (1 + n)/(10 + n)) at step n.

    The smaller d of the first steps forgets the random start, so that the average is of use from the first
    validation on.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._average = AveragedModel(model, multi_avg_fn=_warm_average(decay))
        self._source = model

    @property
    def model(self) -> nn.Module:
        """The model with the averaged weights."""
        return self._average.module

    def update(self) -> None:
        """Follow the model by one step."""
        self._average.update_parameters(self._source)

    def state_dict(self) -> dict[str, Any]:
        """Weights and number of steps."""
        return self._average.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where the other run was."""
        self._average.load_state_dict(state)


class NoAverage:
    """The weights themselves, where no average was asked for."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def update(self) -> None:
        """The weights are their own average."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing was kept."""


def make_average(model: nn.Module, decay: float | None) -> WeightAverage | NoAverage:
    """The weight average of the settings."""
    return NoAverage(model) if decay is None else WeightAverage(model, decay)


def _warm_average(decay: float) -> Callable[[Any, Any, Any], None]:
    def average(averaged: Any, current: Any, steps: Any) -> None:
        n = int(steps)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averaged, current, steps)

    return average
