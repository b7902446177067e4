"""From settings to a trained model: the order of things, each done elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from rich.console import Console
from torch import nn

from mlip.errors import InputError
from mlip.potential import Potential
from mlip.report import Check, plain
from mlip.training.anneal import Annealing
from mlip.training.card import data_digest, versions
from mlip.training.checkpoint import explained, load_checkpoint
from mlip.training.corruption import Corruption
from mlip.training.curvature_data import CurvatureData, load_curvature
from mlip.training.data import FrameSet, Sampler
from mlip.training.denoising import DenoisingTask
from mlip.training.distributed import Group, choose_device, process_group
from mlip.training.ema import make_average
from mlip.training.evaluation import EvaluationResult, evaluate
from mlip.training.figures import learning_curve, save_figure
from mlip.training.finetune import check_compatible, transfer_weights
from mlip.training.hessian import CurvatureLoss
from mlip.training.load import load_settings
from mlip.training.loop import Loop, Outcome
from mlip.training.loss import Loss
from mlip.training.metrics import COLUMNS, CsvTable
from mlip.training.normalization import compute_normalization
from mlip.training.optimizers import make_optimizer
from mlip.training.progress import Bar, Reporter, Silent
from mlip.training.references import RunReferences, run_references
from mlip.training.run_folder import open_folder
from mlip.training.schedule import make_schedule
from mlip.training.sets import RunData, load_data
from mlip.training.settings import TrainingSettings
from mlip.training.shift import learn_shift
from mlip.training.start import with_message_scale
from mlip.training.state import Clock, TrainingState
from mlip.training.tables import loss_remark, loss_table, print_data
from mlip.training.tracking import Tracked
from mlip.training.validation import Validation

_DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass
class TrainResult:
    """A finished or interrupted run.

    Attributes:
        folder: The run's folder.
        reason: Why it ended.
        signal: The signal that interrupted it; it can then be resumed.
        rows: Rows of ``metrics.csv``.
        test: Errors on the test frames, when there are any and the run ended.
        checks: Always empty: a run has no limit to pass.
        files: What the folder holds for people.
    """

    folder: Path
    reason: str
    signal: int | None = None
    rows: list[dict[str, float]] = field(default_factory=list)
    test: EvaluationResult | None = None
    checks: list[Check] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    @property
    def best_path(self) -> Path:
        """The best model; it exists from the first validation on."""
        return self.folder / "best.mlip"

    @property
    def model(self) -> Potential:
        """The best model.

        Raises:
            InputError: There was no validation yet.
        """
        return Potential.load(self.best_path)

    @property
    def metrics(self) -> dict[str, Any]:
        """Errors of the best model on the validation frames."""
        found: dict[str, Any] = self.model.metadata["metrics"]
        return found

    def plot(self) -> Figure:
        """The learning curve."""
        return learning_curve(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        test = None if self.test is None else self.test.to_dict()
        return {"reason": self.reason, "signal": self.signal, "metrics": self.metrics, "test": test}


def train(
    config: TrainingSettings | str | Path,
    overrides: Sequence[str] = (),
    *,
    resume: bool = False,
    force: bool = False,
    console: Console | None = None,
    clock: Clock | None = None,
) -> TrainResult:
    """Train a potential.

    Args:
        config: Settings, a YAML file, or the name of a shipped recipe.
        overrides: ``"training.max_epochs=20"``: wins over the file.
        resume: Go on with the run in the folder; start one when there is none.
        force: Replace the run in the folder.
        console: Where to print; ``Console(quiet=True)`` for silence.
        clock: Whose minutes ``max_minutes`` means; wall time unless given.

    Returns:
        Where everything is, why the run ended, and the errors.

    Raises:
        InputError: Settings, data or files are not usable, in one line.
        DivergenceError: A step was not finite.
    """
    settings = config if isinstance(config, TrainingSettings) else load_settings(config, overrides)
    device = choose_device(settings.training.device)
    with process_group(device) as group, _own_torch_state(settings.training.threads, device):
        console = (console or Console()) if group.rank == 0 else Console(quiet=True)
        return _Run(settings, device, group, console, clock or Clock()).run(resume=resume, force=force)


@contextmanager
def _own_torch_state(threads: int, device: torch.device) -> Iterator[None]:
    """Threads and random state as the run wants them, and as they were before afterwards."""
    before = torch.get_num_threads()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


class _Run:
    """One call of ``train``."""

    def __init__(
        self, settings: TrainingSettings, device: torch.device, group: Group, console: Console, clock: Clock
    ) -> None:
        self.settings, self.device, self.group, self.console, self.clock = settings, device, group, console, clock
        self.loss = Loss.from_settings(settings.loss, settings.dens, settings.model.anisotropy)

    def run(self, *, resume: bool, force: bool) -> TrainResult:
        """Everything in order."""
        folder = self._open_folder(resume=resume, force=force)
        data = load_data(self.settings.data, self.loss, self.settings.seed)
        start = None if self.settings.init_from is None else Potential.load(self.settings.init_from)
        species = _merge(data.species, start)
        references = run_references(self.settings.data.e0, data, start)
        self._print_data(data, references)
        training, validation = self._graphs(data, species)
        curvature = self._curvature(training, validation, species)
        model = self._model(training, species, references, start)
        state = self._state(model)
        annealing = Annealing.of(self.settings.model)
        card = self._card(data, training, references)
        if curvature is not None:
            card["data_digest"] = data_digest(chain(data.train, curvature.frames))
            card["curvature"] = curvature.lines
        self.clock.start(0.0)  # reading the data, and reading it again for its digest, is not training
        checkpoint = folder / "last.ckpt"
        if resume and checkpoint.is_file():
            self._restore(state, checkpoint, card["data_digest"])
        loop = Loop(
            settings=self.settings.training,
            state=state,
            loss=self.loss,
            train=training,
            validation=validation,
            corruption=self._corruption(training),
            group=self.group,
            folder=folder,
            seed=self.settings.seed,
            describe=lambda averaged, result: _describe(averaged, card, state, result),
            save_extra={"data_digest": card["data_digest"]},
            reporter=self._reporter(folder),
            curvature=self._curvature_loss(curvature),
            annealing=annealing,
        )
        outcome = loop.run()
        if annealing is not None and outcome.signal is None:
            annealing.require_strict(model, folder / "best.mlip")
        return self._result(folder, outcome, data)

    def _open_folder(self, *, resume: bool, force: bool) -> Path:
        if self.group.rank == 0:
            open_folder(self.settings, resume=resume, force=force)
        self.group.broadcast(0.0)  # the others wait for the folder
        return self.settings.folder

    def _print_data(self, data: RunData, references: RunReferences) -> None:
        print_data(data, self.settings.model.cutoff, self.console)
        for line in references.lines():
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)
        steps = Sampler(len(data.train), self.settings.training.batch_size, self.settings.seed).steps_per_epoch
        self.console.print(loss_table(self.loss, data.train, steps))
        remark = loss_remark(self.loss)
        if remark is not None:
            self.console.print(remark, highlight=False, markup=False, soft_wrap=True)
        if self.settings.training.compile:
            self.console.print("the first step is compiled, which takes minutes; the clock runs", highlight=False)

    def _graphs(self, data: RunData, species: Sequence[str]) -> tuple[FrameSet, FrameSet]:
        options: dict[str, Any] = {
            "cutoff": self.settings.model.cutoff,
            "species": species,
            "dtype": _DTYPES[self.settings.training.dtype],
        }
        memory = self.settings.training.graph_memory * 2**30
        training = FrameSet("train", data.train, memory=0.9 * memory, **options)
        validation = FrameSet("validation", data.validation, memory=0.1 * memory, **options)
        for frames in (training, validation) if self.settings.model.needs_frame else ():
            frames.require_frames()
        return training, validation

    def _curvature(self, training: FrameSet, validation: FrameSet, species: Sequence[str]) -> CurvatureData | None:
        settings = self.settings.hessian
        if settings is None:
            return None
        found = load_curvature(
            settings,
            training,
            validation,
            cutoff=self.settings.model.cutoff,
            species=species,
            seed=self.settings.seed,
        )
        for line in found.lines:
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)
        return found

    def _curvature_loss(self, data: CurvatureData | None) -> CurvatureLoss | None:
        settings = self.settings.hessian
        if settings is None or data is None:
            return None
        return CurvatureLoss(settings, data.train, data.validation, self.settings.seed, data.of_frames)

    def _model(
        self, training: FrameSet, species: Sequence[str], references: RunReferences, start: Potential | None
    ) -> Potential:
        normalization = compute_normalization(training, references.values)
        if start is None:
            normalization = with_message_scale(self.settings.model, species, normalization, training)
        else:
            normalization = references.with_sizes_of(start, normalization.min_distance)
            check_compatible(self.settings.model, start)
        model = Potential.from_config(self.settings.model, species, normalization)
        model = model.to(device=self.device, dtype=_DTYPES[self.settings.training.dtype])
        if start is not None:
            for line in transfer_weights(start, model).lines():
                self.console.print(f"init_from: {line}", highlight=False, markup=False, soft_wrap=True)
        learn_shift(model)
        n = normalization
        parameters = sum(p.numel() for p in model.parameters())
        self.console.print(
            f"model: {parameters} parameters, {n.avg_num_neighbors:.1f} neighbours, energy scale "
            f"{n.energy_scale:.4g} eV, shift {n.energy_shift:.4g} eV/atom, message scale {n.message_scale:g}, "
            f"device {self.device}",
            highlight=False,
            soft_wrap=True,
        )
        return model

    def _state(self, model: Potential) -> TrainingState:
        settings = self.settings.training
        average = make_average(model, settings.ema)
        task = None if self.settings.dens is None else self._task(model)
        trained = model if task is None else nn.ModuleList([model, task])
        optimizer, schedule = make_optimizer(trained, settings), make_schedule(settings)
        return TrainingState(model, average, optimizer, schedule, task, clock=self.clock)

    def _task(self, model: Potential) -> DenoisingTask:
        task = DenoisingTask(model, seed=self.settings.seed)
        return task.to(device=self.device, dtype=model.dtype)

    def _corruption(self, training: FrameSet) -> Corruption | None:
        dens = self.settings.dens
        return None if dens is None else Corruption(training, dens, self.settings.seed)

    def _card(self, data: RunData, training: FrameSet, references: RunReferences) -> dict[str, Any]:
        return {
            "config": self.settings.model_dump(mode="json"),
            "units": {"energy": "eV", "length": "Å", "forces": "eV/Å", "stress": "eV/Å³"},
            "theory": data.theory,
            "e0": references.values,
            "e0_origin": references.origin,
            "data_digest": data_digest(data.train),
            "data": data.sources,
            "ranges": training.coverage.to_dict(),
            "versions": versions(),
        }

    def _restore(self, state: TrainingState, path: Path, digest: str) -> None:
        saved = load_checkpoint(path)
        if saved["data_digest"] != digest:
            raise InputError("the training frames are not those of this run", file=path, mend="or --force")
        try:
            state.load_state_dict(saved)
        except (KeyError, RuntimeError, ValueError):
            raise InputError("does not fit the model of these settings", file=path, mend="or --force") from None
        self.console.print(f"resumed after epoch {state.position.epoch}, step {state.position.step}")

    def _reporter(self, folder: Path) -> Reporter:
        if self.group.rank != 0:
            return Silent()
        bar = Bar(self.console)
        return bar if self.settings.run.wandb is None else Tracked(bar, self.settings, folder)

    def _result(self, folder: Path, outcome: Outcome, data: RunData) -> TrainResult:
        rows = CsvTable(folder / "metrics.csv", COLUMNS).rows()
        result = TrainResult(folder, outcome.reason, outcome.signal, rows)
        if self.group.rank == 0 and outcome.signal is None:
            self._finish(result, data)
        return result

    def _finish(self, result: TrainResult, data: RunData) -> None:
        """Figures and, where there are test frames, their errors."""
        figures = {"learning-curve.png": result.plot()}
        if len(data.test):
            result.test = evaluate(result.model.to(self.device), data.test)
            figures["parity-test.png"] = result.test.plot()
            for table in result.test.tables:
                self.console.print(table)
        for name, figure in figures.items():
            path = result.folder / name
            with explained(path):
                save_figure(figure, path)
            result.files.append(path)
        result.files.append(result.best_path)


def _merge(species: Sequence[str], start: Potential | None) -> list[str]:
    """Species of the data after those of the model that is fine-tuned, whose order is kept."""
    known = [] if start is None else list(start.species)
    return known + [symbol for symbol in species if symbol not in known]


def _describe(model: Potential, card: dict[str, Any], state: TrainingState, result: Validation) -> None:
    position = state.position
    metrics = {"epoch": position.epoch, "step": position.step, "val_loss": result.loss}
    errors = {f"val_{name}": value for name, value in result.errors.items()}
    model.metadata = plain({**card, "metrics": {**metrics, **errors}})
