"""Everything that changes while a run goes on, and nothing else: what a checkpoint holds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn
from torch.optim import Optimizer

from mlip.potential import Potential
from mlip.training.denoising import DenoisingTask
from mlip.training.ema import NoAverage, WeightAverage
from mlip.training.schedule import Schedule


@dataclass
class Position:
    """Where in the run we are.

    Attributes:
        epoch: Finished epochs.
        batch: Finished batches of the epoch under way.
        step: Optimiser steps so far.
        best_loss: Best validation loss.
        best_epoch: The epoch it was found in.
        train_loss: Sum of the losses of the steps of this epoch.
        train_errors: ``ErrorSums`` of this epoch.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_loss: float = math.inf
    best_epoch: int = 0
    train_loss: float = 0.0
    train_errors: list[float] = field(default_factory=list)


class Clock:
    """Minutes of training over all parts of a resumed run.

    Args:
        seconds: What is read: ``time.process_time`` counts the process's own time, which neighbours do not change.
    """

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._before, self._start = 0.0, seconds()

    @property
    def minutes(self) -> float:
        """Minutes so far."""
        return self._before + (self._seconds() - self._start) / 60.0

    def start(self, minutes: float) -> None:
        """Go on from the minutes that earlier parts took."""
        self._before, self._start = minutes, self._seconds()


@dataclass
class TrainingState:
    """Weights, their average, those of an auxiliary task, optimiser, schedule, position and clock.

    No random state is kept: the order of frames and the noise of a step follow from the seed and the step's
    number (`mlip.training.data.Sampler`, `mlip.training.step`).
    """

    model: Potential
    average: WeightAverage | NoAverage
    optimizer: Optimizer
    schedule: Schedule
    task: DenoisingTask | None = None
    position: Position = field(default_factory=Position)
    clock: Clock = field(default_factory=Clock)

    def parameters(self) -> Iterator[nn.Parameter]:
        """All that is trained: the model, and the task that leaves no trace in it."""
        yield from self.model.parameters()
        if self.task is not None:
            yield from self.task.parameters()

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only."""
        return {
            "model": self.model.state_dict(),
            "task": {} if self.task is None else self.task.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "position": asdict(self.position),
            "minutes": self.clock.minutes,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where the other run was."""
        self.model.load_state_dict(state["model"])
        if self.task is not None:
            self.task.load_state_dict(state["task"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.position = Position(**state["position"])
        self.clock.start(state["minutes"])

    @property
    def averaged_model(self) -> Potential:
        """The model that is validated and saved: with averaged weights where an average is kept."""
        model = self.average.model
        if not isinstance(model, Potential):
            raise TypeError("the averaged model is not a Potential")
        return model
