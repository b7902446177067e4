"""What follows from an elastic tensor: moduli, stability, sound, Debye temperature. Plain algebra, no atoms.

Tensors are C_ijkl in GPa, matrices C_IJ in Voigt's order xx yy zz yz xz xy with engineering strain.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.constants import Boltzmann, Planck

Array = NDArray[np.float64]
VOIGT: Final = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
_INDEX: Final = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
_COMPLIANCE_FACTOR: Final = np.outer([1, 1, 1, 2, 2, 2], [1, 1, 1, 2, 2, 2]).astype(float)


def to_voigt(tensor: Array) -> Array:
    """C_ijkl → C_IJ, (6, 6); the mean over i↔j and k↔l."""
    symmetric = (tensor + tensor.swapaxes(0, 1)) / 2
    symmetric = (symmetric + symmetric.swapaxes(2, 3)) / 2
    return np.array([[symmetric[a, b, c, d] for c, d in VOIGT] for a, b in VOIGT])


def from_voigt(matrix: Array) -> Array:
    """C_IJ → C_ijkl, (3, 3, 3, 3)."""
    return np.asarray(matrix[_INDEX[:, :, None, None], _INDEX[None, None]], dtype=np.float64)


def rotated(tensor: Array, rotation: Array) -> Array:
    """The tensor in axes x' = R x."""
    return np.asarray(np.einsum("ai,bj,ck,dl,ijkl->abcd", *[rotation] * 4, tensor, optimize=True))


def group_average(tensor: Array, rotations: Array) -> Array:
    """The tensor averaged over a point group, (n, 3, 3) Cartesian rotations."""
    return np.asarray(np.mean([rotated(tensor, r) for r in rotations], axis=0))


def compliance(matrix: Array) -> Array:
    """S = C⁻¹, (6, 6), 1/GPa, in Voigt's convention (engineering strain)."""
    return np.asarray(np.linalg.inv(matrix))


def compliance_tensor(matrix: Array) -> Array:
    """S_ijkl, 1/GPa: Voigt's factors 2 and 4 taken off."""
    return from_voigt(compliance(matrix) / _COMPLIANCE_FACTOR)


def born_eigenvalues(matrix: Array) -> Array:
    """Eigenvalues of C_ijkl on symmetric strains, GPa, ascending; all positive in a stable crystal (Born, Mouhat).

    Taken in Kelvin's orthonormal basis (√2 on shears), so that they do not depend on the axes.
    """
    root = np.array([1, 1, 1, np.sqrt(2), np.sqrt(2), np.sqrt(2)])
    return np.asarray(np.linalg.eigvalsh(matrix * np.outer(root, root)))


@dataclass(frozen=True)
class Moduli:
    """Moduli of a polycrystal without texture, GPa: bounds of Voigt and Reuss, and Hill's mean.

    Attributes:
        bulk: Bulk modulus: Voigt, Reuss, Hill.
        shear: Shear modulus: Voigt, Reuss, Hill.
        young: Young's modulus of Hill's means.
        poisson: Poisson's ratio of Hill's means.
        anisotropy: Universal index 5 G_V/G_R + B_V/B_R − 6 (Ranganathan and Ostoja-Starzewski 2008); 0: isotropic.
    """

    bulk: tuple[float, float, float]
    shear: tuple[float, float, float]
    young: float
    poisson: float
    anisotropy: float


def moduli(matrix: Array) -> Moduli:
    """Voigt, Reuss and Hill (Hill, Proc. Phys. Soc. A 65, 349 (1952)) from C_IJ in GPa."""
    c, s = matrix, compliance(matrix)
    voigt_bulk = c[:3, :3].sum() / 9
    voigt_shear = (np.trace(c[:3, :3]) - (c[0, 1] + c[0, 2] + c[1, 2]) + 3 * np.trace(c[3:, 3:])) / 15
    reuss_bulk = 1 / s[:3, :3].sum()
    reuss_shear = 15 / (4 * np.trace(s[:3, :3]) - 4 * (s[0, 1] + s[0, 2] + s[1, 2]) + 3 * np.trace(s[3:, 3:]))
    bulk, shear = (voigt_bulk + reuss_bulk) / 2, (voigt_shear + reuss_shear) / 2
    return Moduli(
        bulk=(float(voigt_bulk), float(reuss_bulk), float(bulk)),
        shear=(float(voigt_shear), float(reuss_shear), float(shear)),
        young=float(9 * bulk * shear / (3 * bulk + shear)),
        poisson=float((3 * bulk - 2 * shear) / (6 * bulk + 2 * shear)),
        anisotropy=float(5 * voigt_shear / reuss_shear + voigt_bulk / reuss_bulk - 6),
    )


