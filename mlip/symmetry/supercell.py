"""The space group of a parent crystal at work on the displacements of one of its supercells."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlip.errors import InputError
from mlip.symmetry.crystal import SpaceGroup, atom_map, cartesian_rotations, hermite_rows, symmetry_types

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]  # (order,), which operations a subgroup holds


class SupercellGroup:
    """A supercell of a crystal, with the group that acts on it: rotations times lattice translations.

    An operation {W | w + R} sends atom (R', j) to (W R' + s_j + R, k) where W x_j + w = x_k + s_j, and a
    displacement u_i to T u: (T u)_image(i) = g u_i with g the Cartesian matrix of W.

    Args:
        primitive: The parent's primitive cell, exactly on its space group.
        matrix: (3, 3) integers, supercell lattice = matrix · primitive lattice (rows).
        symprec: Å, of the symmetry search.

    Attributes:
        primitive: As given.
        full_group: The space group of the primitive cell.
        space_group: The same without the operations that do not map the supercell's lattice onto itself.
        matrix: As given.
        cells: (N, 3) primitive cells in the supercell, integers.
        order: Number of operations.
        rotation_of: (order,) index into ``space_group`` of each operation.
        images: (order, atoms) where each operation sends each atom.
        lost: Number of rotations of the crystal that the supercell's shape does not allow.
    """

    def __init__(self, primitive: Atoms, matrix: Any, symprec: float = 1e-4) -> None:
        self.primitive = primitive
        self.matrix: Integers = np.asarray(matrix, dtype=np.int64)
        self._inverse = np.linalg.inv(self.matrix)
        found = SpaceGroup.of(primitive, symprec)
        keep = np.array([self._allows(w) for w in found.rotations])
        self.full_group, self.lost = found, int((~keep).sum())
        self.space_group = SpaceGroup(
            found.rotations[keep], found.translations[keep], found.symbol, found.number, found.cell
        )
        self.cells = lattice_points(self.matrix)
        self._cell_index = {tuple(c): i for i, c in enumerate(self.cells.tolist())}
        self._build()

    def _allows(self, rotation: Integers) -> bool:
        image = self.matrix @ rotation.T @ self._inverse
        return bool(np.abs(image - np.rint(image)).max() < 1e-9)

    def _build(self) -> None:
        positions, types = self.primitive.get_scaled_positions(wrap=False), symmetry_types(self.primitive)
        group = self.space_group
        images = []
        for w, t in zip(group.rotations, group.translations, strict=True):
            target, shift = atom_map(positions, types, w, t, group.cell)
            turned = self.cells @ w.T
            for translation in self.cells:
                cell = self.cell_index(turned[:, None] + np.rint(shift).astype(np.int64)[None] + translation)
                images.append((cell * len(positions) + target[None]).ravel())
        self.images: Integers = np.array(images)
        self.order = len(images)
        self.rotation_of: Integers = np.repeat(np.arange(len(group.rotations)), len(self.cells))
        self.translation_of: Integers = np.tile(np.arange(len(self.cells)), len(group.rotations))

    def cell_index(self, vectors: Integers) -> Integers:
        """Index of the supercell's primitive cell that is equivalent to integer vectors, (..., 3) → (...)."""
        vectors = np.asarray(vectors, dtype=np.int64)
        reduced = vectors - np.floor(vectors @ self._inverse + 1e-9).astype(np.int64) @ self.matrix
        flat = [self._cell_index[tuple(v)] for v in reduced.reshape(-1, 3).tolist()]
        return np.array(flat, dtype=np.int64).reshape(vectors.shape[:-1])

    @property
    def num_cells(self) -> int:
        """Primitive cells in the supercell."""
        return len(self.cells)

    @cached_property
    def atoms(self) -> Atoms:
        """The undistorted supercell; atom (cell, j) is number cell · n + j."""
        base, lattice = self.primitive, self.primitive.cell.array
        result = Atoms(
            numbers=np.tile(base.numbers, self.num_cells),
            positions=(base.positions[None] + (self.cells @ lattice)[:, None]).reshape(-1, 3),
            cell=self.matrix @ lattice,
            pbc=True,
        )
        result.set_masses(np.tile(base.get_masses(), self.num_cells))
        return result

    @cached_property
    def turns(self) -> Array:
        """(order, 3, 3): the Cartesian matrix of each operation."""
        return cartesian_rotations(self.space_group.rotations, self.space_group.cell)[self.rotation_of]

    def act(self, operations: Integers, vectors: NDArray[Any]) -> NDArray[Any]:
        """T(g) on displacement patterns: (m,), (k, atoms, 3) → (m, k, atoms, 3)."""
        operations = np.asarray(operations)
        turned = np.einsum("gab,kib->gkia", self.turns[operations], vectors, optimize=True)
        result = np.empty_like(turned)
        for row, images in enumerate(self.images[operations]):
            result[row][:, images] = turned[row]
        return result

    def matrices(self, basis: Array, operations: Integers | None = None) -> Array:
        """The operations within an invariant subspace, basis (d, atoms, 3) orthonormal → (m, d, d)."""
        chosen = np.arange(self.order) if operations is None else np.asarray(operations)
        flat = basis.reshape(len(basis), -1)
        blocks = [
            np.einsum("kx,gjx->gkj", flat, self.act(part, basis).reshape(len(part), len(basis), -1), optimize=True)
            for part in np.array_split(chosen, max(1, len(chosen) // 64))
        ]
        return np.concatenate(blocks)

    def span(self, vectors: Array, operations: Integers | None = None, tolerance: float = 1e-5) -> Array:
        """An orthonormal basis (d, atoms, 3) of everything the operations make out of some patterns."""
        chosen = np.arange(self.order) if operations is None else np.asarray(operations)
        rows: Array = np.empty((0, vectors[0].size))
        for part in np.array_split(chosen, max(1, len(chosen) // 32)):
            stack = np.concatenate([rows, self.act(part, vectors).reshape(-1, vectors[0].size)])
            _, size, right = np.linalg.svd(stack, full_matrices=False)
            rows = right[size > tolerance * size.max()]
        return rows.reshape(-1, *vectors.shape[1:])

    def fixed(self, subgroup: Mask) -> Array:
        """An orthonormal basis (d, atoms, 3) of the displacements that a subgroup leaves alone, translations out."""
        n = 3 * len(self.primitive) * self.num_cells
        projector = np.zeros((n, n))
        identity = np.eye(n).reshape(n, -1, 3)
        for g in np.flatnonzero(subgroup):
            projector += self.act(np.array([g]), identity)[0].reshape(n, n)
        projector /= subgroup.sum()
        uniform = np.tile(np.eye(3), n // 3) / np.sqrt(n / 3)
        projector -= projector @ uniform.T @ uniform
        values, vectors = np.linalg.eigh((projector + projector.T) / 2)
        return vectors[:, values > 0.5].T.reshape(-1, n // 3, 3)

    # -- the abstract group ------------------------------------------------------------------------------

    @cached_property
    def table(self) -> Integers:
        """(order, order): index of the product a·b."""
        rotations, translations = self.space_group.rotations, self.space_group.translations
        known = {tuple(w.ravel().tolist()): i for i, w in enumerate(rotations)}
        count = len(rotations)
        product = np.einsum("aij,bjk->abik", rotations, rotations).reshape(count, count, 9)
        which = np.array([[known[tuple(w)] for w in row] for row in product.tolist()])
        rest = np.einsum("aij,bj->abi", rotations, translations) + translations[:, None] - translations[which]
        moved = np.einsum("aij,cj->aci", rotations, self.cells)
        vectors = (
            np.rint(rest).astype(np.int64)[:, None, :, None]
            + self.cells[None, :, None, None]
            + moved[:, None, None, :]
        )  # (a, R_a, b, R_b, 3)
        table = which[:, None, :, None] * self.num_cells + self.cell_index(vectors)
        return table.reshape(self.order, self.order)

    @cached_property
    def identity(self) -> int:
        """Index of the operation that does nothing."""
        still = (self.images == np.arange(self.images.shape[1])).all(axis=1)
        return int(np.flatnonzero(still & (np.abs(self.turns - np.eye(3)).max(axis=(1, 2)) < 1e-9))[0])

    @cached_property
    def inverses(self) -> Integers:
        """(order,): index of each inverse."""
        return np.asarray(np.argmax(self.table == self.identity, axis=1), dtype=np.int64)

    def closure(self, members: Mask) -> Mask:
        """The subgroup that some operations generate."""
        mask = np.array(members, dtype=bool)
        while True:
            inside = np.flatnonzero(mask)
            mask[self.table[np.ix_(inside, inside)]] = True
            if mask.sum() == len(inside):
                return mask

    def conjugates(self, subgroup: Mask) -> set[bytes]:
        """The masks of all subgroups that are equivalent to one under the whole group."""
        members = np.flatnonzero(subgroup)
        images = self.table[self.table[:, members], self.inverses[:, None]]
        masks = np.zeros((self.order, self.order), dtype=bool)
        np.put_along_axis(masks, images, True, axis=1)
        return {mask.tobytes() for mask in masks}

    def stabiliser(self, pattern: Array, within: Mask | None = None, tolerance: float = 1e-4) -> Mask:
        """Which operations leave a displacement pattern (atoms, 3) alone, relative to its size."""
        inside = np.arange(self.order) if within is None else np.flatnonzero(within)
        gap = np.abs(self.act(inside, pattern[None])[:, 0] - pattern).max(axis=(1, 2))
        mask = np.zeros(self.order, dtype=bool)
        mask[inside[gap <= tolerance * max(float(np.abs(pattern).max()), 1e-12)]] = True
        return mask

    def lattice_of(self, subgroup: Mask) -> Integers:
        """Rows, in primitive vectors, of a basis of the translations that a subgroup keeps (supercell included)."""
        pure = (self.space_group.rotations == np.eye(3, dtype=np.int64)).all(axis=(1, 2))[self.rotation_of]
        kept = self.translation_of[subgroup & pure]
        return hermite_rows(np.vstack([self.matrix, self.cells[kept]]))

    def orientation_count(self, subgroup: Mask) -> int:
        """Number of distinct rotations in a subgroup."""
        return len(np.unique(self.rotation_of[subgroup]))


def lattice_points(matrix: Integers) -> Integers:
    """The |det| primitive cells in a supercell, the origin first, (n, 3) integers.

    Raises:
        InputError: The matrix is singular.
    """
    size = abs(round(float(np.linalg.det(matrix))))
    if size == 0:
        raise InputError("the supercell's matrix is singular")
    diagonal = np.diag(hermite_rows(np.asarray(matrix, dtype=np.int64)))
    box = np.stack(np.meshgrid(*(np.arange(d) for d in diagonal), indexing="ij"), axis=-1).reshape(-1, 3)
    inside = box - np.floor(box @ np.linalg.inv(matrix) + 1e-9).astype(np.int64) @ matrix
    order = np.lexsort(inside.T[::-1])
    first = np.flatnonzero((inside[order] == 0).all(axis=1))
    return np.asarray(np.roll(inside[order], -int(first[0]), axis=0), dtype=np.int64)


def commensurate_points(matrix: Integers) -> Array:
    """The q, in fractions of the primitive reciprocal vectors, whose waves fit into a supercell, Γ first."""
    transposed = np.asarray(matrix, dtype=np.int64).T
    points = lattice_points(transposed) @ np.linalg.inv(transposed)
    return np.asarray(points - np.floor(points + 0.5 - 1e-9) + 0.0, dtype=np.float64)
