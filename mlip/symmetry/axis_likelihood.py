"""The most likely orientation of a symmetry group, from samples without noise.

The values of a structure's energy at several orientations are jointly Gaussian with covariance Σ_l tr(G^l D_a D_bᵀ).
Where G^l has only the invariants of a group in the right orientation, far fewer numbers than samples explain them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mlip.symmetry.measurement import Measurement
from mlip.symmetry.spectrum import Irrep, wigner_list, wigner_of

Array = NDArray[np.float64]
LOOSE = 1e-3  # share of the power allowed outside the invariants, so that no orientation is impossible
FLAT = 1e-3  # of the largest curvature: below, as for turns about a single axis, there is nothing to find
LONGEST = 0.1  # rad, of one step
HALVES = (1.0, 0.5, 0.25)


class Likelihood:
    """Of a group's orientation, over all structures of a measurement."""

    def __init__(self, measurement: Measurement) -> None:
        self.lmax = measurement.lmax
        self.grams = {i: g.mean(axis=0) for i, g in measurement.grams["energies"].items()}
        self._whole = sum(max(0.0, float(np.trace(g))) for g in self.grams.values()) or 1e-18
        stacked = [np.stack([d[l] for d in measurement.wigner]) for l in range(self.lmax + 1)]
        self._pairs = [np.einsum("iapn,ibqn->iabpq", d, d, optimize=True) for d in stacked]
        even = np.stack([pair[0].energies for pair in measurement.samples])
        self._values = {1: even - even.mean(axis=1, keepdims=True)}
        self._values[-1] = np.stack([pair[1].energies for pair in measurement.samples])
        self._rest = {p: 1e-3 * self._whole + measurement.priors["energies", p].rest for p in (1, -1)}

    def refine(self, projectors: dict[Irrep, Array], start: Array, steps: int = 5) -> Array:
        """The most likely rotation near ``start``: Newton's steps, those uphill turned round, long ones cut.

        A step is taken where it makes the orientation likelier, halved twice at most.
        """
        turn = start
        for _ in range(steps):
            gradient, curvature = self._derivatives(projectors, turn)
            values, vectors = np.linalg.eigh(curvature)
            usable = np.abs(values) > FLAT * np.abs(values).max()
            along = vectors[:, usable]
            move = -along @ ((along.T @ gradient.sum(axis=1)) / np.abs(values[usable]))
            length = float(np.linalg.norm(move))
            move = move * min(1.0, LONGEST / max(length, 1e-12))
            here = self._losses(projectors, turn, np.zeros(3)).sum()
            better = (f * move for f in HALVES if self._losses(projectors, turn, f * move).sum() < here)
            taken = next(better, None)
            if taken is None:
                break
            turn = turn @ Rotation.from_rotvec(taken).as_matrix()
            if length < 1e-4:
                break
        return np.asarray(turn)

    def axis_error(self, projectors: dict[Irrep, Array], turn: Array, axis: Array) -> float:
        """Standard deviation of an axis, degrees, with the spread of structures: H⁻¹ (Σ g gᵀ) H⁻¹."""
        gradient, curvature = self._derivatives(projectors, turn)
        gradient = gradient - gradient.mean(axis=1, keepdims=True)
        inverse = np.linalg.pinv(curvature, rcond=FLAT, hermitian=True)
        covariance = inverse @ gradient @ gradient.T @ inverse
        own = turn.T @ axis
        across = np.eye(3) - np.outer(own, own)
        return float(np.degrees(np.sqrt(max(0.0, np.trace(across @ covariance @ across)))))

    def _derivatives(self, projectors: dict[Irrep, Array], turn: Array, step: float = 0.01) -> tuple[Array, Array]:
        """Gradients by rotation (3, n) of all structures, and the curvature of their sum (3, 3)."""
        moves = step * np.eye(3)
        here = self._losses(projectors, turn, np.zeros(3))
        up, down = (np.stack([self._losses(projectors, turn, s * v) for v in moves]) for s in (1, -1))
        curvature = np.diag((up + down - 2 * here).sum(axis=1)) / step**2
        for a, b in ((0, 1), (0, 2), (1, 2)):
            both = self._losses(projectors, turn, moves[a] + moves[b]) - up[a] - up[b] + here
            curvature[a, b] = curvature[b, a] = both.sum() / step**2
        return (up - down) / (2 * step), curvature

    def _losses(self, projectors: dict[Irrep, Array], start: Array, vector: Array) -> Array:
        """(n,) minus the log likelihood of each structure."""
        first, then = wigner_list(start[None], self.lmax), wigner_of(vector, self.lmax)
        total = np.zeros(len(self._values[1]))
        for parity, values in self._values.items():
            # The mean of the even part is free: a constant of any size.
            size = values.shape[1]
            kernel = self._rest[parity] * np.eye(size) + (10 * self._whole if parity == 1 else 0.0)
            for irrep, projector in projectors.items():
                if irrep.parity == parity:
                    kernel = kernel + self._kernel(irrep, projector, first[irrep.l][0], then[irrep.l][0])
            solved = np.linalg.solve(kernel, values[..., None])[..., 0]
            total += ((values * solved).sum(axis=1) + np.linalg.slogdet(kernel)[1]) / 2
        return total

    def _kernel(self, irrep: Irrep, projector: Array, start: Array, move: Array) -> Array:
        """(n, m, m) covariance from the invariant part of the Gram matrix, turned rigidly, and a little of all."""
        inside = projector @ start.T @ self.grams[irrep] @ start @ projector
        turn, size = start @ move, len(projector)
        gram = turn @ (inside + inside.T) @ turn.T / 2 + LOOSE * self._whole / size * np.eye(size)
        return np.asarray(np.tensordot(self._pairs[irrep.l], gram, 2))
