"""Errors of a model on labelled frames: per set, per configuration type, per species; parity plots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.table import Table

from mlip.datasets.entry import DatasetEntry, make_entry
from mlip.datasets.frame import RESPONSE, LabelledFrame
from mlip.datasets.progress import slowly
from mlip.datasets.reading import read_frames
from mlip.errors import InputError
from mlip.potential import Potential
from mlip.report import Check
from mlip.response import modulo_quantum
from mlip.training.figures import parity
from mlip.training.metrics import UNITS
from mlip.training.paths import resolve

Array = NDArray[np.float64]
_GPA = 160.21766208  # 1 eV/Å³
_MOST_FILES = 12  # of more, as calculations in a file each, rows of their own would hide the others


@dataclass(frozen=True)
class Panel:
    """How one label is drawn: its name, its unit, the unit of its errors and how many of those are in one."""

    label: str
    name: str
    unit: str
    small: str
    scale: float = 1000.0


_PANELS = (
    Panel("energy", "energy − mean", "eV/atom", "meV/atom"),
    Panel("forces", "force component", "eV/Å", "meV/Å"),
    Panel("stress", "stress component", "eV/Å³", "meV/Å³"),
    Panel("polarization", "dipole", "e Å", "e Å", 1.0),
    Panel("born_charges", "Born charge", "e", "e", 1.0),
    Panel("polarizability", "polarizability", "e Å²/V", "e Å²/V", 1.0),
)
_COLUMNS = {
    "energy_mae_meV_per_atom": "E MAE",
    "energy_rmse_meV_per_atom": "E RMSE\nmeV/atom",
    "forces_mae_meV_per_A": "F MAE",
    "forces_rmse_meV_per_A": "F RMSE\nmeV/Å",
    "forces_rmse_percent": "% of\nrms F",
    "stress_mae_GPa": "S MAE\nGPa",
}
_RESPONSE_COLUMNS = {
    "polarization_mae_me_A": "dipole MAE",
    "polarization_rmse_me_A": "RMSE (me Å)",
    "born_charges_mae_me": "Z* MAE",
    "born_charges_rmse_me": "RMSE (me)",
    "polarizability_mae_me_A2_per_V": "α MAE",
    "polarizability_rmse_me_A2_per_V": "RMSE (me Å²/V)",
}


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
        predictions: What the model says of each: energy, forces and, where there are labels, stress and, of a model
            that feels a field, polarization, Born charges and polarizability.
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
            label: ``energy`` (eV/atom), ``forces`` (eV/Å), ``stress`` (eV/Å³), ``polarization`` (e Å, predictions
                on the branch next to the label), ``born_charges`` (e) or ``polarizability`` (e Å²/V).
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
        return _table(self.rows, _COLUMNS)

    @property
    def tables(self) -> list[Table]:
        """That of energies, forces and stress; and, where there are labels, that of derivatives by a field."""
        rows = [row for row in self.rows if set(_RESPONSE_COLUMNS) & row.keys()]
        columns = {key: name for key, name in _RESPONSE_COLUMNS.items() if any(key in row for row in rows)}
        return [self.table(), *([_table(rows, columns)] if rows else [])]

    def plot(self) -> Figure:
        """Parity plots of what is labelled; the energies relative to their mean."""
        panels = []
        for panel in _PANELS:
            pairs = self.pairs(panel.label)
            if pairs is None:
                continue
            origin = float(pairs.reference.mean()) if panel.label == "energy" else 0.0
            texts = {key: f"{panel.scale * getattr(pairs, key):.3g} {panel.small}" for key in ("mae", "rmse")}
            values: dict[str, Any] = {"reference": pairs.reference - origin, "predicted": pairs.predicted - origin}
            panels.append({"name": panel.name, "unit": panel.unit, **values, **texts})
        return parity(panels)

    def to_dict(self) -> dict[str, Any]:
        """The rows as plain values."""
        return {"groups": self.rows}

    def _rows(self) -> list[dict[str, Any]]:
        rows = [self._row("all", lambda _: ...)]
        files = list(dict.fromkeys(frame.file for frame in self.frames))
        if 1 < len(files) <= _MOST_FILES:
            rows += [self._row(f"file {name}", _of_file(file)) for file, name in _short_names(files).items()]
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
        for label in RESPONSE:
            row |= _response_errors(label, self.pairs(label, chosen))
        return row

    def _species_row(self, symbol: str) -> dict[str, Any]:
        """Forces and Born charges of the atoms of one element."""
        atoms_of = _atoms_of(symbol)
        count = sum(symbol in frame.atoms.get_chemical_symbols() for frame in self.frames)
        charges = _response_errors("born_charges", self.pairs("born_charges", atoms_of))
        return {"group": f"on {symbol}", "frames": count, **_force_errors(self.pairs("forces", atoms_of)), **charges}


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
    anisotropy = potential.settings.anisotropy
    feels_field = anisotropy is not None and anisotropy.source == "field"
    reading = {"keys": keys, "units": units, "pbc": pbc, "index": index, "frame": frame}
    frames, wanted = read_labelled(data, feels_field=feels_field, **reading)
    return EvaluationResult(frames, predict_frames(potential, frames, wanted, max_edges))


def read_labelled(
    data: Any, *, feels_field: bool = False, **reading: Any
) -> tuple[list[LabelledFrame], Sequence[str]]:
    """The frames, and which properties their labels can be compared with.

    Args:
        data: As `evaluate` takes it.
        feels_field: Whether derivatives by a field are compared too.
        **reading: How a file is read.

    Raises:
        InputError: No frame has a label, or the file cannot be read.
    """
    frames = _frames(data, **reading)
    there = {name for frame in frames for name in (*frame.labels, *(frame.response_labels if feels_field else ()))}
    if not there - {"hessian"}:
        raise InputError("no frame has a label to compare with", mend="name it: --key energy=NAME")
    return frames, ("energy", "forces", *(name for name in ("stress", *RESPONSE) if name in there))


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
    """(2, n), reference and prediction; energies per atom, dipoles of cells up to e times their periods."""
    reference = frame.response(label) if label in RESPONSE else getattr(frame, label)
    if reference is None or rows is None or label not in found:
        return None
    scale = 1.0 / len(frame) if label == "energy" else 1.0
    predicted = found[label] if label != "polarization" else _next_branch(frame, found[label], reference)
    both = [np.asarray(value, dtype=np.float64)[rows].ravel() * scale for value in (reference, predicted)]
    return np.stack(both)


def _next_branch(frame: LabelledFrame, predicted: Array, reference: Array) -> Array:
    """The image of a predicted dipole that lies next to the label."""
    error = torch.as_tensor(predicted - reference, dtype=torch.float64)
    cell = torch.as_tensor(frame.atoms.cell.array * frame.atoms.pbc[:, None], dtype=torch.float64)
    return np.asarray(reference + modulo_quantum(error[None], cell[None])[0].numpy())


def _response_errors(label: str, pairs: Pairs | None) -> dict[str, float]:
    """By the names that the tables of a run have for them."""
    if pairs is None:
        return {}
    unit = UNITS[label]
    return {f"{label}_mae_{unit}": 1e3 * pairs.mae, f"{label}_rmse_{unit}": 1e3 * pairs.rmse}


def _table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> Table:
    """A row for each group; empty where it has no such error."""
    table = Table("", "frames", *columns.values())
    for row in rows:
        table.add_row(row["group"], str(row["frames"]), *(_cell(row.get(key)) for key in columns))
    return table


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _force_errors(pairs: Pairs | None) -> dict[str, float]:
    if pairs is None:
        return {}
    errors = {"forces_mae_meV_per_A": 1e3 * pairs.mae, "forces_rmse_meV_per_A": 1e3 * pairs.rmse}
    return errors | ({"forces_rmse_percent": 100.0 * pairs.rmse / pairs.rms} if pairs.rms > 0 else {})


def _short_names(files: Sequence[Path | None]) -> dict[Path | None, str]:
    """Their names, or the whole paths where two files have one name."""
    names = [file.name for file in files if file is not None]
    unique = len(set(names)) == len(names)
    return {file: "(none)" if file is None else file.name if unique else str(file) for file in files}


def _of_file(file: Path | None) -> Callable[[LabelledFrame], Any]:
    return lambda frame: ... if frame.file == file else None


def _of_kind(kind: str) -> Callable[[LabelledFrame], Any]:
    return lambda frame: ... if frame.config_type == kind else None


def _atoms_of(symbol: str) -> Callable[[LabelledFrame], Any]:
    return lambda frame: np.array(frame.atoms.get_chemical_symbols()) == symbol
