"""The mean stress that a crystal's point group forbids: what an anisotropy does to the undistorted state.

Distorted at random, a crystal has the mean stress of its own symmetry. What else there is, labels or model broke. The
labels' own mean is a test that needs nothing of a model but its strict part, and so it finds what the model missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.stress import full_3x3_to_voigt_6_stress
from ase.units import GPa
from numpy.typing import NDArray

from mlip.symmetry.matrix_group import MatrixGroup

Array = NDArray[np.float64]
ROUNDING = 1e-9  # of the sum of all stresses


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


@dataclass(frozen=True, eq=False)
class MeanStressTest:
    """Is a part of the labels' mean stress larger than with every structure turned by any operation?

    Where labels obey the group and distortions are as symmetric as their parent, residual s_i and its images
    g s_i gᵀ are equally likely, so |T Σ_i w_i g_i s_i g_iᵀ| with random g_i is as large as with all g_i = 1.

    Attributes:
        images: (k, m, 9) weighted residual stresses of k structures at the m operations of the group.
        operations: (m, 9, 9) what the operations do to a tensor.
    """

    images: Array
    operations: Array

    @classmethod
    def of(cls, stresses: Array, group: MatrixGroup, weights: Array) -> MeanStressTest:
        """From residual stresses (k, 9) and the trust (k,) in each."""
        operations = np.array([np.kron(g, g) for g in group.elements])
        return cls(np.einsum("mab,kb->kma", operations, weights[:, None] * stresses), operations)

    def sees(self, part: Array) -> bool:
        """Whether a symmetric tensor has such a part at all."""
        symmetric = (np.eye(9) + np.eye(9).reshape(3, 3, 9).swapaxes(0, 1).reshape(9, 9)) / 2
        return bool(np.abs(self._projector(part) @ symmetric).max() > ROUNDING)

    def _projector(self, part: Array) -> Array:
        """(9, 9) on tensors, of a row of one on functions of the group."""
        return np.asarray(np.einsum("m,mab->ab", part, self.operations))

    def p(self, part: Array, places: Sequence[int], draws: NDArray[np.int64]) -> float:
        """How often a random mean is as large as the labels' own.

        Args:
            part: (m,) the identity's row of a projector in the regular representation: which part of the mean.
            places: The operations that are drawn.
            draws: (B, k) which of them the structures take.
        """
        projector = self._projector(part)
        seen = self.images[:, list(places)] @ projector.T
        means = sum((seen[k][draws[:, k]] for k in range(len(seen))), np.zeros(1))
        own = float(np.linalg.norm(self.images[:, 0].sum(axis=0) @ projector.T))
        scale = float(np.linalg.norm(self.images[:, 0], axis=1).sum())
        if own <= ROUNDING * scale:
            return 1.0
        as_large = int((np.linalg.norm(means, axis=1) >= own - ROUNDING * scale).sum())
        return (1 + as_large) / (1 + len(draws))
