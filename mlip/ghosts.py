"""Domain decomposition: an exchange that asks the neighbours for the features of ghost atoms.

A domain holds its own atoms and, behind them, ghosts: copies of atoms of other domains (or periodic images of its
own). It computes the edges that end at its own atoms; what a ghost sends along an edge is known to its owner alone.
So every gather first fetches the ghosts' rows from their owners, and its transpose returns the gradients, which the
owners add up. Edge forces are then derivatives of the energy of all domains together.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from mlip.exchange import Exchange


class Communicator(Protocol):
    """What moves rows between domains; LAMMPS's ML-IAP data has these methods."""

    nlocal: int
    ntotal: int

    def forward_exchange(self, source: Any, target: Any, width: int) -> None:
        """Copy own rows, and fill the ghosts' rows of ``target`` with what their owners hold in ``source``."""

    def reverse_exchange(self, source: Any, target: Any, width: int) -> None:
        """Copy own rows, and add to them the ghosts' rows that other domains hold."""


class GhostExchange(Exchange):
    """Exchange within one domain, ghosts filled in before they send.

    All domains must do the same operations in the same order, as each of them is a meeting.

    Args:
        source: (E,), sending node of each edge, own atom or ghost.
        target: (E,), receiving node, an own atom.
        num_nodes: Own atoms, ghosts, and what follows them (lone atoms), which is nobody's ghost.
        communicator: Moves rows between domains.
    """

    def __init__(self, source: Tensor, target: Tensor, num_nodes: int, communicator: Communicator) -> None:
        super().__init__(source, target, num_nodes)
        self.communicator = communicator

    def gather(self, nodes: Tensor) -> Tensor:
        """(N, …) → (E, …): what each edge's source sends."""
        flat: Tensor = _FillGhosts.apply(nodes.flatten(1), self.communicator)
        return flat.index_select(0, self.source).unflatten(1, nodes.shape[1:])


class _FillGhosts(torch.autograd.Function):
    """Rows of ghosts ← rows of their owners; the transpose adds gradients at the owners and leaves ghosts none."""

    @staticmethod
    def forward(ctx: Any, nodes: Tensor, communicator: Communicator) -> Tensor:
        ctx.communicator = communicator
        result = nodes.contiguous().clone()
        total = communicator.ntotal
        communicator.forward_exchange(nodes[:total].contiguous(), result[:total], nodes.shape[1])
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        communicator = ctx.communicator
        result = gradient.contiguous().clone()
        local, total = communicator.nlocal, communicator.ntotal
        communicator.reverse_exchange(gradient[:total].contiguous(), result[:total], gradient.shape[1])
        result[local:total] = 0
        return result, None
