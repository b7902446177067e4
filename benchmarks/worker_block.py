"""One attention block on random edges: ours in the edge frame, or the same on e3nn's fully connected tensor product.

The argument is JSON: ``kind`` (edge frame | tensor product), ``lmax``, ``channels``, ``edges``, ``training``. Both
sides share attention, gates, radial network and node maps; what differs is the equivariant linear map, and with it
whether features are rotated. Filters of the tensor product end at lmax, which spans part of what the edge frame does.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
import worker
from e3nn import o3
from torch import Tensor, nn

from mlip.exchange import Exchange
from mlip.nn.attention import GraphAttention
from mlip.nn.features import EdgeContext, Features
from mlip.nn.geometry import Geometry
from mlip.nn.layout import degree_of_rows
from mlip.nn.linear import RadialNetwork, gate, silu
from mlip.settings import ModelSettings, model_settings

CUTOFF, NEIGHBORS = 5.0, 32


class TensorProductAttention(GraphAttention):
    """The attention whose two linear maps are tensor products with the harmonics of the edge."""

    def __init__(self, settings: ModelSettings, rng: torch.Generator) -> None:
        super().__init__(settings, pseudo_in=0, pseudo_out=0, last=False, message_scale=0.25, rng=rng)
        s = settings
        (scalars, tensors), logits = s.num_channels, s.num_heads * s.attention_channels
        self.degrees = degree_of_rows(s.lmax)
        self.dims = [2 * l + 1 for l in range(1, s.lmax + 1)]
        self.tensors, self.extra = tensors, s.lmax * tensors
        harmonics = o3.Irreps.spherical_harmonics(s.lmax)

        def degrees(count: int) -> list[tuple[int, tuple[int, int]]]:
            return [(count, (l, (-1) ** l)) for l in range(1, s.lmax + 1)]

        hidden = o3.Irreps([(scalars, (0, 1)), *degrees(tensors)])
        more = o3.Irreps([(logits + scalars + self.extra, (0, 1)), *degrees(tensors)])
        values = [s.num_heads * size for size in self.per_head]
        out = o3.Irreps([(values[0], (0, 1)), *degrees(values[1])])
        self.first = o3.FullyConnectedTensorProduct(hidden, harmonics, more)
        self.second = o3.FullyConnectedTensorProduct(hidden, harmonics, out)
        self.radial = RadialNetwork(s.radial_width, s.radial_depth, [scalars, self.extra], rng)
        self.widths = [[logits, scalars, self.extra], values]
        self.harmonics = harmonics

    def forward(self, features: Features, edges: EdgeContext) -> Features:
        """The sum at each node."""
        gather, receive = edges.exchange.gather, edges.exchange.receive
        harmonics = o3.spherical_harmonics(
            self.harmonics, edges.geometry.direction, normalize=False, normalization="component"
        )
        scales = self.radial(edges.radial)
        x = (gather(self.source(features.scalars)) + receive(self.target(features.scalars))) * scales[0]
        t = gather(self.tensor_source(features.tensors)) + receive(self.tensor_target(features.tensors))
        t = t * scales[1].unflatten(1, (-1, self.tensors)).index_select(1, self.degrees)
        mixed = self.first(self._packed(x, t), harmonics)
        logits, scalars, extra, *blocks = mixed.split([*self.widths[0], *(d * self.tensors for d in self.dims)], 1)
        gates = gate(extra).split(self.tensors, 1)
        blocks = [
            (b.unflatten(1, (self.tensors, d)) * g.unsqueeze(2)).flatten(1)
            for b, g, d in zip(blocks, gates, self.dims, strict=True)
        ]
        value = self.second(torch.cat([silu(scalars), *blocks], 1), harmonics)
        weights = self.softmax(self.logits(logits), edges)
        return self._summed(value, weights, edges)

    def _packed(self, scalars: Tensor, tensors: Tensor) -> Tensor:
        """Scalars and (E, D, C) → e3nn's order, channels before components."""
        parts = tensors.split(self.dims, 1)
        return torch.cat([scalars, *(part.transpose(1, 2).flatten(1) for part in parts)], 1)

    def _summed(self, value: Tensor, weights: Tensor, edges: EdgeContext) -> Features:
        width = self.widths[1]
        scalars, *blocks = value.split([width[0], *(d * width[1] for d in self.dims)], 1)
        scalars = self.out(edges.exchange.collect(scalars * self._spread(weights, 0)))
        rows = [b.unflatten(1, (width[1], d)).transpose(1, 2) for b, d in zip(blocks, self.dims, strict=True)]
        tensors = torch.cat(rows, 1) * self._spread(weights, 1).unsqueeze(1)
        return Features(scalars, self.tensor_out(edges.exchange.collect(tensors)))


class Case:
    """A block, features of the nodes, and edges between them."""

    def __init__(self, options: dict[str, Any]) -> None:
        rng = torch.Generator().manual_seed(1)
        lmax, channels, edges = options["lmax"], options["channels"], options["edges"]
        nodes = max(2, edges // NEIGHBORS)
        settings = {"architecture": "equiformer", "lmax": lmax, "num_channels": channels, "cutoff": CUTOFF}
        self.settings = model_settings(settings)
        if options["kind"] == "edge frame":
            self.block: nn.Module = GraphAttention(
                self.settings, pseudo_in=0, pseudo_out=0, last=False, message_scale=0.25, rng=rng
            )
        else:
            self.block = TensorProductAttention(self.settings, rng)
        self.geometry = Geometry(lmax, CUTOFF, 8, frames=options["kind"] == "edge frame", pseudo=False)
        self.training = options["training"]
        self.block.requires_grad_(self.training)
        directions = nn.functional.normalize(torch.randn(edges, 3, generator=rng))
        self.vectors = directions * (1.5 + 3 * torch.rand(edges, 1, generator=rng))
        source, target = (torch.randint(nodes, (edges,), generator=rng) for _ in range(2))
        self.exchange = Exchange(source, target, nodes)
        self.radial = torch.randn(edges, self.settings.radial_width, generator=rng)
        dim = (lmax + 1) ** 2 - 1
        self.features = Features(
            torch.randn(nodes, channels, generator=rng), torch.randn(nodes, dim, channels, generator=rng)
        )

    def __call__(self) -> None:
        """A scalar of the block and its gradient by the edges; in training the gradient of that by the weights."""
        vectors = self.vectors.clone().requires_grad_(True)
        out = self.block(self.features, self._context(vectors))
        energy = out.scalars.square().sum() + out.tensors.square().sum()
        (forces,) = torch.autograd.grad(energy, vectors, create_graph=self.training)
        if self.training:
            (energy + forces.square().sum()).backward()
            self.block.zero_grad(set_to_none=True)

    def _context(self, vectors: Tensor) -> EdgeContext:
        geometry = self.geometry(vectors)
        none = torch.zeros(self.exchange.num_nodes, dtype=torch.int64)
        return EdgeContext(
            geometry=geometry,
            radial=self.radial * geometry.basis.sum(1, keepdim=True),
            weight=geometry.envelope,
            harmonics_back=None,
            from_frame=None,
            pseudo_from_frame=None,
            species=none,
            one_hot=torch.ones(len(none), 1, 1),
            structure=none,
            exchange=self.exchange,
        )


def main() -> None:
    case = Case(json.loads(sys.argv[1]))
    parameters = sum(p.numel() for p in case.block.parameters())
    worker.serve(case, {"parameters": parameters}, warm_up=2)


if __name__ == "__main__":
    main()
