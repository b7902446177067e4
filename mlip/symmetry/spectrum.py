"""The spectrum of a function of orientation over the irreps of O(3), from a handful of random orientations.

h(S y) = Σ_l Σ_mn c_mn D^l_mn(S), for its parts even and odd under inversion apart. The left index m belongs to
the laboratory, the right one to the structure. The Gram matrix G^l = Σ_n ⟨c_mn c_m'n⟩/(2l+1) holds what can be
known of the laboratory: its trace is the power P_l, its range the invariants of the retained group. A U-statistic
over pairs of different orientations estimates it without bias:

    G^l = (2l+1) ⟨D^l(S_a S_bᵀ) E_a E_b⟩_{a≠b},    P_l = (2l+1) ⟨χ_l(S_aᵀ S_b) E_a E_b⟩_{a≠b}.

What other degrees contribute to its noise is taken off first, predicted from other orientations than a and b.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm, logm
from scipy.spatial.transform import Rotation

from mlip.symmetry.characters import irrep_name, wigner_matrices

Array = NDArray[np.float64]
Wigner = list[Array]  # D^l of some rotations for l = 0 … lmax, each (m, 2l+1, 2l+1)


def wigner_list(turns: Array, lmax: int) -> Wigner:
    """D^l(S) of rotations (m, 3, 3), for l = 0 … lmax."""
    return [wigner_matrices(turns, l, 1) for l in range(lmax + 1)]


@lru_cache(maxsize=8)
def _generators(l: int) -> Array:
    """(3, 2l+1, 2l+1): D^l(exp v) = exp(v·X)."""
    turns = Rotation.from_rotvec(0.5 * np.eye(3)).as_matrix()
    return np.stack([np.real(logm(d)) for d in wigner_matrices(turns, l, 1)]) / 0.5


def wigner_of(vector: Array, lmax: int) -> Wigner:
    """D^l of one rotation vector, fast: (1, 2l+1, 2l+1) for l = 0 … lmax."""
    return [expm(np.tensordot(vector, _generators(l), 1))[None] for l in range(lmax + 1)]


def gram(values: Array, wigner: Array) -> Array:
    """(2l+1) Σ_{a≠b} D_a D_bᵀ v_a·v_b / m(m−1): unbiased where the mean of the values is zero.

    Args:
        values: (m, k), k functions of orientation at m independent orientations.
        wigner: (m, 2l+1, 2l+1).
    """
    m, size = len(values), wigner.shape[-1]
    sums = np.einsum("ak,amn->mnk", values, wigner).reshape(size, -1)
    return np.asarray(size * (sums @ sums.T - (values**2).sum() * np.eye(size)) / (m * (m - 1)))


def first_spectrum(values: Array, wigner: Wigner) -> list[Array]:
    """Gram matrices of all degrees, with the mean over orientations taken off for l > 0 without bias."""
    m = len(values)
    centred = values - values.mean(axis=0)
    lost = 1 - 2 / m + 2 / m**2  # what subtracting the same orientations' mean takes from each pair
    return [gram(values, wigner[0]), *(gram(centred, d) / lost for d in wigner[1:])]


@dataclass(frozen=True, eq=False)
class Prior:
    """What is known of a function of orientation before it is evaluated: its Gram matrices over many structures.

    Attributes:
        grams: One for each degree, positive.
        rest: Power beyond the highest degree.
        free_mean: Whether l = 0 is a constant of any size.
    """

    grams: list[Array]
    rest: float
    free_mean: bool

    @classmethod
    def of(cls, grams: list[Array], total: float, *, free_mean: bool) -> Prior:
        """From unbiased estimates, which may have negative eigenvalues.

        Args:
            grams: One for each degree.
            total: The whole power, without the mean where that is free.
            free_mean: Whether l = 0 is a constant of any size, as in the part even under inversion.
        """
        kept = [_positive(g) for g in grams]
        known = sum(float(np.trace(g)) for g in kept[free_mean:])
        floor = 1e-3 * known + 1e-18
        if free_mean:
            kept[0] = np.full((1, 1), 1e4 * (known + floor))
        return cls(kept, max(total - known, floor), free_mean)

    def coefficients(self, values: Array, wigner: Wigner) -> list[Array]:
        """The best linear estimate of c_mn from values (m, k) at some orientations: (2l+1, 2l+1, k) per degree."""
        weighted = [np.einsum("pm,amn->apn", g, d) for g, d in zip(self.grams, wigner, strict=True)]
        kernel = sum(
            (np.einsum("apn,bpn->ab", w, d) for w, d in zip(weighted, wigner, strict=True)),
            self.rest * np.eye(len(values)),
        )
        # A free mean is taken off first: total energies are larger than all else by many orders of magnitude.
        mean = values.mean(axis=0) if self.free_mean else np.zeros(values.shape[1])
        solved = np.linalg.solve(kernel, values - mean)
        found = [np.einsum("apn,ak->pnk", w, solved) for w in weighted]
        found[0] = found[0] + mean
        return found


def _positive(matrix: Array) -> Array:
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return np.asarray((vectors * np.maximum(values, 0)) @ vectors.T)


def at(coefficients: Array, wigner: Array) -> Array:
    """Σ_mn c_mn D_mn(S): (2l+1, 2l+1, k) at (a, 2l+1, 2l+1) → (a, k)."""
    size = coefficients.shape[0] ** 2
    return np.asarray(wigner.reshape(len(wigner), size) @ coefficients.reshape(size, -1))


def spectrum(values: Array, wigner: Wigner, prior: Prior) -> list[Array]:
    """Gram matrices of all degrees; each half of the orientations freed of other degrees by the other half.

    Unbiased, as what is taken off has no part of the degree in question and knows nothing of the pair.
    """
    m = len(values)
    halves = [np.arange(m) % 2 == k for k in (0, 1)]
    found = [np.zeros((d.shape[-1],) * 2) for d in wigner]
    for here, there in (halves, halves[::-1]):
        inside = [d[here] for d in wigner]
        guess = prior.coefficients(values[there], [d[there] for d in wigner])
        parts = [at(c, d) for c, d in zip(guess, inside, strict=True)]
        whole = np.sum(parts, axis=0)
        for l, part in enumerate(parts):
            found[l] += gram(values[here] - (whole - part), inside[l]) / 2
    return found


@dataclass(frozen=True)
class Irrep:
    """A component of a function of orientation: degree and parity."""

    l: int
    parity: int

    @property
    def name(self) -> str:
        """Such as ``2e``."""
        return irrep_name(self.l, 1 if self.parity == 1 else -1)


def irreps_up_to(lmax: int) -> list[Irrep]:
    """All (l, p) but 0e, which is what does not depend on orientation."""
    return [Irrep(l, p) for l in range(lmax + 1) for p in (1, -1) if (l, p) != (0, 1)]
