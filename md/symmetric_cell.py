"""Relaxation within a subgroup: the smallest cell that holds it, few degrees of freedom, symmetry kept exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry.minkowski_reduction import minkowski_reduce
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray
from scipy.optimize import minimize

from mlip.md.calculators import attached, has_stress
from mlip.symmetry.supercell import Mask, SupercellGroup, lattice_points

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
STIFFNESS = 20.0  # eV/Å², a usual force constant: coordinates are scaled by its root, so that first steps are sane


@dataclass(frozen=True)
class SymmetricCell:
    """The smallest cell that holds a subgroup's states, with its symmetric displacements and strains.

    Attributes:
        atoms: The parent's atoms in that cell, undistorted.
        matrix: (3, 3) rows of the cell in primitive vectors of the parent.
        sites: (n,) index of each atom in the supercell of the group.
        displacements: (d, n, 3) orthonormal, invariant under the subgroup, without uniform shifts.
        strains: (s, 3, 3) orthonormal symmetric matrices, invariant under the subgroup.
        tiling: (supercell atoms,) which atom of this cell each atom of the supercell repeats.
    """

    atoms: Atoms
    matrix: Integers
    sites: Integers
    displacements: Array
    strains: Array
    tiling: Integers

    @classmethod
    def of(cls, group: SupercellGroup, subgroup: Mask) -> SymmetricCell:
        """The cell of a subgroup of the supercell's group."""
        lattice = group.primitive.cell.array
        rows = group.lattice_of(subgroup)
        _, change = minkowski_reduce(rows @ lattice)
        matrix = np.asarray(change, dtype=np.int64) @ rows
        matrix = matrix if np.linalg.det(matrix) > 0 else -matrix
        n = len(group.primitive)
        cells = lattice_points(matrix)
        sites = (group.cell_index(cells)[:, None] * n + np.arange(n)[None]).ravel()
        atoms = group.atoms[sites]
        atoms.set_cell(matrix @ lattice, scale_atoms=False)
        atoms.set_positions((group.primitive.positions[None] + (cells @ lattice)[:, None]).reshape(-1, 3))
        copies = np.sqrt(group.num_cells / len(cells))
        return cls(
            atoms,
            matrix,
            sites,
            group.fixed(subgroup)[:, sites] * copies,
            invariant_strains(group.turns[subgroup]),
            _tiling(group, matrix, cells),
        )

    def coordinates(self, displacements: Array, strain: Array) -> Array:
        """(d + s,) of a state given on the whole supercell: displacements (atoms, 3) in Å and a strain."""
        inner = np.einsum("kix,ix->k", self.displacements, displacements[self.sites])
        return np.concatenate([inner, np.einsum("kab,ab->k", self.strains, strain) * self.length])

    def split(self, coordinates: Array) -> tuple[Array, Array]:
        """Coordinates → displacements (n, 3) in Å before straining, and the deformation F = 1 + ε."""
        d = len(self.displacements)
        strain = np.einsum("k,kab->ab", coordinates[d:] / self.length, self.strains)
        return np.einsum("k,kix->ix", coordinates[:d], self.displacements), np.eye(3) + strain

    def place(self, coordinates: Array) -> Atoms:
        """The distorted and strained structure."""
        inner, deform = self.split(coordinates)
        result = self.atoms.copy()
        result.set_cell(self.atoms.cell.array @ deform, scale_atoms=False)
        result.set_positions((self.atoms.get_positions() + inner) @ deform)
        return result

    def on_supercell(self, coordinates: Array) -> tuple[Array, Array]:
        """Coordinates → displacements (supercell atoms, 3) in Å and the strain F − 1."""
        inner, deform = self.split(coordinates)
        return inner[self.tiling], deform - np.eye(3)

    @property
    def length(self) -> float:
        """Å: strains times this are coordinates of about the stiffness of displacements."""
        return float(self.atoms.get_volume() ** (1 / 3))


