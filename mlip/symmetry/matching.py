"""Laying a distorted child structure onto its parent: which supercell, how turned and strained, who moved where."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from ase import Atoms
from ase.geometry.minkowski_reduction import minkowski_reduce
from numpy.typing import NDArray
from scipy.linalg import polar
from scipy.optimize import linear_sum_assignment

from mlip.errors import InputError
from mlip.symmetry.crystal import Integers, symmetry_types
from mlip.symmetry.supercell import lattice_points

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Limits:
    """How far a child may be from its parent.

    Attributes:
        strain: Largest eigenvalue of |U − 1|, with the deformation F = R·U.
        displacement: Å, the farthest that an atom may have moved.
    """

    strain: float = 0.15
    displacement: float = 1.2


@dataclass(frozen=True)
class StructureMatch:
    """A child as a supercell of its parent, deformed, turned and distorted.

    Attributes:
        matrix: (3, 3) integers: rows of the supercell in primitive vectors of the parent.
        basis: (3, 3) integers: rows of that supercell in the child's own cell vectors.
        rotation: (3, 3): Cartesian columns of the parent → of the child.
        stretch: (3, 3): symmetric U in the parent's frame; 1 + the spontaneous strain.
        offset: (3,): x_parent = matrixᵀ · x_child + offset, fractional columns of the supercell's basis.
        order: Child atom on each site of the supercell (cell, j).
        displacements: (atoms, 3) Å in the parent's frame, strain and turn taken out, without a uniform shift.
    """

    matrix: Integers
    basis: Integers
    rotation: Array
    stretch: Array
    offset: Array
    order: Integers
    displacements: Array

    @property
    def strain(self) -> Array:
        """(3, 3): U − 1."""
        return self.stretch - np.eye(3)

    @property
    def largest_displacement(self) -> float:
        """Å."""
        return float(np.linalg.norm(self.displacements, axis=1).max())

    @property
    def cost(self) -> float:
        """Mean square displacement in Å² plus the square of the strain: the smaller, the better."""
        return float((self.displacements**2).sum(axis=1).mean() + (self.strain**2).sum())


def match_structures(parent: Atoms, child: Atoms, limits: Limits | None = None) -> StructureMatch:
    """Lay a child onto its parent's primitive cell.

    All supercells of the right size are tried whose reduced lattice is the child's within the strain allowed, in
    every way that lattice vectors can be told off, and every shift that puts an atom of the rarest kind on a site.

    Args:
        parent: A primitive cell.
        child: Any cell, any order of atoms, any orientation.
        limits: How far the two may be apart.

    Returns:
        The match with the smallest displacements and strain.

    Raises:
        InputError: The compositions do not fit, or nothing matches within the limits; the message says which.
    """
    limits = limits or Limits()
    size = _number_of_cells(parent, child)
    reduced, to_reduced = minkowski_reduce(child.cell.array)
    found, near = [], np.inf
    for matrix in _supercell_bases(parent, reduced, size, limits.strain):
        match = _match_atoms(parent, child, matrix, np.asarray(to_reduced, dtype=np.int64))
        near = min(near, match.largest_displacement)
        if match.largest_displacement <= limits.displacement:
            found.append(match)
            if match.cost < 1e-8:
                break
    if found:
        return min(found, key=lambda m: m.cost)
    if np.isinf(near):
        raise InputError(
            f"no supercell of {size} parent cells is within {limits.strain:g} strain of the child's lattice",
            mend="is the child a distortion of this parent? a larger --max-strain allows more",
        )
    raise InputError(
        f"the lattices match, but an atom is {near:.2f} Å from its parent site, beyond {limits.displacement:g} Å",
        mend="is the child a distortion of this parent? a larger --max-displacement allows more",
    )


def _number_of_cells(parent: Atoms, child: Atoms) -> int:
    ours, theirs = parent.symbols.formula.count(), child.symbols.formula.count()
    size = len(child) // len(parent)
    if size * len(parent) != len(child) or {k: size * n for k, n in ours.items()} != theirs:
        raise InputError(
            f"{child.get_chemical_formula()} is not a whole number of parent cells {parent.get_chemical_formula()}"
        )
    return size


def _supercell_bases(parent: Atoms, reduced: Array, size: int, strain: float) -> list[Integers]:
    """Bases (rows in primitive vectors) of all supercells whose metric is close to the child's reduced one."""
    units = _unimodular()
    target = reduced @ reduced.T
    scale = np.sqrt(np.outer(np.diag(target), np.diag(target)))
    bases = []
    for hermite in _hermite_forms(size):
        _, change = minkowski_reduce(hermite @ parent.cell.array)
        small = np.asarray(change, dtype=np.int64) @ hermite
        metric = small @ parent.cell.array @ parent.cell.array.T @ small.T
        gaps = np.abs(units @ metric @ units.transpose(0, 2, 1) - target) / scale
        # A stretch by s changes lengths² by about 2s.
        handed = np.sign(np.linalg.det(units) * np.linalg.det(small @ parent.cell.array) * np.linalg.det(reduced))
        good = units[(gaps.max(axis=(1, 2)) < 2 * strain + strain**2 + 1e-9) & (handed > 0)]
        bases += [u @ small for u in good if _stretch(u @ small @ parent.cell.array, reduced) <= strain]
    return sorted(bases, key=lambda b: _stretch(b @ parent.cell.array, reduced))


