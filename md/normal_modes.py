"""Normal modes from a Hessian: masses in, rigid motions out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.constants import c as light
from scipy.linalg import null_space

from mlip.md.curvature import full_hessian, hessian_product, rigid_motions
from mlip.md.units import THZ_PER_SQRT_EV_A2_AMU

Array = NDArray[np.float64]
CM_PER_THZ: Final = 1e10 / light  # 33.356
CM_PER_SQRT_EV_A2_AMU: Final = THZ_PER_SQRT_EV_A2_AMU * CM_PER_THZ


@dataclass(frozen=True, eq=False)
class NormalModes:
    """Vibrations of a structure, or of some of its atoms.

    Attributes:
        frequencies: (k,) rising, cm⁻¹; imaginary ones negative.
        modes: (k, 3N) orthonormal mass-weighted modes; zero on atoms that are held.
        rigid: Number of rigid motions that were projected out.
        rigid_residual: Largest |ν| in cm⁻¹ of the Hessian within the rigid motions, before they were projected out.
        asymmetry: |H − H^T|, relative, before the Hessian was symmetrised.
    """

    frequencies: Array
    modes: Array
    rigid: int
    rigid_residual: float
    asymmetry: float


def block_hessian(atoms: Atoms, calculator: Any, indices: Array | list[int], step: float = 5e-3) -> Array:
    """Second derivatives by the positions of some atoms, (3n, 3n), eV/Å², not symmetrised.

    The calculator's own Hessian where it has one; else one product H·v per coordinate, exact where the calculator
    has it, a central difference of forces over ``step`` (Å) where not.
    """
    if hasattr(calculator, "get_hessian"):
        return full_hessian(atoms, calculator, [int(i) for i in indices])
    rows = (3 * np.asarray(indices, dtype=int)[:, None] + np.arange(3)).ravel()
    product = hessian_product(atoms, calculator, step)
    columns = []
    for row in rows:
        unit = np.zeros(3 * len(atoms))
        unit[row] = 1.0
        columns.append(np.asarray(product(unit)).ravel()[rows])
    return np.array(columns).T


def normal_modes(atoms: Atoms, hessian: Array, indices: Array | list[int], *, held: bool) -> NormalModes:
    """Diagonalise m^−½ H m^−½ in the space without rigid motions.

    Args:
        atoms: The structure.
        hessian: (3n, 3n) of the atoms that move, eV/Å².
        indices: Those atoms.
        held: Whether anything else, fixed atoms or a surface, holds them: then nothing is projected out.
    """
    weights = np.repeat(atoms.get_masses()[np.asarray(indices, dtype=int)] ** -0.5, 3)
    symmetric = (hessian + hessian.T) / 2
    scale = max(float(np.abs(hessian).max()), 1e-300)
    matrix = weights[:, None] * symmetric * weights
    rigid = np.empty((0, len(matrix))) if held else _orthonormal(rigid_motions(atoms) / weights)
    residual = 0.0 if held else float(np.abs(np.linalg.eigvalsh(rigid @ matrix @ rigid.T)).max())
    free = np.eye(len(matrix)) if held else null_space(rigid)
    values, vectors = np.linalg.eigh(free.T @ matrix @ free) if free.shape[1] else (np.empty(0), np.empty((0, 0)))
    modes = np.zeros((len(values), 3 * len(atoms)))
    rows = (3 * np.asarray(indices, dtype=int)[:, None] + np.arange(3)).ravel()
    modes[:, rows] = (free @ vectors).T
    return NormalModes(
        frequencies=wavenumbers(values),
        modes=modes,
        rigid=len(rigid),
        rigid_residual=float(np.sqrt(residual) * CM_PER_SQRT_EV_A2_AMU),
        asymmetry=float(np.abs(hessian - hessian.T).max()) / scale,
    )


def wavenumbers(eigenvalues: Array) -> Array:
    """Eigenvalues in eV/Å²/amu → cm⁻¹, imaginary ones negative."""
    return np.asarray(np.sign(eigenvalues) * np.sqrt(np.abs(eigenvalues)) * CM_PER_SQRT_EV_A2_AMU)


def _orthonormal(rows: Array) -> Array:
    _, size, basis = np.linalg.svd(rows, full_matrices=False)
    return np.asarray(basis[size > 1e-6 * size.max()])
