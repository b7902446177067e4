"""Point groups in O(3): the named ones, recognising one, and the normaliser of any."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mlip.errors import InputError
from mlip.symmetry.matrix_group import TOLERANCE, MatrixGroup

Array = NDArray[np.float64]


def _turn(axis: tuple[float, float, float], fold: int) -> Array:
    unit = np.array(axis) / np.linalg.norm(axis)
    return np.asarray(Rotation.from_rotvec(2 * np.pi / fold * unit).as_matrix())


def _axial(fold: int) -> Array:
    return _turn((0, 0, 1), fold)


_INVERSION = -np.eye(3)
_ACROSS = np.diag([1.0, 1.0, -1.0])  # σ_h
_ALONG = np.diag([1.0, -1.0, 1.0])  # σ_v
_TWOFOLD = np.diag([1.0, -1.0, -1.0])  # C₂ about x
_DIAGONAL = _turn((1, 1, 1), 3)
_GOLDEN = (1 + np.sqrt(5)) / 2

# Schoenflies symbol → generators; main axis along z, a two-fold axis (or the normal of a mirror) along x.
_GENERATORS: dict[str, list[Array]] = {
    "C1": [], "Ci": [_INVERSION], "Cs": [_ACROSS],
    "T": [_DIAGONAL, _axial(2)], "Th": [_DIAGONAL, _axial(2), _INVERSION], "O": [_DIAGONAL, _axial(4)],
    "Td": [_DIAGONAL, -_axial(4)], "Oh": [_DIAGONAL, _axial(4), _INVERSION],
    "I": [_DIAGONAL, _turn((0, 1, _GOLDEN), 5)], "Ih": [_DIAGONAL, _turn((0, 1, _GOLDEN), 5), _INVERSION],
}  # fmt: skip
for _n in (2, 3, 4, 5, 6, 8, 12):
    _GENERATORS |= {
        f"C{_n}": [_axial(_n)],
        f"C{_n}h": [_axial(_n), _ACROSS],
        f"C{_n}v": [_axial(_n), _ALONG],
        f"D{_n}": [_axial(_n), _TWOFOLD],
        f"D{_n}h": [_axial(_n), _TWOFOLD, _ACROSS],
    }
for _n in (2, 3, 4, 6):
    _GENERATORS |= {f"S{2 * _n}": [_ACROSS @ _axial(2 * _n)], f"D{_n}d": [_ACROSS @ _axial(2 * _n), _TWOFOLD]}

CRYSTALLOGRAPHIC = (
    "C1", "Ci", "C2", "Cs", "C2h", "D2", "C2v", "D2h", "C4", "S4", "C4h", "D4", "C4v", "D2d", "D4h", "C3", "S6",
    "D3", "C3v", "D3d", "C6", "C3h", "C6h", "D6", "C6v", "D3h", "D6h", "T", "Th", "O", "Td", "Oh",
)  # fmt: skip


@lru_cache(maxsize=64)
def point_group(symbol: str) -> MatrixGroup:
    """A point group by its Schoenflies symbol, main axis along z and secondary axis along x.

    Raises:
        InputError: Not one of the symbols known.
    """
    if symbol not in _GENERATORS:
        raise InputError(f"'{symbol}' is not a point group known here", mend=f"one of {', '.join(_GENERATORS)}")
    return MatrixGroup.generated_by(_GENERATORS[symbol])


def point_group_name(elements: Array) -> str:
    """The Schoenflies symbol of a group of orthogonal matrices (n, 3, 3), whatever its orientation.

    Every point group known here is told from all others by its determinants and traces.

    Raises:
        InputError: None of the symbols known.
    """
    found = _names().get(_signature(np.asarray(elements)))
    if found is None:
        raise InputError(f"{len(elements)} matrices that are no point group known here")
    return found


@lru_cache(maxsize=1)
def _names() -> dict[tuple[tuple[tuple[int, float], int], ...], str]:
    chosen: dict[tuple[tuple[tuple[int, float], int], ...], str] = {}
    for symbol in (*CRYSTALLOGRAPHIC, *_GENERATORS):
        chosen.setdefault(_signature(point_group(symbol).elements), symbol)
    return chosen


def _signature(elements: Array) -> tuple[tuple[tuple[int, float], int], ...]:
    kinds = Counter((round(np.linalg.det(m)), round(float(np.trace(m)), 4) + 0.0) for m in elements)
    return tuple(sorted(kinds.items()))


def rotation_axis(matrix: Array) -> Array | None:
    """The unit axis of an orthogonal matrix's rotation part; None for ±1."""
    proper = matrix * round(np.linalg.det(matrix))
    vector = Rotation.from_matrix(proper).as_rotvec()
    length = np.linalg.norm(vector)
    return None if length < TOLERANCE else vector / length


def normaliser(group: MatrixGroup) -> MatrixGroup | str:
    """N(S) = {g ∈ O(3): g·S·g⁻¹ = S}: a finite group, or the name of a continuous one.

    A g that normalises S permutes the directions of its axes. Two of them that are not parallel fix g, so all
    candidates are tried; where all axes are parallel, every turn about them and every mirror along them is good.

    Returns:
        The normaliser; ``"O(3)"`` for C1 and Ci, ``"D∞h"`` for groups with one axis.
    """
    axes = [a for a in map(rotation_axis, group.elements) if a is not None]
    if not axes:
        return "O(3)"
    directions = np.unique(np.round([*axes, *(-a for a in axes)], 9) + 0.0, axis=0)
    first = directions[0]
    skew = np.linalg.norm(np.cross(first, directions), axis=1)
    if skew.max() < TOLERANCE:
        return "D∞h"
    second = directions[int(np.argmax(skew > TOLERANCE))]
    good = [g for g in _turns_onto(first, second, directions) if _normalises(group, g)]
    return MatrixGroup(np.array([*good, *(-g for g in good)]))


def _turns_onto(first: Array, second: Array, directions: Array) -> list[Array]:
    """All rotations that send the two directions to two of the list."""
    frame, cosine = _frame(first, second), float(first @ second)
    pairs = [(a, b) for a in directions for b in directions if abs(float(a @ b) - cosine) < TOLERANCE]
    return [_frame(a, b) @ frame.T for a, b in pairs]


def _frame(a: Array, b: Array) -> Array:
    normal = np.cross(a, b)
    normal = normal / np.linalg.norm(normal)
    return np.stack([a, normal, np.cross(a, normal)], axis=1)


def _normalises(group: MatrixGroup, g: Array) -> bool:
    images = g @ group.elements @ g.T
    gaps = np.abs(images[:, None] - group.elements[None]).max(axis=(2, 3))
    return bool((gaps.min(axis=1) < 10 * TOLERANCE).all())
