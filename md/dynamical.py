"""Dynamical matrices D(q) of a primitive cell: exact ones, or through force constants of a supercell.

All matrices are phonopy's: D_jk(q) = Σ_R Φ_j0,kR exp[iq·(R + r_k − r_j)] / √(m_j m_k), eV/Å²/amu, q in
fractions of the primitive cell's reciprocal vectors. With atomic positions in the phase, a space-group
operation acts as a real orthogonal matrix: D(Rq) = T D(q) T^T.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from phonopy import Phonopy
from phonopy.harmonic.dynmat_to_fc import DynmatToForceConstants
from phonopy.physical_units import get_physical_units
from phonopy.structure.atoms import PhonopyAtoms

from mlip.errors import InputError
from mlip.md.calculators import attached
from mlip.md.curvature import full_hessian
from mlip.md.structure import PrimitiveCell
from mlip.symmetry.crystal import atom_map, symmetry_types

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]


class DynamicalMatrices(Protocol):
    """Anything that gives D(q) of one primitive cell."""

    def at(self, q: Array) -> Complex:
        """(nq, 3) → (nq, 3n, 3n)."""
        ...


@dataclass(frozen=True)
class BlochMatrices:
    """Exact D(q), from a calculator that has ``get_dynamical_matrix(atoms, q)``."""

    atoms: Atoms
    calculator: Any

    def at(self, q: Array) -> Complex:
        """(nq, 3) → (nq, 3n, 3n), with no supercell and no displacement."""
        system = attached(self.atoms, self.calculator)
        return np.asarray(self.calculator.get_dynamical_matrix(system, np.atleast_2d(q)), dtype=np.complex128)


@dataclass(frozen=True)
class FourierMatrices:
    """D(q) by Fourier interpolation of the force constants that a `Phonopy` object holds."""

    phonon: Phonopy

    def at(self, q: Array) -> Complex:
        """(nq, 3) → (nq, 3n, 3n); exact only at the supercell's commensurate points."""
        found = self.phonon.run_qpoints(np.atleast_2d(q), with_dynamical_matrices=True)
        return np.asarray(found.dynamical_matrices, dtype=np.complex128)


@dataclass(frozen=True)
class SumRuleMatrices:
    """D(q) with each self-force-constant replaced so that Σ_k Φ_jk(Γ) = 0: a correction, made when asked for."""

    plain: DynamicalMatrices
    masses: Array

    def at(self, q: Array) -> Complex:
        """(nq, 3) → (nq, 3n, 3n)."""
        result = self.plain.at(q).copy()
        excess = sum_rule_blocks(self.plain.at(np.zeros((1, 3)))[0], self.masses)
        for j, (block, mass) in enumerate(zip(excess, self.masses, strict=True)):
            result[:, 3 * j : 3 * j + 3, 3 * j : 3 * j + 3] -= (block + block.T) / (2 * mass)
        return result


@dataclass(frozen=True)
class SymmetricMatrices:
    """D(q) averaged over the space group, ⟨T^T D(Rq) T⟩: a correction, made when asked for."""

    plain: DynamicalMatrices
    cell: PrimitiveCell

    def at(self, q: Array) -> Complex:
        """(nq, 3) → (nq, 3n, 3n); costs one evaluation per operation."""
        q = np.atleast_2d(q)
        group = operations(self.cell)
        turned = np.concatenate([q @ rotation for rotation, _ in group])
        there = self.plain.at(turned).reshape(len(group), len(q), 3 * len(self.cell.atoms), -1)
        images = [t.T @ d @ t for (_, t), d in zip(group, there, strict=True)]
        return np.asarray(np.mean(images, axis=0), dtype=np.complex128)


def frequencies_thz(eigenvalues: NDArray[np.floating]) -> Array:
    """Frequencies in THz from eigenvalues in eV/Å²/amu; imaginary ones as negative numbers.

    With phonopy's own factor, so that what it reads back from our files is the same to the last digit.
    """
    return np.sign(eigenvalues) * np.sqrt(np.abs(eigenvalues)) * float(get_physical_units().DefaultToTHz)


