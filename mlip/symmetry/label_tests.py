"""Residuals of labels, and their products with components of a model's prediction, over O(3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mlip.symmetry.characters import wigner_matrices
from mlip.symmetry.evidence import Products, residuals, stress_residuals, trust
from mlip.symmetry.measurement import QUANTITIES, Measurement
from mlip.symmetry.orientations import LabStructure, random_coset
from mlip.symmetry.point_groups import point_group
from mlip.symmetry.spectrum import Irrep, Wigner, at, wigner_list

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Residuals:
    """Labels minus the strict part of a model.

    Attributes:
        frames: (k,) which structures have labels.
        energies: (k,) eV/atom; None without energy labels.
        forces: (k arrays of 3N) eV/Å; None unless all k have force labels.
        stresses: (k, 9) eV/Å³; None unless all k have stress labels and the model has a stress.
    """

    frames: NDArray[np.int64]
    energies: Array | None
    forces: list[Array] | None
    stresses: Array | None = None

    @classmethod
    def of(
        cls,
        structures: list[LabStructure],
        energies: list[float],
        forces: list[Array],
        stresses: list[Array] | None = None,
    ) -> Residuals | None:
        """From the strict part's energies (eV/atom), forces (3N,), stresses (9,); None where too few have labels."""
        for needs in (("energy", "forces"), ("forces",), ("energy",), ("stress",)):
            chosen = [k for k, s in enumerate(structures) if all(getattr(s, name) is not None for name in needs)]
            if len(chosen) >= max(3, len(structures) // 2):
                found = cls._chosen(structures, energies, forces, chosen, needs)
                left = replace(found, stresses=_stresses_left(structures, stresses, chosen))
                return None if left.kinds == () else left
        return None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of ``energies``, ``forces`` and ``stresses`` those with labels."""
        return tuple(name for name in QUANTITIES if getattr(self, name) is not None)

    @classmethod
    def _chosen(
        cls,
        structures: list[LabStructure],
        energies: list[float],
        forces: list[Array],
        chosen: list[int],
        needs: tuple[str, ...],
    ) -> Residuals:
        left = None
        if "energy" in needs:
            labels = [float(structures[k].energy or 0.0) / len(structures[k]) for k in chosen]
            left = residuals(labels, [energies[k] for k in chosen], _compositions(structures, chosen))
        push = [np.ravel(np.asarray(structures[k].forces)) - forces[k] for k in chosen] if "forces" in needs else None
        return cls(np.array(chosen), left, push)

    def trust(self, kind: str) -> Array:
        """(k,) weights of frames by the rms of their residuals of one kind."""
        return trust(np.array([np.sqrt(np.mean(np.square(r))) for r in getattr(self, kind)]))


def _stresses_left(structures: list[LabStructure], strict: list[Array] | None, chosen: list[int]) -> Array | None:
    labels = [s for s in (structures[k].stress for k in chosen) if s is not None]
    if strict is None or len(labels) < len(chosen):
        return None
    return stress_residuals(labels, [strict[k] for k in chosen], _compositions(structures, chosen))


def _compositions(structures: list[LabStructure], chosen: list[int]) -> list[str]:
    return [structures[k].atoms.symbols.formula.reduce()[0].format("hill") for k in chosen]


class RotationalProducts:
    """r_i h_i for components of h over O(3), at the true orientation and at others.

    Args:
        measurement: The model's samples.
        left: The labels' residuals.
        rng: Of the orientations that irreps are compared at: one randomly turned icosahedral group for each frame,
            over which every component up to l = 5 averages to zero.
    """

    def __init__(self, measurement: Measurement, left: Residuals, rng: np.random.Generator) -> None:
        self.measurement, self.left = measurement, left
        self.kinds = [q for q in left.kinds if q in measurement.dependent]
        self._coefficients = [self._of(k) for k in range(len(left.frames))]
        pools = [random_coset(rng, point_group("I").elements) for _ in left.frames]
        joined = wigner_list(np.concatenate(pools), measurement.lmax)
        size = len(pools[0])
        self._pools = [[d[k * size : (k + 1) * size] for d in joined] for k in range(len(pools))]

    def of_irrep(self, irrep: Irrep) -> list[Products]:
        """The whole component (l, p)."""
        identity = {irrep: np.eye(2 * irrep.l + 1)}
        return self._products(identity, [(pool, pool) for pool in self._pools])

    def of_all(self) -> list[Products]:
        """Everything that depends on orientation, up to the highest degree."""
        identity = {irrep: np.eye(2 * irrep.l + 1) for irrep in self.measurement.irreps}
        return self._products(identity, [(pool, pool) for pool in self._pools])

    def of_what_breaks(self, projectors: Mapping[Irrep, Array], elements: Array) -> list[Products]:
        """What in the prediction is not invariant under a group, compared at the group's own operations."""
        outside = {irrep: np.eye(len(p)) - p for irrep, p in projectors.items()}
        sign = np.rint(np.linalg.det(elements))
        proper = elements * sign[:, None, None]
        up, down = (wigner_list(proper[sign == s], self.measurement.lmax) for s in (1, -1))
        return self._products(outside, [(up, down)] * len(self.left.frames))

    def _of(self, place: int) -> list[dict[Irrep, Array]]:
        """Coefficients of h, and of the model's forces and stress along the residual ones, by irrep."""
        k, m = int(self.left.frames[place]), self.measurement
        found = []
        for quantity in self.kinds:
            along = np.ones(1) if quantity == "energies" else getattr(self.left, quantity)[place]
            parts = {p: m.coefficients(k, quantity, p, along) for p in (1, -1)}
            found.append({irrep: parts[irrep.parity][irrep.l] for irrep in m.irreps})
        return found

    def _products(self, parts: Mapping[Irrep, Array], places: list[tuple[Wigner, Wigner]]) -> list[Products]:
        return [self._kind(number, quantity, parts, places) for number, quantity in enumerate(self.kinds)]

    def _kind(
        self, number: int, quantity: str, parts: Mapping[Irrep, Array], places: list[tuple[Wigner, Wigner]]
    ) -> Products:
        true, other = [], []
        for found, (up, down) in zip(self._coefficients, places, strict=True):
            chosen = {irrep: np.einsum("pm,mnk->pnk", x, found[number][irrep]) for irrep, x in parts.items()}
            true.append(sum(float(np.trace(c[..., 0])) for c in chosen.values()))
            other.append(_values(chosen, up, down))
        trusted = self.left.trust(quantity)
        weight = trusted * np.asarray(self.left.energies) if quantity == "energies" else trusted
        squares = trusted * self._squares(quantity, parts)
        return Products(weight * true, weight[:, None] * np.array(other), squares)

    def _squares(self, quantity: str, parts: Mapping[Irrep, Array]) -> Array:
        """⟨h²⟩ over orientations of each frame, unbiased; of forces and stress the sum over components."""
        grams, frames = self.measurement.grams[quantity], self.left.frames
        power = sum((np.einsum("pm,imp->i", x, grams[irrep][frames]) for irrep, x in parts.items()), np.zeros(1))
        return np.asarray(power * self.measurement.sizes(quantity)[frames])


def _values(coefficients: Mapping[Irrep, Array], up: Wigner, down: Wigner) -> Array:
    """At rotations ``up`` and at the products of rotations ``down`` with the inversion."""
    rising = sum((at(c, up[i.l])[:, 0] for i, c in coefficients.items()), np.zeros(1))
    falling = sum((i.parity * at(c, down[i.l])[:, 0] for i, c in coefficients.items()), np.zeros(1))
    return np.concatenate([rising, falling])


def bond_alignment(
    structures: list[LabStructure], degrees: tuple[int, ...] = (2, 4, 6)
) -> dict[int, tuple[float, Array]]:
    """Whether structures lie alike in the laboratory: degree → (p of uniform orientations, mean unit tensor).

    Each structure's bonds, averaged as Y_l, give a tensor; for uniform orientations n(2l+1)|mean of unit tensors|²
    is χ² with 2l+1 degrees of freedom.
    """
    from scipy.stats import chi2

    directions = [_bonds(s) for s in structures]
    found = {}
    for l in degrees:
        tensors = [_mean_harmonic(d, l) for d in directions]
        units = np.array([t / np.linalg.norm(t) for t in tensors if np.linalg.norm(t) > 1e-3]).reshape(-1, 2 * l + 1)
        if len(units) < 5:
            continue
        mean = units.mean(axis=0)
        found[l] = float(chi2.sf(len(units) * (2 * l + 1) * float(mean @ mean), 2 * l + 1)), mean
    return found


def _bonds(structure: LabStructure) -> Array:
    from mlip.graph import neighbor_pairs

    atoms = structure.atoms
    for cutoff in (3.0, 4.5, 7.0):
        source, target, shifts = neighbor_pairs(atoms, cutoff)
        if len(source):
            break
    else:
        return np.zeros((0, 3))
    vectors = atoms.positions[source] - atoms.positions[target] + shifts @ atoms.cell.array
    lengths = np.linalg.norm(vectors, axis=1)
    near = lengths < 1.3 * np.median([lengths[target == k].min() for k in np.unique(target)])
    return np.asarray(vectors[near] / lengths[near, None])


def _mean_harmonic(directions: Array, l: int) -> Array:
    import torch
    from e3nn import o3

    if not len(directions):
        return np.zeros(2 * l + 1)
    harmonics = o3.spherical_harmonics(l, torch.as_tensor(directions), normalize=True, normalization="component")
    return np.asarray(harmonics.numpy().mean(axis=0), dtype=np.float64)


def invariant_projector(elements: Array, irrep: Irrep) -> Array:
    """The projector on the (l, p) tensors that a group leaves alone."""
    return np.asarray(wigner_matrices(elements, irrep.l, 1 if irrep.parity == 1 else -1).mean(axis=0))
