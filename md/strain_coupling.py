"""Strain that goes along with a mode at Γ: the dynamical matrix of a crystal whose cell is free.

The energy of a crystal at rest is ½ uΦu + uMε + ½ εSε to second order in displacements u and symmetric strains ε. At
vanishing stress the strain follows, ε = −S⁻¹Mᵀu, and what is left for the displacements is Φ − M S⁻¹ Mᵀ (Born and
Huang; the complement of what makes relaxed-ion elastic constants). It can be negative where Φ is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlip.md.calculators import attached

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]


@dataclass(frozen=True)
class StrainCoupling:
    """How displacements at Γ and strains hang together.

    Attributes:
        follows: (3, 3, N, 3), the strain per Å of each displacement at vanishing stress, symmetric.
        softening: (3N, 3N), M S⁻¹ Mᵀ in eV/Å².
        masses: (N,) amu.
    """

    follows: Array
    softening: Array
    masses: Array

    def strains(self, displacements: Array) -> Array:
        """(d, N, 3) Å → (d, 3, 3)."""
        return np.einsum("abix,dix->dab", self.follows, displacements)

    def at_vanishing_stress(self, gamma: Complex) -> Complex:
        """D(Γ) at fixed cell → D(Γ) at vanishing stress, (3N, 3N) in eV/Å²/amu."""
        root = np.sqrt(np.repeat(self.masses, 3))
        return np.asarray(gamma - self.softening / np.outer(root, root))


def strain_coupling(atoms: Atoms, calculator: Any) -> StrainCoupling | None:
    """The coupling of a crystal at rest; None where the calculator has no exact strain derivatives.

    Strains that cost no energy even with the atoms carried along (S not positive) are left out: nothing says how far
    they would follow.
    """
    if not hasattr(calculator, "get_strain_derivatives"):
        return None
    mixed, second = calculator.get_strain_derivatives(attached(atoms, calculator))
    values, vectors = np.linalg.eigh(second.reshape(9, 9))
    stiff = values > 1e-6 * np.abs(values).max()  # the three rotations are in the kernel
    inverse = vectors[:, stiff] / values[stiff] @ vectors[:, stiff].T
    flat = mixed.reshape(-1, 9)
    follows = -(flat @ inverse).T.reshape(3, 3, len(atoms), 3)
    return StrainCoupling(follows, flat @ inverse @ flat.T, atoms.get_masses())