def directional_young(matrix: Array, directions: Array) -> Array:
    """Young's modulus along unit vectors (…, 3), GPa: 1/E(n) = S_ijkl n_i n_j n_k n_l."""
    n = directions
    return np.asarray(1 / np.einsum("ijkl,...i,...j,...k,...l->...", compliance_tensor(matrix), n, n, n, n))


def sound_velocities(tensor: Array, density: float, directions: Array) -> Array:
    """Christoffel: velocities (…, 3) in km/s, ascending, of plane waves along unit vectors (…, 3).

    ρ v² = eigenvalues of Γ_ik = C_ijkl n_j n_l; a negative one gives a negative "velocity".

    Args:
        tensor: C_ijkl, GPa.
        density: kg/m³.
        directions: (…, 3).
    """
    christoffel = np.einsum("ijkl,...j,...l->...ik", tensor, directions, directions)
    squares = np.linalg.eigvalsh(christoffel) * 1e9 / density
    return np.asarray(np.sign(squares) * np.sqrt(np.abs(squares)) / 1000)


def sphere_rule(order: int = 48) -> tuple[Array, Array]:
    """Directions (m, 3) and weights (m,) that sum to one: Gauss–Legendre in cos θ, uniform in φ."""
    z, weight = np.polynomial.legendre.leggauss(order)
    phi = 2 * np.pi * np.arange(2 * order) / (2 * order)
    rho = np.sqrt(1 - z**2)
    directions = np.stack(
        [np.outer(rho, np.cos(phi)), np.outer(rho, np.sin(phi)), np.repeat(z[:, None], len(phi), 1)], axis=-1
    )
    return directions.reshape(-1, 3), np.repeat(weight / 2 / len(phi), len(phi))


def sound_path(count: int) -> tuple[Array, Array, dict[str, float]]:
    """Unit vectors on great circles [100] → [110] → [111] → [001], their angles in degrees, and the corners'."""
    corners = {"[100]": [1, 0, 0], "[110]": [1, 1, 0], "[111]": [1, 1, 1], "[001]": [0, 0, 1]}
    ends = [np.array(v) / np.linalg.norm(v) for v in corners.values()]
    rows, angles, start = [ends[0]], [0.0], 0.0
    marks = [0.0]
    for a, b in pairwise(ends):
        arc = float(np.arccos(a @ b))
        for t in np.arange(1, count + 1) / count:
            rows.append((np.sin((1 - t) * arc) * a + np.sin(t * arc) * b) / np.sin(arc))
            angles.append(start + np.degrees(t * arc))
        start += np.degrees(arc)
        marks.append(start)
    return np.array(rows), np.array(angles), dict(zip(corners, marks, strict=True))


def mean_velocity(tensor: Array, density: float) -> float:
    """v_m = [⅓ Σ_s ⟨v_s⁻³⟩]^−⅓ over all directions, km/s; NaN where a direction is unstable."""
    directions, weights = sphere_rule()
    velocities = sound_velocities(tensor, density, directions)
    if velocities.min() <= 0:
        return float("nan")
    return float((weights @ (velocities**-3).sum(axis=1) / 3) ** (-1 / 3))


def isotropic_velocities(bulk: float, shear: float, density: float) -> tuple[float, float, float]:
    """Longitudinal, transverse and mean velocity (km/s) of an isotropic solid with these moduli (GPa)."""
    if shear <= 0 or bulk + 4 * shear / 3 <= 0:
        return float("nan"), float("nan"), float("nan")
    longitudinal = np.sqrt((bulk + 4 * shear / 3) * 1e9 / density) / 1000
    transverse = np.sqrt(shear * 1e9 / density) / 1000
    mean = ((longitudinal**-3 + 2 * transverse**-3) / 3) ** (-1 / 3)
    return float(longitudinal), float(transverse), float(mean)


def debye_temperature(velocity: float, atoms_per_volume: float) -> float:
    """Θ_D = (h/k) (3n/4πV)^⅓ v_m in K, from km/s and atoms/Å³ (Anderson, J. Phys. Chem. Solids 24, 909 (1963))."""
    return float(Planck / Boltzmann * (3 * atoms_per_volume * 1e30 / (4 * np.pi)) ** (1 / 3) * velocity * 1000)
