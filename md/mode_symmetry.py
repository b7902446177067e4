"""Symmetry of vibrations: irreducible representations by Mulliken's rules, infrared and Raman activity.

No character table: degenerate sets are split by the operations themselves, and characters are read off the modes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mlip.md.point_group import Operation, PointGroup

Array = NDArray[np.float64]
_SIZES = {1: "A", 2: "E", 3: "T", 4: "G", 5: "H"}
_GOLDEN = (1 + np.sqrt(5)) / 2


@dataclass(frozen=True)
class ModeSymmetry:
    """What symmetry says of one mode.

    Attributes:
        label: Mulliken symbol; ``?`` where the mode has no definite symmetry.
        infrared: Whether a photon can excite it; None where that is not known.
        raman: Whether light can scatter from it; None likewise.
    """

    label: str
    infrared: bool | None
    raman: bool | None


UNKNOWN = ModeSymmetry("?", None, None)


def assign(
    group: PointGroup, positions: Array, frequencies: Array, modes: Array, tolerance: float = 0.5
) -> tuple[list[ModeSymmetry], Array, float]:
    """Label the vibrations of a molecule.

    Args:
        group: Its point group.
        positions: (N, 3), Å, about the centre of mass.
        frequencies: (k,) rising, cm⁻¹.
        modes: (k, 3N) orthonormal mass-weighted modes.
        tolerance: cm⁻¹: closer ones may belong to one degenerate set.

    Returns:
        Symmetries; the modes, turned within degenerate sets so that each belongs to one irreducible representation;
        and the defect: how far operations carry sets out of themselves (0 for exact symmetry).
    """
    if group.shape == "monatomic" or len(frequencies) == 0:
        return [], modes, 0.0
    representation = [_displacements(op) for op in group.operations]
    namer = _Linear(group) if group.linear else _Namer(group, positions)
    modes, symmetries, defect = modes.copy(), [], 0.0
    for first, stop in _sets(frequencies, tolerance):
        block = modes[first:stop]
        inside = [block @ t @ block.T for t in representation]
        defect = max(defect, *(float(np.abs(t @ t.T - np.eye(len(t))).max()) for t in inside))
        turned, sizes = namer.split(inside, block)
        modes[first:stop] = turned @ block
        inside = [turned @ t @ turned.T for t in inside]
        start = 0
        for size in sizes:
            part = slice(start, start + size)
            found = namer.symmetry([t[part, part] for t in inside], modes[first:stop][part])
            symmetries += [found] * size
            start += size
    return symmetries, modes, defect


def _displacements(op: Operation) -> Array:
    """(3N, 3N): what the operation makes of displacements of equal atoms."""
    n = len(op.permutation)
    permutation = np.zeros((n, n))
    permutation[op.permutation, np.arange(n)] = 1.0
    return np.asarray(np.kron(permutation, op.matrix), dtype=np.float64)


def _sets(frequencies: Array, tolerance: float) -> list[tuple[int, int]]:
    """Ranges of frequencies whose neighbours are closer than the tolerance."""
    edges = [0, *(np.flatnonzero(np.diff(frequencies) > tolerance) + 1).tolist(), len(frequencies)]
    return list(pairwise(edges))


class _Linear:
    """Linear molecules: vibrations are along the axis (Σ⁺) or across it (Π); the centre decides between g and u."""

    def __init__(self, group: PointGroup) -> None:
        self.axis, self.centre = group.axis, group.symbol == "D∞h"

    def split(self, inside: list[Array], block: Array) -> tuple[Array, list[int]]:
        """Along and across, and by parity: eigenvectors of what tells them apart."""
        along = (block.reshape(len(block), -1, 3) @ self.axis) @ (block.reshape(len(block), -1, 3) @ self.axis).T
        parity = inside[1] if self.centre else np.zeros_like(along)
        values, vectors = np.linalg.eigh(along + 3 * (parity + parity.T) / 2)
        sizes = _runs(values, 0.1)
        return vectors.T, [1 if size == 1 else 2 for size in _pairs(sizes)]

    def symmetry(self, inside: list[Array], modes: Array) -> ModeSymmetry:
        """Σ⁺ or Π with its parity."""
        along = np.linalg.norm(modes.reshape(len(modes), -1, 3) @ self.axis) ** 2 / len(modes)
        letter = "Σ" if along > 0.5 else "Π"
        plus = "⁺" if letter == "Σ" else ""
        if not self.centre:
            return ModeSymmetry(f"{letter}{plus}", True, True)
        even = np.trace(inside[1]) > 0
        return ModeSymmetry(f"{letter}{'g' if even else 'u'}{plus}", bool(not even), bool(even))


def _runs(values: Array, tolerance: float) -> list[int]:
    edges = [0, *(np.flatnonzero(np.diff(values) > tolerance) + 1).tolist(), len(values)]
    return np.diff(edges).tolist()


def _pairs(sizes: list[int]) -> list[int]:
    """Runs of even length are pairs of Π modes; odd ones are single."""
    return [part for size in sizes for part in ([2] * (size // 2) if size % 2 == 0 else [1] * size)]


class _Namer:
    """Characters → Mulliken symbols (J. Chem. Phys. 23, 1997 (1955))."""

    def __init__(self, group: PointGroup, positions: Array) -> None:
        self.operations, self.symbol = group.operations, group.symbol
        self.trace = np.array([np.trace(op.matrix) for op in group.operations])
        self.trace_of_square = np.array([np.trace(op.matrix @ op.matrix) for op in group.operations])
        self.square = [_index_of(op.matrix @ op.matrix, group.operations) for op in group.operations]
        self.marks = Landmarks(group, positions)

    def split(self, inside: list[Array], block: Array) -> tuple[Array, list[int]]:  # noqa: ARG002
        """Irreducible parts of a set: eigenspaces of a symmetric matrix averaged over the group (Schur)."""
        size = len(inside[0])
        if size == 1:
            return np.eye(1), [1]
        noise = np.random.default_rng(0).normal(size=(size, size))
        commuting = sum(t @ (noise + noise.T) @ t.T for t in inside) / len(inside)
        values, vectors = np.linalg.eigh(commuting)
        return vectors.T, _runs(values, 1e-2 * np.abs(noise).max() / size)

    def symmetry(self, inside: list[Array], modes: Array) -> ModeSymmetry:  # noqa: ARG002
        """Symbol and activity of one irreducible set.

        n_IR = ⟨χ tr R⟩, n_Raman = ⟨χ ((tr R)² + tr R²)/2⟩; irreducible over the reals when
        ⟨(χ(g)² + χ(g²))/2⟩ = 1, which counts the complex pairs of C3, C4h or Th once.
        """
        character = np.array([np.trace(t) for t in inside])
        norm = float(((character**2 + character[self.square]) / 2).mean())
        if abs(norm - 1) > 0.1:
            return UNKNOWN
        infrared = round(float((character * self.trace).mean()))
        raman = round(float((character * (self.trace**2 + self.trace_of_square) / 2).mean()))
        return ModeSymmetry(self._label(character, len(inside[0])), infrared > 0, raman > 0)

    def _label(self, character: Array, size: int) -> str:
        if self.symbol[0] in "TOI":
            body = self._cubic(character, size)
        elif size == 1:
            body = self._single(character)
        else:
            body = "E" + self._turns(character)
        return body + self._parity(character)

    def _parity(self, character: Array) -> str:
        """Even and odd (g, u) under inversion; ′ and ″ under a horizontal mirror where there is no inversion."""
        marks = self.marks
        if marks.inversion is not None:
            return "g" if character[marks.inversion] > 0 else "u"
        if marks.horizontal is None or (self.symbol[0] in "CD" and not marks.primed):
            return ""
        return "′" if character[marks.horizontal] > 0 else "″"

    def _single(self, character: Array) -> str:
        """A or B, with 1, 2, 3."""
        marks = self.marks
        if marks.three_axes:  # D2, D2h: B1, B2, B3 are even under C2(z), C2(y), C2(x)
            even = [k for k, axis in enumerate(marks.three_axes, 1) if character[axis] > 0]
            return "A" if len(even) == 3 else f"B{even[0]}"
        letter = "A" if marks.principal is None or character[marks.principal] > 0 else "B"
        if marks.secondary is None:
            return letter
        return f"{letter}{1 if character[marks.secondary] > 0 else 2}"

    def _turns(self, character: Array) -> str:
        """The k of E_k, from χ(C_n) = 2 cos(2πk/n); left out where there is one E only."""
        marks = self.marks
        if marks.principal is None or marks.order < 5:
            return ""
        angle = np.arccos(np.clip(character[marks.principal] / 2, -1, 1))
        return str(round(marks.order * float(angle) / (2 * np.pi)))

    def _cubic(self, character: Array, size: int) -> str:
        """A1, A2 and T1, T2 by the fourfold operation or, of icosahedra, the fivefold one."""
        letter, mark = _SIZES[size], self.marks.principal
        if self.symbol[0] == "I":
            return letter if size != 3 else f"T{1 if abs(character[mark] - _GOLDEN) < 0.5 else 2}"
        if self.symbol in ("T", "Th") or size == 2:
            return letter
        return f"{letter}{1 if character[mark] > 0 else 2}"


def _index_of(matrix: Array, operations: tuple[Operation, ...]) -> int:
    return int(np.argmin([np.abs(op.matrix - matrix).max() for op in operations]))


class Landmarks:
    """The operations that Mulliken's rules look at, as indices into the group's operations.

    Where the rules leave a choice, axes and mirrors that hold more atoms come first: C2′ before C2″, σv before σd. In
    C2v and D2h of planar molecules x is across the plane; in D2h z is the axis that holds most atoms.

    Attributes:
        principal: Rotation by 2π/n about the main axis (of D_nd with even n and S_2n the rotation–reflection by π/n).
        order: Its order.
        secondary: C2′ of dihedral groups, σv of C_nv.
        horizontal: The mirror across the main axis.
        inversion: The inversion.
        three_axes: C2(z), C2(y), C2(x) of D2 and D2h.
        primed: Whether ′ and ″ are used.
    """

    def __init__(self, group: PointGroup, positions: Array) -> None:
        self.operations, self.positions, self.symbol = group.operations, positions, group.symbol
        self.inversion = self._first(lambda op: op.is_inversion)
        self.three_axes = self._three_axes() if group.symbol in ("D2", "D2h") else []
        main = group.axis
        self.principal, self.order = self._principal(main)
        self.horizontal = self._first(lambda op: op.is_mirror and bool(abs(op.axis @ main) > 0.99))
        self.primed = self.inversion is None and self.horizontal is not None and not group.symbol.endswith("v")
        self.secondary = self._secondary(main)

    def _first(self, wanted: Callable[[Operation], bool]) -> int | None:
        return next((k for k, op in enumerate(self.operations) if wanted(op)), None)

    def _principal(self, main: Array) -> tuple[int | None, int]:
        if self.symbol[0] in "TOI":
            order = {"T": 4, "O": 4, "I": 5}[self.symbol[0]]
            found = self._first(lambda op: op.order == order and op.proper == (self.symbol[0] != "T"))
            if self.symbol[0] == "I":
                found = self._first(lambda op: op.proper and abs(op.angle - 2 * np.pi / 5) < 0.1)
            return found, order
        rotoreflection = self._half_turned()
        along = [
            (op.order, -op.angle, -k)
            for k, op in enumerate(self.operations)
            if op.proper != rotoreflection and op.order > 1 and not op.is_inversion and abs(op.axis @ main) > 0.99
        ]
        if not along:
            return None, 1
        order, _, number = max(along)
        return -number, order

    def _half_turned(self) -> bool:
        """Whether A and B are told apart by a rotation–reflection: S_2n and D_nd with even n."""
        digits = "".join(c for c in self.symbol if c.isdigit())
        if self.symbol[0] == "S":
            return int(digits) % 4 == 0
        return self.symbol[0] == "D" and self.symbol.endswith("d") and int(digits) % 2 == 0

    def _secondary(self, main: Array) -> int | None:
        dihedral = self.symbol[0] == "D"
        if not dihedral and not self.symbol.endswith("v"):
            return None
        if self.symbol in ("D2", "D2h"):
            return None
        choice = [
            (self._atoms_on(op), -k)
            for k, op in enumerate(self.operations)
            if abs(op.axis @ main) < 0.05 and (op.is_rotation(2) if dihedral else op.is_mirror)
        ]
        if (
            self.symbol == "C2v"
        ):  # B1 is even under σ(xz), and the molecule's plane is yz: the mirror with fewer atoms
            return -min((count, k) for count, k in choice)[1]
        return -max(choice)[1]

    def _atoms_on(self, op: Operation) -> int:
        """Atoms that the operation leaves where they are."""
        return int((op.permutation == np.arange(len(op.permutation))).sum())

    def _three_axes(self) -> list[int]:
        """C2(z): most atoms on it; C2(x): across the plane that holds most atoms."""
        twofold = [k for k, op in enumerate(self.operations) if op.is_rotation(2)]
        in_plane = {
            k: int((np.abs(self.positions @ self.operations[k].axis) < 0.05).sum()) for k in twofold
        }  # of the plane across each axis
        z = max(twofold, key=lambda k: (self._atoms_on(self.operations[k]), -in_plane[k], -self._width(k)))
        x = max((k for k in twofold if k != z), key=lambda k: in_plane[k])
        y = next(k for k in twofold if k not in (z, x))
        return [z, y, x]

    def _width(self, k: int) -> float:
        """Spread of the atoms about an axis: the long axis of a molecule without atoms on axes comes first."""
        axis = self.operations[k].axis
        return float(np.linalg.norm(np.cross(self.positions, axis)))
