"""The mean stress that a crystal's point group forbids: what an anisotropy does to the undistorted state.

Distorted at random, a crystal has the mean stress of its own symmetry. What else there is, labels or model broke.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.stress import full_3x3_to_voigt_6_stress
from ase.units import GPa
from numpy.typing import NDArray

from mlip.symmetry.matrix_group import MatrixGroup

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ForbiddenStress:
    """Weighted mean over structures of the part that is not invariant, and its standard error, (3, 3), GPa."""

    mean: Array
    error: Array

    @classmethod
    def of(cls, stresses: Array, group: MatrixGroup, weights: Array) -> ForbiddenStress:
        """From stresses (n, 9), eV/Å³, of structures whose distortions are as symmetric as their parent."""
        tensors = stresses.reshape(-1, 3, 3) / GPa
        allowed = np.mean([np.einsum("ki,nkl,lj->nij", g, tensors, g) for g in group.elements], axis=0)
        part = tensors - allowed
        shares = (weights / weights.sum())[:, None, None]
        mean = (shares * part).sum(axis=0)
        return cls(mean, np.sqrt((shares**2 * (part - mean) ** 2).sum(axis=0)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values in Voigt's order xx yy zz yz xz xy."""
        return {name: full_3x3_to_voigt_6_stress(getattr(self, name)).tolist() for name in ("mean", "error")}

    def __str__(self) -> str:
        pairs = zip(full_3x3_to_voigt_6_stress(self.mean), full_3x3_to_voigt_6_stress(self.error), strict=True)
        return " ".join(f"{value:+.3f}±{error:.3f}" for value, error in pairs)
