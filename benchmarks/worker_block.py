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
from mlip.nn.attention import GraphAttention, _per_channel
from mlip.nn.features import EdgeContext, Features
from mlip.nn.geometry import Geometry
from mlip.nn.layout import degree_of_rows
from mlip.nn.linear import RadialNetwork, gate, silu
from mlip.settings import ModelSettings, model_settings

CUTOFF, NEIGHBORS = 5.0, 32
OPTIONS: dict[str, Any] = {
    "pseudo_in": 0,
    "pseudo_out": 0,
    "last": False,
    "avg_num_neighbors": NEIGHBORS,
    "message_scale": 0.25,
}


class TensorProductAttention(GraphAttention):
    """The attention whose two linear maps are tensor products with the harmonics of the edge."""

    def __init__(self, settings: ModelSettings, rng: torch.Generator) -> None:
        super().__init__(settings, **OPTIONS, rng=rng)
        s, shape = settings, self.sum.shape
        self.tensors, self.extra = shape.tensors, s.lmax * shape.tensors
        self.degrees = degree_of_rows(s.lmax)
        self.dims = [2 * l + 1 for l in range(1, s.lmax + 1)]
        self.widths = [shape.heads * shape.scalars_per_head, shape.heads * shape.tensors_per_head]
        self.harmonics = o3.Irreps.spherical_harmonics(s.lmax)
        hidden = self._irreps(shape.scalars, shape.tensors)
        more, out = self._irreps(sum(self.scalar_sizes), shape.tensors), self._irreps(*self.widths)
        self.first = o3.FullyConnectedTensorProduct(hidden, self.harmonics, more)
        self.second = o3.FullyConnectedTensorProduct(hidden, self.harmonics, out)
        self.radial = RadialNetwork(s.radial_width, s.radial_depth, [shape.scalars, self.extra], rng)

    def _irreps(self, scalars: int, tensors: int) -> o3.Irreps:
        degrees = [(tensors, (l, (-1) ** l)) for l in range(1, len(self.dims) + 1)]
        return o3.Irreps([(scalars, (0, 1)), *degrees])

    def forward(self, features: Features, edges: EdgeContext) -> Features:
        """The sum at each node."""
        harmonics = o3.spherical_harmonics(
            self.harmonics, edges.geometry.direction, normalize=False, normalization="component"
        )
        mixed = self.first(self._both_ends(features, edges), harmonics)
        sizes = [*self.scalar_sizes, *(d * self.tensors for d in self.dims)]
        logits, scalars, *blocks = mixed.split(sizes, 1)
        value = self.second(self._opened(scalars, blocks), harmonics)
        return self._summed(value, self.softmax(self.logits(logits), edges), edges)

    def _both_ends(self, features: Features, edges: EdgeContext) -> Tensor:
        """Scaled sums of source and target, in e3nn's order: channels before components."""
        ends, (gather, receive) = self.ends, (edges.exchange.gather, edges.exchange.receive)
        scales = self.radial(edges.radial)
        x = (gather(ends.source(features.scalars)) + receive(ends.target(features.scalars))) * scales[0]
        t = gather(ends.tensor_source(features.tensors)) + receive(ends.tensor_target(features.tensors))
        t = t * scales[1].unflatten(1, (-1, self.tensors)).index_select(1, self.degrees)
        return torch.cat([x, *(part.transpose(1, 2).flatten(1) for part in t.split(self.dims, 1))], 1)

    def _opened(self, scalars: Tensor, blocks: list[Tensor]) -> Tensor:
        scalars, extra = scalars.split([scalars.shape[1] - self.extra, self.extra], 1)
        gates = gate(extra).split(self.tensors, 1)
        opened = [
            (b.unflatten(1, (self.tensors, d)) * g.unsqueeze(2)).flatten(1)
            for b, g, d in zip(blocks, gates, self.dims, strict=True)
        ]
        return torch.cat([silu(scalars), *opened], 1)

    def _summed(self, value: Tensor, weights: Tensor, edges: EdgeContext) -> Features:
        shape, (width, tensor_width) = self.sum.shape, self.widths
        scalars, *blocks = value.split([width, *(d * tensor_width for d in self.dims)], 1)
        collected = edges.exchange.collect(scalars * _per_channel(weights, shape.scalars_per_head))
        rows = [b.unflatten(1, (tensor_width, d)).transpose(1, 2) for b, d in zip(blocks, self.dims, strict=True)]
        tensors = torch.cat(rows, 1) * _per_channel(weights, shape.tensors_per_head).unsqueeze(1)
        return Features(self.sum.out(collected), self.sum.tensor_out(edges.exchange.collect(tensors)))


class Case:
    """A block, features of the nodes, and edges between them."""

    def __init__(self, options: dict[str, Any]) -> None:
        rng = torch.Generator().manual_seed(1)
        lmax, channels, edges = options["lmax"], options["channels"], options["edges"]
        nodes = max(2, edges // NEIGHBORS)
        settings = {"architecture": "equiformer", "lmax": lmax, "num_channels": channels, "cutoff": CUTOFF}
        self.settings = model_settings(settings)
        if options["kind"] == "edge frame":
            self.block: nn.Module = GraphAttention(self.settings, **OPTIONS, rng=rng)
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
