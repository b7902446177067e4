"""What a node does with its own features: a hidden layer of each degree, opened by its scalars."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlip.nn.activation import SphereSquare
from mlip.nn.features import Features, present
from mlip.nn.layout import degree_of_rows
from mlip.nn.linear import DegreeLinear, Linear, gate, silu
from mlip.nn.node import NodeSquare
from mlip.settings import ModelSettings

Row = tuple[int, int]
_GAIN = 0.5  # a branch starts smaller than the stream that it joins


def _rows(lmax: int) -> list[Row]:
    return [(l, m) for l in range(lmax + 1) for m in range(-l, l + 1)]


class NodeGate(nn.Module):
    """Gates at the nodes, one per degree and channel; ``extra`` scalars feed them."""

    degrees: Tensor
    pseudo_degrees: Tensor

    def __init__(self, lmax: int, tensors: int, pseudo: int) -> None:
        super().__init__()
        self.gates, self.channels = [lmax * tensors, (lmax + 1) * pseudo if lmax else 0], [tensors, pseudo]
        self.extra = sum(self.gates)
        self.register_buffer("degrees", degree_of_rows(lmax), persistent=False)
        self.register_buffer("pseudo_degrees", degree_of_rows(lmax, 0), persistent=False)

    def forward(self, extra: Tensor, tensors: Tensor, pseudo: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The opened tensors and pseudo features."""
        natural, odd = gate(extra).split(self.gates, 1)
        tensors = tensors * self._opened(natural, self.channels[0], self.degrees)
        if pseudo is not None:
            pseudo = pseudo * self._opened(odd, self.channels[1], self.pseudo_degrees)
        return tensors, pseudo

    @staticmethod
    def _opened(gates: Tensor, channels: int, degrees: Tensor) -> Tensor:
        return gates.unflatten(1, (-1, channels)).index_select(1, degrees)


class NodeSphereSquare(nn.Module):
    """``SphereSquare`` at the nodes; ``extra`` scalars are the l = 0 part of the functions."""

    def __init__(self, lmax: int, tensors: int, pseudo: int) -> None:
        super().__init__()
        self.extra = tensors
        self.product = SphereSquare(lmax, _rows(lmax), _rows(lmax) if pseudo else [], folded=False)
        self.sizes = [1, (lmax + 1) ** 2 - 1]

    def forward(self, extra: Tensor, tensors: Tensor, pseudo: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The activated tensors and pseudo features."""
        natural, odd = self.product(torch.cat([extra.unsqueeze(1), tensors], 1), pseudo)
        return natural.split(self.sizes, 1)[1], odd


class FeedForward(nn.Module):
    """Linear map of each degree, activation, linear map; with ``node_square`` a self-product of the tensors.

    Args:
        settings: What the network is.
        pseudo: Channels of pseudo features, 0 for none.
        rng: Source of the initial weights.
    """

    def __init__(self, settings: ModelSettings, *, pseudo: int, rng: torch.Generator) -> None:
        super().__init__()
        scalars, tensors = settings.num_channels
        lmax = settings.lmax
        self.activation = _activation(settings, pseudo) if lmax else None
        extra = 0 if self.activation is None else self.activation.extra
        self.sizes = [scalars, extra]
        self.up, self.down = Linear(scalars, scalars + extra, rng), Linear(scalars, scalars, rng, gain=_GAIN)
        self.tensor_up, self.tensor_down = (
            DegreeLinear(lmax, tensors, tensors, rng, gain=gain) if lmax else None for gain in (1.0, _GAIN)
        )
        self.pseudo_up, self.pseudo_down = (
            DegreeLinear(lmax, pseudo, pseudo, rng, lmin=0, gain=gain) if pseudo else None for gain in (1.0, _GAIN)
        )
        self.square = NodeSquare(lmax, tensors, scalars + extra, rng) if settings.node_square and lmax else None

    def forward(self, features: Features) -> Features:
        """The branch's features."""
        hidden = self.up(features.scalars)
        if self.activation is None or self.tensor_up is None or self.tensor_down is None:
            return Features(self.down(silu(hidden)))
        tensors = self.tensor_up(present(features.tensors))
        if self.square is not None:
            more, product = self.square(present(features.tensors))
            hidden, tensors = hidden + more, tensors + product
        value, extra = hidden.split(self.sizes, 1)
        pseudo = None if self.pseudo_up is None else self.pseudo_up(present(features.pseudo))
        tensors, pseudo = self.activation(extra, tensors, pseudo)
        return Features(
            self.down(silu(value)),
            self.tensor_down(tensors),
            None if self.pseudo_down is None or pseudo is None else self.pseudo_down(pseudo),
        )


def _activation(settings: ModelSettings, pseudo: int) -> NodeGate | NodeSphereSquare:
    kind = NodeSphereSquare if settings.activation == "s2_product" else NodeGate
    return kind(settings.lmax, settings.num_channels[1], pseudo)
