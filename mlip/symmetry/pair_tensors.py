"""Anisotropic pairs: a linear model of how labels depend on orientation, fitted without a network.

E = Σ_pairs Σ_l Σ_k φ_k(r) b_kl·Y_l(r̂), l even. Where two sets of labels of the same frames differ by an anisotropy
(another k mesh, a strained substrate), their difference is small; fitted by least squares to a sum of pairs it is a
function whose spectrum can be taken. How much of the difference is such a sum must be looked at first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlip.errors import InputError
from mlip.graph import neighbor_pairs

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PairTensors:
    """A fitted sum of anisotropic pairs; `evaluate` makes it a model for `anisotropy_report`.

    Attributes:
        degrees: Even degrees l.
        cutoff: Å.
        num_radial: Functions φ_k.
        coefficients: (1 + Σ_l num_radial·(2l+1),): an energy per atom, then b_kl by degree.
    """

    degrees: tuple[int, ...]
    cutoff: float
    num_radial: int
    coefficients: Array

    @classmethod
    def fit(
        cls,
        structures: Sequence[Atoms],
        *,
        degrees: tuple[int, ...] = (0, 2, 4),
        cutoff: float = 6.0,
        num_radial: int = 8,
        force_weight: float = 1.0,
        ridge: float = 1e-4,
    ) -> PairTensors:
        """Least squares to the energies and forces in the structures' calculators, in the structures' axes.

        Args:
            structures: Labelled structures.
            degrees: Even degrees.
            cutoff: Å.
            num_radial: Functions of the distance for each degree.
            force_weight: Of a force component (eV/Å) against an energy per atom (eV).
            ridge: Of the squared coefficients, relative to the largest singular value squared.

        Raises:
            InputError: An odd degree, or a structure without energy and forces.
        """
        if any(l % 2 for l in degrees):
            raise InputError("a pair of like atoms has no tensor of odd degree", key="degrees")
        size = 1 + num_radial * sum(2 * l + 1 for l in degrees)
        model = cls(degrees, cutoff, num_radial, np.zeros(size))
        rows, targets = [], []
        for k, atoms in enumerate(structures):
            found = {} if atoms.calc is None else atoms.calc.results
            if "energy" not in found or "forces" not in found:
                raise InputError("no energy and forces", frame=k)
            energy, forces = model.design(atoms)
            rows += [energy[None] / len(atoms), force_weight * forces]
            targets += [[found["energy"] / len(atoms)], force_weight * np.ravel(found["forces"])]
        matrix, target = np.concatenate(rows), np.concatenate(targets)
        scale = np.linalg.norm(matrix, axis=0)
        scale[scale == 0] = 1.0
        u, s, v = np.linalg.svd(matrix / scale, full_matrices=False)
        solved = v.T @ (s / (s**2 + ridge * s[0] ** 2) * (u.T @ target))
        return cls(degrees, cutoff, num_radial, solved / scale)

    def design(self, atoms: Atoms) -> tuple[Array, Array]:
        """Energy (P,) and forces (3N, P) of one structure for unit coefficients."""
        source, target, shifts = neighbor_pairs(atoms, self.cutoff)
        vectors = atoms.positions[source] - atoms.positions[target] + shifts @ atoms.cell.array
        values, slopes = self._pairs(vectors)
        forces = np.zeros((len(atoms), 3, values.shape[1]))
        np.add.at(forces, target, slopes)
        np.add.at(forces, source, -slopes)
        energy = np.concatenate([[float(len(atoms))], values.sum(axis=0)])
        return energy, np.concatenate([np.zeros((3 * len(atoms), 1)), forces.reshape(3 * len(atoms), -1)], axis=1)

    def evaluate(self, structures: Sequence[Atoms], properties: Sequence[str] = ()) -> list[dict[str, Any]]:  # noqa: ARG002
        """Energy (eV) and forces (N, 3) (eV/Å) of each structure."""
        found = []
        for atoms in structures:
            energy, forces = self.design(atoms)
            pushes = (forces @ self.coefficients).reshape(-1, 3)
            found.append({"energy": float(energy @ self.coefficients), "forces": pushes})
        return found

    def _pairs(self, vectors: Array) -> tuple[Array, Array]:
        """Functions (E, P−1) of pair vectors and their gradients (E, 3, P−1)."""
        r = np.linalg.norm(vectors, axis=1)
        radial, radial_slope = self._radial(r)
        values, slopes = [], []
        for l in self.degrees:
            y, y_slope = _harmonics(vectors, l)
            values.append(np.einsum("ek,em->ekm", radial, y).reshape(len(r), -1))
            along = np.einsum("ek,ea,em->eakm", radial_slope, vectors / r[:, None], y)
            across = np.einsum("ek,eam->eakm", radial, y_slope)
            slopes.append((along + across).reshape(len(r), 3, -1))
        return np.concatenate(values, axis=1), np.concatenate(slopes, axis=2)

    def _radial(self, r: Array) -> tuple[Array, Array]:
        """sin(kπr/c)/r · (1 − (r/c)²)² and its derivative, (E, k)."""
        k = np.pi * np.arange(1, self.num_radial + 1) / self.cutoff
        x = (r / self.cutoff)[:, None]
        wave, window = np.sin(r[:, None] * k) / r[:, None], (1 - x**2) ** 2
        wave_slope = k * np.cos(r[:, None] * k) / r[:, None] - wave / r[:, None]
        window_slope = -4 * x * (1 - x**2) / self.cutoff
        return wave * window, wave_slope * window + wave * window_slope


def _harmonics(vectors: Array, l: int) -> tuple[Array, Array]:
    """Y_l of directions (E, 2l+1) and its gradient by the vectors (E, 3, 2l+1)."""
    import torch
    from e3nn import o3

    x = torch.tensor(vectors, dtype=torch.float64, requires_grad=True)
    y = o3.spherical_harmonics(l, x, normalize=True, normalization="component")
    if l == 0:
        return y.detach().numpy(), np.zeros((*vectors.shape, 1))
    parts = [torch.autograd.grad(y[:, m].sum(), x, retain_graph=True)[0] for m in range(2 * l + 1)]
    return y.detach().numpy(), np.stack([p.numpy() for p in parts], axis=2)
