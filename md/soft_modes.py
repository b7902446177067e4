"""The soft modes of a crystal at the wavevectors of a supercell, as displacement patterns with names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlip.md.calculators import has_bloch_matrix
from mlip.md.dynamical import (
    BlochMatrices,
    DynamicalMatrices,
    FourierMatrices,
    fill_from_displacements,
    frequencies_thz,
    phonopy_for,
)
from mlip.md.strain_coupling import StrainCoupling, strain_coupling
from mlip.md.symmetric_cell import SymmetricCell
from mlip.symmetry.irreps import IrrepComponent, equivalent
from mlip.symmetry.supercell import Mask, SupercellGroup, commensurate_points

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]
DEGENERATE = 0.02  # THz: modes closer than this at one q belong together


@dataclass(frozen=True)
class SoftMode:
    """A degenerate set of modes at one q and all arms of its star.

    Attributes:
        frequency: THz; negative when imaginary.
        q: (3,) in fractions of the present cell's reciprocal vectors.
        basis: (d, supercell atoms, 3) orthonormal displacements, all arms.
        shares: Share of each irrep of the parent in it, largest first.
        strains: (d, 3, 3) the strain that goes with each displacement; None where the cell rests.
    """

    frequency: float
    q: Array
    basis: Array
    shares: dict[str, float]
    strains: Array | None = None

    @property
    def name(self) -> str:
        """The parent's irreps that make up at least a tenth of it, such as ``R4+`` or ``X5-+M3-``."""
        main = [name for name, share in self.shares.items() if share > 0.1]
        return "+".join(main[:3]) if main else "mixed"

    @property
    def line(self) -> str:
        """``R4+ −2.31 THz``."""
        return f"{self.name} {self.frequency:.2f} THz{'' if self.strains is None else ' with strain'}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "irreps": self.shares,
            "THz": self.frequency,
            "q": self.q,
            "dimension": len(self.basis),
            "with_strain": self.strains is not None,
        }


def matrices_of(
    atoms: Atoms, calculator: Any, supercell: NDArray[np.int64], displacement: float
) -> DynamicalMatrices:
    """D(q) of a cell: exact where the calculator has it, else from finite displacements in the supercell."""
    if has_bloch_matrix(calculator):
        return BlochMatrices(atoms, calculator)
    phonon = phonopy_for(atoms, supercell, symmetric=True)
    fill_from_displacements(phonon, calculator, displacement)
    return FourierMatrices(phonon)


def imaginary_modes(
    group: SupercellGroup,
    subgroup: Mask,
    cell: SymmetricCell,
    atoms: Atoms,
    calculator: Any,
    parts: Sequence[IrrepComponent],
    *,
    limit: float = 0.05,
    displacement: float = 0.01,
) -> list[SoftMode]:
    """All imaginary modes of a state whose waves fit into the parent's supercell.

    Where none is imaginary at Γ while the cell rests, those at vanishing stress are looked for, see
    `mlip.md.strain_coupling`: a strain that goes along can make unstable what phonons call stable.

    Args:
        group: The parent's supercell.
        subgroup: The state's symmetry.
        cell: Its smallest cell.
        atoms: The relaxed structure in that cell.
        calculator: Any ASE calculator.
        parts: The parent's irreps, for names.
        limit: THz; frequencies below minus this are imaginary.
        displacement: Å, for finite differences.

    Returns:
        The modes, softest first.
    """
    supercell = np.rint(group.matrix @ np.linalg.inv(cell.matrix)).astype(np.int64)
    matrices = matrices_of(atoms, calculator, supercell, displacement)
    one_each = _one_per_rotation(group, subgroup)
    turns = _fractional(group.turns[one_each], cell.atoms.cell.array)
    modes = []

    def enter(q: Array, d: Complex, coupling: StrainCoupling | None = None) -> None:
        for frequency, patterns in _softest(d, atoms, q, limit):
            placed = _on_supercell(group, cell, q, patterns)
            basis = group.span(np.concatenate([placed.real, placed.imag]), one_each)
            strains = None if coupling is None else coupling.strains(basis[:, cell.sites])
            modes.append(SoftMode(frequency, q, basis, shares(basis, parts), strains))

    for q in irreducible(commensurate_points(supercell), turns):
        enter(q, matrices.at(q[None])[0])
    coupling = strain_coupling(atoms, calculator)
    if coupling is not None and not any(np.abs(mode.q).max() < 1e-9 for mode in modes):
        gamma = np.zeros(3)
        enter(gamma, coupling.at_vanishing_stress(matrices.at(gamma[None])[0]), coupling)
    return sorted(modes, key=lambda mode: mode.frequency)