def frequencies_at(matrices: DynamicalMatrices, q: Array) -> Array:
    """Frequencies in THz at any q, (nq, 3) → (nq, 3n)."""
    d = matrices.at(np.atleast_2d(q))
    return frequencies_thz(np.linalg.eigvalsh((d + d.conj().swapaxes(-1, -2)) / 2))


def operations(cell: PrimitiveCell) -> list[tuple[Array, Array]]:
    """For each operation: the matrix that acts on fractional q rows (q' = q @ matrix), and T (3n, 3n).

    A rotation W of fractional positions is R = L^T W L^−T in Cartesian columns; q' = R q becomes
    q @ W⁻¹ for fractional rows.
    """
    positions, types = cell.atoms.get_scaled_positions(wrap=False), symmetry_types(cell.atoms)
    lattice, n = cell.atoms.cell.array, len(cell.atoms)
    result = []
    for w, t in zip(cell.rotations, cell.translations, strict=True):
        image, _ = atom_map(positions, types, w, t, lattice)
        cartesian = lattice.T @ w @ np.linalg.inv(lattice.T)
        matrix = np.zeros((3 * n, 3 * n))
        for j, k in enumerate(image):
            matrix[3 * k : 3 * k + 3, 3 * j : 3 * j + 3] = cartesian
        result.append((np.linalg.inv(w), matrix))
    return result


def space_group_defect(matrices: DynamicalMatrices, cell: PrimitiveCell, q: Array, most: int = 48) -> float:
    """Largest |D(Rq) − T D(q) T^T| over the operations, relative to the largest element of D(q)."""
    chosen = operations(cell)[:most]
    here = matrices.at(q)[0]
    there = matrices.at(np.array([q @ rotation for rotation, _ in chosen]))
    images = np.array([t @ here @ t.T for _, t in chosen])
    return float(np.abs(there - images).max() / np.abs(here).max())


def sum_rule_blocks(gamma: Complex, masses: Array) -> Array:
    """Σ_k Φ_jk(Γ) for every atom j, (n, 3, 3) in eV/Å², from D(Γ)."""
    n = len(masses)
    root = np.sqrt(np.outer(masses, masses))
    constants = gamma.reshape(n, 3, n, 3).real * root[:, None, :, None]
    return np.asarray(constants.sum(axis=2), dtype=np.float64)


def hermitian_defect(matrices: Complex) -> float:
    """Largest |D − D†| relative to the largest |D|."""
    gap = np.abs(matrices - matrices.conj().swapaxes(-1, -2)).max()
    return float(gap / np.abs(matrices).max())


# ---------------------------------------------------------------------------------------------------------
# Phonopy objects


def to_phonopy(atoms: Atoms) -> PhonopyAtoms:
    """ASE atoms as phonopy's, masses included."""
    return PhonopyAtoms(
        symbols=atoms.get_chemical_symbols(),
        cell=atoms.cell.array,
        scaled_positions=atoms.get_scaled_positions(wrap=False),
        masses=atoms.get_masses(),
    )


def from_phonopy(atoms: PhonopyAtoms) -> Atoms:
    """Phonopy's atoms as ASE's, periodic."""
    return Atoms(
        symbols=atoms.symbols, cell=atoms.cell, scaled_positions=atoms.scaled_positions, masses=atoms.masses, pbc=True
    )


def supercell_matrix(supercell: Any, atoms: Atoms, shortest_edge: float = 15.0) -> NDArray[np.int64]:
    """A 3 × 3 integer matrix from 1, 3 or 9 numbers; None: edges of at least ``shortest_edge`` Å."""
    if supercell is None:
        return np.diag(np.ceil(shortest_edge / atoms.cell.lengths() - 1e-6)).astype(np.int64)
    matrix = np.asarray(supercell)
    if matrix.size in (1, 3):
        matrix = np.diag(np.broadcast_to(matrix.ravel(), 3))
    if matrix.shape != (3, 3) or not np.allclose(matrix, np.rint(matrix)) or round(np.linalg.det(matrix)) == 0:
        raise InputError(f"a supercell is 1, 3 or 9 integers, not {np.asarray(supercell).tolist()}", key="supercell")
    return np.rint(matrix).astype(np.int64)


