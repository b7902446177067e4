"""Dipole, polarizability and Born charges: derivatives of the energy by an electric field.

With E(x, ε) in eV and the field ε in V/Å, Cartesian in the structure's axes:

    μ = −∂E/∂ε                         e Å      a molecule's dipole; of a cell V·P, up to e times lattice vectors
    α_ab = −∂²E/∂ε_a∂ε_b               e Å²/V
    Z_i,ab = ∂F_ib/∂ε_a = ∂μ_a/∂x_ib   e        ΣZ = 0 exactly, as energies depend on differences of positions

The electronic dielectric tensor is ε∞ = 1 + α/(ε₀V), at fixed macroscopic field (R. W. Nunes and X. Gonze, Phys.
Rev. B 63, 155107 (2001)).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.constants import e, epsilon_0
from torch import Tensor

from mlip.derivatives import Evaluation, divergence, evaluate_edges, require_gradient_forces
from mlip.errors import InputError
from mlip.graph import AtomicGraph
from mlip.potential import Potential

VACUUM_PERMITTIVITY = epsilon_0 / e * 1e-10  # e/(V Å), from C/(V m)


@dataclass(frozen=True)
class FieldResponse:
    """An energy's derivatives by the field, beside those by the positions.

    Attributes:
        evaluation: Energy, forces, stress.
        dipole: (B, 3), −∂E/∂ε, e Å.
        polarizability: (B, 3, 3), −∂²E/∂ε∂ε, e Å²/V; None unless asked.
        born_charges: (N, 3, 3), ∂F_ib/∂ε_a at [i, a, b], e; None unless asked.
    """

    evaluation: Evaluation
    dipole: Tensor
    polarizability: Tensor | None = None
    born_charges: Tensor | None = None

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Those of one structure that were computed, float64."""
        found = {
            "dipole": self.dipole[0],
            "polarizability": None if self.polarizability is None else self.polarizability[0],
            "born_charges": self.born_charges,
        }
        there = {name: value for name, value in found.items() if value is not None}
        return {name: value.detach().cpu().double().numpy() for name, value in there.items()}


def field_response(
    potential: Potential, graph: AtomicGraph, *, second: bool = True, stress: bool = False, create_graph: bool = False
) -> FieldResponse:
    """First and, if asked, second derivatives by the field, at the field that the structures are in.

    One first derivative by edges and field; three more, of the dipole's components, give polarizability and Born
    charges at once.

    Args:
        potential: A potential with ``anisotropy: {source: field}``.
        graph: One or several structures.
        second: Whether to compute polarizability and Born charges.
        stress: Whether to compute the stress.
        create_graph: Keep what is needed to differentiate the result by the parameters.

    Raises:
        InputError: The model feels no field, or its forces are not derivatives.
    """
    require_field(potential)
    require_gradient_forces(potential)
    fields = graph.electric_fields
    fields = graph.positions.new_zeros(graph.num_structures, 3) if fields is None else fields
    fields = fields.detach().requires_grad_(True)
    graph = replace(graph, electric_fields=fields)
    edges = graph.edge_vectors().detach().requires_grad_(True)
    with torch.enable_grad():
        atomic = potential(edges, graph)
        edge_forces, slope = _gradients(atomic.sum(), edges, fields, create_graph or second)
        dipole = -slope
        rows = [_gradients(dipole[:, a].sum(), edges, fields, create_graph, keep=True) for a in range(3 * second)]
    found = evaluate_edges(atomic, edges, edge_forces, graph, stress=stress, create_graph=create_graph)
    response = FieldResponse(found, dipole if create_graph else dipole.detach())
    if not second:
        return response
    charges = torch.stack([divergence(by_edge, graph) for by_edge, _ in rows], 1)
    return replace(response, polarizability=torch.stack([by_field for _, by_field in rows], 1), born_charges=charges)


def _gradients(
    value: Tensor, edges: Tensor, fields: Tensor, create_graph: bool, *, keep: bool = False
) -> tuple[Tensor, Tensor]:
    by_edge, by_field = torch.autograd.grad(
        value, [edges, fields], create_graph=create_graph, retain_graph=True if keep else None, materialize_grads=True
    )
    return by_edge, by_field


def require_field(potential: Potential) -> None:
    """Refuse a model that feels no field.

    Raises:
        InputError: It has no port for one.
    """
    anisotropy = potential.settings.anisotropy
    if anisotropy is None or anisotropy.source != "field":
        raise InputError(
            "this model feels no electric field: it has no dipole, no Born charges",
            key="model.anisotropy",
            mend="train with anisotropy: {source: field} and a loss on polarization, born_charges or polarizability",
        )


def dielectric_tensor(polarizability: NDArray[np.float64], volume: float) -> NDArray[np.float64]:
    """ε∞ = 1 + α/(ε₀V), from α in e Å²/V (3, 3) and V in Å³."""
    return np.asarray(np.eye(3) + polarizability / (VACUUM_PERMITTIVITY * volume))


def modulo_quantum(difference: Tensor, cells: Tensor) -> Tensor:
    """A difference of two dipoles of a cell, the shortest up to e times lattice vectors.

    Args:
        difference: (B, 3), e Å.
        cells: (B, 3, 3), rows, Å; directions of length zero are not periodic and add no quantum.

    Returns:
        (B, 3), e Å; the whole numbers taken off carry no gradient.
    """
    fractions = torch.einsum("bi,bij->bj", difference.detach(), torch.linalg.pinv(cells))
    return difference - torch.einsum("bi,bij->bj", fractions.round(), cells)
