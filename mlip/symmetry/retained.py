"""Which point group of the laboratory a function of orientation keeps, and along which axis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from mlip.symmetry.axis_likelihood import Likelihood
from mlip.symmetry.characters import character
from mlip.symmetry.crystal import direction_name
from mlip.symmetry.label_tests import invariant_projector
from mlip.symmetry.measurement import NEGLIGIBLE, Measurement
from mlip.symmetry.point_groups import CRYSTALLOGRAPHIC, point_group, rotation_axis
from mlip.symmetry.spectrum import Irrep, Wigner, irreps_up_to, wigner_list, wigner_of

Array = NDArray[np.float64]
LEVEL = 0.01  # a group is given up where its violation is significant at this level
MOST = 0.3  # with labels: where more than this share of the model's own power violates it
SLACK = 0.01  # without labels: where more than this share of the power violates it, beyond two standard errors

INTERNATIONAL = {
    "C1": "1", "Ci": "-1", "C2": "2", "Cs": "m", "C2h": "2/m", "D2": "222", "C2v": "mm2", "D2h": "mmm", "C4": "4",
    "S4": "-4", "C4h": "4/m", "D4": "422", "C4v": "4mm", "D2d": "-42m", "D4h": "4/mmm", "C3": "3", "S6": "-3",
    "D3": "32", "C3v": "3m", "D3d": "-3m", "C6": "6", "C3h": "-6", "C6h": "6/m", "D6": "622", "C6v": "6mm",
    "D3h": "-6m2", "D6h": "6/mmm", "T": "23", "Th": "m-3", "O": "432", "Td": "-43m", "Oh": "m-3m",
}  # fmt: skip
# Curie's limiting groups, each by a finite group that has the same invariants up to l = 5.
LIMITING = {
    "Ih": "∞∞m", "I": "∞∞", "D12h": "∞/mm", "D12": "∞2", "C12v": "∞m", "C12h": "∞/m", "C12": "∞",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class RetainedGroup:
    """A point group in the laboratory that a function keeps.

    Attributes:
        symbol: International, with Curie's limiting groups: ∞∞m is O(3), ∞/mm that of a uniaxial strain.
        elements: (n, 3, 3) in laboratory axes.
        axis: Unit vector of its main axis, sign without meaning; None where there is none or several.
        axis_error: Degrees, standard deviation over resampled frames; None where it was not estimated.
        violation: Share of the anisotropic power that is not invariant.
        p: Of the labels against it; None without labels.
        rejected: Larger groups that were given up, with their p, or share of violation without labels.
    """

    symbol: str
    elements: Array
    axis: Array | None
    axis_error: float | None
    violation: float
    p: float | None
    rejected: dict[str, float]

    @property
    def label(self) -> str:
        """Such as ``4/mmm, axis [001]``."""
        if self.axis is None:
            return self.symbol
        error = "" if self.axis_error is None else f" ± {self.axis_error:.1f}°"
        return f"{self.symbol}, axis [{nearby_direction(self.axis, self.axis_error)}]{error}"

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return {
            "group": self.symbol,
            "label": self.label,
            "axis": None if self.axis is None else self.axis.tolist(),
            "axis_error_degrees": self.axis_error,
            "violation": self.violation,
            "p": self.p,
            "rejected": self.rejected,
        }


def nearby_direction(axis: Array, error: float | None = None) -> str:
    """Small integers that lie within 2°, or two standard deviations, of a direction; else its components."""
    within = max(2.0, 2 * (error or 0.0))
    grid = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[np.abs(grid).sum(axis=1) > 0]
    cosine = grid @ axis / np.linalg.norm(grid, axis=1) / np.linalg.norm(axis)
    close = grid[np.degrees(np.arccos(np.clip(np.abs(cosine), -1, 1))) < within]
    best = min(close, key=lambda v: float(v @ v), default=None)
    return direction_name(axis if best is None else best.astype(np.float64))


@lru_cache(maxsize=4)
def candidates(lmax: int) -> tuple[str, ...]:
    """Point groups by falling symmetry: those with the fewest invariants first."""

    def rank(symbol: str) -> tuple[int, int]:
        elements = point_group(symbol).elements
        free = [character(elements, i.l, 1 if i.parity == 1 else -1).mean() for i in irreps_up_to(lmax)]
        return round(float(np.sum(free))), -len(elements)

    return tuple(sorted((*LIMITING, *CRYSTALLOGRAPHIC), key=rank))


class Orienter:
    """Turns a group so that it keeps as much as it can of a spectrum.

    Args:
        grams: irrep → (2l+1, 2l+1), over all structures.
        lmax: Highest degree.
        rng: Of the first trials.
    """

    def __init__(self, grams: dict[Irrep, Array], lmax: int, rng: np.random.Generator, trials: int = 600) -> None:
        self.grams, self.lmax = grams, lmax
        self._turns = Rotation.random(trials, rng=rng).as_matrix()
        self._turned = _conjugated(grams, wigner_list(self._turns, lmax))

    def kept(self, projectors: dict[Irrep, Array], turned: dict[Irrep, Array]) -> Array:
        """Power inside the invariant space of the turned group."""
        return np.asarray(sum(np.einsum("mn,anm->a", p, turned[i]) for i, p in projectors.items()))

    def best(self, projectors: dict[Irrep, Array]) -> Array:
        """The rotation that keeps most, from the three best of many trials."""
        order = np.argsort(-self.kept(projectors, self._turned))[:3]
        found = [self.refine(projectors, self._turns[k]) for k in order]
        return max(found, key=lambda pair: pair[1])[0]

    def refine(self, projectors: dict[Irrep, Array], start: Array) -> tuple[Array, float]:
        """The nearest maximum, and the power it keeps, relative to the whole."""
        scale = sum(float(np.abs(np.trace(g))) for g in self.grams.values()) or 1.0
        begun = {i: g[0] for i, g in _conjugated(self.grams, wigner_list(start[None], self.lmax)).items()}

        def loss(vector: Array) -> float:
            return -float(self.kept(projectors, _conjugated(begun, wigner_of(vector, self.lmax)))[0]) / scale

        simplex = np.vstack([np.zeros(3), 0.1 * np.eye(3)])
        options = {"initial_simplex": simplex, "xatol": 1e-4, "fatol": 1e-9, "maxfev": 120}
        found = minimize(loss, np.zeros(3), method="Nelder-Mead", options=options)
        return np.asarray(start @ Rotation.from_rotvec(found.x).as_matrix()), -float(found.fun)


def _conjugated(grams: dict[Irrep, Array], wigner: Wigner) -> dict[Irrep, Array]:
    """Dᵀ G D for each rotation, (a, 2l+1, 2l+1)."""
    return {i: np.swapaxes(wigner[i.l], 1, 2) @ g @ wigner[i.l] for i, g in grams.items()}


def retained_group(
    measurement: Measurement,
    p_against: Callable[[dict[Irrep, Array], Array], float] | None,
    rng: np.random.Generator,
) -> RetainedGroup:
    """The largest point group that nothing speaks against.

    Args:
        measurement: The model's samples.
        p_against: (projectors on the invariants, elements) → p of what the labels say against a group; None without
            labels: then what the model itself violates decides.
        rng: Of trial orientations.
    """
    if measurement.totals["energies"].mean() < NEGLIGIBLE["energies"] ** 2:
        return RetainedGroup(LIMITING["Ih"], point_group("Ih").elements, None, None, 0.0, None, {})
    search = _Search(measurement, p_against, rng)
    rejected: dict[str, float] = {}
    for name in candidates(measurement.lmax):
        symbol = LIMITING.get(name) or INTERNATIONAL[name]
        found = search.try_group(name)
        if found.accepted:
            break
        rejected[symbol] = found.share if found.p is None else found.p
    axis = main_axis(found.elements)
    error = None if axis is None else search.likelihood.axis_error(found.plain, found.turn, axis)
    return RetainedGroup(symbol, found.elements, axis, error, found.share, found.p, rejected)


@dataclass(frozen=True, eq=False)
class _Trial:
    plain: dict[Irrep, Array]
    turn: Array
    elements: Array
    share: float
    p: float | None
    accepted: bool


class _Search:
    """Tries groups: in the orientation that keeps most, and, where that may do, in the most likely one near it."""

    def __init__(
        self,
        measurement: Measurement,
        p_against: Callable[[dict[Irrep, Array], Array], float] | None,
        rng: np.random.Generator,
    ) -> None:
        self.grams, self.p_against = measurement.grams["energies"], p_against
        self.orienter = Orienter({i: g.mean(axis=0) for i, g in self.grams.items()}, measurement.lmax, rng)
        self.likelihood = Likelihood(measurement)

    def try_group(self, name: str) -> _Trial:
        """Accepted or not."""
        plain = {i: invariant_projector(point_group(name).elements, i) for i in self.grams}
        if name in ("Ih", "I", "C1", "Ci"):  # in any orientation the same
            return self._judged(name, plain, np.eye(3))
        trial = self._judged(name, plain, self.orienter.best(plain))
        if trial.share > 0.3 and not trial.accepted:
            return trial
        return self._judged(name, plain, self.likelihood.refine(plain, trial.turn))

    def _judged(self, name: str, plain: dict[Irrep, Array], turn: Array) -> _Trial:
        elements = turn @ point_group(name).elements @ turn.T
        projectors = {i: invariant_projector(elements, i) for i in self.grams}
        share, error = _violation(self.grams, projectors)
        p = None if self.p_against is None else self.p_against(projectors, elements)
        small = share <= SLACK + 2 * error if p is None else share <= MOST or name == "Ih"
        accepted = small and (p is None or p > LEVEL)
        return _Trial(plain, turn, elements, share, p, accepted)


def _violation(grams: dict[Irrep, Array], projectors: dict[Irrep, Array]) -> tuple[float, float]:
    """Share of the power outside the invariant space, and its standard error over frames."""
    whole = sum(np.trace(g, axis1=1, axis2=2) for g in grams.values())
    inside = sum(np.einsum("mn,inm->i", projectors[i], g) for i, g in grams.items())
    outside = np.asarray(whole - inside)
    total = abs(float(np.mean(whole))) or 1.0
    return float(outside.mean()) / total, float(outside.std(ddof=1) / np.sqrt(len(outside))) / total


def main_axis(elements: Array) -> Array | None:
    """The axis of highest order; among several of them the one proper axis (mm2); else None.

    A mirror's axis is its normal.
    """
    found: dict[int, list[tuple[Array, bool]]] = {}
    for matrix in elements:
        axis = rotation_axis(matrix)
        if axis is None:
            continue
        sign = np.rint(np.linalg.det(matrix))
        angle = np.degrees(np.arccos(np.clip((np.trace(matrix * sign) - 1) / 2, -1, 1)))
        found.setdefault(round(360 / angle), []).append((axis, sign > 0))
    highest = found[max(found)] if found else []
    distinct = _distinct([axis for axis, _ in highest])
    if len(distinct) > 1:
        distinct = _distinct([axis for axis, proper in highest if proper])
    if len(distinct) != 1:
        return None
    axis = distinct[0]
    return np.asarray(axis * np.sign(axis[np.abs(axis).argmax()]))


def _distinct(axes: list[Array]) -> list[Array]:
    """One of each line."""
    kept: list[Array] = []
    for axis in axes:
        if all(abs(abs(float(axis @ other)) - 1) > 1e-4 for other in kept):
            kept.append(axis)
    return kept
