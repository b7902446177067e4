"""Optional tracking with Weights & Biases, imported only when a run asks for it."""

from __future__ import annotations

import math
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mlip.errors import InputError
from mlip.training.progress import Reporter
from mlip.training.settings import TrainingSettings


class Tracked:
    """Passes everything on to another reporter, and each epoch's row to wandb.

    Args:
        inner: The reporter that people see.
        settings: The run's settings; ``run.wandb`` is not null.
        folder: The run's folder; wandb's own files go to ``folder/wandb``.

    Raises:
        InputError: wandb is not installed.
    """

    def __init__(self, inner: Reporter, settings: TrainingSettings, folder: Path) -> None:
        try:
            import wandb
        except ImportError:
            raise InputError("wandb is not installed", key="run.wandb", mend="pip install wandb") from None
        if settings.run.wandb is None:
            raise InputError("no settings for wandb", key="run.wandb")
        self._inner = inner
        self._run = wandb.init(
            project=settings.run.wandb.project,
            entity=settings.run.wandb.entity,
            mode=settings.run.wandb.mode,
            name=folder.name,
            id=_identity(folder),
            resume="allow",
            dir=str(folder),
            config=settings.model_dump(mode="json"),
            settings=wandb.Settings(quiet=True),
        )

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inner.__exit__(kind, error, trace)
        self._run.finish(exit_code=0 if kind is None else 1)

    def advance(self, progress: float, loss: float) -> None:
        """Pass it on."""
        self._inner.advance(progress, loss)

    def epoch(self, row: dict[str, Any]) -> None:
        """Pass it on, and log it."""
        self._inner.epoch(row)
        self._run.log({k: v for k, v in row.items() if math.isfinite(v)}, step=int(row["step"]))


def _identity(folder: Path) -> str:
    """One identity for all parts of a resumed run."""
    file = folder / "wandb-id.txt"
    if not file.exists():
        file.write_text(uuid.uuid4().hex[:12], encoding="utf-8")
    return file.read_text(encoding="utf-8").strip()
