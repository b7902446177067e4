"""Linear mixing (eSCN, EquiformerV2): radial scales on the inputs, then one channel-mixing GEMM per m.

In the edge frame an O(3)-equivariant map couples m with m only. Natural and pseudo features are typed: real
weights keep η, imaginary ones change it; with the phase of pseudo features folded into their rotation both are
blocks of one ordinary matrix.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mlip.nn.features import EdgeContext, Features
from mlip.nn.layout import order_sizes
from mlip.nn.linear import Linear, RadialNetwork

_HALF = 1 / math.sqrt(2)


class ScalarLinearMix(nn.Module):
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


class FinalLinearMix(nn.Module):
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
            sent = edges.exchange.gather(features.tensors)
            along = torch.bmm(edges.geometry.harmonics, sent).flatten(1)
            mixed = self.from_tensors.add_to(mixed, along * scales[1]) * _HALF
        return Features(edges.exchange.collect(mixed * edges.weight))


class LinearMix(nn.Module):
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
        self.rows, self.pseudo_rows = order_sizes(lmax, 1, lmax), order_sizes(lmax, 0, lmax)
        counts = [lmax + 1 - m for m in range(1, lmax + 1)]
        inputs = [n * (tensors + pseudo_in) for n in counts]
        self.out_sizes = [[n * tensors, n * pseudo_out] for n in counts]
        self.zero_sizes = [scalars, lmax * tensors]

        self.scalar_mix = Linear(scalars, sum(self.zero_sizes), rng)
        self.zero_mix = Linear(lmax * tensors, sum(self.zero_sizes), rng)
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
        zero = self.zero_mix.add_to(zero, natural[0].flatten(1) * scales[1]) * _HALF
        scalars, tensors = zero.split(self.zero_sizes, 1)
        orders = [self._mix_order(m, natural, pseudo, scales[1 + m]) for m in range(1, self.lmax + 1)]
        collected = edges.exchange.collect(scalars * edges.weight)
        blocks = [tensors.unflatten(1, (self.lmax, self.tensors)), *(order[0] for order in orders)]
        back = edges.exchange.collect(torch.bmm(edges.from_frame, torch.cat(blocks, 1)))
        return Features(collected, back, self._pseudo_back(pseudo, orders, scales, edges))

    def _to_edge(self, features: Features, edges: EdgeContext) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Sent tensors in the edge frame, split by m; pseudo ones likewise, or nothing."""
        sent = torch.bmm(edges.geometry.to_frame, edges.exchange.gather(features.tensors))
        natural = sent.split(self.rows, 1)
        if not self.pseudo_in:
            return natural, ()
        sent = torch.bmm(edges.geometry.pseudo_to_frame, edges.exchange.gather(features.pseudo))
        return natural, sent.split(self.pseudo_rows, 1)

    def _mix_order(
        self, m: int, natural: tuple[Tensor, ...], pseudo: tuple[Tensor, ...], scales: Tensor
    ) -> list[Tensor]:
        """One order m > 0: (E, 2n, C) natural and, if any, pseudo rows out."""
        n = self.lmax + 1 - m
        signed = natural[m].unflatten(1, (2, n)).flatten(2)
        if pseudo:
            signed = torch.cat([signed, pseudo[m].unflatten(1, (2, n)).flatten(2)], 2)
        mixed = self.order_mix[m - 1](signed * scales.unsqueeze(1))
        if not self.pseudo_out:
            return [mixed.reshape(-1, 2 * n, self.tensors)]
        parts = mixed.split(self.out_sizes[m - 1], 2)
        return [
            part.reshape(-1, 2 * n, channels)
            for part, channels in zip(parts, (self.tensors, self.pseudo_out), strict=True)
        ]

    def _pseudo_back(
        self, pseudo: tuple[Tensor, ...], orders: list[list[Tensor]], scales: list[Tensor], edges: EdgeContext
    ) -> Tensor | None:
        """Pseudo rows back to the lab frame; m = 0 exists only where pseudo features came in."""
        if not self.pseudo_out:
            return None
        rows, back = [order[1] for order in orders], edges.pseudo_from_frame
        if self.pseudo_mix is None:
            back = back.split([self.lmax + 1, back.shape[2] - self.lmax - 1], 2)[1]
        else:
            zero = self.pseudo_mix(pseudo[0].flatten(1) * scales[-1])
            rows = [zero.unflatten(1, (self.lmax + 1, self.pseudo_out)), *rows]
        return edges.exchange.collect(torch.bmm(back, torch.cat(rows, 1)))
