"""One D(q) per star: what symmetry says about the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlip.md.dynamical import Complex, DynamicalMatrices, operations
from mlip.md.structure import PrimitiveCell

Array = NDArray[np.float64]
_DIGITS = 8


@dataclass(frozen=True)
class _Arm:
    """q · rotation = sign · (representative + shift): how a point hangs on its star."""

    representative: int
    operation: int
    sign: int
    shift: Array


class StarMatrices:
    """D(q) asked for at one point of each star, and turned from there.

    D(q R) = T D(q) Tᵀ for an operation, D(−q) = D(q)* by time reversal, and D(q + G)_jk = e^(−iG·r_j) D(q)_jk
    e^(iG·r_k). A mesh of a cubic crystal then costs a fortieth.

    Args:
        plain: D(q) of the primitive cell.
        cell: The crystal.
        symmetric: Whether D(q) has the crystal's space group (measure it first); without it, time reversal only.
    """

    def __init__(self, plain: DynamicalMatrices, cell: PrimitiveCell, *, symmetric: bool) -> None:
        self.plain = plain
        self.positions = cell.atoms.get_scaled_positions(wrap=False)
        group, identity = operations(cell), np.eye(3 * len(cell.atoms))
        self.operations = group if symmetric else [(np.eye(3), identity)]
        self.identity = next(k for k, (_, turn) in enumerate(self.operations) if np.allclose(turn, identity))

    def at(self, q: Array) -> Complex:
        """(nq, 3) → (nq, 3n, 3n), with one evaluation of ``plain`` per star."""
        q = np.atleast_2d(q)
        arms, representatives = self._sorted(q)
        known = self.plain.at(representatives)
        return np.array([self._turned(known[arm.representative], arm) for arm in arms])

    def _sorted(self, q: Array) -> tuple[list[_Arm], Array]:
        """For each point its place in a star; and one point of each star."""
        seen: dict[tuple[float, ...], int] = {}
        arms: list[_Arm] = []
        representatives: list[Array] = []
        for point in q:
            arm = self._arm(point, seen, representatives)
            if arm is None:
                seen[_key(point)] = len(representatives)
                representatives.append(point)
                arm = _Arm(len(representatives) - 1, self.identity, 1, np.zeros(3))
            arms.append(arm)
        return arms, np.array(representatives)

    def _arm(self, point: Array, seen: dict[tuple[float, ...], int], known: Sequence[Array]) -> _Arm | None:
        for number, (rotation, _) in enumerate(self.operations):
            image = point @ rotation
            for sign in (1, -1):
                found = seen.get(_key(sign * image))
                if found is not None:
                    return _Arm(found, number, sign, np.rint(sign * image - known[found]))
        return None

    def _turned(self, matrix: Complex, arm: _Arm) -> Complex:
        phase = np.exp(-2j * np.pi * (self.positions @ arm.shift)).repeat(3)
        shifted = phase[:, None] * matrix * phase.conj()
        turn = self.operations[arm.operation][1]
        return np.asarray(turn.T @ (shifted if arm.sign > 0 else shifted.conj()) @ turn)


def _key(q: Array) -> tuple[float, ...]:
    """The point within one reciprocal cell, rounded."""
    inside = np.round(q - np.floor(q), _DIGITS) % 1.0
    return tuple(inside.tolist())
