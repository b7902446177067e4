"""Second derivatives by strain: pure functions of a potential and a graph.

A symmetric strain takes every edge vector d to (1 + ε)·d, and displacements u move atoms in the strained crystal:
d_e = (1 + ε)·d_e + u_src − u_dst. That is linear in both, so one second derivative δf of the energy by the edges,
seeded with the change d ↦ ε·d, serves both tensors: ∂²E/∂u∂ε is its divergence, ∂²E/∂ε∂ε is Σ d ⊗ δf.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mlip.derivatives import HessianOperator, divergence
from mlip.errors import InputError
from mlip.graph import AtomicGraph
from mlip.potential import Potential

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))  # xx yy zz yz xz xy


@dataclass(frozen=True)
class StrainDerivatives:
    """Second derivatives of one crystal's energy by symmetric strain, the atoms carried along.

    Attributes:
        mixed: (N, 3, 3, 3), ∂²E/∂u_ia ∂ε_cd, eV/Å; minus the forces that a strain calls forth.
        strain: (3, 3, 3, 3), ∂²E/∂ε_ab ∂ε_cd, eV.
    """

    mixed: Tensor
    strain: Tensor


def strain_derivatives(potential: Potential, graph: AtomicGraph) -> StrainDerivatives:
    """∂²E/∂u∂ε and ∂²E/∂ε∂ε, exactly: six seeds over one kept first derivative.

    Args:
        potential: The potential.
        graph: One crystal; use float64.

    Returns:
        Both tensors, as they come; nothing is symmetrised.

    Raises:
        InputError: The graph holds more than one structure, or has no cell.
    """
    if graph.num_structures != 1 or float(graph.volumes.min()) <= 0:
        raise InputError("strain derivatives need one crystal with a cell")
    operator = HessianOperator(potential, graph)
    edges = operator.edges.detach()
    changes = [edges @ basis for basis in voigt_basis(edges)]
    responses = [operator.edge_response(change) for change in changes]
    mixed = torch.stack([divergence(response, graph) for response in responses], -1)
    strain = torch.stack([torch.stack([(c * r).sum() for r in responses]) for c in changes])
    return StrainDerivatives(_full(mixed), _full(_full(strain).movedim(0, -1)).movedim((2, 3), (0, 1)))


def voigt_basis(like: Tensor) -> Tensor:
    """(6, 3, 3), the symmetric strains of unit engineering strain: 1 on the diagonal, ½ twice off it."""
    basis = like.new_zeros(6, 3, 3)
    for v, (a, b) in enumerate(VOIGT):
        basis[v, a, b] += 0.5
        basis[v, b, a] += 0.5
    return basis


def _full(voigt: Tensor) -> Tensor:
    """(…, 6) → (…, 3, 3): derivatives by engineering strain are those by the symmetric tensor's elements."""
    index = torch.tensor([[0, 5, 4], [5, 1, 3], [4, 3, 2]], device=voigt.device)
    return voigt[..., index]


def internal_response(hessian: Tensor, mixed: Tensor) -> Tensor:
    """How the atoms follow a strain: ∂u/∂ε = −Φ⁺ ∂²E/∂u∂ε, the crystal's translations held.

    Args:
        hessian: (3N, 3N), eV/Å², at vanishing forces.
        mixed: (N, 3, 3, 3), eV/Å.

    Returns:
        (N, 3, 3, 3), Å per unit strain, on top of the homogeneous strain.

    Raises:
        InputError: A displacement other than a translation costs no energy, so that nothing says where atoms go.
    """
    values, vectors = torch.linalg.eigh((hessian + hessian.t()) / 2)
    free = values.abs() > 1e-9 * values.abs().max()
    if hessian.shape[0] > 3 and int((~free).sum()) > 3:
        raise InputError("atoms can move at no cost in energy: the internal relaxation under strain is undefined")
    if not bool(free.any()) or hessian.shape[0] <= 3:
        return torch.zeros_like(mixed)
    rest = vectors[:, free]
    flat = mixed.reshape(hessian.shape[0], 9)
    return -(rest @ ((rest.t() @ flat) / values[free].unsqueeze(1))).reshape(mixed.shape)
