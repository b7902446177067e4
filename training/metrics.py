"""Errors in the units people compare: meV/atom, meV/Å, meV/Å³; and the tables they are written to."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

import torch

from mlip.files import write_text
from mlip.training.data import Batch
from mlip.training.loss import Prediction, residual

UNITS = {
    "energy": "meV_per_atom",
    "forces": "meV_per_A",
    "stress": "meV_per_A3",
    "polarization": "me_A",
    "born_charges": "me",
    "polarizability": "me_A2_per_V",
}
MOST_ROWS = 20_000  # of a table
CURVATURE = ["val_hessian_loss", "val_hessian_mae_meV_per_A2", "val_frequency_mae_THz"]
COLUMNS = [
    "epoch",
    "step",
    "lr",
    *(
        f"{part}_{name}"
        for part in ("train", "val")
        for name in ("loss", *(f"{t}_{kind}_{unit}" for t, unit in UNITS.items() for kind in ("mae", "rmse")))
    ),
    *CURVATURE,
]


class ErrorSums:
    """Σ|e|, Σe² and the number of labels per target; adds up over batches and processes.

    Every frame counts alike, whatever its weight in the loss.
    """

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(len(UNITS), 3, dtype=torch.float64, device=device)

    def add(self, prediction: Prediction, batch: Batch) -> None:
        """Add the errors of a batch."""
        for row, target in enumerate(UNITS):
            if batch.labels[target] == 0 or getattr(prediction, target) is None:
                continue
            error = residual(target, prediction, batch)
            values = error.values.detach()
            self._sums[row, 0] += values.abs().sum()
            self._sums[row, 1] += values.square().sum()
            self._sums[row, 2] += error.count

    def to_list(self) -> list[float]:
        """The sums as plain numbers."""
        values: list[float] = self._sums.flatten().tolist()
        return values

    def load(self, values: Sequence[float]) -> None:
        """Take up sums that ``to_list`` gave."""
        self._sums.copy_(torch.tensor(values, dtype=torch.float64).view_as(self._sums))


def error_metrics(sums: Sequence[float]) -> dict[str, float]:
    """MAE and RMSE per target from ``ErrorSums.to_list``; targets without labels are left out."""
    metrics: dict[str, float] = {}
    for row, (target, unit) in enumerate(UNITS.items()):
        absolute, square, count = sums[3 * row : 3 * row + 3]
        if count > 0:
            metrics[f"{target}_mae_{unit}"] = 1000.0 * absolute / count
            metrics[f"{target}_rmse_{unit}"] = 1000.0 * math.sqrt(square / count)
    return metrics


class CsvTable:
    """A CSV file that grows by whole rows and can be cut back to an earlier step when a run is resumed.

    When it holds more than ``most`` rows every second one is dropped, of those with and of those without a
    validation: a run of any length leaves a few megabytes, and its curve keeps its shape.

    Args:
        path: The file.
        columns: Names, ``step`` among them.
        most: Rows.
    """

    def __init__(self, path: Path, columns: Sequence[str], most: int = MOST_ROWS) -> None:
        self.path, self.columns, self.most = path, list(columns), most
        self._count: int | None = None  # unknown until the first row is written

    def append(self, row: dict[str, float]) -> None:
        """Add one row; the header comes with the first."""
        if self._count is None:
            self._count = len(self.rows())
        text = self._format([row])
        if not self.path.exists():
            text = ",".join(self.columns) + "\n" + text
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text)
        self._count += 1
        if self._count > self.most:
            self._replace(thinned(self.rows()))

    def rows(self) -> list[dict[str, float]]:
        """All whole rows; empty cells become NaN."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        return [{k: float(v or "nan") for k, v in row.items()} for row in csv.DictReader(whole)]

    def cut(self, step: int) -> None:
        """Drop the rows after ``step``: they will be written again."""
        self._replace([row for row in self.rows() if row["step"] <= step])

    def _replace(self, rows: Sequence[dict[str, float]]) -> None:
        write_text(self.path, ",".join(self.columns) + "\n" + self._format(rows))
        self._count = len(rows)

    def _format(self, rows: Sequence[dict[str, float]]) -> str:
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerows([_cell(row.get(column)) for column in self.columns] for row in rows)
        return buffer.getvalue()


def thinned(rows: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """Every second row, the latest kept, of those with a validation and of the others each."""
    validated = [row for row in rows if not math.isnan(row.get("val_loss", math.nan))]
    others = [row for row in rows if math.isnan(row.get("val_loss", math.nan))]
    return sorted([*validated[::-1][::2], *others[::-1][::2]], key=lambda row: row["step"])


def _cell(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.10g}"
