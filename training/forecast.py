"""What a run will cost: a few steps of the real model on the real frames, timed."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mlip.datasets.frame import LabelledFrame
from mlip.potential import Potential
from mlip.training.data import FrameSet
from mlip.training.distributed import OneProcess, choose_device
from mlip.training.ema import make_average
from mlip.training.loop import default_interval
from mlip.training.loss import Loss
from mlip.training.normalization import compute_normalization
from mlip.training.optimizers import make_optimizer
from mlip.training.schedule import make_schedule
from mlip.training.settings import TrainingSettings
from mlip.training.state import TrainingState
from mlip.training.step import Step

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_MAX_FRAMES = 40  # enough for a mean
_PATIENCE = 6.0  # s of timed steps at most


@dataclass(frozen=True)
class Forecast:
    """Measured cost of a run's parts.

    Attributes:
        step: One step of typical frames, s.
        steps_per_epoch: Steps in an epoch.
        validation_frames: Frames of one validation.
        batch_size: Frames in a step.
        epochs: The settings' limit; infinity for none.
        minutes: The settings' limit; infinity for none.
        memory: Peak memory of the process that read all frames and made a step of the largest, bytes.
        parameters: Of the model.
        neighbors: Mean neighbours of an atom.
    """

    step: float
    steps_per_epoch: int
    validation_frames: int
    batch_size: int
    epochs: float
    minutes: float
    memory: int
    parameters: int
    neighbors: float

    @property
    def epoch(self) -> float:
        """Seconds an epoch takes, its share of the validations included; one costs a third of a step per frame."""
        frames = self.steps_per_epoch * self.batch_size
        validation = self.validation_frames * self.step / (3.0 * self.batch_size)
        return self.steps_per_epoch * self.step + validation / default_interval(frames, self.validation_frames)

    @property
    def run_minutes(self) -> float:
        """Length of the run, whichever limit ends it."""
        return min(self.minutes, self.epochs * self.epoch / 60.0)

    @property
    def run_epochs(self) -> float:
        """Epochs within that."""
        return min(self.epochs, 60.0 * self.minutes / self.epoch)

    def lines(self) -> list[str]:
        """Two lines for people."""
        step = f"a step of {self.batch_size} frames takes {1e3 * self.step:.0f} ms here, an epoch {self.epoch:.3g} s"
        size = f"{self.parameters} parameters, {self.neighbors:.0f} neighbours"
        return [
            f"{step}: {self.run_minutes:.3g} minutes are {self.run_epochs:.0f} epochs",
            f"memory about {self.memory / 2**30:.2g} GiB; {size}",
        ]


def forecast(settings: TrainingSettings, frames: Sequence[LabelledFrame], validation: int) -> Forecast:
    """Time a few optimiser steps, in which nothing is kept.

    Args:
        settings: The run's settings.
        frames: Its training frames.
        validation: Number of its validation frames.

    Raises:
        InputError: A frame cannot be made a graph, or the device is not there.
    """
    settings = settings.model_copy(update={"training": settings.training.model_copy(update={"warmup_steps": 0})})
    rng = np.random.default_rng(settings.seed)
    chosen = rng.permutation(len(frames))[:_MAX_FRAMES].tolist()
    largest = sorted(range(len(frames)), key=lambda i: -len(frames[i]))[: settings.training.batch_size]
    before = torch.get_num_threads()
    torch.set_num_threads(settings.training.threads)
    try:
        with torch.random.fork_rng():
            return _measure(settings, [frames[i] for i in [*largest, *chosen]], len(largest), len(frames), validation)
    finally:
        torch.set_num_threads(before)


def _measure(
    settings: TrainingSettings, frames: list[LabelledFrame], largest: int, count: int, validation: int
) -> Forecast:
    """Steps of random frames are timed; the one of the largest frames comes first and sets the memory."""
    loop = settings.training
    device = choose_device(loop.device)
    species = sorted({symbol for frame in frames for symbol in frame.atoms.get_chemical_symbols()})
    known = FrameSet("forecast", frames, cutoff=settings.model.cutoff, species=species, dtype=_DTYPES[loop.dtype])
    normalization = compute_normalization(known, {})
    model = Potential.from_config(settings.model, species, normalization)
    model = model.to(device=device, dtype=_DTYPES[loop.dtype])
    state = TrainingState(model, make_average(model, loop.ema), make_optimizer(model, loop), make_schedule(loop))
    loss = Loss.from_settings(settings.loss, settings.dens)
    step = Step(loss, OneProcess(), loop.clip or math.inf, settings.seed)
    rng = np.random.default_rng(settings.seed)
    typical = range(largest, len(frames))
    batches = [list(range(largest)), *(rng.choice(typical, loop.batch_size).tolist() for _ in range(9))]
    times: list[float] = []
    for indices in batches:
        start = time.perf_counter()
        batch = known.batch(indices, device)
        step(state, batch, loss.counts(batch), 1e-6, 0.0)
        times.append(time.perf_counter() - start)
        if len(times) > 3 and sum(times) > _PATIENCE:
            break
    return Forecast(
        step=float(np.median(times[2:] or times)),
        steps_per_epoch=-(-count // loop.batch_size),
        validation_frames=validation,
        batch_size=loop.batch_size,
        epochs=math.inf if loop.max_epochs is None else float(loop.max_epochs),
        minutes=loop.max_minutes or math.inf,
        memory=peak_memory(),
        parameters=sum(p.numel() for p in model.parameters()),
        neighbors=normalization.avg_num_neighbors,
    )


def peak_memory() -> int:
    """The largest resident memory this process has had, bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
