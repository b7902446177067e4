"""Whether a committee's spread is the size of its error: coverage, calibration, and the plot that shows both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.table import Table
from scipy.special import erf

from mlip.calibration import Calibration, fingerprints
from mlip.datasets.entry import DatasetEntry
from mlip.datasets.frame import LabelledFrame
from mlip.errors import InputError
from mlip.potential import Potential
from mlip.report import Check
from mlip.training.evaluation import EvaluationResult, predict_frames, read_labelled

Array = NDArray[np.float64]
LABELS = ("energy", "forces", "stress")
ONE_SIGMA = float(erf(1 / np.sqrt(2)))  # 0.6827, the share of a normal distribution within one σ


@dataclass(frozen=True)
class Spread:
    """Errors of the mean beside the committee's standard deviations.

    Attributes:
        error: (n,), prediction − label.
        std: (n,), of the members (n − 1 in the denominator). Of forces and stress it is the root mean square over
            the components of an atom or a structure, so that it does not depend on the frame of reference.
    """

    error: Array
    std: Array

    def coverage(self, scale: float, sigmas: float = 1.0) -> float:
        """Share of the errors within so many scaled standard deviations."""
        return float(np.mean(np.abs(self.error) <= sigmas * scale * self.std))

    @property
    def scale(self) -> float:
        """The factor with which 68.27 % of the errors lie within one standard deviation."""
        ratio = np.abs(self.error) / np.maximum(self.std, np.finfo(float).tiny)
        return float(np.quantile(ratio, ONE_SIGMA))

    @property
    def correlation(self) -> float:
        """Spearman's rank correlation of |error| and spread: whether it knows where it is wrong."""
        from scipy.stats import spearmanr

        return float(spearmanr(np.abs(self.error), self.std).statistic)


@dataclass
class CommitteeEvaluation:
    """A committee on labelled frames.

    Attributes:
        frames: The frames.
        members: What each member says of each frame.
        calibration: Factors on the spread; None: as it is.
    """

    frames: list[LabelledFrame]
    members: list[list[dict[str, Any]]]
    calibration: Calibration | None = None

    @cached_property
    def mean(self) -> EvaluationResult:
        """Errors of the mean."""
        means = [_mean(answers) for answers in zip(*self.members, strict=True)]
        return EvaluationResult(self.frames, means)

    @property
    def checks(self) -> list[Check]:
        """Always empty: there is no limit to hold errors against."""
        return []

    @cached_property
    def spreads(self) -> dict[str, Spread]:
        """By label, those that any frame carries; energies per atom."""
        found = {label: self._spread(label) for label in LABELS}
        return {label: spread for label, spread in found.items() if spread is not None}

    def scale(self, label: str) -> float:
        """Factor on one label's spread."""
        return 1.0 if self.calibration is None else self.calibration.scale(label)

    def calibrate(self, models: Sequence[str | Path], data: str) -> Calibration:
        """The factors that these frames ask for.

        Args:
            models: The members' files.
            data: What the frames are called.
        """
        scales = {label: spread.scale for label, spread in self.spreads.items()}
        sizes = {label: len(spread.error) for label, spread in self.spreads.items()}
        return Calibration(scales, fingerprints(models), sizes, data)

    def table(self) -> Table:
        """Coverage of one and two standard deviations, before and after the factor."""
        source = "uncalibrated" if self.calibration is None else f"calibrated on {self.calibration.data}"
        table = Table(
            *("", "values", "factor", "within 1σ (68 %)", "within 2σ (95 %)", "rank correlation"),
            title=f"committee of {len(self.members)}, {source}",
            title_justify="left",
        )
        for row in self._rows():
            numbers = [f"{100 * row[key]:.1f} %" for key in ("coverage_1", "coverage_2")]
            raw = "" if self.calibration is None else f" (from {100 * row['coverage_1_raw']:.1f} %)"
            correlation = f"{row['rank_correlation']:.2f}"
            table.add_row(
                row["label"], str(row["values"]), f"{row['scale']:.3g}", numbers[0] + raw, numbers[1], correlation
            )
        return table

    def to_dict(self) -> dict[str, Any]:
        """The errors of the mean, and the coverage by label."""
        calibration = None if self.calibration is None else vars(self.calibration)
        return {
            **self.mean.to_dict(),
            "members": len(self.members),
            "spread": self._rows(),
            "calibration": calibration,
        }

    def plot(self) -> Figure:
        """Coverage against what a normal distribution would have, and errors against the spread."""
        from mlip.training.uncertainty_figures import calibration_figure

        return calibration_figure(self.spreads, {label: self.scale(label) for label in self.spreads})

    def _rows(self) -> list[dict[str, Any]]:
        return [
            {
                "label": label,
                "values": len(spread.error),
                "scale": self.scale(label),
                "coverage_1": spread.coverage(self.scale(label)),
                "coverage_2": spread.coverage(self.scale(label), 2.0),
                "coverage_1_raw": spread.coverage(1.0),
                "rank_correlation": spread.correlation,
            }
            for label, spread in self.spreads.items()
        ]

    def _spread(self, label: str) -> Spread | None:
        parts = [
            _compare(frame, [member[k] for member in self.members], label) for k, frame in enumerate(self.frames)
        ]
        there = [part for part in parts if part is not None]
        both = np.concatenate(there, axis=1) if there else np.empty((2, 0))
        both = both[:, np.isfinite(both[0])]
        return Spread(both[0], both[1]) if both.size else None


def evaluate_committee(
    models: Sequence[Potential | str | Path],
    data: str | Path | DatasetEntry | Mapping[str, Any] | Sequence[LabelledFrame],
    *,
    calibration: Calibration | None = None,
    max_edges: int = 50_000,
    device: str = "cpu",
    **reading: Any,
) -> CommitteeEvaluation:
    """Compare a committee with labels.

    Args:
        models: Two or more potentials or files.
        data: As for ``evaluate``.
        calibration: Factors on the spread.
        max_edges: Size of a batch.
        device: Where model files are loaded to.
        **reading: ``keys``, ``units``, ``pbc`` and ``index``, as for ``evaluate``.

    Raises:
        InputError: Fewer than two models, or as ``evaluate``.
    """
    if len(models) < 2:
        raise InputError("a committee needs two models or more", key="models")
    frames, wanted = read_labelled(data, **reading)
    opened = [m if isinstance(m, Potential) else Potential.load(m, device=device) for m in models]
    members = [predict_frames(potential, frames, wanted, max_edges) for potential in opened]
    return CommitteeEvaluation(frames, members, calibration)


def _mean(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: np.mean([answer[name] for answer in answers], axis=0) for name in answers[0]}


def _compare(frame: LabelledFrame, answers: Sequence[Mapping[str, Any]], label: str) -> Array | None:
    """(2, n), error of the mean and spread; energies per atom."""
    reference = getattr(frame, label)
    if reference is None or label not in answers[0]:
        return None
    values = np.array([np.asarray(answer[label], dtype=np.float64) for answer in answers])
    error = (values.mean(axis=0) - np.asarray(reference, dtype=np.float64)).ravel()
    spread = _isotropic(values.var(axis=0, ddof=1), label)
    return np.stack([error, spread]) / (len(frame) if label == "energy" else 1.0)


def _isotropic(variance: Array, label: str) -> Array:
    """√ of the mean variance over the components that belong together, once for each of them."""
    rows = variance.reshape({"energy": (1, 1), "forces": (-1, 3), "stress": (1, 9)}[label])
    return np.repeat(np.sqrt(rows.mean(axis=1)), rows.shape[1])
