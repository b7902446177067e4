"""A committee: the same run with several seeds, one after another, and the calibration of its spread."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from mlip.calibration import Calibration
from mlip.errors import InputError
from mlip.training.load import load_settings
from mlip.training.loss import Loss
from mlip.training.run import TrainResult, train
from mlip.training.sets import load_data
from mlip.training.settings import TrainingSettings
from mlip.training.uncertainty import CommitteeEvaluation, evaluate_committee


@dataclass
class CommitteeRun:
    """Runs that differ in their seeds alone.

    Attributes:
        folder: Holds ``seed-1``, ``seed-2`` … and ``committee.json``.
        members: The runs that were trained; fewer than asked for when one was interrupted.
        calibration: Factors on the spread; None when interrupted.
        validation: The committee on its validation frames, without the factors; None when interrupted.
    """

    folder: Path
    members: list[TrainResult]
    calibration: Calibration | None = None
    validation: CommitteeEvaluation | None = None

    @property
    def models(self) -> list[Path]:
        """The members' best models."""
        return [member.best_path for member in self.members]

    @property
    def signal(self) -> int | None:
        """The signal that interrupted it, if any."""
        return self.members[-1].signal


def train_committee(
    config: TrainingSettings | str | Path,
    seeds: int,
    overrides: Sequence[str] = (),
    *,
    resume: bool = False,
    force: bool = False,
    console: Console | None = None,
) -> CommitteeRun:
    """Train the same settings with several seeds, one after another.

    All members see the same training and validation frames; weights and order of frames differ. The spread is
    calibrated on the validation frames, and the factors are written beside the members.

    Args:
        config: Settings, a YAML file, or the name of a shipped recipe.
        seeds: Number of members, from the settings' seed on.
        overrides: As for ``train``.
        resume: Finished members are kept, an interrupted one goes on, missing ones are trained.
        force: Replace members that are there.
        console: Where to print.

    Raises:
        InputError: Fewer than two seeds, or as ``train``.
    """
    if seeds < 2:
        raise InputError(f"{seeds} is no committee", key="seeds", mend="2 or more")
    settings = config if isinstance(config, TrainingSettings) else load_settings(config, overrides)
    console = console or Console()
    run = CommitteeRun(settings.run.folder / f"{settings.run.name or 'run'}-committee", [])
    for number in range(seeds):
        console.print(f"seed {settings.seed + number} ({number + 1} of {seeds})", highlight=False)
        member = member_settings(settings, number, run.folder)
        run.members.append(train(member, resume=resume, force=force, console=console))
        if run.signal is not None:
            return run
    if os.environ.get("RANK", "0") == "0":  # of the processes that torchrun starts, one calibrates
        _calibrate(run, settings)
    return run


def member_settings(settings: TrainingSettings, number: int, folder: Path) -> TrainingSettings:
    """The settings of one member: its own seeds and folder, and everybody's split."""
    data = settings.data
    split_seed = settings.seed if data.split_seed is None else data.split_seed
    return settings.model_copy(
        update={
            "seed": settings.seed + number,
            "model": settings.model.model_copy(update={"seed": settings.model.seed + number}),
            "data": data.model_copy(update={"split_seed": split_seed}),
            "run": settings.run.model_copy(update={"folder": folder, "name": f"seed-{number + 1}"}),
        }
    )


def _calibrate(run: CommitteeRun, settings: TrainingSettings) -> None:
    """On the validation frames, by which members were chosen but on which none was trained."""
    loss = Loss.from_settings(settings.loss, settings.dens)
    frames = load_data(settings.data, loss, settings.seed).validation
    run.validation = evaluate_committee(run.models, frames, calibration=None)
    run.calibration = run.validation.calibrate(run.models, f"validation frames of {run.folder.name}")
    run.calibration.save(run.models)
