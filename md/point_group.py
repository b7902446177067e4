"""The point group of a molecule: its operations, their permutations of the atoms, and the Schoenflies symbol."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

Array = NDArray[np.float64]
_ANGLE = 1e-2  # operations are refined on the atoms, so that axes and traces are good to the tolerance over the size


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation of a point group.

    Attributes:
        matrix: (3, 3) orthogonal; x → matrix · x about the centre of mass.
        permutation: (N,): atom i is carried onto atom permutation[i].
    """

    matrix: Array
    permutation: NDArray[np.int64]

    @property
    def proper(self) -> bool:
        """Whether it is a rotation."""
        return float(np.linalg.det(self.matrix)) > 0

    @property
    def angle(self) -> float:
        """Angle of the rotation, or of the rotation part of a rotation–reflection, in (−π, π] without sign."""
        sign = 1.0 if self.proper else -1.0
        return float(np.arccos(np.clip((np.trace(self.matrix) - sign) / 2, -1, 1)))

    @property
    def axis(self) -> Array:
        """Unit vector along the rotation axis, or the normal of the mirror; of ±1 any vector."""
        turned = self.matrix if self.proper else -self.matrix
        values, vectors = np.linalg.eig(turned)
        axis = np.real(vectors[:, np.argmin(np.abs(values - 1))])
        return axis / np.linalg.norm(axis)

    @property
    def order(self) -> int:
        """The n of C_n or S_n: the order of the rotation part; 1 for E and σ, 2 for i."""
        turns = self.angle / (2 * np.pi)
        return next((n for n in range(1, 61) if abs(n * turns - round(n * turns)) < n * _ANGLE / (2 * np.pi)), 60)

    def is_rotation(self, order: int) -> bool:
        """Whether it is a rotation by 2π k / order with k prime to the order."""
        return self.proper and self.order == order

    @property
    def is_inversion(self) -> bool:
        """Whether it is −1."""
        return not self.proper and abs(self.angle - np.pi) < _ANGLE

    @property
    def is_mirror(self) -> bool:
        """Whether it is a reflection."""
        return not self.proper and self.angle < _ANGLE


@dataclass(frozen=True, eq=False)
class PointGroup:
    """A molecule's point group.

    Attributes:
        symbol: Schoenflies symbol: ``C2v``, ``Td``, ``D∞h``, ``Kh`` (an atom).
        operations: All operations; of a linear molecule those of a finite subgroup.
        shape: ``"monatomic"``, ``"linear"`` or ``"nonlinear"``, as `ase.thermochemistry` calls them.
        axis: (3,) main axis.
        largest_move: Å, farthest that an operation carries an atom from where its partner is.
    """

    symbol: str
    operations: tuple[Operation, ...]
    shape: str
    axis: Array
    largest_move: float

    @property
    def symmetry_number(self) -> int:
        """Number of rotations that carry the molecule onto itself, σ of its rotational partition function."""
        if self.shape == "nonlinear":
            return sum(op.proper for op in self.operations)
        return 2 if self.symbol == "D∞h" else 1

    @property
    def linear(self) -> bool:
        """Whether all atoms are on a line."""
        return self.shape == "linear"


def find_point_group(atoms: Atoms, tolerance: float = 0.02) -> PointGroup:
    """The point group of a finite molecule.

    Two atoms that are not on a line with the centre, taken from the smallest sets of atoms alike, are carried onto
    every other such pair, with either handedness; what carries all atoms onto atoms of the same kind is an operation.

    Args:
        atoms: The molecule; kinds are elements and masses, so that isotopes count.
        tolerance: Å, how far an atom may end up from its partner.
    """
    positions = atoms.get_positions() - atoms.get_center_of_mass()
    kinds = _kinds(atoms)
    distances = np.linalg.norm(positions, axis=1)
    if len(atoms) == 1 or distances.max() < tolerance:
        return PointGroup("Kh", (), "monatomic", np.array([0.0, 0.0, 1.0]), 0.0)
    _, size, rows = np.linalg.svd(positions, full_matrices=True)
    if len(size) < 2 or size[1] < tolerance:
        return _linear(positions, kinds, rows[0], tolerance)
    found = _operations(positions, kinds, distances, tolerance)
    move = max(_misfit(op, positions) for op in found)
    symbol, axis = _name(found)
    return PointGroup(symbol, tuple(found), "nonlinear", axis, move)


def _kinds(atoms: Atoms) -> NDArray[np.int64]:
    pairs = np.column_stack([atoms.numbers, np.round(atoms.get_masses(), 3)])
    return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)


def _linear(positions: Array, kinds: NDArray[np.int64], axis: Array, tolerance: float) -> PointGroup:
    inversion = _permutation(-np.eye(3), positions, kinds, tolerance)
    operations = [Operation(np.eye(3), np.arange(len(positions)))]
    if inversion is not None:
        operations.append(Operation(-np.eye(3), inversion))
    move = max(_misfit(op, positions) for op in operations)
    return PointGroup("C∞v" if inversion is None else "D∞h", tuple(operations), "linear", axis, move)


def _misfit(op: Operation, positions: Array) -> float:
    return float(np.linalg.norm(positions @ op.matrix.T - positions[op.permutation], axis=1).max())


