"""From features to what is asked for: a number, or a vector, per node."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mlip.nn.features import EdgeContext, Features
from mlip.nn.linear import SILU_GAIN, Linear, RadialNetwork, SpeciesLinear, gate, normal, silu

_HALF = 1 / math.sqrt(2)


class ScalarReadout(nn.Module):
    """Last messages and scalars → one number per node."""

    def __init__(self, num_species: int, messages: int, scalars: int, rng: torch.Generator) -> None:
        super().__init__()
        self.linear = Linear(messages, scalars, rng)
        self.connect = SpeciesLinear(num_species, scalars, scalars, rng)
        self.hidden = Linear(scalars, scalars, rng)
        self.last = Linear(scalars, 1, rng)

    def forward(self, messages: Tensor, scalars: Tensor, one_hot: Tensor) -> Tensor:
        """(N, messages), (N, scalars) → (N,)."""
        total = (self.linear(messages) + self.connect(scalars, one_hot)) * (1 / math.sqrt(2))
        return self.last(silu(self.hidden(silu(total)))).squeeze(1)


class VectorReadout(nn.Module):
    """Node features → one polar vector per node: direct forces, or the noise that a structure was given.

    Two parts: the node's own l = 1 features, opened by its scalars; and one more interaction, in which each edge
    contributes along itself, by an amount that both ends' scalars, the source's tensors along the edge and the
    distance decide. A lone atom gets zero.

    Args:
        lmax: Highest degree of the features.
        scalars: Channels of scalars.
        tensors: Channels of tensors, 0 when the features have none.
        width: Hidden radial features.
        depth: Layers of the radial network.
        rng: Source of the initial weights.
    """

    def __init__(self, lmax: int, scalars: int, tensors: int, width: int, depth: int, rng: torch.Generator) -> None:
        super().__init__()
        along = lmax * tensors
        self.source, self.target = (Linear(scalars, scalars, rng, gain=_HALF) for _ in range(2))
        self.radial = RadialNetwork(width, depth, [scalars, *([along] if along else [])], rng)
        self.from_scalars = Linear(scalars, scalars, rng)
        self.from_tensors = Linear(along, scalars, rng) if along else None
        self.last = Linear(scalars, 1, rng, gain=SILU_GAIN)
        self.gates = Linear(scalars, tensors, rng) if along else None
        self.vector = normal(rng, tensors, 1) if along else None
        self.scale = 1 / math.sqrt(max(tensors, 1))

    def forward(self, features: Features, edges: EdgeContext) -> Tensor:
        """Features with l = 1 in e3nn's order (x, y, z) → (N, 3)."""
        message = self._along_edges(features, edges) * (edges.weight * edges.geometry.direction)
        total = edges.exchange.collect(message) * math.sqrt(3)
        if features.tensors is None or self.gates is None or self.vector is None:
            return total
        vectors = features.tensors.split([3, features.tensors.shape[1] - 3], 1)[0]
        opened = vectors * gate(self.gates(features.scalars)).unsqueeze(1)
        return total + torch.matmul(opened, self.vector * self.scale).squeeze(2)

    def _along_edges(self, features: Features, edges: EdgeContext) -> Tensor:
        """(E, 1), what each edge contributes along itself."""
        exchange, harmonics = edges.exchange, edges.geometry.harmonics
        scales = self.radial(edges.radial)
        both = exchange.gather(self.source(features.scalars)) + exchange.receive(self.target(features.scalars))
        mixed = self.from_scalars(both * scales[0])
        if self.from_tensors is not None and features.tensors is not None and harmonics is not None:
            along = exchange.gather_turned(harmonics, features.tensors).flatten(1)
            mixed = self.from_tensors.add_to(mixed, along * scales[1]) * _HALF
        return self.last(nn.functional.silu(mixed))
