"""Linear mixing (eSCN, EquiformerV2): radial scales on the inputs, then one channel-mixing GEMM per m.

In the edge frame an O(3)-equivariant map couples m with m only. Natural and pseudo features are typed: real
weights keep η, imaginary ones change it; with the phase of pseudo features folded into their rotation both are
blocks of one ordinary matrix.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mlip.nn.features import EdgeContext, EdgeMix, Features, present
from mlip.nn.layout import signed_sizes
from mlip.nn.linear import Linear, RadialNetwork

_HALF = 1 / math.sqrt(2)


class ScalarLinearMix(EdgeMix):
    """First layer: scalars in; scalars and, through m = 0, tensors out."""

    def __init__(self, lmax: int, scalars: int, tensors: int, width: int, depth: int, rng: torch.Generator) -> None:
        super().__init__()
        self.lmax, self.channels = lmax, tensors
        self.sizes = [scalars, lmax * tensors]
        self.out_scalars = scalars
        self.radial = RadialNetwork(width, depth, [scalars], rng)
        self.mix = Linear(scalars, sum(self.sizes), rng)
        # A single source fills one of 2l+1 components: scale to unit variance per component.
        scale = torch.tensor([math.sqrt(2 * l + 1) for l in range(1, lmax + 1)]).view(1, -1, 1)
        self.register_buffer("component_scale", scale, persistent=False)

    def forward(self, features: Features, edges: EdgeContext) -> Features:
        """Features of the nodes → the sum of the messages at each node."""
        sent = edges.exchange.gather(features.scalars)
        (scales,) = self.radial(edges.radial)
        scalars, tensors = self.mix(sent * scales).split(self.sizes, 1)
        collected = edges.exchange.collect(scalars * edges.weight)
        if self.lmax == 0 or edges.harmonics_back is None:
            return Features(collected)
        in_frame = tensors.unflatten(1, (self.lmax, self.channels)) * self.component_scale
        return Features(collected, edges.exchange.collect(torch.bmm(edges.harmonics_back, in_frame)))


class FinalLinearMix(EdgeMix):
    """Last layer: everything in; only m = 0 → l = 0 is needed."""

    def __init__(self, lmax: int, scalars: int, tensors: int, width: int, depth: int, rng: torch.Generator) -> None:
        super().__init__()
        self.lmax, self.out_scalars = lmax, scalars
        sizes = [scalars] + ([lmax * tensors] if lmax else [])
        self.radial = RadialNetwork(width, depth, sizes, rng)
        self.from_scalars = Linear(scalars, scalars, rng)
        self.from_tensors = Linear(lmax * tensors, scalars, rng) if lmax else None

    def forward(self, features: Features, edges: EdgeContext) -> Features:
        """Features of the nodes → the summed scalars at each node."""
        scales = self.radial(edges.radial)
        mixed = self.from_scalars(edges.exchange.gather(features.scalars) * scales[0])
        if self.from_tensors is not None and features.tensors is not None and edges.geometry.harmonics is not None:
            sent = edges.exchange.gather(present(features.tensors))
            along = torch.bmm(edges.geometry.harmonics, sent).flatten(1)
            mixed = self.from_tensors.add_to(mixed, along * scales[1]) * _HALF
        return Features(edges.exchange.collect(mixed * edges.weight))


class LinearMix(EdgeMix):
    """Middle layer: all degrees in and out.

    Args:
        lmax: Highest degree.
        scalars: Channels of scalars, in and out.
        tensors: Channels of tensors, in and out.
        pseudo_in: Channels of pseudo features that arrive, 0 for none.
        pseudo_out: Channels of pseudo features that leave, 0 for none.
        width: Hidden radial features.
        depth: Layers of the radial network.
        rng: Source of the initial weights.
    """

    def __init__(
        self,
        lmax: int,
        scalars: int,
        tensors: int,
        pseudo_in: int,
        pseudo_out: int,
        width: int,
        depth: int,
        rng: torch.Generator,
    ) -> None:
        super().__init__()
        self.lmax, self.out_scalars = lmax, scalars
        self.tensors, self.pseudo_in, self.pseudo_out = tensors, pseudo_in, pseudo_out
        self.parts = [rows * tensors for rows in signed_sizes(lmax, 1)]
        self.pseudo_parts = [rows * pseudo_in for rows in signed_sizes(lmax, 0)]
        counts = [lmax + 1 - m for m in range(1, lmax + 1)]
        inputs = [n * (tensors + pseudo_in) for n in counts]
        self.out_sizes = [[n * tensors, n * pseudo_out] for n in counts]
        self.zero_sizes = [scalars, lmax * tensors]

        self.scalar_mix = Linear(scalars, sum(self.zero_sizes), rng, gain=_HALF)
        self.zero_mix = Linear(lmax * tensors, sum(self.zero_sizes), rng, gain=_HALF)
        self.order_mix = nn.ModuleList(Linear(i, sum(o), rng) for i, o in zip(inputs, self.out_sizes, strict=True))
        typed = (lmax + 1) * pseudo_in if pseudo_in and pseudo_out else 0
        self.pseudo_mix = Linear(typed, (lmax + 1) * pseudo_out, rng) if typed else None
        self.radial = RadialNetwork(
            width, depth, [scalars, lmax * tensors, *inputs, *([typed] if typed else [])], rng
        )

    def forward(self, features: Features, edges: EdgeContext) -> Features:
        """Features of the nodes → the sum of the messages at each node."""
        scales = self.radial(edges.radial)
        natural, pseudo = self._to_edge(features, edges)
        zero = self.scalar_mix(edges.exchange.gather(features.scalars) * scales[0])
        zero = self.zero_mix.add_to(zero, natural[0] * scales[1])
        scalars, tensors = zero.split(self.zero_sizes, 1)
        orders = [
            signed for m in range(1, self.lmax + 1) for signed in self._mix_order(m, natural, pseudo, scales[1 + m])
        ]
        collected = edges.exchange.collect(scalars * edges.weight)
        rows = torch.cat([tensors, *(order[0] for order in orders)], 1).unflatten(1, (-1, self.tensors))
        back = edges.exchange.collect(torch.bmm(present(edges.from_frame), rows))
        return Features(collected, back, self._pseudo_back(pseudo, orders, scales, edges))

    def _to_edge(self, features: Features, edges: EdgeContext) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Sent tensors in the edge frame, (E, rows·C) for m = 0, +1, −1, +2 …; pseudo ones likewise, or nothing."""
        sent = torch.bmm(present(edges.geometry.to_frame), edges.exchange.gather(present(features.tensors)))
        natural = sent.flatten(1).split(self.parts, 1)
        if not self.pseudo_in:
            return natural, ()
        sent = torch.bmm(present(edges.geometry.pseudo_to_frame), edges.exchange.gather(present(features.pseudo)))
        return natural, sent.flatten(1).split(self.pseudo_parts, 1)

    def _mix_order(
        self, m: int, natural: tuple[Tensor, ...], pseudo: tuple[Tensor, ...], scales: Tensor
    ) -> list[tuple[Tensor, ...]]:
        """One order m > 0: for +m and for −m the natural and, if any, pseudo rows out, (E, rows·C)."""
        orders = []
        for k in (2 * m - 1, 2 * m):  # two matrices instead of one block: torch is fastest in two dimensions
            signed = torch.cat([natural[k], pseudo[k]], 1) if pseudo else natural[k]
            mixed = self.order_mix[m - 1](signed * scales)
            orders.append(mixed.split(self.out_sizes[m - 1], 1) if self.pseudo_out else (mixed,))
        return orders

    def _pseudo_back(
        self,
        pseudo: tuple[Tensor, ...],
        orders: list[tuple[Tensor, ...]],
        scales: list[Tensor],
        edges: EdgeContext,
    ) -> Tensor | None:
        """Pseudo rows back to the lab frame; m = 0 exists only where pseudo features came in."""
        if not self.pseudo_out:
            return None
        rows, back = [order[1] for order in orders], present(edges.pseudo_from_frame)
        if self.pseudo_mix is None:
            back = back.split([self.lmax + 1, back.shape[2] - self.lmax - 1], 2)[1]
        else:
            rows = [self.pseudo_mix(pseudo[0] * scales[-1]), *rows]
        in_frame = torch.cat(rows, 1).unflatten(1, (-1, self.pseudo_out))
        return edges.exchange.collect(torch.bmm(back, in_frame))