def invariant_strains(turns: Array) -> Array:
    """Orthonormal symmetric matrices (s, 3, 3) that a set of orthogonal matrices leaves alone."""
    unit = [np.zeros((3, 3)) for _ in range(6)]
    for basis, (a, b) in zip(unit, [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)], strict=True):
        basis[a, b] = basis[b, a] = 1.0 if a == b else np.sqrt(0.5)
    full = np.array(unit)
    distinct = np.unique(np.round(turns, 8), axis=0)
    images = np.einsum("gab,kbc,gdc->gkad", distinct, full, distinct)
    projector = np.einsum("gkab,jab->kj", images, full) / len(distinct)
    values, vectors = np.linalg.eigh((projector + projector.T) / 2)
    return np.einsum("kj,jab->kab", vectors[:, values > 0.5].T, full)


def _tiling(group: SupercellGroup, matrix: Integers, cells: Integers) -> Integers:
    """For each atom of the supercell the atom of the small cell that it repeats."""
    n, inverse = len(group.primitive), np.linalg.inv(matrix)
    known = {tuple(c): i for i, c in enumerate(cells.tolist())}
    folded = group.cells - np.floor(group.cells @ inverse + 1e-9).astype(np.int64) @ matrix
    which = np.array([known[tuple(c)] for c in folded.tolist()])
    return (which[:, None] * n + np.arange(n)[None]).ravel()


@dataclass(frozen=True)
class SymmetricState:
    """A relaxed state within a subgroup.

    Attributes:
        atoms: The structure in the smallest cell.
        coordinates: Of `SymmetricCell`.
        energy: eV per cell.
        gradient: Largest generalised force in eV/Å.
        evaluations: Calls of the calculator.
        converged: Whether the gradient is below the limit.
    """

    atoms: Atoms
    coordinates: Array
    energy: float
    gradient: float
    evaluations: int
    converged: bool


def relax_symmetric(
    cell: SymmetricCell, start: Array, calculator: Any, fmax: float = 1e-3, steps: int = 200
) -> SymmetricState:
    """Minimise the energy over the symmetric displacements and strains, by BFGS.

    With r = (r₀ + u) F and F = 1 + ε: ∂E/∂u = −f Fᵀ and ∂E/∂F = V F⁻ᵀ σ, both projected on the invariant basis.

    Args:
        cell: The subgroup's cell.
        start: Coordinates to begin from.
        calculator: Any ASE calculator; without stress the cell keeps its shape.
        fmax: eV/Å, the largest generalised force allowed.
        steps: Most BFGS steps.
    """
    moving = np.ones(len(start), dtype=bool)
    if not has_stress(cell.atoms, calculator):
        moving[len(cell.displacements) :] = False
    root, calls = np.sqrt(STIFFNESS), 0
    system = attached(cell.atoms, calculator)
    full = start.astype(np.float64).copy()

    def value(x: Array) -> tuple[float, Array]:
        nonlocal calls
        calls += 1
        full[moving] = x / root
        energy, gradient = _value(cell, full, system, with_strain=bool(moving.all()))
        return energy, gradient[moving] / root

    if moving.any():
        options = {"gtol": fmax / root, "maxiter": steps}
        found = minimize(value, start[moving] * root, jac=True, method="BFGS", options=options)
        full[moving] = found.x / root
    energy, gradient = _value(cell, full, system, with_strain=bool(moving.all()))
    largest = float(np.abs(gradient[moving]).max(initial=0.0))
    return SymmetricState(cell.place(full), full.copy(), energy, largest, calls + 1, largest <= 2 * fmax)


def _value(cell: SymmetricCell, coordinates: Array, system: Atoms, *, with_strain: bool) -> tuple[float, Array]:
    """Energy and its derivatives by the coordinates."""
    _, deform = cell.split(coordinates)
    placed = cell.place(coordinates)
    system.set_cell(placed.cell.array, scale_atoms=False)
    system.set_positions(placed.get_positions())
    energy = float(system.get_potential_energy())
    inner = -np.einsum("kix,ix->k", cell.displacements, system.get_forces() @ deform.T)
    strain = np.zeros(len(cell.strains))
    if with_strain:
        stress = voigt_6_to_full_3x3_stress(system.get_stress())
        slope = system.get_volume() * np.linalg.inv(deform).T @ stress
        strain = np.einsum("kab,ab->k", cell.strains, slope) / cell.length
    return energy, np.concatenate([inner, strain])
