"""The label doctor: do energies, forces and stresses of neighbouring frames belong together?

Between two near frames the trapezoidal rule gives ΔE ≈ −½(F₁ + F₂)·Δx + ½(V₁σ₁ + V₂σ₂):ε up to the third order
in the step. The slope of one against the other is 1 for consistent labels; a wrong sign or unit shows as −1,
23.06, 51.4 … without any model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mlip.datasets.align import step_between
from mlip.datasets.boxes import unboxed
from mlip.datasets.frame import Array, LabelledFrame
from mlip.datasets.neighbours import STRAIN_TOLERANCE, nearest_pairs
from mlip.datasets.progress import slowly
from mlip.datasets.verdicts import explain, explain_stress

FARTHEST = 0.35  # Å, rms displacement beyond which the trapezoidal rule says nothing
CLOSEST = 30  # pairs that decide the slope
FEWEST = 5
MIN_CORRELATION = 0.9
NEAR = 0.1  # Å, within which sound labels always correlate
SIGNAL = 1e-3  # eV, below which rounding may hide the correlation
_NEIGHBOURS = 3


@dataclass(frozen=True)
class Outlier:
    """A frame whose energy or forces fall off the line of its neighbours.

    Attributes:
        position: Its place in the sequence examined.
        name: File and index.
        residual: Median energy residual against its neighbours, eV.
        excess: That residual over the harmonic energy scale of the steps; below 0.7 in sound sets.
    """

    position: int
    name: str
    residual: float
    excess: float


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor found.

    Attributes:
        verdict: In words.
        testable: Whether near pairs with energies and forces exist.
        slope: Of ΔE against the work of the labels.
        uncertainty: Its standard error.
        correlation: Between the two.
        pairs: How many decided the slope.
        distance: Their largest rms displacement, Å.
        stress_slope: Of the remaining ΔE against the stress work; None where cells do not differ.
        outliers: Single frames that fall off the line.
    """

    verdict: str
    testable: bool = False
    slope: float | None = None
    uncertainty: float | None = None
    correlation: float | None = None
    pairs: int = 0
    distance: float | None = None
    stress_slope: float | None = None
    outliers: list[Outlier] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Not found wrong: good, or not testable; no outlier."""
        sound = self.verdict.startswith("good") and "STRESS" not in self.verdict
        return (sound or not self.testable) and not self.outliers

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        outliers = [{"frame": o.name, "residual": o.residual, "excess": o.excess} for o in self.outliers]
        names = ("verdict", "testable", "slope", "uncertainty", "correlation", "pairs", "distance", "stress_slope")
        return {name: getattr(self, name) for name in names} | {"outliers": outliers}


@dataclass(frozen=True)
class _Work:
    """Per pair of near frames: indices, work of the forces and of the stress, ΔE, distance, harmonic energy."""

    pairs: Array
    forces: Array
    stress: Array
    energy: Array
    distance: Array
    harmonic: Array

    def take(self, rows: Any) -> _Work:
        return _Work(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def diagnose(frames: Sequence[LabelledFrame]) -> Diagnosis:
    """Examine the labels of a set of frames.

    Args:
        frames: Frames of one origin; those without energy or forces are passed over.

    Returns:
        Slope, verdict and outliers; ``testable`` is false when there are no near pairs.
    """
    positions = [i for i, f in enumerate(frames) if f.energy is not None and f.forces is not None and len(f) > 1]
    usable = [unboxed(frames[i]) for i in positions]
    if len(usable) < 2:
        return Diagnosis("not testable: fewer than two frames with energy and forces")
    work = _work(usable)
    near = work.take(work.distance < FARTHEST)
    if len(near.energy) < FEWEST:
        return Diagnosis(f"not testable: only {len(near.energy)} pairs are closer than {FARTHEST} Å (rms)")
    fit, deciding = _best_fit(near)
    found = Diagnosis(
        "not testable: pairs too far apart (or labels of different origin)",
        slope=fit.slopes[0],
        uncertainty=fit.errors[0],
        correlation=fit.correlation,
        pairs=len(deciding.energy),
        distance=float(deciding.distance.max()),
        stress_slope=fit.slopes[1] if len(fit.slopes) > 1 else None,
    )
    if fit.correlation < MIN_CORRELATION:
        return _uncorrelated(found, deciding)
    verdict = explain(fit.slopes[0], fit.errors[0], _typical_size(usable, deciding))
    if len(fit.slopes) > 1:
        verdict += explain_stress(fit.slopes[1] / fit.slopes[0], fit.errors[1] / abs(fit.slopes[0]))
    return replace(found, verdict=verdict, testable=True, outliers=_outliers(near, fit.slopes, usable, positions))


def _uncorrelated(found: Diagnosis, deciding: _Work) -> Diagnosis:
    """Far pairs prove nothing; near ones whose energies do not follow the forces prove the labels wrong."""
    signal = max(np.abs(deciding.energy).mean(), np.abs(deciding.forces).mean())
    if float(deciding.distance.max()) > NEAR or signal < SIGNAL:
        return found
    return replace(found, verdict="BAD: energy differences of near frames do not follow the forces", testable=True)


def _typical_size(frames: list[LabelledFrame], work: _Work) -> int:
    return int(np.median([len(frames[int(i)]) for i in work.pairs[:, 0]]))


def _work(frames: list[LabelledFrame]) -> _Work:
    """Work along the steps between near frames; pairs of different cells need stress labels."""
    pairs = nearest_pairs(frames, _NEIGHBOURS)
    rows = [(i, j, *_along(frames[i], frames[j])) for i, j in slowly(pairs, "label doctor")]
    table = np.array(rows).reshape(-1, 7)
    table = table[np.isfinite(table).all(axis=1) & (table[:, 5] > 0)]
    return _Work(table[:, :2].astype(int), *table[:, 2:].T)


def _along(a: LabelledFrame, b: LabelledFrame) -> tuple[float, float, float, float, float]:
    """Work of forces and of stress, ΔE, distance and harmonic energy of one step; NaN without a needed stress.

    The distance counts a strain ε as a displacement by ε times the spacing of the atoms.
    """
    step = step_between(a.atoms, b.atoms)
    first, second = np.asarray(a.forces), np.asarray(b.forces) @ step.rotation
    work = -0.5 * float(((first + second) * step.displacement).sum())
    harmonic = 0.5 * abs(float(((first - second) * step.displacement).sum()))
    strain = float(np.linalg.norm(step.strain))
    stress = 0.0 if strain < STRAIN_TOLERANCE else np.nan
    if a.stress is not None and b.stress is not None:
        one, two = a.stress * a.atoms.cell.volume, b.stress * b.atoms.cell.volume
        stress = 0.5 * float(((one + two) * step.strain).sum())
        harmonic += 0.5 * abs(float(((one - two) * step.strain).sum()))
    spacing = (a.atoms.cell.volume / len(a)) ** (1 / 3)
    distance = float(np.hypot(step.rms, strain * spacing))
    return work, stress, (b.energy or 0.0) - (a.energy or 0.0), distance, harmonic


def _best_fit(near: _Work) -> tuple[_Fit, _Work]:
    """Of the closest pairs; with the stress as a second slope where its work suffices to judge it."""
    order = np.argsort(near.distance, kind="stable")
    strained = near.take(order[: max(CLOSEST, len(order) // 4)])
    if np.any(strained.stress):
        both = _fit(strained.energy, strained.forces, strained.stress)
        if both.errors[1] < 0.25 * max(1.0, abs(both.slopes[1])):
            return both, strained
    closest = near.take(order[:CLOSEST])
    return _fit(closest.energy, closest.forces + closest.stress), closest


@dataclass(frozen=True)
class _Fit:
    """ΔE = Σ slope × work, the errors of the slopes, and the correlation of the two sides."""

    slopes: list[float]
    errors: list[float]
    correlation: float


def _fit(energy: Array, *works: Array) -> _Fit:
    """Least squares through the origin in which single outliers do not count.

    Starts from least absolute deviations (iteratively reweighted), then leaves out the residuals beyond six
    median deviations.
    """
    x = np.stack(works, axis=1)
    slopes = np.linalg.lstsq(x, energy, rcond=None)[0]
    for _ in range(30):
        residual = np.abs(energy - x @ slopes)
        root = 1 / np.sqrt(np.maximum(residual, 1e-3 * np.median(np.abs(energy)) + 1e-12))
        slopes = np.linalg.lstsq(x * root[:, None], energy * root, rcond=None)[0]
    for _ in range(3):
        residual = np.abs(energy - x @ slopes)
        keep = residual <= 6 * 1.4826 * max(float(np.median(residual)), 1e-12)
        slopes = np.linalg.lstsq(x[keep], energy[keep], rcond=None)[0]
    fitted, actual = x[keep] @ slopes, energy[keep]
    norm = float(np.sqrt((fitted @ fitted) * (actual @ actual)))
    variance = float(((actual - fitted) ** 2).sum()) / max(len(actual) - len(works), 1)
    errors = np.sqrt(variance * np.diag(np.linalg.pinv(x[keep].T @ x[keep])))
    return _Fit(slopes.tolist(), errors.tolist(), float(fitted @ actual) / norm if norm > 0 else 0.0)


def _outliers(near: _Work, slopes: list[float], frames: list[LabelledFrame], positions: list[int]) -> list[Outlier]:
    """Frames whose median residual is far beyond the harmonic energy of the steps and beyond the other frames."""
    squares = near.distance**2 * np.array([len(frames[int(i)]) for i in near.pairs[:, 0]])
    scale = np.maximum(float(np.median(near.harmonic / squares)) * squares, near.harmonic)
    stress = near.stress if len(slopes) == 1 else near.stress * slopes[1] / slopes[0]
    residual = near.energy / slopes[0] - near.forces - stress
    own: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for (i, j), r, s in zip(near.pairs, residual, scale, strict=True):
        own[int(i)].append((-r / s, -r))
        own[int(j)].append((r / s, r))
    medians = {i: np.median(np.array(rows), axis=0) for i, rows in own.items() if len(rows) > 1}
    if len(medians) < FEWEST:
        return []
    usual = float(np.median([abs(excess) for excess, _ in medians.values()]))
    limit = max(0.15, 20 * usual)
    found = [
        Outlier(positions[i], frames[i].name, float(r), float(abs(excess)))
        for i, (excess, r) in medians.items()
        if abs(excess) > limit and abs(r) > SIGNAL
    ]
    return sorted(found, key=lambda outlier: -outlier.excess)
