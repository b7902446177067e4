"""How far the run is, and the learning rate that goes with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from mlip.training.settings import LoopSettings


@dataclass(frozen=True)
class Budget:
    """The end of the run: so many steps or so many minutes, whichever comes first.

    Args:
        max_steps: Steps; infinity for no limit.
        max_minutes: Minutes of training, validation included, over all parts of a resumed run.
    """

    max_steps: float
    max_minutes: float

    @classmethod
    def from_settings(cls, settings: LoopSettings, steps_per_epoch: int) -> Budget:
        """The budget of the settings."""
        epochs = math.inf if settings.max_epochs is None else settings.max_epochs
        return cls(epochs * steps_per_epoch, settings.max_minutes or math.inf)

    def progress(self, step: int, minutes: float) -> float:
        """From 0 at the start to 1 at the end."""
        return min(1.0, max(step / self.max_steps, minutes / self.max_minutes))


class Schedule(Protocol):
    """The learning rate, as a factor on the largest one."""

    def factor(self, progress: float) -> float:
        """Factor in [0, 1] at this progress."""

    def validated(self, loss: float) -> None:
        """Take note of a validation loss."""

    def state_dict(self) -> dict[str, float]:
        """What a resumed run needs."""

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Take up where the other run was."""


class Constant:
    """The same rate throughout."""

    def factor(self, progress: float) -> float:  # noqa: ARG002
        """1."""
        return 1.0

    def validated(self, loss: float) -> None:
        """Nothing depends on it."""

    def state_dict(self) -> dict[str, float]:
        """Nothing to keep."""
        return {}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Nothing was kept."""


class Cosine(Constant):
    """½ (1 + cos π t): lands at zero when the budget is used up (SGDR without restarts, arXiv 1608.03983)."""

    def factor(self, progress: float) -> float:
        """½ (1 + cos π t)."""
        return 0.5 * (1.0 + math.cos(math.pi * progress))


class Plateau:
    """Multiply by a factor whenever the validation loss has not fallen for more than ``patience`` validations."""

    def __init__(self, factor: float, patience: int) -> None:
        self._step, self._patience = factor, patience
        self._current, self._best, self._waited = 1.0, math.inf, 0

    def factor(self, progress: float) -> float:  # noqa: ARG002
        """The product of the reductions so far."""
        return self._current

    def validated(self, loss: float) -> None:
        """Count validations without a better loss."""
        if loss < self._best:
            self._best, self._waited = loss, 0
            return
        self._waited += 1
        if self._waited > self._patience:
            self._current, self._waited = self._current * self._step, 0

    def state_dict(self) -> dict[str, float]:
        """Current factor, best loss, validations waited."""
        return {"current": self._current, "best": self._best, "waited": self._waited}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Take up where the other run was."""
        self._current, self._best, self._waited = state["current"], state["best"], int(state["waited"])


def make_schedule(settings: LoopSettings) -> Schedule:
    """The schedule of the settings."""
    if settings.schedule == "cosine":
        return Cosine()
    if settings.schedule == "plateau":
        return Plateau(settings.plateau_factor, settings.plateau_patience)
    return Constant()


def warmup(step: int, steps: int) -> float:
    """Factor that rises linearly to 1 over the first steps."""
    return min(1.0, (step + 1) / steps) if steps else 1.0
