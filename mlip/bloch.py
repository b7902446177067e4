"""H(q) and D(q) of a crystal at any wavevector, exactly, from its own cell.

A displacement wave u_jR = e_j exp(iq·R) makes Bloch waves of every hidden feature, so H(q)·e is one H·v on the cell
whose edges are seeded with the wave and whose exchange of features carries the phases (`mlip.exchange`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mlip.derivatives import first_derivative, require_gradient_forces
from mlip.errors import InputError
from mlip.exchange import Bloch, PhasedExchange
from mlip.graph import AtomicGraph, batch_graphs
from mlip.potential import Potential


class BlochHessian:
    """H(q) of a crystal from its own cell, at any wavevector, exactly.

    A displacement wave u_jR = e_j exp(iq·R) turns every hidden feature into a Bloch wave, so one H·v on the cell
    gives H(q)·e once the exchange of features carries the phases. Two copies of the graph hold real and
    imaginary parts; one suffices where every phase is ±1. The first derivative is the same for every q and
    column: it is computed once per number of copies and kept. Several q of a small cell are worked through side
    by side, each on copies of its own, as small matrices waste a processor.

    Args:
        potential: The potential.
        graph: One crystal.
        create_graph: Keep what is needed to differentiate H(q) by the parameters.
        max_edges: As many q side by side as keep the copies' edges below this, at least one.

    Raises:
        InputError: The graph holds more than one structure, or the forces of the model are not derivatives.
    """

    def __init__(
        self,
        potential: Potential,
        graph: AtomicGraph,
        *,
        create_graph: bool = False,
        max_edges: int = 3_000,
    ) -> None:
        require_gradient_forces(potential)
        if graph.num_structures != 1:
            raise InputError("D(q) needs one crystal at a time")
        self.potential, self.cell_graph, self.create_graph = potential, graph, create_graph
        self.max_edges = max_edges
        self._passes: dict[tuple[int, int], FirstPass] = {}

    def __call__(self, q: Tensor) -> Tensor:
        """(3,), in fractions of the cell's reciprocal vectors → H(q), (3n, 3n) complex, eV/Å², no basis phase."""
        return self.many(q.unsqueeze(0))[0]

    def many(self, q: Tensor) -> Tensor:
        """(nq, 3) → (nq, 3n, 3n)."""
        size = 3 * self.cell_graph.num_atoms
        real = torch.tensor([_all_real(theta) for theta in self._theta(q)], dtype=torch.bool, device=q.device)
        result = q.new_zeros((len(q), size, size)).to(q.dtype.to_complex())
        for copies, chosen in ((1, real.nonzero()[:, 0]), (2, (~real).nonzero()[:, 0])):
            for some in self._groups(chosen, copies):
                result = result.index_copy(0, some, self._columns(q[some], copies))
        return result

    def _groups(self, chosen: Tensor, copies: int) -> tuple[Tensor, ...]:
        side_by_side = max(1, self.max_edges // max(1, copies * self.cell_graph.num_edges))
        return chosen.split(side_by_side) if len(chosen) else ()

    def _columns(self, q: Tensor, copies: int) -> Tensor:
        theta = self._theta(q).flatten()
        return self._pass(len(q), copies).columns(theta, len(q), self.create_graph)

    def _theta(self, q: Tensor) -> Tensor:
        """(nq, 3) → (nq, E), the phase of each edge."""
        return 2 * math.pi * (q @ self.cell_graph.shifts.t())

    def product(self, q: Tensor, vector: Tensor) -> Tensor:
        """H(q)·v for one wave: what a full H(q) would cost, divided by its number of columns.

        Args:
            q: (3,), in fractions of the cell's reciprocal vectors.
            vector: (n, 3), real or complex.

        Returns:
            (n, 3) complex, eV/Å² times the unit of v, no basis phase.
        """
        theta = self._theta(q.unsqueeze(0))[0]
        return self._pass(1, _copies(theta, vector)).product(theta, vector, self.create_graph)

    def _pass(self, number: int, copies: int) -> FirstPass:
        """The first derivative of ``number`` crystals side by side."""
        if (number, copies) not in self._passes:
            graph = batch_graphs([self.cell_graph] * number)
            self._passes[number, copies] = FirstPass(self.potential, graph, copies)
        return self._passes[number, copies]


def bloch_hessian_vector_product(
    potential: Potential, graph: AtomicGraph, q: Tensor, vector: Tensor, *, create_graph: bool = False
) -> Tensor:
    """H(q)·v of several crystals at once, each at a wavevector of its own, from their cells alone.

    Args:
        potential: The potential.
        graph: One or several crystals; a molecule is one with q = 0.
        q: (B, 3), in fractions of each cell's reciprocal vectors.
        vector: (N, 3), complex, or real where every q is time-reversal invariant (then half the cost).
        create_graph: Keep what is needed to differentiate the result by the parameters; the last pass is plain.

    Returns:
        (N, 3) complex, eV/Å² times the unit of ``vector``, no basis phase.
    """
    theta = 2 * math.pi * (graph.shifts * q.index_select(0, graph.edge_structure)).sum(1)
    first = FirstPass(potential, graph, _copies(theta, vector))
    return first.product(theta, vector, create_graph)


def _copies(theta: Tensor, vector: Tensor) -> int:
    """Copies of the graph that H(q)·v needs: one where every phase is ±1 and v is real."""
    return 2 if vector.is_complex() or not _all_real(theta) else 1


def _all_real(theta: Tensor) -> bool:
    """Whether every phase is ±1, to the precision of the wavevectors."""
    limit = max(1e-12, 100 * torch.finfo(theta.dtype).eps)
    return theta.numel() == 0 or float(torch.sin(theta).abs().max()) < limit


class FirstPass:
    """∂E/∂d on one or two copies of a graph, through a phased exchange; seeded later with waves.

    Args:
        potential: The potential.
        cell: A crystal, or several side by side, each with a wave of its own.
        copies: 2 for real and imaginary parts, 1 where every phase is ±1.

    Raises:
        InputError: The forces of the potential are not derivatives.
    """

    def __init__(self, potential: Potential, cell: AtomicGraph, copies: int) -> None:
        require_gradient_forces(potential)
        self.cell, self.copies, self.bloch = cell, copies, Bloch()
        self.graph = batch_graphs([cell] * copies)
        nodes = self.graph.num_atoms + potential.num_lone_atoms(self.graph)
        exchange = PhasedExchange(self.graph.source, self.graph.target, nodes, self.bloch)
        self.edges = self.graph.edge_vectors().detach().requires_grad_(True)
        with torch.enable_grad():
            atomic = potential(self.edges, self.graph, exchange)
            self.edge_forces = first_derivative(atomic, self.edges, True)

    def columns(self, theta: Tensor, number: int, create_graph: bool) -> Tensor:
        """H(q) of ``number`` equal crystals, each at its q, (number, 3n, 3n) complex."""
        n = self.cell.num_atoms // number
        basis = torch.eye(3 * n, dtype=theta.dtype, device=theta.device).view(3 * n, n, 3)
        rows = self._products(theta, basis.repeat(1, number, 1), create_graph)
        return rows.view(3 * n, number, 3 * n).permute(1, 2, 0)

    def product(self, theta: Tensor, vector: Tensor, create_graph: bool) -> Tensor:
        """H(q)·v, (n, 3) → (n, 3) complex."""
        return self._products(theta, vector.unsqueeze(0), create_graph)[0]

    def _products(self, theta: Tensor, vectors: Tensor, create_graph: bool) -> Tensor:
        """H(q)·v of each of (k, n, 3) vectors, complex."""
        waves = Bloch()
        waves.cosine, waves.sine = torch.cos(theta), torch.sin(theta) if self.copies == 2 else None
        seeds = torch.stack([self._seed(vector, waves) for vector in vectors])
        self.bloch.cosine, self.bloch.sine = waves.cosine, waves.sine
        try:
            second = self._second_pass(seeds, create_graph)
        finally:
            self.bloch.cosine = self.bloch.sine = None
        rows = torch.stack([self._divergence(column, waves) for column in second])
        real, imaginary = rows.chunk(2, 1) if self.copies == 2 else (rows, torch.zeros_like(rows))
        return torch.complex(real, imaginary)

    def _seed(self, vector: Tensor, waves: Bloch) -> Tensor:
        """The change of the edges under a wave."""
        return self.change(self._parts(vector), waves)

    def change(self, nodes: Tensor, waves: Bloch) -> Tensor:
        """Change of the edges under a wave, real parts above imaginary ones: exp(iθ)·v_src − v_dst."""
        sent = waves.rotate(nodes.index_select(0, self.graph.source), +1.0)
        return sent - nodes.index_select(0, self.graph.target)

    def _parts(self, vector: Tensor) -> Tensor:
        """Real part above imaginary part where there are two copies."""
        if self.copies == 1:
            return vector
        if vector.is_complex():
            return torch.cat([vector.real, vector.imag])
        return torch.cat([vector, torch.zeros_like(vector)])

    def _divergence(self, second: Tensor, waves: Bloch) -> Tensor:
        """(H v)_i = Σ_{src=i} exp(−iθ) δf − Σ_{dst=i} δf."""
        zeros = second.new_zeros(self.graph.num_atoms, 3)
        received = zeros.index_add(0, self.graph.source, waves.rotate(second, -1.0))
        return received.index_add(0, self.graph.target, second, alpha=-1)

    def _second_pass(self, seeds: Tensor, create_graph: bool) -> Tensor:
        """One walk of the kept graph per seed; a batched one (vmap) is slower from a few hundred edges on."""
        if self.graph.num_edges == 0:
            return torch.zeros_like(seeds)
        options = {"retain_graph": True, "create_graph": create_graph}
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
    matrices = BlochHessian(potential, graph).many(q)
    fractional = torch.linalg.solve(graph.cells[0].t(), graph.positions.t()).t()
    return torch.stack([mass_weighted(h, fractional @ row, masses) for h, row in zip(matrices, q, strict=True)])


def mass_weighted(bloch_hessian: Tensor, phases: Tensor, masses: Tensor) -> Tensor:
    """H(q) → D(q), with basis phases 2π·``phases`` (n,) and masses (n,) in amu."""
    angle = (2 * math.pi * phases).repeat_interleave(3)
    inverse = masses.rsqrt().repeat_interleave(3)
    factor = torch.polar(inverse, angle)
    return factor.conj().unsqueeze(1) * bloch_hessian * factor.unsqueeze(0)