def irreducible(points: Array, rotations: Array) -> list[Array]:
    """One of each set of q points that rotations (fractional) and time reversal join, Γ first."""
    chosen: list[Array] = []
    for q in points:
        images = np.concatenate([q @ rotations, -q @ rotations])
        if not any(equivalent(other, images) for other in chosen):
            chosen.append(q)
    return chosen


def shares(basis: Array, parts: Sequence[IrrepComponent]) -> dict[str, float]:
    """How much of a space of displacements lies in each irrep of the parent, largest first, from one per cent."""
    flat = basis.reshape(len(basis), -1)
    found = {c.name: float(((c.basis.reshape(len(c.basis), -1) @ flat.T) ** 2).sum()) / len(basis) for c in parts}
    ordered = sorted(found.items(), key=lambda item: -item[1])
    return {name: share for name, share in ordered if share > 0.01}


def _softest(d: Complex, atoms: Atoms, q: Array, limit: float) -> list[tuple[float, Complex]]:
    """Imaginary modes of D(q): frequency and displacement patterns (k, n, 3) with the cell's phase only."""
    values, vectors = np.linalg.eigh((d + d.conj().T) / 2)
    if np.abs(q).max() < 1e-9:
        values, vectors = _without_translations(d, atoms)
    frequencies = frequencies_thz(values)
    found: list[tuple[float, Complex]] = []
    soft = np.flatnonzero(frequencies < -limit)
    groups = np.split(soft, np.flatnonzero(np.diff(frequencies[soft]) > DEGENERATE) + 1) if len(soft) else []
    phase = np.exp(2j * np.pi * (atoms.get_scaled_positions(wrap=False) @ q))
    weight = phase / np.sqrt(atoms.get_masses())
    for members in groups:
        patterns = vectors[:, members].T.reshape(len(members), -1, 3) * weight[None, :, None]
        found.append((float(frequencies[members].mean()), patterns))
    return found


def _without_translations(d: Complex, atoms: Atoms) -> tuple[Array, Complex]:
    """Eigenpairs at Γ with the three uniform shifts projected out."""
    root = np.sqrt(atoms.get_masses() / atoms.get_masses().sum())
    uniform = (root[:, None, None] * np.eye(3)).reshape(-1, 3)
    keep = np.eye(len(uniform)) - uniform @ uniform.T
    values, vectors = np.linalg.eigh(keep @ ((d + d.conj().T) / 2) @ keep)
    return np.asarray(values), np.asarray(vectors)


def _on_supercell(group: SupercellGroup, cell: SymmetricCell, q: Array, patterns: Complex) -> Complex:
    """exp(iq·R) on the parent's supercell, (k, n, 3) → (k, supercell atoms, 3)."""
    base = group.cells.repeat(len(group.primitive), axis=0)
    home = np.rint(
        np.linalg.solve(group.primitive.cell.array.T, (cell.atoms.get_positions() - _inner(group, cell)).T).T
    )
    moved = (base - home[cell.tiling]) @ np.linalg.inv(cell.matrix)
    return np.asarray(patterns[:, cell.tiling] * np.exp(2j * np.pi * (np.rint(moved) @ q))[None, :, None])


def _inner(group: SupercellGroup, cell: SymmetricCell) -> Array:
    """Positions within the primitive cell of the atoms of the small cell."""
    return np.tile(group.primitive.get_positions(), (len(cell.atoms) // len(group.primitive), 1))


def _one_per_rotation(group: SupercellGroup, subgroup: Mask) -> NDArray[np.int64]:
    members = np.flatnonzero(subgroup)
    _, first = np.unique(group.rotation_of[members], return_index=True)
    return members[first]


def _fractional(turns: Array, cell: Array) -> Array:
    """Cartesian matrices as integers on fractional columns of a cell."""
    return np.rint(np.linalg.inv(cell.T) @ turns @ cell.T)
