"""What a person sees of a run: one bar with the time left, or a line now and then where there is no terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


class Reporter(Protocol):
    """Told about every step and epoch."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""

    def advance(self, progress: float, loss: float) -> None:
        """After each step: how far (0 to 1) and its loss."""

    def epoch(self, row: dict[str, Any]) -> None:
        """After each epoch: its row of ``metrics.csv``."""


class Silent:
    """Says nothing: all processes but the first, and tests."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def advance(self, progress: float, loss: float) -> None:
        """Nothing."""

    def epoch(self, row: dict[str, Any]) -> None:
        """Nothing."""


class Bar(Silent):
    """A progress bar on a terminal; elsewhere a line for each tenth of the run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (BarColumn(16), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.fields[status]}"))
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._task = self._bar.add_task("training", total=1.0, status="")
        self._tenth, self._progress = -1, 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, progress: float, loss: float) -> None:  # noqa: ARG002
        """Move the bar."""
        self._progress = progress
        self._bar.update(self._task, completed=progress)

    def epoch(self, row: dict[str, Any]) -> None:
        """Show the latest validation."""
        if "val_loss" not in row:
            return
        text = status(row)
        self._bar.update(self._task, status=text)
        if not self._console.is_terminal and int(10 * self._progress) > self._tenth:
            self._tenth = int(10 * self._progress)
            self._console.print(f"{100 * self._progress:3.0f} %  {text}", highlight=False)


def status(row: dict[str, Any]) -> str:
    """``epoch 12: E 2.1 meV/atom, F 34.0 meV/Å``, mean absolute errors on the validation frames."""
    shown = [("E", "val_energy_mae_meV_per_atom", "meV/atom"), ("F", "val_forces_mae_meV_per_A", "meV/Å")]
    shown += [("H", "val_hessian_mae_meV_per_A2", "meV/Å²"), ("ν", "val_frequency_mae_THz", "THz")]
    shown += [("μ", "val_polarization_mae_me_A", "me Å"), ("Z*", "val_born_charges_mae_me", "me")]
    shown += [("α", "val_polarizability_mae_me_A2_per_V", "me Å²/V")]
    parts = [f"{name} {row[key]:.3g} {unit}" for name, key, unit in shown if key in row]
    return f"epoch {row['epoch']:.0f}: {', '.join(parts)}"
