"""How features travel between atoms: one gather from the sources, one sum at the targets.

The layers are handed an ``Exchange`` and know nothing else of the graph. ``PhasedExchange`` is how the
derivatives obtain D(q): a displacement wave u_jR = e_j exp(iq·R) makes Bloch waves of every hidden feature, so
its tangent picks up exp(+iq·S) wherever a feature crosses S cells on its way to the target, and exp(−iq·S) on
the way back; everything else in the network acts within one cell.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Exchange:
    """Plain exchange within one graph.

    Rows travel flat: torch copies contiguous ones far faster than the transposed blocks that linear maps leave.

    Args:
        source: (E,), sending node of each edge.
        target: (E,), receiving node of each edge.
        num_nodes: Nodes in the graph.
    """

    def __init__(self, source: Tensor, target: Tensor, num_nodes: int) -> None:
        self.source, self.target, self.num_nodes = source, target, num_nodes

    def gather(self, nodes: Tensor) -> Tensor:
        """(N, …) → (E, …): what each edge's source sends."""
        return nodes.flatten(1).index_select(0, self.source).unflatten(1, nodes.shape[1:])

    def receive(self, nodes: Tensor) -> Tensor:
        """(N, …) → (E, …): what each edge's target holds. Target and edge are in one cell: no phase, ever."""
        return nodes.flatten(1).index_select(0, self.target).unflatten(1, nodes.shape[1:])

    def gather_turned(self, matrix: Tensor, nodes: Tensor) -> Tensor:
        """(E, R, D) and (N, D, C) → (E, R, C): what each edge's source sends, in the frame of the edge."""
        return torch.bmm(matrix, self.gather(nodes))

    def collect_turned(self, matrix: Tensor, messages: Tensor) -> Tensor:
        """(E, D, R) and (E, R, C) → (N, D, C): the sum of what arrives at each target, turned back.

        Messages with fewer rows lack the first ones, those of m = 0.
        """
        lacking = matrix.shape[2] - messages.shape[1]
        if lacking:  # else a split would cost a copy on the way back
            matrix = matrix.split([lacking, messages.shape[1]], 2)[1]
        return self.collect(torch.bmm(matrix, messages))

    def largest(self, messages: Tensor) -> Tensor:
        """(E, C) → (N, C): the largest of zero and what arrives at each target; carries no gradient."""
        index = self.target.unsqueeze(1).expand_as(messages)
        zeros = messages.new_zeros(self.num_nodes, messages.shape[1])
        return zeros.scatter_reduce(0, index, messages.detach(), "amax")

    def collect(self, messages: Tensor) -> Tensor:
        """(E, …) → (N, …): the sum of what arrives at each target."""
        flat = messages.flatten(1)
        total = flat.new_zeros(self.num_nodes, flat.shape[1]).index_add(0, self.target, flat)
        return total.unflatten(1, messages.shape[1:])


class Bloch:
    """The phases of one wavevector, and whether tangents are travelling now.

    Attributes:
        cosine: (E,), cos 2πq·S of each edge of one copy of the graph, or None while no tangent travels.
        sine: (E,), sin 2πq·S, or None at wavevectors where every phase is ±1 and one copy suffices.
    """

    cosine: Tensor | None = None
    sine: Tensor | None = None

    def rotate(self, edges: Tensor, sign: float) -> Tensor:
        """Multiply (2E, …), real parts above imaginary ones, by exp(± iθ); (E, …) by cos θ when θ is 0 or π."""
        if self.cosine is None:
            return edges
        shape = (-1,) + (1,) * (edges.dim() - 1)
        cosine = self.cosine.view(shape)
        if self.sine is None:
            return edges * cosine
        sine = sign * self.sine.view(shape)
        real, imaginary = edges.chunk(2)
        return torch.cat([cosine * real - sine * imaginary, sine * real + cosine * imaginary])


class PhasedExchange(Exchange):
    """Exchange whose gather multiplies tangents by Bloch phases while ``bloch`` holds a wavevector."""

    def __init__(self, source: Tensor, target: Tensor, num_nodes: int, bloch: Bloch) -> None:
        super().__init__(source, target, num_nodes)
        self.bloch = bloch

    def gather(self, nodes: Tensor) -> Tensor:
        """(N, …) → (E, …); the value is plain, the tangent phased."""
        return _Gather.apply(nodes, self.source, self.num_nodes, self.bloch)


def _spread(edges: Tensor, source: Tensor, num_nodes: int) -> Tensor:
    return edges.new_zeros((num_nodes, *edges.shape[1:])).index_add(0, source, edges)


class _Gather(torch.autograd.Function):
    """index_select whose transpose, in the pass that carries tangents, is multiplied by exp(−iθ)."""

    @staticmethod
    def forward(ctx: Any, nodes: Tensor, source: Tensor, num_nodes: int, bloch: Bloch) -> Tensor:
        ctx.source, ctx.num_nodes, ctx.bloch = source, num_nodes, bloch
        return nodes.index_select(0, source)

    @staticmethod
    def backward(ctx: Any, edges: Tensor) -> tuple[Tensor, None, None, None]:
        phased = ctx.bloch.rotate(edges, -1.0)
        if not torch.is_grad_enabled():  # last pass: plain tensors, which may be batched over columns
            return _spread(phased, ctx.source, ctx.num_nodes), None, None, None
        return _Spread.apply(phased, ctx.source, ctx.num_nodes, ctx.bloch), None, None, None


class _Spread(torch.autograd.Function):
    """Transpose of the gather; the tangent of its own argument returns with exp(+iθ)."""

    @staticmethod
    def forward(ctx: Any, edges: Tensor, source: Tensor, num_nodes: int, bloch: Bloch) -> Tensor:
        ctx.source, ctx.num_nodes, ctx.bloch = source, num_nodes, bloch
        return _spread(edges, source, num_nodes)

    @staticmethod
    def backward(ctx: Any, nodes: Tensor) -> tuple[Tensor, None, None, None]:
        if torch.is_grad_enabled():
            edges = _Gather.apply(nodes, ctx.source, ctx.num_nodes, ctx.bloch)
        else:
            edges = nodes.index_select(0, ctx.source)
        return ctx.bloch.rotate(edges, +1.0), None, None, None


__all__ = ["Bloch", "Exchange", "PhasedExchange"]