def _permutation(
    matrix: Array, positions: Array, kinds: NDArray[np.int64], tolerance: float
) -> NDArray[np.int64] | None:
    """Where the atoms are carried to, or None when one finds no partner of its kind."""
    gaps = np.linalg.norm((positions @ matrix.T)[:, None] - positions[None], axis=2)
    gaps[kinds[:, None] != kinds[None]] = np.inf
    partner = gaps.argmin(axis=1)
    fits = gaps[np.arange(len(partner)), partner].max() < tolerance
    return partner if fits and len(set(partner.tolist())) == len(partner) else None


def _operations(positions: Array, kinds: NDArray[np.int64], distances: Array, tolerance: float) -> list[Operation]:
    first, second = _reference_pair(positions, kinds, distances, tolerance)
    here = _frame(positions[first], positions[second])
    found: dict[tuple[int, ...], list[Operation]] = {}
    result: list[Operation] = []
    for a, b in product(*(_alike(k, kinds, distances, tolerance) for k in (first, second))):
        apart = np.linalg.norm(positions[first] - positions[second]) - np.linalg.norm(positions[a] - positions[b])
        if a == b or abs(apart) > 2 * tolerance:
            continue
        for hand in (1.0, -1.0):
            there = _frame(positions[a], positions[b]) * np.array([1.0, 1.0, hand])
            op = _refined(there @ here.T, positions, kinds, tolerance, hand)
            if op is None:
                continue
            same = found.setdefault(tuple(op.permutation.tolist()), [])
            if all(np.abs(op.matrix - other.matrix).max() > 0.1 for other in same):  # planar: E and σ permute alike
                same.append(op)
                result.append(op)
    return result


def _reference_pair(
    positions: Array, kinds: NDArray[np.int64], distances: Array, tolerance: float
) -> tuple[int, int]:
    """Two atoms of small orbits that are not on one line with the centre."""
    sizes = [len(_alike(k, kinds, distances, tolerance)) for k in range(len(positions))]
    off_centre = [k for k in np.argsort(sizes, kind="stable") if distances[k] > 10 * tolerance]
    first = off_centre[0]
    unit = positions[first] / distances[first]
    off_line = np.linalg.norm(np.cross(positions, unit), axis=1)
    second = max(off_centre[1:], key=lambda k: (min(off_line[k], 0.5), -sizes[k]))
    return int(first), int(second)


def _alike(atom: int, kinds: NDArray[np.int64], distances: Array, tolerance: float) -> list[int]:
    same = (kinds == kinds[atom]) & (np.abs(distances - distances[atom]) < 2 * tolerance)
    return np.flatnonzero(same).tolist()


def _frame(a: Array, b: Array) -> Array:
    """Orthonormal columns: along a, in the plane of a and b, along a × b."""
    x = a / np.linalg.norm(a)
    z = np.cross(a, b)
    norm = np.linalg.norm(z)
    if norm < 1e-9:
        return np.full((3, 3), np.nan)
    z = z / norm
    return np.column_stack([x, np.cross(z, x), z])


def _refined(
    matrix: Array, positions: Array, kinds: NDArray[np.int64], tolerance: float, hand: float
) -> Operation | None:
    """The operation nearest to a first guess, by least squares over all atoms (Kabsch); None when it is none."""
    if not np.isfinite(matrix).all():
        return None
    rough = _permutation(matrix, positions, kinds, 5 * tolerance)
    if rough is None:
        return None
    u, _, vh = np.linalg.svd(positions[rough].T @ positions)
    handed = np.diag([1.0, 1.0, hand * np.sign(np.linalg.det(u) * np.linalg.det(vh))])
    better = u @ handed @ vh
    partner = _permutation(better, positions, kinds, tolerance)
    return None if partner is None else Operation(better, partner)


def _name(operations: list[Operation]) -> tuple[str, Array]:
    """Schoenflies symbol and main axis."""
    rotations = [op for op in operations if op.proper]
    inverts = any(op.is_inversion for op in operations)
    has_improper = len(rotations) < len(operations)
    cubic = {12: "T", 24: "O", 60: "I"}
    if sum(op.order == 3 for op in rotations) >= 8 and len(rotations) in cubic:
        letter = cubic[len(rotations)]
        return letter + ("" if not has_improper else "h" if inverts else "d"), _main_axis(operations)
    axis = _main_axis(operations)
    n = max(op.order for op in rotations)
    dihedral = len(rotations) == 2 * n
    if n == 1:
        return ("C1" if not has_improper else "Ci" if inverts else "Cs"), axis
    letter = f"D{n}" if dihedral else f"C{n}"
    if not has_improper:
        return letter, axis
    mirrors = [op.axis for op in operations if op.is_mirror]
    if any(abs(normal @ axis) > 0.99 for normal in mirrors):
        return f"{letter}h", axis
    if dihedral:
        return f"D{n}d", axis
    return (f"C{n}v" if mirrors else f"S{2 * n}"), axis


def _main_axis(operations: list[Operation]) -> Array:
    """The axis of highest order, rotation–reflections counted; of a Cs the normal of the mirror."""

    def rank(op: Operation) -> tuple[int, int]:
        return (op.order, 0 if op.proper else 1) if not op.is_inversion else (0, 0)

    best = max(operations, key=rank)
    mirrors = [op for op in operations if op.is_mirror]
    if best.order == 1 and mirrors:
        return mirrors[0].axis
    return best.axis if best.order > 1 else np.array([0.0, 0.0, 1.0])
