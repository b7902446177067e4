"""Errors of a model on labelled frames: per set, per configuration type, per species; parity plots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.table import Table

from mlip.datasets.entry import DatasetEntry, make_entry
from mlip.datasets.frame import LabelledFrame
from mlip.datasets.progress import slowly
from mlip.datasets.reading import read_frames
from mlip.errors import InputError
from mlip.potential import Potential
from mlip.report import Check
from mlip.training.figures import parity
from mlip.training.paths import resolve

Array = NDArray[np.float64]
_GPA = 160.21766208  # 1 eV/Å³


@dataclass(frozen=True)
class Pairs:
    """Reference and predicted values of one quantity, masked where the label is missing or NaN."""

    reference: Array
    predicted: Array

    @property
    def mae(self) -> float:
        """Mean absolute error."""
        return float(np.mean(np.abs(self.predicted - self.reference)))

    @property
    def rmse(self) -> float:
        """Root mean square error."""
        return float(np.sqrt(np.mean((self.predicted - self.reference) ** 2)))

    @property
    def rms(self) -> float:
        """Root mean square of the reference."""
        return float(np.sqrt(np.mean(self.reference**2)))


@dataclass
class EvaluationResult:
    """Errors on labelled frames.

    Attributes:
        frames: The frames.
        predictions: What the model says of each: energy, forces and, where there are labels, stress.
        rows: One dictionary per group: ``group``, ``frames``, and the errors its labels allow.
        checks: Always empty: there is no limit to hold errors against.
    """

    frames: list[LabelledFrame]
    predictions: list[dict[str, Any]]
    rows: list[dict[str, Any]] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows = self._rows()

    def pairs(self, label: str, chosen: Callable[[LabelledFrame], Any] = lambda _: ...) -> Pairs | None:
        """All values of one label.

        Args:
            label: ``energy`` (eV/atom), ``forces`` (eV/Å) or ``stress`` (eV/Å³).
            chosen: Which rows of each frame's label count: an index, or ``...`` for all.

        Returns:
            The pairs, or None where there are none.
        """
        parts = [
            _pair(frame, found, label, chosen(frame))
            for frame, found in zip(self.frames, self.predictions, strict=True)
        ]
        there = [part for part in parts if part is not None]
        both = np.concatenate(there, axis=1) if there else np.empty((2, 0))
        both = both[:, np.isfinite(both[0])]
        return Pairs(both[0], both[1]) if both.size else None

    def table(self) -> Table:
        """The errors as people compare them."""
        table = Table(
            "", "frames", "E MAE", "E RMSE (meV/atom)", "F MAE", "F RMSE (meV/Å)", "% of rms F", "S MAE (GPa)"
        )
        keys = (
            "energy_mae_meV_per_atom",
            "energy_rmse_meV_per_atom",
            "forces_mae_meV_per_A",
            "forces_rmse_meV_per_A",
            "forces_rmse_percent",
            "stress_mae_GPa",
        )
        for row in self.rows:
            cells = [_cell(row.get(key)) for key in keys]
            table.add_row(row["group"], str(row["frames"]), *cells)
        return table

    def plot(self) -> Figure:
        """Parity plots of what is labelled; the energies relative to their mean."""
        panels = []
        for label, name, unit, scale in (
            ("energy", "energy − mean", "eV/atom", "meV/atom"),
            ("forces", "force component", "eV/Å", "meV/Å"),
            ("stress", "stress component", "eV/Å³", "meV/Å³"),
        ):
            pairs = self.pairs(label)
            if pairs is None:
                continue
            origin = float(pairs.reference.mean()) if label == "energy" else 0.0
            texts = {key: f"{1000 * getattr(pairs, key):.3g} {scale}" for key in ("mae", "rmse")}
            values: dict[str, Any] = {"reference": pairs.reference - origin, "predicted": pairs.predicted - origin}
            panels.append({"name": name, "unit": unit, **values, **texts})
        return parity(panels)

    def to_dict(self) -> dict[str, Any]:
        """The rows as plain values."""
        return {"groups": self.rows}

    def _rows(self) -> list[dict[str, Any]]:
        rows = [self._row("all", lambda _: ...)]
        kinds = sorted({frame.config_type for frame in self.frames if frame.config_type is not None})
        if len(kinds) > 1:
            rows += [self._row(f"type {kind}", _of_kind(kind)) for kind in kinds]
        species = sorted({s for frame in self.frames for s in frame.atoms.get_chemical_symbols()})
        if len(species) > 1:
            rows += [self._species_row(symbol) for symbol in species]
        return rows

    def _row(self, group: str, chosen: Callable[[LabelledFrame], Any]) -> dict[str, Any]:
        count = sum(chosen(frame) is not None for frame in self.frames)
        row: dict[str, Any] = {"group": group, "frames": count}
        energy, stress = self.pairs("energy", chosen), self.pairs("stress", chosen)
        if energy is not None:
            row |= {"energy_mae_meV_per_atom": 1e3 * energy.mae, "energy_rmse_meV_per_atom": 1e3 * energy.rmse}
        row |= _force_errors(self.pairs("forces", chosen))
        if stress is not None:
            row |= {
                "stress_mae_meV_per_A3": 1e3 * stress.mae,
                "stress_rmse_meV_per_A3": 1e3 * stress.rmse,
                "stress_mae_GPa": _GPA * stress.mae,
            }
        return row

    def _species_row(self, symbol: str) -> dict[str, Any]:
        """Forces on the atoms of one element."""
        atoms_of = _atoms_of(symbol)
        count = sum(symbol in frame.atoms.get_chemical_symbols() for frame in self.frames)
        return {"group": f"on {symbol}", "frames": count, **_force_errors(self.pairs("forces", atoms_of))}


def evaluate(
    model: Potential | str | Path,
    data: str | Path | DatasetEntry | Mapping[str, Any] | Sequence[LabelledFrame],
    *,
    keys: Mapping[str, str | None] | None = None,
    units: Mapping[str, str] | None = None,
    pbc: bool | None = None,
    index: str | None = None,
    frame: str | None = None,
    max_edges: int = 50_000,
    device: str = "cpu",
) -> EvaluationResult:
    """Compare a model with labels.

    Args:
        model: A potential or its file.
        data: A file, an entry as in the settings, an embedded set's name (``silicon:test``), or frames.
        keys: Label → name in the file.
        units: Quantity → unit of the file.
        pbc: Override periodicity.
        index: Which frames.
        frame: ``"lab"``: structures that carry no frame are in the laboratory's axes.
        max_edges: Size of a batch.
        device: Where a model file is loaded to.

    Raises:
        InputError: No frame has a label, or the file or model cannot be read.
    """
    potential = model if isinstance(model, Potential) else Potential.load(model, device=device)
    frames, wanted = read_labelled(data, keys=keys, units=units, pbc=pbc, index=index, frame=frame)
    return EvaluationResult(frames, predict_frames(potential, frames, wanted, max_edges))


def read_labelled(data: Any, **reading: Any) -> tuple[list[LabelledFrame], Sequence[str]]:
    """The frames, and which properties their labels can be compared with.

    Raises:
        InputError: No frame has a label, or the file cannot be read.
    """
    frames = _frames(data, **reading)
    if not any(set(frame.labels) & {"energy", "forces", "stress"} for frame in frames):
        raise InputError("no frame has a label to compare with", mend="name it: --key energy=NAME")
    wanted = ("energy", "forces", "stress") if any("stress" in f.labels for f in frames) else ("energy", "forces")
    return frames, wanted


def predict_frames(
    potential: Potential, frames: Sequence[LabelledFrame], wanted: Sequence[str], max_edges: int
) -> list[dict[str, Any]]:
    """What a model says of each frame. Stress is defined only for crystals: others are asked for the rest."""
    found: list[dict[str, Any]] = [{} for _ in frames]
    for periodic in (True, False):
        mine = [k for k, frame in enumerate(frames) if bool(frame.atoms.pbc.all()) is periodic]
        properties = [name for name in wanted if periodic or name != "stress"]
        results = potential.evaluate(slowly([frames[k].atoms for k in mine], "evaluating"), properties, max_edges)
        for k, result in zip(mine, results, strict=True):
            found[k] = result
    return found


def _frames(data: Any, **options: Any) -> list[LabelledFrame]:
    if isinstance(data, Sequence) and not isinstance(data, str):
        return list(data)
    return list(read_frames(resolve(make_entry(data, **options))))


def _pair(frame: LabelledFrame, found: Mapping[str, Any], label: str, rows: Any) -> Array | None:
    """(2, n), reference and prediction; energies per atom."""
    reference = getattr(frame, label)
    if reference is None or rows is None or label not in found:
        return None
    scale = 1.0 / len(frame) if label == "energy" else 1.0
    both = [np.asarray(value, dtype=np.float64)[rows].ravel() * scale for value in (reference, found[label])]
    return np.stack(both)


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _force_errors(pairs: Pairs | None) -> dict[str, float]:
    if pairs is None:
        return {}
    errors = {"forces_mae_meV_per_A": 1e3 * pairs.mae, "forces_rmse_meV_per_A": 1e3 * pairs.rmse}
    return errors | ({"forces_rmse_percent": 100.0 * pairs.rmse / pairs.rms} if pairs.rms > 0 else {})


def _of_kind(kind: str) -> Callable[[LabelledFrame], Any]:
    return lambda frame: ... if frame.config_type == kind else None


def _atoms_of(symbol: str) -> Callable[[LabelledFrame], Any]:
    return lambda frame: np.array(frame.atoms.get_chemical_symbols()) == symbol