def phonopy_for(atoms: Atoms, matrix: NDArray[np.int64], *, symmetric: bool) -> Phonopy:
    """A Phonopy object whose primitive cell is ``atoms`` itself; nothing is corrected unless asked."""
    # phonopy's symmetry search knows species but not isotopes.
    isotopes = len(set(symmetry_types(atoms))) > len(set(atoms.numbers))
    with contextlib.redirect_stdout(io.StringIO()):
        return Phonopy(
            to_phonopy(atoms),
            supercell_matrix=matrix.T,
            primitive_matrix="P",
            is_symmetry=symmetric and not isotopes,
            hermitianize_dynamical_matrix=False,
        )


def fill_from_matrices(phonon: Phonopy, matrices: DynamicalMatrices) -> None:
    """Exact force constants of the supercell from D at its commensurate points; nothing is displaced."""
    transform = DynmatToForceConstants(phonon.primitive, phonon.supercell, is_full_fc=False)
    transform.dynamical_matrices = matrices.at(transform.commensurate_points)
    transform.run()
    phonon.force_constants = transform.force_constants


def fill_from_hessian(phonon: Phonopy, calculator: Any) -> None:
    """Exact force constants from the calculator's analytic Hessian of the supercell."""
    supercell = from_phonopy(phonon.supercell)
    n = len(supercell)
    phonon.force_constants = full_hessian(supercell, calculator).reshape(n, 3, n, 3).transpose(0, 2, 1, 3).copy()


def fill_from_displacements(phonon: Phonopy, calculator: Any, displacement: float, progress: Any = iter) -> None:
    """Force constants from central differences of forces in the supercell.

    The residual forces of the undisplaced supercell are subtracted, as they do not belong to any displacement.
    """
    phonon.generate_displacements(distance=displacement, is_plusminus=True)
    rest = attached(from_phonopy(phonon.supercell), calculator).get_forces()
    supercells = phonon.supercells_with_displacements or []
    phonon.forces = np.array(
        [attached(from_phonopy(cell), calculator).get_forces() - rest for cell in progress(supercells)]
    )
    phonon.produce_force_constants(calculate_full_force_constants=False)


def force_symmetry_defect(
    cell: PrimitiveCell, calculator: Any, *, displacement: float = 0.05, most: int = 8
) -> float:
    """How far a calculator breaks the crystal's space group: largest |F(g x) − g F(x)| / max |F|.

    x is a 2 × 2 × 2 supercell with random displacements (a fixed seed). Translations are left out.
    """
    atoms = cell.atoms * (2, 2, 2)
    rng = np.random.default_rng(0)
    moved = atoms.get_positions() + rng.normal(scale=displacement, size=(len(atoms), 3))
    small = cell.atoms.cell.array

    def forces(positions: Array) -> Array:
        system = attached(atoms, calculator)
        system.set_positions(positions)
        return np.asarray(system.get_forces(), dtype=np.float64)

    here, worst = forces(moved), 0.0
    pick = rng.permutation(len(cell.rotations))[:most]
    for w, t in zip(cell.rotations[pick], cell.translations[pick], strict=True):
        rotation = small.T @ w @ np.linalg.inv(small.T)
        # An operation of the primitive cell is one of the 2 × 2 × 2 cell too: it maps doubled lattice vectors
        # onto doubled lattice vectors.
        there = forces(moved @ rotation.T + t @ small)
        worst = max(worst, float(np.abs(there - here @ rotation.T).max()))
    scale = float(np.abs(here).max())
    return worst / scale if scale > 0 else 0.0
