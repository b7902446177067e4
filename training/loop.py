"""The loop: epochs of steps, validation on averaged weights, the best model, checkpoints, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlip.potential import Potential
from mlip.training.anneal import Annealing, strict_part
from mlip.training.checkpoint import CheckpointClock, explained, save_checkpoint
from mlip.training.corruption import Corruption
from mlip.training.curvature import Question
from mlip.training.data import Batch, FrameSet, Sampler
from mlip.training.distributed import Group
from mlip.training.hessian import CurvatureLoss
from mlip.training.loss import Loss
from mlip.training.metrics import COLUMNS, CsvTable, ErrorSums, error_metrics
from mlip.training.progress import Reporter
from mlip.training.schedule import Budget, warmup
from mlip.training.settings import LoopSettings
from mlip.training.signals import StopRequest
from mlip.training.state import TrainingState
from mlip.training.step import DivergenceError, Probing, Step
from mlip.training.validation import Validation, validate

TIMING = ["epoch", "step", "minutes", "step_ms", "validation_s"]


@dataclass(frozen=True)
class Outcome:
    """How the loop ended: ``reason`` in words; ``signal`` when it was interrupted and can be resumed."""

    reason: str
    signal: int | None = None


class Loop:
    """Trains until the budget is used up, the validation loss stops falling, or somebody asks it to stop.

    Args:
        settings: The optimisation's settings.
        state: Changed in place; may come from a checkpoint.
        loss: What is minimised.
        train: Frames to train on.
        corruption: Moves atoms of the training frames; None without denoising.
        validation: Frames the best model is chosen by.
        group: The processes that train together.
        folder: The run's folder; only the first process writes.
        seed: Seed of the order of frames and of noise.
        describe: Puts the description into the model before it is saved.
        save_extra: Plain values that go into each checkpoint.
        reporter: Shows progress.
        curvature: The loss on the curvature, or None.
        annealing: How relaxed weights are let go of, or None where they stay.
    """

    def __init__(
        self,
        *,
        settings: LoopSettings,
        state: TrainingState,
        loss: Loss,
        train: FrameSet,
        validation: FrameSet,
        corruption: Corruption | None = None,
        group: Group,
        folder: Path,
        seed: int,
        describe: Callable[[Potential, Validation], None],
        save_extra: dict[str, object],
        reporter: Reporter,
        curvature: CurvatureLoss | None = None,
        annealing: Annealing | None = None,
    ) -> None:
        self.settings, self.state, self.loss, self.group = settings, state, loss, group
        self.train, self.validation, self.folder = train, validation, folder
        self.corruption = corruption
        self.sampler = Sampler(len(train), settings.batch_size, seed)
        self.budget = Budget.from_settings(settings, self.sampler.steps_per_epoch)
        self.curvature, self.annealing = curvature, annealing
        self.step = step_class(settings)(loss, group, settings.clip or math.inf, seed, curvature)
        self.describe, self.extra, self.reporter = describe, save_extra, reporter
        extra = 0.0 if curvature is None else curvature.validation_cost(train)
        self.validate_every = settings.validate_every or default_interval(len(train), len(validation) + extra)
        self.max_edges = settings.batch_size * int(train.samples.num_edges.max())
        self.metrics = CsvTable(folder / "metrics.csv", COLUMNS)
        self.timing = CsvTable(folder / "timing.csv", TIMING)
        self.errors = ErrorSums(state.model.device)
        self.checkpoints = CheckpointClock()
        self._batch: Batch | None = None
        self._probing: Probing | None = None
        self._counts: list[float] = []

    @property
    def writes(self) -> bool:
        """Whether this process validates and writes."""
        return self.group.rank == 0

    def run(self) -> Outcome:
        """Train to the end.

        Returns:
            Why it ended. After a signal the run can be resumed from ``last.ckpt``.

        Raises:
            DivergenceError: A step was not finite; the last checkpoint and best model are kept.
            InputError: A file could not be written.
        """
        if self._progress() >= 1.0 or self._is_stale():
            return Outcome("had already ended")
        self._take_up()
        with StopRequest() as stop, self.reporter:
            while True:
                outcome = self._epoch(stop)
                if outcome is not None:
                    return outcome

    def _take_up(self) -> None:
        position = self.state.position
        if self.writes:
            if position.train_errors:
                self.errors.load(position.train_errors)
            with explained(self.metrics.path):
                self.metrics.cut(position.step)
                self.timing.cut(position.step)

    def _epoch(self, stop: StopRequest) -> Outcome | None:
        """The rest of the epoch under way; an outcome when the run ends in it."""
        position = self.state.position
        batches = self.sampler.epoch(position.epoch)
        start, first = self.state.clock.minutes, position.step
        while position.batch < len(batches):
            received, progress = self._before_step(batches[position.batch], stop)
            if received:
                self._checkpoint()
                return Outcome("interrupted", received)
            if progress >= 1.0:
                break
            self._advance(progress)
        return self._epoch_ends(start, position.step - first)

    def _before_step(self, indices: list[int], stop: StopRequest) -> tuple[int, float]:
        """Gather this process's frames and agree with the others on counts, signals, time and checkpoints."""
        mine = self.group.share(indices)
        self._batch = self._make_batch(mine) if mine else None
        counts = self.loss.counts(self._batch) if self._batch else [0] * len(self.loss.terms)
        questions = self._questions()
        asked = 0 if self.curvature is None else self.curvature.count(questions)
        clock = [self.state.clock.minutes, float(self.checkpoints.due(epoch_ends=False))]
        agreed = self.group.sum([*counts, asked, float(stop.received or 0), *(clock if self.writes else [0.0, 0.0])])
        *self._counts, asked_by_all, received, minutes, due = agreed
        if due:
            self._checkpoint()
        progress = self.budget.progress(self.state.position.step, minutes)
        active = self.curvature is not None and self.curvature.active(progress, minutes)
        self._probing = self._probe(questions, asked_by_all) if active else None
        return int(received), progress

    def _questions(self) -> list[Question]:
        """This process's questions to the curvature in the coming step."""
        if self.curvature is None:
            return []
        if self.curvature.of_frames is not None:
            return self.curvature.draw_for(self.state.position.step, self._batch.frames if self._batch else ())
        questions = self.curvature.draw(self.state.position.step)
        return [questions[k] for k in self.group.share(list(range(len(questions))))]

    def _probe(self, questions: list[Question], asked: float) -> Probing:
        of_frames = self.curvature is not None and self.curvature.of_frames is not None
        whole = of_frames and self._batch is not None and len(questions) == len(self._batch.frames)
        return Probing(questions, asked, of_batch=whole)

    def _make_batch(self, indices: list[int]) -> Batch:
        device = self.state.model.device
        if self.corruption is None:
            return self.train.batch(indices, device)
        return self.corruption.batch(indices, self.state.position.step).to(device)

    def _advance(self, progress: float) -> None:
        position, batch = self.state.position, self._batch
        if self.annealing is not None:
            self.annealing(self.state, progress)
        factor = self.state.schedule.factor(progress) * warmup(position.step, self.settings.warmup_steps)
        try:
            rate = self.settings.learning_rate * factor
            value, prediction = self.step(self.state, batch, self._counts, rate, progress, self._probing)
        except DivergenceError as error:
            names = [self.train.frames[index].name for index in error.frames]
            raise DivergenceError(error.problem, error.frames, names) from None
        if batch is not None and prediction is not None:
            self.errors.add(prediction, batch)
        position.train_loss += float(value)
        position.batch += 1
        position.step += 1
        self.reporter.advance(progress, float(value))

    def _progress(self) -> float:
        minutes = self.group.broadcast(self.state.clock.minutes)
        return self.budget.progress(self.state.position.step, minutes)

    def _is_stale(self) -> bool:
        position, patience = self.state.position, self.settings.patience
        return patience is not None and position.epoch - position.best_epoch >= patience

    def _epoch_ends(self, start: float, steps: int) -> Outcome | None:
        """Validate, write the rows, and decide whether to go on."""
        position = self.state.position
        position.epoch += 1
        trained = self.state.clock.minutes
        finished = self._progress() >= 1.0
        result = self._validate() if finished or position.epoch % self.validate_every == 0 else None
        self._write_rows(result)
        self._write_times(start, trained, steps)
        self.errors = ErrorSums(self.state.model.device)
        position.train_loss, position.batch = 0.0, 0
        stale = self._is_stale()
        if self.group.broadcast(float(finished or stale or self.checkpoints.due(epoch_ends=True))):
            self._checkpoint()
        if finished:
            return Outcome("the budget is used up")
        return Outcome(f"no better validation loss for {self.settings.patience} epochs") if stale else None

    def _validate(self) -> Validation | None:
        """Validate the averaged weights, save them when they are the best, tell all processes the loss."""
        position = self.state.position
        result = None
        if self.writes:
            result = validate(self._lasting_model(), self.validation, self.loss, self.max_edges)
            result = self._with_curvature(result)
        loss = self.group.broadcast(math.nan if result is None else result.loss)
        if not math.isfinite(loss):
            raise DivergenceError(f"validation after epoch {position.epoch} gave {loss}")
        self.state.schedule.validated(loss)
        if loss < position.best_loss:
            position.best_loss, position.best_epoch = loss, position.epoch
            if result is not None:
                self._save_best(result)
        return result

    def _with_curvature(self, result: Validation) -> Validation:
        """The loss that the best model is chosen by holds the curvature in both stages, so that they compare."""
        if self.curvature is None:
            return result
        value, errors = self.curvature.validate(self._lasting_model())
        return Validation(result.loss + value, {**result.errors, **errors})

    def _save_best(self, result: Validation) -> None:
        path = self.folder / "best.mlip"
        model = self._lasting_model()
        self.describe(model, result)
        with explained(path):
            model.save(path)

    def _lasting_model(self) -> Potential:
        """What is validated and saved: the averaged model, without a port that the run lets go of."""
        averaged = self.state.averaged_model
        return averaged if self.annealing is None else strict_part(averaged)

    def _write_rows(self, result: Validation | None) -> None:
        """One row of ``metrics.csv``."""
        position = self.state.position
        sums = self.group.sum(self.errors.to_list())
        row = {
            "epoch": position.epoch,
            "step": position.step,
            "lr": self.state.optimizer.param_groups[0]["lr"],
            "train_loss": position.train_loss / max(position.batch, 1),
            **{f"train_{name}": value for name, value in error_metrics(sums).items()},
        }
        if result is not None:
            row |= {"val_loss": result.loss, **{f"val_{name}": value for name, value in result.errors.items()}}
        if self.writes:
            with explained(self.metrics.path):
                self.metrics.append(row)
        self.reporter.epoch(row)

    def _write_times(self, start: float, trained: float, steps: int) -> None:
        """One row of ``timing.csv``."""
        minutes = self.state.clock.minutes
        row = {
            "epoch": self.state.position.epoch,
            "step": self.state.position.step,
            "minutes": minutes,
            "step_ms": 60_000.0 * (trained - start) / max(steps, 1),
            "validation_s": 60.0 * (minutes - trained),
        }
        if self.writes:
            with explained(self.timing.path):
                self.timing.append(row)

    def _checkpoint(self) -> None:
        self.state.position.train_errors = self.group.sum(self.errors.to_list())
        if self.writes:
            with self.checkpoints.writing():
                save_checkpoint(self.folder / "last.ckpt", {**self.extra, **self.state.state_dict()})


def step_class(settings: LoopSettings) -> type[Step]:
    """Eager or compiled; torch's compiler is loaded only for those who want it."""
    if not settings.compile:
        return Step
    from mlip.training.compiled import CompiledStep

    return CompiledStep


def default_interval(train: int, validation: float) -> int:
    """Epochs between validations so that they cost about a tenth of the time (a step costs three evaluations).

    Args:
        train: Training frames.
        validation: Validation frames, and what else costs as much as one of them.
    """
    return max(1, round(validation / (0.3 * train)))
