"""From a structure file to the standardised primitive cell, with the way back kept."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import seekpath
import spglib
from ase import Atoms
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from mlip.errors import InputError
from mlip.symmetry.crystal import atom_map, symmetry_types

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PrimitiveCell:
    """A crystal's standardised primitive cell, in the orientation of the user's structure.

    Attributes:
        atoms: The primitive cell; masses are those of the input.
        space_group: International symbol and number.
        symprec: Tolerance in Å of the symmetry search.
        largest_move: Å, by which snapping onto the space group moved an atom or a lattice vector.
        rotations: (n, 3, 3) integer rotations of the space group, on fractional coordinates.
        translations: (n, 3) fractional translations.
        transformation: (3, 3) primitive lattice = transformationᵀ · input lattice (rows), as spglib writes it.
        standard_lattice: (3, 3) rows in Å, the same lattice in seekpath's orientation.
        source: Index in the input of each primitive atom.
        points: Labels and fractional coordinates of the special q points.
        path: Pairs of labels, segment by segment.
        input_atoms: Number of atoms in the input.
        looser: The larger space group that five times the tolerance would find, or None.
    """

    atoms: Atoms
    space_group: str
    symprec: float
    largest_move: float
    rotations: NDArray[np.int64]
    translations: Array
    transformation: Array
    standard_lattice: Array
    source: NDArray[np.int64]
    points: dict[str, Array]
    path: list[tuple[str, str]]
    input_atoms: int
    looser: str | None = None

    @property
    def special_points(self) -> dict[str, Array]:
        """Labels and fractional coordinates of the q points that the standard path touches."""
        return {name: self.points[name] for pair in self.path for name in pair}

    @property
    def line(self) -> str:
        """What was done to the input, for people."""
        hint = "" if self.looser is None else f" (at {5 * self.symprec:g} Å it would be {self.looser})"
        return (
            f"{self.atoms.get_chemical_formula()}, space group {self.space_group}{hint} at symprec "
            f"{self.symprec:g} Å; {self.input_atoms} atoms → {len(self.atoms)} in the primitive cell; "
            f"snapped by at most {self.largest_move:.1e} Å"
        )


def space_group_of(atoms: Atoms, symprec: float) -> Any:
    """Spglib's dataset of a crystal, isotopes told apart.

    Raises:
        InputError: Not periodic in three directions, or no space group is found.
    """
    if not atoms.pbc.all():
        raise InputError("phonons need a crystal with three periodic directions", mend="use mlip vibrations")
    crystal = (atoms.cell.array, atoms.get_scaled_positions(wrap=False), symmetry_types(atoms))
    found = spglib.get_symmetry_dataset(crystal, symprec=symprec)
    if found is None:
        raise InputError("no space group found; do two atoms sit on one another?", mend="try another --symprec")
    return found


def snapped(atoms: Atoms, symprec: float = 1e-2, limit: float = 1e-2) -> tuple[Atoms, float]:
    """Put cell and positions exactly onto the space group detected at ``symprec``.

    The metric tensor is averaged over the point group, W^T G W, and the cell follows it by a pure stretch;
    positions are averaged over all operations, x_i ← ⟨W⁻¹(x_g(i) − w)⟩.

    Args:
        atoms: A crystal.
        symprec: Tolerance in Å of the search.
        limit: Å, the largest move allowed.

    Returns:
        The symmetric crystal, and the largest move of an atom or a lattice vector in Å.

    Raises:
        InputError: The move would exceed ``limit``: the file is not merely rounded.
    """
    found = space_group_of(atoms, symprec)
    cell = _symmetric_cell(atoms.cell.array, found.rotations)
    fractional = _symmetric_positions(atoms, found.rotations, found.translations)
    result = atoms.copy()
    result.set_cell(cell, scale_atoms=False)
    result.set_scaled_positions(fractional)
    moved = np.linalg.norm((fractional - atoms.get_scaled_positions(wrap=False)) @ cell, axis=1).max()
    move = float(max(moved, np.linalg.norm(cell - atoms.cell.array, axis=1).max()))
    if move > limit:
        raise InputError(
            f"snapping onto {found.international} would move an atom or lattice vector by {move:.3g} Å",
            mend=f"the limit is {limit:g} Å; use a smaller --symprec, --no-symmetrize, or relax first",
        )
    return result, move


def primitive_cell(atoms: Atoms, *, symprec: float = 1e-2, snap: bool = True, limit: float = 1e-2) -> PrimitiveCell:
    """Standardise a crystal: snap, find the primitive cell and the path through the Brillouin zone.

    Args:
        atoms: A crystal; a supercell is reduced.
        symprec: Å.
        snap: Put it onto its space group first; without it only what is exact to 1e-5 Å counts.
        limit: Å, the largest move allowed in snapping.

    Returns:
        The primitive cell in the user's orientation.
    """
    exact, move = snapped(atoms, symprec, limit) if snap else (atoms.copy(), 0.0)
    fine = 1e-5
    found = _standard_path(exact, fine)
    # seekpath turns the crystal into its own frame; turn it back, so that fields and tensors keep meaning.
    lattice = np.array(found["primitive_lattice"]) @ np.array(found["rotation_matrix"])
    positions = np.array(found["primitive_positions"]) @ lattice
    source, shift = _sources(exact, lattice, positions, np.array(found["primitive_types"]))
    order = np.argsort(source)  # the input's order of atoms
    source, positions = source[order], positions[order] + shift
    primitive = exact[source]
    primitive.set_cell(lattice, scale_atoms=False)
    primitive.set_positions(positions)
    primitive.set_constraint()
    dataset, loose = space_group_of(primitive, fine), space_group_of(primitive, 5 * symprec)
    larger = len(loose.rotations) > len(dataset.rotations)
    return PrimitiveCell(
        atoms=primitive,
        space_group=f"{dataset.international} ({dataset.number})",
        symprec=symprec if snap else fine,
        largest_move=move,
        rotations=dataset.rotations.astype(np.int64),
        translations=dataset.translations,
        transformation=(lattice @ np.linalg.inv(exact.cell.array)).T,
        standard_lattice=np.array(found["primitive_lattice"]),
        source=source,
        points={label: np.array(q, dtype=np.float64) for label, q in found["point_coords"].items()},
        path=[(a, b) for a, b in found["path"]],
        input_atoms=len(atoms),
        looser=f"{loose.international} ({loose.number})" if larger else None,
    )


def _standard_path(atoms: Atoms, symprec: float) -> dict[str, Any]:
    crystal = (atoms.cell.array, atoms.get_scaled_positions(wrap=False), symmetry_types(atoms))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # edge-case hints of seekpath on nearly higher-symmetric cells
        found: dict[str, Any] = seekpath.get_path(crystal, symprec=symprec)
    return found


def _symmetric_cell(cell: Array, rotations: NDArray[np.int64]) -> Array:
    """The nearest cell whose metric is invariant: cell · U with U symmetric, (cell U)(cell U)^T = ⟨W^T G W⟩."""
    metric = cell @ cell.T
    average = np.mean([w.T @ metric @ w for w in rotations], axis=0)
    inverse = np.linalg.inv(cell)
    stretch = np.real(sqrtm(inverse @ average @ inverse.T))
    return np.asarray(cell @ stretch, dtype=np.float64)


def _symmetric_positions(atoms: Atoms, rotations: NDArray[np.int64], translations: Array) -> Array:
    """Fractional positions averaged over the group, each within reach of its old place."""
    old, types = atoms.get_scaled_positions(wrap=False), symmetry_types(atoms)
    total = np.zeros_like(old)
    for w, t in zip(rotations, translations, strict=True):
        image, shift = atom_map(old, types, w, t, atoms.cell.array)
        back = np.linalg.inv(w)
        total += (old[image] + shift - t) @ back.T
    return total / len(rotations)


def _sources(
    crystal: Atoms, lattice: Array, positions: Array, types: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Array]:
    """Which input atom each primitive atom is, and the common shift onto the input's origin.

    spglib may move the origin to a standard place; the primitive cell is put back onto the input's atoms.
    """
    own, inverse = symmetry_types(crystal), np.linalg.inv(lattice)
    rarest = np.flatnonzero(types == types[0])[0]
    for candidate in np.flatnonzero(own == types[0]):
        offset = crystal.positions[candidate] - positions[rarest]
        gap = (positions[:, None] + offset - crystal.positions[None]) @ inverse
        distance = np.linalg.norm((gap - np.rint(gap)) @ lattice, axis=-1)
        distance[types[:, None] != own[None]] = np.inf
        if distance.min(axis=1).max() < 1e-3:
            return distance.argmin(axis=1), offset
    raise InputError("the primitive cell could not be laid onto the structure", mend="try another --symprec")