def _stretch(ideal: Array, real: Array) -> float:
    _, u = polar(np.linalg.solve(ideal, real).T)
    return float(np.abs(np.linalg.eigvalsh(u) - 1).max())


def _unimodular() -> Integers:
    """All matrices of −1, 0 and 1 with determinant ±1: changes between reduced bases of nearly equal lattices."""
    rows = np.array(list(product((-1, 0, 1), repeat=9)), dtype=np.int64).reshape(-1, 3, 3)
    return rows[np.abs(np.rint(np.linalg.det(rows))) == 1]


def _hermite_forms(size: int) -> list[Integers]:
    """All sublattices of an index, as upper triangular Hermite normal forms."""
    forms = []
    for a in (d for d in range(1, size + 1) if size % d == 0):
        for c in (d for d in range(1, size // a + 1) if (size // a) % d == 0):
            f = size // a // c
            forms += [
                np.array([[a, b, d], [0, c, e], [0, 0, f]])
                for b, d, e in product(range(c), range(f), range(f))
            ]  # fmt: skip
    return forms


def _match_atoms(parent: Atoms, child: Atoms, matrix: Integers, basis: Integers) -> StructureMatch:
    """The best assignment of the child's atoms to the sites of one supercell."""
    cell = basis @ child.cell.array
    ideal = matrix @ parent.cell.array
    turn, stretch = polar(np.linalg.solve(ideal, cell).T)
    sites, site_types = _sites(parent, matrix)
    atoms = np.linalg.solve(cell.T, child.get_positions().T).T
    types = _common_types(parent, child)
    rare = min(set(types.tolist()), key=lambda k: int((types == k).sum()))
    anchor = sites[site_types == rare][0]
    shifts = [anchor - atoms[i] for i in np.flatnonzero(types == rare)]
    best: tuple[float, Array, Integers, Array] | None = None
    for shift in shifts:
        order, gap, total = _assign(sites, site_types, atoms, types, shift, ideal)
        cost = float(((gap @ ideal) ** 2).sum())
        if best is None or cost < best[0]:
            best = (cost, total, order, gap)
    if best is None:
        raise InputError("the child holds no atoms")
    _, offset, order, gap = best
    return StructureMatch(matrix, basis, turn, stretch, offset, order, (gap - gap.mean(axis=0)) @ ideal)


def _sites(parent: Atoms, matrix: Integers) -> tuple[Array, Integers]:
    """Fractional sites of the supercell, (cell, j) in the order of `SupercellGroup.atoms`, and their types."""
    cells = lattice_points(matrix)
    inner = parent.get_scaled_positions(wrap=False)
    sites = (cells[:, None] + inner[None]).reshape(-1, 3) @ np.linalg.inv(matrix)
    return sites, np.tile(symmetry_types(parent), len(cells))


def _common_types(parent: Atoms, child: Atoms) -> Integers:
    """The child's atoms by the parent's type numbers; isotopes of the child are not looked at."""
    known = dict(zip(parent.numbers.tolist(), symmetry_types(parent).tolist(), strict=True))
    return np.array([known[z] for z in child.numbers.tolist()])


def _assign(
    sites: Array, site_types: Integers, atoms: Array, types: Integers, shift: Array, ideal: Array
) -> tuple[Integers, Array, Array]:
    """Pair atoms with sites at a shift, mend the shift by the mean gap, and pair again."""
    order = np.zeros(len(sites), dtype=np.int64)
    gap = np.zeros_like(sites)
    for _ in range(3):
        difference = atoms[None] + shift - sites[:, None]
        difference -= np.rint(difference)
        distance = ((difference @ ideal) ** 2).sum(axis=-1)
        for kind in set(types.tolist()):
            rows, columns = np.flatnonzero(site_types == kind), np.flatnonzero(types == kind)
            chosen = linear_sum_assignment(distance[np.ix_(rows, columns)])[1]
            order[rows] = columns[chosen]
        gap = difference[np.arange(len(sites)), order]
        step = gap.mean(axis=0)
        shift = shift - step
        gap = gap - step
        if np.abs(step).max() < 1e-10:
            break
    return order, gap, shift


def distorted(parent: Atoms, match: StructureMatch) -> Atoms:
    """The child again, in the parent's frame and order of sites: the supercell, displaced and stretched."""
    cells = lattice_points(match.matrix)
    lattice = parent.cell.array
    positions = (parent.get_positions()[None] + (cells @ lattice)[:, None]).reshape(-1, 3)
    positions = positions + match.displacements
    result = Atoms(
        numbers=np.tile(parent.numbers, len(cells)),
        positions=positions @ match.stretch,
        cell=match.matrix @ lattice @ match.stretch,
        pbc=True,
    )
    result.set_masses(np.tile(parent.get_masses(), len(cells)))
    return result
