"""One table of what the checks allow, by working precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tolerances:
    """Limits of `mlip.md.checking`; relative ones are to the largest value concerned.

    Attributes:
        step: Å, for finite differences of energies and forces.
        forces: Forces against −dE/dx, relative to the rms force.
        stress: Stress against dE/dε/V, GPa.
        hessian: H·v against differences of forces, relative.
        hessian_symmetry: |H − H^T|, relative.
        energy: Invariance of the energy, meV/atom.
        covariance: Forces and stress under rotations, translations and permutations, relative.
        repeat: A second evaluation, relative.
        jump: Discontinuity of the energy, meV.
        force_jump: Discontinuity of the forces, meV/Å.
        drift: meV/atom/ps.
    """

    step: float
    forces: float
    stress: float
    hessian: float
    hessian_symmetry: float
    energy: float
    covariance: float
    repeat: float
    jump: float
    force_jump: float
    drift: float


DOUBLE = Tolerances(5e-3, 1e-5, 1e-3, 1e-5, 1e-10, 1e-5, 1e-7, 1e-12, 0.1, 1.0, 1.0)
SINGLE = Tolerances(2e-2, 5e-3, 5e-2, 2e-2, 1e-4, 5e-2, 2e-4, 1e-5, 1.0, 10.0, 1.0)


def tolerances_for(dtype: np.dtype) -> Tolerances:
    """The limits for a working precision."""
    return SINGLE if dtype == np.float32 else DOUBLE
