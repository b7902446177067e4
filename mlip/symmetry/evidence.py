"""Do the labels speak for what a model says of orientation? Tests by re-orientation, the model fixed.

T = Σ_i r_i h_i is the covariance of the residual of the model's strict part with a component of its prediction at the
true frame. Where orientation means nothing, T is as large with any other orientation of the frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

Array = NDArray[np.float64]
POWER = 0.8  # the share of samples in which a signal called detectable is found
SIZES = (50, 100, 200)
BOUND = 1.5  # medians: beyond this size a residual counts by its direction only


@dataclass(frozen=True, eq=False)
class Products:
    """r_i h_i of each frame, at its true orientation and at others.

    Attributes:
        true: (n,).
        other: (n, M).
        squares: (n,): h_i² at the true orientation, in the same units of T per unit of signal.
    """

    true: Array
    other: Array
    squares: Array


@dataclass(frozen=True)
class LabelTest:
    """One test.

    Attributes:
        name: What is tested.
        score: T in standard deviations of the null, all kinds of label together.
        p: Share of re-orientations with a T as large; with a second test beside it, of both together (`either`).
        adjusted: The same by Holm, over all that were tested together.
        scale: Share of the predicted component that the labels confirm: 1 where they agree, 0 where it is noise.
        detectable: Number of frames → smallest rms amplitude, as a multiple of the predicted one, found in 80 % of
            samples of that size at an adjusted level of 5 %.
    """

    name: str
    score: float
    p: float
    adjusted: float
    scale: float
    detectable: dict[int, float]


def reorientations(rng: np.random.Generator, number: int, frames: int, others: int) -> NDArray[np.int64]:
    """(number, frames): which of its other orientations each frame takes."""
    return rng.integers(0, others, size=(number, frames))


def reorientation_tests(
    products: Mapping[str, Sequence[Products]],
    draws: Mapping[int, NDArray[np.int64]],
    beside: Mapping[str, float] | None = None,
) -> dict[str, LabelTest]:
    """LabelTest several components together.

    Args:
        products: name → one entry per kind of label (energies, forces, stresses).
        draws: Number of other orientations → (B, n) which of them the frames take.
        beside: name → p of another test of the same thing.
    """
    raw = {name: _one(parts, draws) for name, parts in products.items()}
    for name, other in (beside or {}).items():
        score, p, strength, frames = raw[name]
        raw[name] = score, either(p, other), strength, frames
    adjusted = holm({name: p for name, (_, p, _, _) in raw.items()})
    level = 0.05 / max(1, len(raw))
    need = float(norm.isf(level) + norm.ppf(POWER))
    tests = {}
    for name, (score, p, strength, frames) in raw.items():
        scale = score / strength if strength > 0 else 0.0
        detectable = {n: need / strength * np.sqrt(frames / n) if strength > 0 else np.inf for n in SIZES}
        tests[name] = LabelTest(name, score, p, adjusted[name], scale, detectable)
    return tests


def _one(parts: Sequence[Products], draws: Mapping[int, NDArray[np.int64]]) -> tuple[float, float, float, int]:
    score, strength, null = 0.0, 0.0, np.zeros(1)
    for part in parts:
        n, others = part.other.shape
        chosen = draws[others]
        sums = part.other[np.arange(n), chosen].sum(axis=1)
        width = float(sums.std())
        if width == 0:
            continue
        score += float(part.true.sum()) / width
        strength += float(part.squares.sum()) / width
        null = null + sums / width
    spread = float(null.std())
    if spread == 0:
        return 0.0, 1.0, 0.0, 1
    as_large = int((null >= score - 1e-12 * spread).sum())
    return score / spread, (1 + as_large) / (1 + len(null)), strength / spread, len(parts[0].true)


def either(*ps: float) -> float:
    """P of several tests of one hypothesis, however they depend on one another (Bonferroni)."""
    return min(1.0, len(ps) * min(ps))


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment: the chance of one false finding among all is at most the level."""
    order = sorted(p, key=lambda name: p[name])
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p[name]))
        adjusted[name] = largest
    return adjusted


def residuals(labels: Sequence[float], strict: Sequence[float], kinds: Sequence[str]) -> Array:
    """Label minus strict part, (n,), less its median over frames of one composition: references do not matter."""
    found = np.asarray(labels, dtype=np.float64) - np.asarray(strict, dtype=np.float64)
    return np.asarray(found - _means(found, kinds))


def stress_residuals(labels: Sequence[Array], strict: Sequence[Array], kinds: Sequence[str]) -> Array:
    """Label minus strict part, (n, 9), less the median *pressure* over frames of the same composition.

    Only what is isotropic may be taken off: the mean of the rest is what an anisotropy does to the undistorted
    crystal itself.
    """
    found = np.asarray(labels, dtype=np.float64).reshape(-1, 9) - np.asarray(strict, dtype=np.float64)
    isotropic = np.eye(3).ravel()
    return np.asarray(found - np.outer(_means(found @ isotropic / 3, kinds), isotropic))


def trust(sizes: Array) -> Array:
    """Huber's weights (n,) of frames by the size of their residuals: min(1, 1.5 median / size).

    A frame that the model has wrong altogether would drown all others. The strict part's residual turns with its
    frame, its size does not depend on orientation, and so the weights leave the null what it is.
    """
    limit = BOUND * float(np.median(sizes))
    return np.asarray(limit / np.maximum(sizes, max(limit, 1e-300)))


def _means(values: Array, kinds: Sequence[str]) -> Array:
    """(n,) of each frame's own kind; medians, which no single frame moves far."""
    return np.array([np.median(values[[b == a for b in kinds]]) for a in kinds])
