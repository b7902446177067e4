"""Energy, forces, stress, Hessian, H·v and D(q): pure functions of a potential and a graph.

Edge vectors d_e = x_src + S·h − x_dst are the leaves. One derivative f = ∂E/∂d serves everything:
F_i = Σ_{dst=i} f − Σ_{src=i} f, stress = sym(Σ d ⊗ f)/V; a second one, seeded with the change of the edges,
gives H·v; seeded with Bloch waves and with a phased exchange of features, D(q) on the primitive cell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mlip.errors import InputError
from mlip.exchange import Bloch, PhasedExchange
from mlip.graph import AtomicGraph, batch_graphs
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
        edge_forces: (E, 3), ∂E/∂d, eV/Å; None where only direct forces were computed.
        output: What the network said of the nodes, for further readouts; None unless ``create_graph``.
    """

    energy: Tensor
    atomic_energies: Tensor
    forces: Tensor
    stress: Tensor | None
    edge_forces: Tensor | None
    output: NetworkOutput | None = None


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
            edge_forces = _first_derivative(atomic, edges, create_graph)
        forces = _forces(direct, edge_forces, graph)
    energy = atomic.new_zeros(graph.num_structures).index_add(0, graph.structure, atomic)
    return Evaluation(
        energy if create_graph else energy.detach(),
        atomic if create_graph else atomic.detach(),
        forces if create_graph else forces.detach(),
        _stress(edges.detach(), edge_forces, graph) if stress and edge_forces is not None else None,
        edge_forces,
        output if create_graph else None,
    )


def _forces(direct: Tensor | None, edge_forces: Tensor | None, graph: AtomicGraph) -> Tensor:
    """Those of the second readout where there is one, else −dE/dx."""
    if direct is not None:
        return direct
    if edge_forces is None:
        raise RuntimeError("neither direct forces nor a derivative of the energy were computed")
    return -divergence(edge_forces, graph)


def _require_gradient_forces(potential: Potential) -> None:
    """Second derivatives of an energy that the forces do not belong to would be those of another model."""
    if potential.settings.forces == "direct":
        raise InputError(
            "the forces of this model are a direct readout, not −dE/dx: it has no Hessian, no phonons",
            key="model.forces",
            mend="train with forces: gradient",
        )


def _first_derivative(atomic: Tensor, edges: Tensor, create_graph: bool) -> Tensor:
    if edges.shape[0] == 0:
        return torch.zeros_like(edges)
    return torch.autograd.grad(atomic.sum(), edges, create_graph=create_graph)[0]


def divergence(edge_values: Tensor, graph: AtomicGraph) -> Tensor:
    """Derivative by edge vectors → derivative by positions: Σ_{src=i} − Σ_{dst=i}, (E, 3) → (N, 3)."""
    zeros = edge_values.new_zeros(graph.num_atoms, edge_values.shape[1])
    return zeros.index_add(0, graph.source, edge_values).index_add(0, graph.target, edge_values, alpha=-1)


def _stress(edges: Tensor, edge_forces: Tensor, graph: AtomicGraph) -> Tensor:
    """sym(Σ d ⊗ f)/V, (B, 3, 3)."""
    outer = edges.unsqueeze(2) * edge_forces.unsqueeze(1)
    virial = outer.new_zeros(graph.num_structures, 3, 3).index_add(0, graph.edge_structure, outer)
    volume = graph.volumes.view(-1, 1, 1)
    symmetric = (virial + virial.transpose(1, 2)) / 2
    return torch.where(volume > 0, symmetric / volume.clamp(min=1e-12), torch.zeros_like(symmetric))


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
        _require_gradient_forces(potential)
        self.graph, self.create_graph = graph, create_graph
        self.edges = graph.edge_vectors().detach().requires_grad_(True)
        with torch.enable_grad():
            atomic = potential(self.edges, graph)
            self.edge_forces = _first_derivative(atomic, self.edges, True)

    def __call__(self, vector: Tensor) -> Tensor:
        """(N, 3) → H·v, (N, 3), eV/Å² times the unit of v."""
        if self.edges.shape[0] == 0:
            return torch.zeros_like(vector)
        change = vector.index_select(0, self.graph.source) - vector.index_select(0, self.graph.target)
        (second,) = torch.autograd.grad(
            self.edge_forces, self.edges, change, retain_graph=True, create_graph=self.create_graph
        )
        return divergence(second, self.graph)


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


def hessian(potential: Potential, graph: AtomicGraph) -> Tensor:
    """All second derivatives by the positions, (3N, 3N), row 3i+a, eV/Å².

    The graph of the first derivative is kept and walked once per column; nothing is symmetrised.
    """
    operator = HessianOperator(potential, graph)
    size = 3 * graph.num_atoms
    identity = torch.eye(size, dtype=graph.positions.dtype, device=graph.positions.device)
    return torch.stack([operator(row.view(-1, 3)).flatten() for row in identity], 1)


