"""Names of irreps from characters: Mulliken's symbols, and Miller and Love's numbers for the perovskite parent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlip.symmetry.point_groups import point_group_name, rotation_axis

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

# Pm-3m: number of each symbol in the tables of Miller and Love, for little co-groups O_h and D_4h.
_MILLER_LOVE = {
    "Oh": {"A1": 1, "A2": 2, "E": 3, "T1": 4, "T2": 5},
    "D4h": {"A1": 1, "B1": 2, "A2": 3, "B2": 4, "E": 5},
}


def mulliken(rotations: Array, characters: Complex) -> str:
    """Mulliken's symbol of an irrep of a point group.

    Improper operations are sent to det(g)·g: where the inversion is absent this is an isomorphism onto a proper
    group, so eleven proper groups and a mark for g/u or ′/″ name all 32.

    Args:
        rotations: (n, 3, 3) Cartesian, the whole group.
        characters: (n,).
    """
    name = point_group_name(rotations)
    dimension = round(float(np.max(characters.real)))
    sign = np.rint(np.linalg.det(rotations))
    proper = rotations * sign[:, None, None]
    has_inversion = bool((np.abs(rotations + np.eye(3)).max(axis=(1, 2)) < 1e-6).any())
    if has_inversion:
        at_inversion = characters[np.abs(rotations + np.eye(3)).max(axis=(1, 2)).argmin()].real
        chosen = sign > 0
        return _proper(proper[chosen], characters[chosen], dimension) + ("g" if at_inversion > 0 else "u")
    if name in ("Cs", "C3h", "D3h"):
        mirror = characters[_horizontal(rotations)].real
        primes = "′" if mirror > 0 else "″"
        chosen = sign > 0
        return _proper(proper[chosen], characters[chosen], dimension) + primes
    if name == "C2v":
        return _two_mirrors(rotations, characters)
    return _proper(proper, characters, dimension)


def _horizontal(rotations: Array) -> int:
    """Index of σ_h: the mirror whose normal is the main axis (the only mirror of C_s)."""
    mirrors = [i for i, m in enumerate(rotations) if _fold(m) == 2 and np.linalg.det(m) < 0]
    axes = [rotation_axis(m) for m in rotations if _fold(m) == 3]
    if not axes or axes[0] is None:
        return mirrors[0]
    main = axes[0]
    return max(mirrors, key=lambda i: abs(float(np.dot(_axis(rotations[i]), main))))


def _axis(matrix: Array) -> Array:
    axis = rotation_axis(matrix)
    return np.zeros(3) if axis is None else axis


def _fold(matrix: Array) -> int:
    """The order of the rotation part; 1 for ±1."""
    cosine = (np.trace(matrix) * np.rint(np.linalg.det(matrix)) - 1) / 2
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return 1 if angle < 1e-3 else round(360 / angle)


def _proper(rotations: Array, characters: Complex, dimension: int) -> str:
    folds = np.array([_fold(m) for m in rotations])
    name = point_group_name(rotations)
    if dimension == 3:
        return "T" if name == "T" else f"T{1 if characters[folds == 4][0].real > 0 else 2}"
    if name in ("T", "O"):
        if dimension == 2 or np.abs(characters.imag).max() > 1e-6 or characters[folds == 3][0].real < 0.5:
            return "E"
        return "A" if name == "T" else f"A{1 if characters[folds == 4][0].real > 0 else 2}"
    if name == "D2":
        return _three_twofolds(rotations, characters)
    main = int(folds.max())
    if main == 1:
        return "A"
    at_main = complex(characters[folds == main][0])
    if dimension == 2 or abs(at_main.imag) > 1e-6:
        return f"E{1 if at_main.real > 0 else 2}" if main == 6 else "E"
    letter = "A" if at_main.real > 0 else "B"
    if name.startswith("C"):
        return letter
    across = _secondary(rotations, folds, main)
    return f"{letter}{1 if characters[across].real > 0 else 2}"


def _secondary(rotations: Array, folds: NDArray[np.int64], main: int) -> int:
    """Index of C₂′: a two-fold axis across the main one, the closest to a Cartesian axis."""
    axis = _axis(rotations[int(np.flatnonzero(folds == main)[0])])
    across = [i for i in np.flatnonzero(folds == 2) if abs(float(_axis(rotations[i]) @ axis)) < 1e-3]
    return int(max(across, key=lambda i: np.round(np.abs(_axis(rotations[i])).max(), 6)))


def _three_twofolds(rotations: Array, characters: Complex) -> str:
    """B1, B2, B3 keep the axes closest to z, y and x."""
    values = {}
    axes = [i for i in range(len(rotations)) if _fold(rotations[i]) == 2]
    for place, label in ((2, "B1"), (1, "B2"), (0, "B3")):
        nearest = max(axes, key=lambda i: abs(_axis(rotations[i])[place]))
        axes.remove(nearest)
        values[label] = characters[nearest].real
    kept = [label for label, value in values.items() if value > 0]
    return "A" if len(kept) == 3 else kept[0]


def _two_mirrors(rotations: Array, characters: Complex) -> str:
    """A1, A2, B1, B2 of C2v; B1 keeps the mirror whose normal is closer to y."""
    sign = np.linalg.det(rotations)
    folds = np.array([_fold(m) for m in rotations])
    axis = characters[(folds == 2) & (sign > 0)][0].real
    mirrors = np.flatnonzero(sign < 0)
    first = max(mirrors, key=lambda i: abs(_axis(rotations[i])[1]) + 1e-6 * abs(_axis(rotations[i])[0]))
    kept = characters[first].real > 0
    return f"{'A' if axis > 0 else 'B'}{1 if kept else 2}"


def miller_love(rotations: Array, symbol: str) -> str | None:
    """``4-`` for T1u of O_h and so on, as the literature on perovskites writes; None for other little co-groups."""
    table = _MILLER_LOVE.get(point_group_name(rotations), {})
    number = table.get(symbol.rstrip("gu"))
    return None if number is None else f"{number}{'+' if symbol.endswith('g') else '-'}"
