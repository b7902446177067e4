"""Energy, forces, stress, Hessian and H·v: pure functions of a potential and a graph.

Edge vectors d_e = x_src + S·h − x_dst are the leaves. One derivative f = ∂E/∂d serves everything:
F_i = Σ_{dst=i} f − Σ_{src=i} f, stress = sym(Σ f ⊗ d)/V; a second one, seeded with the change of the edges,
gives H·v; seeded with Bloch waves and with a phased exchange of features, D(q) on the primitive cell (`mlip.bloch`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mlip.errors import InputError
from mlip.graph import AtomicGraph
from mlip.nn.features import Features
from mlip.nn.network import NetworkOutput
from mlip.potential import Potential


@dataclass(frozen=True)
class Evaluation:
    """What one first derivative gives.

    Attributes:
        energy: (B,), eV, float64.
        atomic_energies: (N,), eV, float64.
        forces: (N, 3), eV/Å: −dE/dx, or those of the direct readout where the model has one.
        stress: (B, 3, 3), eV/Å³ in ASE's sign, symmetric; zero for a structure without volume; None unless asked.
            Always the derivative of the energy.
        full_stress: (B, 3, 3), the same, not symmetrised: dE/dh_ab / V of v_a → v_a + h_ab v_b in a fixed laboratory.
            Its antisymmetric part is a torque per volume, zero for a strict model.
    """

    energy: Tensor
    atomic_energies: Tensor
    forces: Tensor
    stress: Tensor | None
    edge_forces: Tensor | None
    output: NetworkOutput | None = None
    full_stress: Tensor | None = None


def evaluate(
    potential: Potential,
    graph: AtomicGraph,
    *,
    stress: bool = False,
    create_graph: bool = False,
    node_input: Features | None = None,
) -> Evaluation:
    """Energy and its first derivatives.

    Args:
        potential: The potential.
        graph: One or several structures.
        stress: Whether to compute the stress.
        create_graph: Keep what is needed to differentiate the result by the parameters (training).
        node_input: Features of all nodes, lone atoms included, that an auxiliary task adds to the network's own.

    Returns:
        Energies, forces and, if asked, stress.
    """
    edges = graph.edge_vectors().detach().requires_grad_(True)
    differentiate = stress or potential.settings.forces == "gradient"
    edge_forces = None
    with torch.set_grad_enabled(differentiate or create_graph):
        output = potential.features(edges, graph, node_input=node_input)
        atomic = potential.energies(output, edges, graph)
        direct = potential.direct_forces(output, graph)
        if differentiate:
            edge_forces = first_derivative(atomic, edges, create_graph)
        evaluation = evaluate_edges(
            atomic, edges, edge_forces, graph, stress=stress, create_graph=create_graph, direct=direct
        )
    return replace(evaluation, output=output) if create_graph else evaluation


def evaluate_edges(
    atomic: Tensor,
    edges: Tensor,
    edge_forces: Tensor | None,
    graph: AtomicGraph,
    *,
    stress: bool,
    create_graph: bool,
    direct: Tensor | None = None,
) -> Evaluation:
    """Energy, forces and stress from energies of the atoms and their derivative by the edges."""
    forces = _forces(direct, edge_forces, graph)
    energy = atomic.new_zeros(graph.num_structures).index_add(0, graph.structure, atomic)
    full = _full_stress(edges.detach(), edge_forces, graph) if stress and edge_forces is not None else None
    return Evaluation(
        energy if create_graph else energy.detach(),
        atomic if create_graph else atomic.detach(),
        forces if create_graph else forces.detach(),
        None if full is None else (full + full.transpose(1, 2)) / 2,
        edge_forces,
        full_stress=full,
    )


def _forces(direct: Tensor | None, edge_forces: Tensor | None, graph: AtomicGraph) -> Tensor:
    """Those of the second readout where there is one, else −dE/dx."""
    if direct is not None:
        return direct
    if edge_forces is None:
        raise RuntimeError("neither direct forces nor a derivative of the energy were computed")
    return -divergence(edge_forces, graph)


def require_gradient_forces(potential: Potential) -> None:
    """Second derivatives of an energy that the forces do not belong to would be those of another model."""
    if potential.settings.forces == "direct":
        raise InputError(
            "the forces of this model are a direct readout, not −dE/dx: it has no Hessian, no phonons",
            key="model.forces",
            mend="train with forces: gradient",
        )


def first_derivative(atomic: Tensor, edges: Tensor, create_graph: bool) -> Tensor:
    """F = ∂ΣE/∂d, (E, 3), eV/Å; nothing where there is no edge."""
    if edges.shape[0] == 0:
        return torch.zeros_like(edges)
    return torch.autograd.grad(atomic.sum(), edges, create_graph=create_graph)[0]


def divergence(edge_values: Tensor, graph: AtomicGraph) -> Tensor:
    """Derivative by edge vectors → derivative by positions: Σ_{src=i} − Σ_{dst=i}, (E, 3) → (N, 3)."""
    zeros = edge_values.new_zeros(graph.num_atoms, edge_values.shape[1])
    return zeros.index_add(0, graph.source, edge_values).index_add(0, graph.target, edge_values, alpha=-1)


def _full_stress(edges: Tensor, edge_forces: Tensor, graph: AtomicGraph) -> Tensor:
    """Σ f ⊗ d / V, (B, 3, 3); zero for a structure without volume."""
    outer = edge_forces.unsqueeze(2) * edges.unsqueeze(1)
    virial = outer.new_zeros(graph.num_structures, 3, 3).index_add(0, graph.edge_structure, outer)
    volume = graph.volumes.view(-1, 1, 1)
    return torch.where(volume > 0, virial / volume.clamp(min=1e-12), torch.zeros_like(virial))


class HessianOperator:
    """H·v on one graph whose first derivative is computed once and kept.

    Args:
        potential: The potential.
        graph: One or several structures.
        create_graph: Keep what is needed to differentiate H·v by the parameters.

    Raises:
        InputError: The forces of the model are not derivatives.
    """

    def __init__(self, potential: Potential, graph: AtomicGraph, *, create_graph: bool = False) -> None:
        require_gradient_forces(potential)
        self.graph, self.create_graph = graph, create_graph
        self.edges = graph.edge_vectors().detach().requires_grad_(True)
        with torch.enable_grad():
            self._atomic = potential(self.edges, graph)
            self.edge_forces = first_derivative(self._atomic, self.edges, True)

    def evaluation(self, *, stress: bool = False) -> Evaluation:
        """Energy, forces and, if asked, stress: what `evaluate` gives, at no further cost."""
        keep = self.create_graph
        return evaluate_edges(
            self._atomic, self.edges, self.edge_forces, self.graph, stress=stress, create_graph=keep
        )

    def __call__(self, vector: Tensor) -> Tensor:
        """(N, 3) → H·v, (N, 3), eV/Å² times the unit of v."""
        change = vector.index_select(0, self.graph.source) - vector.index_select(0, self.graph.target)
        return divergence(self.edge_response(change), self.graph)

    def edge_response(self, change: Tensor) -> Tensor:
        """(E, 3), any change of the edge vectors → the change of ∂E/∂d, eV/Å² times the unit of the change."""
        if self.edges.shape[0] == 0:
            return torch.zeros_like(change)
        (second,) = torch.autograd.grad(
            self.edge_forces, self.edges, change, retain_graph=True, create_graph=self.create_graph
        )
        return second


def hessian_vector_product(
    potential: Potential, graph: AtomicGraph, vector: Tensor, *, create_graph: bool = False
) -> Tensor:
    """+H·v.

    Args:
        potential: The potential.
        graph: One or several structures; H is then block-diagonal.
        vector: (N, 3).
        create_graph: Keep what is needed to differentiate the result by the parameters.

    Returns:
        (N, 3), eV/Å² times the unit of ``vector``.
    """
    return HessianOperator(potential, graph, create_graph=create_graph)(vector)


def hessian(potential: Potential, graph: AtomicGraph, indices: Sequence[int] | None = None) -> Tensor:
    """Second derivatives by the positions, row 3i+a, eV/Å².

    The graph of the first derivative is kept and walked once per column; nothing is symmetrised.

    Args:
        potential: The potential.
        graph: One or several structures.
        indices: The atoms that count, in the order of rows and columns; None: all. Only their columns are walked.

    Returns:
        (3N, 3N), or the block (3k, 3k) of the k chosen atoms.

    Raises:
        InputError: An index is out of range, or appears twice.
    """
    chosen = list(range(graph.num_atoms)) if indices is None else _checked(indices, graph.num_atoms)
    operator = HessianOperator(potential, graph)
    columns = []
    for atom in chosen:
        for axis in range(3):
            unit = torch.zeros_like(graph.positions)
            unit[atom, axis] = 1.0
            columns.append(operator(unit)[chosen].flatten())
    return torch.stack(columns, 1) if columns else graph.positions.new_zeros(0, 0)


def _checked(indices: Sequence[int], num_atoms: int) -> list[int]:
    chosen = [int(i) for i in indices]
    wrong = [i for i in chosen if not 0 <= i < num_atoms]
    if wrong:
        raise InputError(f"no atom {wrong[0]} among {num_atoms}", key="indices")
    if len(set(chosen)) < len(chosen):
        raise InputError("an atom appears twice", key="indices")
    return chosen