class BlochHessian:
    """H(q) of a crystal from its own cell, at any wavevector, exactly.

    A displacement wave u_jR = e_j exp(iq·R) turns every hidden feature into a Bloch wave, so one H·v on the cell
    gives H(q)·e once the exchange of features carries the phases. Two copies of the graph hold real and
    imaginary parts; one suffices where every phase is ±1. The first derivative is the same for every q and
    column: it is computed once per number of copies and kept.

    Args:
        potential: The potential.
        graph: One crystal.
        create_graph: Keep what is needed to differentiate H(q) by the parameters.
        max_batch_floats: Columns are batched while edges × columns stay below this, else walked one by one.

    Raises:
        InputError: The graph holds more than one structure, or the forces of the model are not derivatives.
    """

    def __init__(
        self,
        potential: Potential,
        graph: AtomicGraph,
        *,
        create_graph: bool = False,
        max_batch_floats: int = 20_000,
    ) -> None:
        _require_gradient_forces(potential)
        if graph.num_structures != 1:
            raise InputError("D(q) needs one crystal at a time")
        self.potential, self.cell_graph, self.create_graph = potential, graph, create_graph
        self.max_batch_floats = max_batch_floats
        self._passes: dict[int, _FirstPass] = {}

    def __call__(self, q: Tensor) -> Tensor:
        """(3,), in fractions of the cell's reciprocal vectors → H(q), (3n, 3n) complex, eV/Å², no basis phase."""
        theta = 2 * math.pi * (self.cell_graph.shifts @ q)
        copies = 1 if float(torch.sin(theta).abs().max() if theta.numel() else 0.0) < 1e-12 else 2
        if copies not in self._passes:
            self._passes[copies] = _FirstPass(self.potential, self.cell_graph, copies)
        return self._passes[copies].columns(theta, self.create_graph, self.max_batch_floats)


class _FirstPass:
    """∂E/∂d on one or two copies of the graph, through a phased exchange; seeded later with waves."""

    def __init__(self, potential: Potential, cell: AtomicGraph, copies: int) -> None:
        self.cell, self.copies, self.bloch = cell, copies, Bloch()
        self.graph = batch_graphs([cell] * copies)
        nodes = self.graph.num_atoms + len(potential.species)
        exchange = PhasedExchange(self.graph.source, self.graph.target, nodes, self.bloch)
        self.edges = self.graph.edge_vectors().detach().requires_grad_(True)
        with torch.enable_grad():
            atomic = potential(self.edges, self.graph, exchange)
            self.edge_forces = _first_derivative(atomic, self.edges, True)

    def columns(self, theta: Tensor, create_graph: bool, max_batch_floats: int) -> Tensor:
        """H(q), (3n, 3n) complex."""
        n = self.cell.num_atoms
        basis = torch.eye(3 * n, dtype=theta.dtype, device=theta.device).view(3 * n, n, 3)
        waves = Bloch()
        waves.cosine, waves.sine = torch.cos(theta), torch.sin(theta) if self.copies == 2 else None
        seeds = torch.stack([self._seed(column, waves) for column in basis])
        self.bloch.cosine, self.bloch.sine = waves.cosine, waves.sine
        try:
            second = self._second_pass(seeds, create_graph, max_batch_floats)
        finally:
            self.bloch.cosine = self.bloch.sine = None
        rows = torch.stack([self._divergence(column, waves) for column in second])
        real = rows[:, :n].flatten(1)
        imaginary = rows[:, n:].flatten(1) if self.copies == 2 else torch.zeros_like(real)
        return torch.complex(real, imaginary).t()

    def _seed(self, column: Tensor, waves: Bloch) -> Tensor:
        """Change of the edges under the wave: exp(iθ)·v_src − v_dst."""
        both = torch.cat([column, torch.zeros_like(column)]) if self.copies == 2 else column
        sent = waves.rotate(both.index_select(0, self.graph.source), +1.0)
        return sent - both.index_select(0, self.graph.target)

    def _divergence(self, second: Tensor, waves: Bloch) -> Tensor:
        """(H v)_i = Σ_{src=i} exp(−iθ) δf − Σ_{dst=i} δf."""
        zeros = second.new_zeros(self.graph.num_atoms, 3)
        received = zeros.index_add(0, self.graph.source, waves.rotate(second, -1.0))
        return received.index_add(0, self.graph.target, second, alpha=-1)

    def _second_pass(self, seeds: Tensor, create_graph: bool, max_batch_floats: int) -> Tensor:
        options = {"retain_graph": True, "create_graph": create_graph}
        batched = not create_graph and self.graph.num_edges * len(seeds) <= max_batch_floats
        if batched:
            (second,) = torch.autograd.grad(self.edge_forces, self.edges, seeds, is_grads_batched=True, **options)
            return second
        return torch.stack([torch.autograd.grad(self.edge_forces, self.edges, seed, **options)[0] for seed in seeds])


def dynamical_matrix(potential: Potential, graph: AtomicGraph, q: Tensor, masses: Tensor) -> Tensor:
    """D(q) in phonopy's convention: (m_j m_k)^−½ exp(−iq·r_j) H(q)_jk exp(+iq·r_k).

    Args:
        potential: The potential.
        graph: One crystal; use float64.
        q: (nq, 3), in fractions of the cell's reciprocal vectors.
        masses: (n,), amu.

    Returns:
        (nq, 3n, 3n) complex, eV/Å²/amu.

    Raises:
        InputError: The graph holds more than one structure, or has no cell.
    """
    if float(graph.volumes.min()) <= 0:
        raise InputError("D(q) needs a crystal with a cell")
    operator = BlochHessian(potential, graph)
    fractional = torch.linalg.solve(graph.cells[0].t(), graph.positions.t()).t()
    return torch.stack([mass_weighted(operator(row), fractional @ row, masses) for row in q])


def mass_weighted(bloch_hessian: Tensor, phases: Tensor, masses: Tensor) -> Tensor:
    """H(q) → D(q), with basis phases 2π·``phases`` (n,) and masses (n,) in amu."""
    angle = (2 * math.pi * phases).repeat_interleave(3)
    inverse = masses.rsqrt().repeat_interleave(3)
    factor = torch.polar(inverse, angle)
    return factor.conj().unsqueeze(1) * bloch_hessian * factor.unsqueeze(0)
