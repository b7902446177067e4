"""Derivatives of H(q) by the wavevector and by strain, exactly and without a second crystal.

A Bloch wave v gives the curvature s = Re v† H(q) v, one H·v on the cell. It depends on q only through the phases
θ_e = 2π q·S_e of the edges and on the crystal's shape only through the edge vectors d_e. One more backward pass
gives ∂s/∂θ_e and t_e = ∂s/∂d_e, and with them

    ds/dk = Σ_e ∂s/∂θ_e · S_e h                        wavevector k, positions fixed
    ds/dε = Σ_e t_e ⊗ d_e                              homogeneous strain, d → (1 + ε) d, q fixed in fractions
    ds/dx_i = Σ_{src=i} t_e − Σ_{dst=i} t_e            moving the sublattice of atom i

What atoms do while the crystal is strained is ẋ = −Φ⁺ ∂²E/∂x∂ε, with Φ the Hessian at Γ (`mlip.strain`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mlip.bloch import FirstPass
from mlip.derivatives import divergence
from mlip.errors import InputError
from mlip.exchange import Bloch
from mlip.graph import AtomicGraph, batch_graphs
from mlip.potential import Potential


@dataclass(frozen=True)
class WaveDerivatives:
    """The curvature s = Re v† H(q) v of some Bloch waves, and its first derivatives.

    Attributes:
        curvature: (m,), eV/Å² times |v|².
        by_wavevector: (m, 3), ds/dk for k in rad/Å, Cartesian.
        by_strain: (m, 3, 3), ds/dε_ab of v_a → v_a + ε_ab v_b with atoms carried along.
        by_position: (m, n, 3), ds/dx of each sublattice.
    """

    curvature: Tensor
    by_wavevector: Tensor
    by_strain: Tensor
    by_position: Tensor


class BlochDerivatives:
    """Derivatives of curvatures of Bloch waves on one crystal.

    Waves are worked through in groups, each wave on its own copy of the graph, so that one backward pass serves
    the group; the first derivative is computed once and kept.

    Args:
        potential: The potential.
        graph: One crystal.
        max_edges: Waves per group: as many as keep the copies' edges below this, at least one.

    Raises:
        InputError: The graph holds more than one structure.
    """

    def __init__(self, potential: Potential, graph: AtomicGraph, *, max_edges: int = 4_000) -> None:
        if graph.num_structures != 1:
            raise InputError("derivatives of D(q) need one crystal at a time")
        self.potential, self.cell = potential, graph
        self.group = max(1, max_edges // max(1, 2 * graph.num_edges))
        self._passes: dict[int, FirstPass] = {}

    def __call__(self, q: Tensor, waves: Tensor) -> WaveDerivatives:
        """Curvatures and their derivatives.

        Args:
            q: (m, 3), the wavevector of each wave, in fractions of the cell's reciprocal vectors.
            waves: (m, n, 3) complex, u_jR = v_j exp(iq·R): no phase within the cell.
        """
        parts = [self._some(*some) for some in zip(q.split(self.group), waves.split(self.group), strict=True)]
        names = WaveDerivatives.__dataclass_fields__
        return WaveDerivatives(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})

    def _some(self, q: Tensor, waves: Tensor) -> WaveDerivatives:
        count, cell = len(q), self.cell
        first = self._kept_pass(count)
        theta = (2 * math.pi * (q @ cell.shifts.t())).requires_grad_(True)
        with torch.enable_grad():
            curvature = _curvatures(first, theta.flatten(), waves)
            by_phase, by_edge = torch.autograd.grad(
                curvature.sum(), [theta, first.edges], retain_graph=True, materialize_grads=True
            )
        tension = by_edge.view(2, count, -1, 3).sum(0)
        edges = cell.edge_vectors()
        return WaveDerivatives(
            curvature=curvature.detach(),
            by_wavevector=by_phase @ (cell.shifts @ cell.cells[0]),
            by_strain=torch.einsum("mea,eb->mab", tension, edges),
            by_position=torch.stack([divergence(one, cell) for one in tension]),
        )

    def _kept_pass(self, count: int) -> FirstPass:
        if count not in self._passes:
            self._passes[count] = FirstPass(self.potential, batch_graphs([self.cell] * count), 2)
        return self._passes[count]


def _curvatures(first: FirstPass, theta: Tensor, waves: Tensor) -> Tensor:
    """Curvature of each wave (m,), with everything kept that its derivatives need."""
    phases = Bloch()
    phases.cosine, phases.sine = torch.cos(theta), torch.sin(theta)
    parts = torch.cat([waves.real.flatten(0, 1), waves.imag.flatten(0, 1)])  # real copies above imaginary ones
    change = first.change(parts, phases)
    first.bloch.cosine, first.bloch.sine = phases.cosine, phases.sine
    try:
        (second,) = torch.autograd.grad(first.edge_forces, first.edges, change, create_graph=True)
    finally:
        first.bloch.cosine = first.bloch.sine = None
    # s = Σ_e Re (change_e)† δf_e: the divergence is the adjoint of the change.
    return (change * second).sum(1).view(2, len(waves), -1).sum((0, 2))
