"""Linear mixing (eSCN, EquiformerV2): radial scales on the inputs, then one channel-mixing GEMM per m.

The matrices are those of `mlip.nn.frame_linear`, shared with the attention.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mlip.nn.features import EdgeContext, EdgeMix, Features, present
from mlip.nn.frame_linear import FrameChannels, FrameLinear, FrameRows, natural_rows, pseudo_rows
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
        return Features(collected, edges.exchange.collect_turned(edges.harmonics_back, in_frame))


class FinalLinearMix(EdgeMix):
    """Last layer: everything in; only m = 0 → l = 0 is needed.

    A linear map of scalars is the same for all edges, so it acts on their sum: once per node.
    """

    def __init__(self, lmax: int, scalars: int, tensors: int, width: int, depth: int, rng: torch.Generator) -> None:
        super().__init__()
        self.lmax, self.out_scalars = lmax, scalars
        sizes = [scalars] + ([lmax * tensors] if lmax else [])
        self.radial = RadialNetwork(width, depth, sizes, rng)
        self.from_scalars = Linear(scalars, scalars, rng)
        self.from_tensors = Linear(lmax * tensors, scalars, rng) if lmax else None

    def forward(self, features: Features, edges: EdgeContext) -> Features:
        """Features of the nodes → the summed scalars at each node."""
        gather, collect = edges.exchange.gather, edges.exchange.collect
        scales = self.radial(edges.radial)
        mixed = self.from_scalars(collect(gather(features.scalars) * scales[0] * edges.weight))
        if self.from_tensors is not None and edges.harmonics_back is not None:
            along_edges = edges.harmonics_back.transpose(1, 2)
            along = edges.exchange.gather_turned(along_edges, present(features.tensors)).flatten(1)
            mixed = self.from_tensors.add_to(mixed, collect(along * scales[1])) * _HALF
        return Features(mixed)


class LinearMix(FrameLinear, EdgeMix):
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
        inputs, outputs = FrameChannels(scalars, tensors, pseudo_in), FrameChannels(scalars, tensors, pseudo_out)
        super().__init__(lmax, inputs, outputs, rng, mmax=lmax)
        self.lmax, self.out_scalars, self.tensors, self.pseudo_out = lmax, scalars, tensors, pseudo_out
        self.radial = RadialNetwork(width, depth, self.scale_sizes, rng)

    def forward(self, features: Features, edges: EdgeContext) -> Features:
        """Features of the nodes → the sum of the messages at each node."""
        scales = self.radial(edges.radial)
        mixed = self.mix(self._to_edge(features, edges), scales)
        collected = edges.exchange.collect(mixed.scalars * edges.weight)
        rows = torch.cat(mixed.natural, 1).unflatten(1, (-1, self.tensors))
        back = edges.exchange.collect_turned(present(edges.from_frame), rows)
        return Features(collected, back, self._pseudo_back(mixed, edges))

    def _to_edge(self, features: Features, edges: EdgeContext) -> FrameRows:
        """What the sources send, in the edge frame."""
        scalars = edges.exchange.gather(features.scalars)
        sent = edges.exchange.gather_turned(present(edges.geometry.to_frame), present(features.tensors))
        natural = natural_rows(sent, self.lmax, self.lmax)
        if not self.inputs.pseudo:
            return FrameRows(scalars, natural)
        sent = edges.exchange.gather_turned(present(edges.geometry.pseudo_to_frame), present(features.pseudo))
        zero, *pseudo = pseudo_rows(sent, self.lmax, self.lmax)
        return FrameRows(scalars, natural, tuple(pseudo), zero)

    def _pseudo_back(self, mixed: FrameRows, edges: EdgeContext) -> Tensor | None:
        """Pseudo rows back to the lab frame; m = 0 exists only where pseudo features came in."""
        if not self.pseudo_out:
            return None
        back = present(edges.pseudo_from_frame)
        rows = mixed.pseudo if mixed.pseudo_zero is None else (mixed.pseudo_zero, *mixed.pseudo)
        return edges.exchange.collect_turned(back, torch.cat(rows, 1).unflatten(1, (-1, self.pseudo_out)))
