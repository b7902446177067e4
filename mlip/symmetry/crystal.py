"""Space groups of crystals in Cartesian terms, isotopes told apart, and operations in words."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import spglib
from ase import Atoms
from numpy.typing import NDArray

from mlip.errors import InputError

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


def symmetry_types(atoms: Atoms) -> Integers:
    """One integer per atom that tells species *and* isotopes apart."""
    kinds = np.column_stack([atoms.numbers, np.round(atoms.get_masses(), 6)])
    _, labels = np.unique(kinds, axis=0, return_inverse=True)
    return labels.ravel() + 1


def spglib_cell(atoms: Atoms) -> tuple[Array, Array, Integers]:
    """A crystal as spglib takes it."""
    return atoms.cell.array, atoms.get_scaled_positions(wrap=False), symmetry_types(atoms)


def atom_map(
    positions: Array, types: Integers, rotation: Array, translation: Array, cell: Array
) -> tuple[Integers, Array]:
    """Where an operation sends each atom: W x_j + w = x_image(j) + shift_j, to the nearest atom of its type.

    Args:
        positions: (N, 3) fractional.
        types: (N,).
        rotation: (3, 3) on fractional columns.
        translation: (3,) fractional.
        cell: (3, 3) rows in Å, for the distance.

    Returns:
        Indices (N,) and integer lattice shifts (N, 3).
    """
    moved = positions @ rotation.T + translation
    gap = moved[:, None] - positions[None]
    shift = np.rint(gap)
    distance = np.linalg.norm((gap - shift) @ cell, axis=-1)
    distance[types[:, None] != types[None]] = np.inf
    image = distance.argmin(axis=1)
    return image, shift[np.arange(len(image)), image]


@dataclass(frozen=True)
class SpaceGroup:
    """The operations of a crystal in its own cell.

    Attributes:
        rotations: (n, 3, 3) integers on fractional columns.
        translations: (n, 3) fractional.
        symbol: International symbol and number.
        number: 1 to 230.
        cell: (3, 3) rows in Å.
    """

    rotations: Integers
    translations: Array
    symbol: str
    number: int
    cell: Array

    @classmethod
    def of(cls, atoms: Atoms, symprec: float) -> SpaceGroup:
        """The space group of a crystal.

        Raises:
            InputError: Not periodic in three directions, or no space group is found.
        """
        if not atoms.pbc.all():
            raise InputError("a space group needs a crystal with three periodic directions")
        found: Any = spglib.get_symmetry_dataset(spglib_cell(atoms), symprec=symprec)
        if found is None:
            raise InputError("no space group found; do two atoms sit on one another?", mend="try another --symprec")
        return cls(
            rotations=found.rotations.astype(np.int64),
            translations=np.asarray(found.translations, dtype=np.float64),
            symbol=f"{found.international} ({found.number})",
            number=int(found.number),
            cell=atoms.cell.array.copy(),
        )

    @property
    def cartesian(self) -> Array:
        """(n, 3, 3) orthogonal matrices on Cartesian columns."""
        return cartesian_rotations(self.rotations, self.cell)

    @property
    def point_operations(self) -> Array:
        """(m, 3, 3): the distinct Cartesian matrices, the identity first."""
        _, first = np.unique(self.rotations.reshape(-1, 9), axis=0, return_index=True)
        chosen = self.rotations[np.sort(first)]
        identity = np.abs(chosen - np.eye(3)).max(axis=(1, 2)) == 0
        return cartesian_rotations(np.concatenate([chosen[identity], chosen[~identity]]), self.cell)


def cartesian_rotations(rotations: NDArray[Any], cell: Array) -> Array:
    """W on fractional columns → L^T W L^−T on Cartesian columns, for rows L of the cell."""
    return np.asarray(cell.T @ rotations @ np.linalg.inv(cell.T), dtype=np.float64)


def primitive_of(atoms: Atoms, symprec: float) -> Atoms:
    """A primitive cell of a crystal in its own orientation, on its own atoms; nothing is idealised.

    Raises:
        InputError: spglib finds none.
    """
    found: Any = spglib.get_symmetry_dataset(spglib_cell(atoms), symprec=symprec)
    if found is None:
        raise InputError("no primitive cell found", mend="try another --symprec")
    pure = found.translations[(found.rotations == np.eye(3, dtype=int)).all(axis=(1, 2))]
    lattice = lattice_with(pure) @ atoms.cell.array
    _, keep = np.unique(found.mapping_to_primitive, return_index=True)
    primitive = atoms[np.sort(keep)]
    primitive.set_constraint()
    primitive.set_cell(lattice, scale_atoms=False)
    return primitive


def lattice_with(translations: Array) -> Array:
    """Reduced basis rows of the lattice that the unit vectors and these fractional translations generate."""
    denominator = np.lcm.reduce(
        [Fraction(float(x)).limit_denominator(64).denominator for x in np.ravel(translations)] or [1]
    )
    rows = np.rint(np.vstack([np.eye(3), translations]) * denominator).astype(np.int64)
    return hermite_rows(rows) / denominator


def hermite_rows(rows: Integers) -> Integers:
    """Three basis rows (upper triangular, positive diagonal) of the lattice that integer rows generate."""
    work = [row.copy() for row in np.asarray(rows, dtype=np.int64)]
    basis = []
    for column in range(3):
        while sum(row[column] != 0 for row in work) > 1:
            pivot = min((row for row in work if row[column]), key=lambda row: abs(row[column]))
            work = [row if row is pivot else row - (row[column] // pivot[column]) * pivot for row in work]
        lead = next(i for i, row in enumerate(work) if row[column])
        basis.append(work.pop(lead) * 1)
        basis[-1] *= int(np.sign(basis[-1][column]))
    return np.array(basis)


def operation_name(matrix: Array) -> str:
    """An orthogonal matrix in words: ``1``, ``4+ [001]``, ``m [110]``, ``-3- [111]``; + is anticlockwise."""
    from mlip.symmetry.point_groups import rotation_axis

    proper = np.linalg.det(matrix) > 0
    axis = rotation_axis(matrix)
    if axis is None:
        return "1" if proper else "-1"
    rotation = matrix if proper else -matrix
    angle = np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))
    fold = round(360 / angle)
    name = str(fold) if proper else ("m" if fold == 2 else f"-{fold}")
    sense = "" if fold == 2 else ("+" if axis[np.flatnonzero(np.abs(axis) > 1e-6)[0]] > 0 else "-")
    return f"{name}{sense} [{direction_name(axis)}]"


def direction_name(axis: Array) -> str:
    """Small integers along a direction, such as ``001`` or ``1-10``; three decimals where there are none."""
    lead = axis[np.flatnonzero(np.abs(axis) > 1e-6)[0]]
    for scale in range(1, 7):
        scaled = axis / np.abs(axis).max() * scale * np.sign(lead)
        if np.abs(scaled - np.rint(scaled)).max() < 1e-3:
            return "".join(str(int(x)) for x in np.rint(scaled))
    return " ".join(f"{x:.3f}" for x in axis * np.sign(lead))
