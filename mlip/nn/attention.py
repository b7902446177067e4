"""Equivariant graph attention (EquiformerV2, 2306.12059) that is smooth, conservative and exactly O(3).

What is different from the publication, and why: the softmax is enveloped and has a null mass, so that atoms may come
and go at the cutoff; features are typed by η, so that inversion holds; nothing is detached, so that forces are
gradients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mlip.exchange import Exchange
from mlip.nn.activation import FrameGate, FrameSphereSquare
from mlip.nn.attention_weights import AttentionLogits, EnvelopedMean, EnvelopedSoftmax, NoLogits, PlainLogits
from mlip.nn.constants import Constants
from mlip.nn.features import EdgeContext, Features, present
from mlip.nn.frame_linear import FrameChannels, FrameLinear, FrameRows, natural_rows, pseudo_rows
from mlip.nn.geometry import EdgeGeometry
from mlip.nn.layout import degree_of_rows
from mlip.nn.linear import DegreeLinear, Linear, RadialNetwork
from mlip.settings import ModelSettings

_HALF = 1 / math.sqrt(2)


@dataclass(frozen=True)
class AttentionShape:
    """Sizes that the parts of an attention share.

    Attributes:
        lmax: Highest degree.
        mmax: Highest order carried in the edge frame.
        heads: Attention heads.
        scalars: Channels of scalars.
        tensors: Channels of tensors.
        pseudo_in: Channels of pseudo features that arrive, 0 for none.
        pseudo_out: Channels of pseudo features that leave, 0 for none.
    """

    lmax: int
    mmax: int
    heads: int
    scalars: int
    tensors: int
    pseudo_in: int
    pseudo_out: int

    @property
    def scalars_per_head(self) -> int:
        """Scalar channels of a head's value."""
        return max(1, self.scalars // self.heads)

    @property
    def tensors_per_head(self) -> int:
        """Tensor channels of a head's value."""
        return max(1, self.tensors // self.heads)

    def frame(self, geometry: EdgeGeometry) -> Tensor:
        """The rotation of natural tensors to the edge frame: spherical harmonics where m = 0 is all that matters."""
        return present(geometry.harmonics if self.mmax == 0 else geometry.to_frame)


class BothEnds(nn.Module):
    """Source and target features, each through a linear map of its own, added at the edge, in the edge's frame."""

    def __init__(self, shape: AttentionShape, rng: torch.Generator) -> None:
        super().__init__()
        self.shape = shape
        self.source, self.target = (Linear(shape.scalars, shape.scalars, rng, gain=_HALF) for _ in range(2))
        self.tensor_source, self.tensor_target = (_same_channels(shape.lmax, shape.tensors, rng) for _ in range(2))
        self.pseudo_source, self.pseudo_target = (
            _same_channels(shape.lmax, shape.pseudo_in, rng, lmin=0) for _ in range(2)
        )

    def forward(self, features: Features, edges: EdgeContext) -> FrameRows:
        """Features of the nodes → features of the edges."""
        shape, exchange = self.shape, edges.exchange
        scalars = _sum_of_ends(exchange, self.source, self.target, features.scalars)
        if self.tensor_source is None or self.tensor_target is None:
            return FrameRows(scalars)
        tensors = _sum_of_ends(exchange, self.tensor_source, self.tensor_target, present(features.tensors))
        natural = natural_rows(torch.bmm(shape.frame(edges.geometry), tensors), shape.lmax, shape.mmax)
        if self.pseudo_source is None or self.pseudo_target is None:
            return FrameRows(scalars, natural)
        pseudo = _sum_of_ends(exchange, self.pseudo_source, self.pseudo_target, present(features.pseudo))
        in_frame = torch.bmm(present(edges.geometry.pseudo_to_frame), pseudo)
        zero, *orders = pseudo_rows(in_frame, shape.lmax, shape.mmax)
        return FrameRows(scalars, natural, tuple(orders), zero)


def _sum_of_ends(exchange: Exchange, source: nn.Module, target: nn.Module, x: Tensor) -> Tensor:
    return exchange.gather(source(x)) + exchange.receive(target(x))


class HeadSum(nn.Module):
    """Values of the edges, weighted head by head, rotated back, summed at the targets, and the heads mixed.

    Args:
        shape: Sizes.
        tensors: Whether tensors leave.
        gain: Size of the result before anything is learnt.
        rng: Source of the initial weights.
    """

    def __init__(self, shape: AttentionShape, *, tensors: bool, gain: float, rng: torch.Generator) -> None:
        super().__init__()
        self.shape = shape
        width, tensor_width = shape.heads * shape.scalars_per_head, shape.heads * shape.tensors_per_head
        self.out = Linear(width, shape.scalars, rng, gain=gain)
        self.tensor_out = DegreeLinear(shape.lmax, tensor_width, shape.tensors, rng, gain=gain) if tensors else None
        self.pseudo_out = None
        if shape.pseudo_out:
            self.pseudo_out = DegreeLinear(shape.lmax, tensor_width, shape.pseudo_out, rng, lmin=0, gain=gain)
        self.constants = Constants(
            natural=_truncation_scale(shape.lmax, shape.mmax, 1), pseudo=_truncation_scale(shape.lmax, shape.mmax, 0)
        )

    def forward(self, values: FrameRows, weights: Tensor, edges: EdgeContext) -> Features:
        """Rows of the edges and weights (E, heads) → features of the nodes."""
        collect, turned, shape = edges.exchange.collect, edges.exchange.collect_turned, self.shape
        scalars = self.out(collect(values.scalars * _per_channel(weights, shape.scalars_per_head)))
        if self.tensor_out is None:
            return Features(scalars)
        spread = _per_channel(weights, shape.tensors_per_head)
        back = shape.frame(edges.geometry).transpose(1, 2)
        tensors = turned(back, _weighted(values.natural, spread)) * self.constants.natural
        if self.pseudo_out is None:
            return Features(scalars, self.tensor_out(tensors))
        pseudo = self._pseudo_back(values, spread, edges) * self.constants.pseudo
        return Features(scalars, self.tensor_out(tensors), self.pseudo_out(pseudo))

    def _pseudo_back(self, values: FrameRows, spread: Tensor, edges: EdgeContext) -> Tensor:
        """Sums of weighted pseudo rows in the lab frame; m = 0 exists only where pseudo features came in."""
        rows = values.pseudo if values.pseudo_zero is None else (values.pseudo_zero, *values.pseudo)
        back = present(edges.geometry.pseudo_to_frame).transpose(1, 2)
        return edges.exchange.collect_turned(back, _weighted(rows, spread))


class GraphAttention(nn.Module):
    """Normalised node features → what attention sends to each node.

    Both ends' features in the edge's frame, scaled by the radial network and mixed; from that logits, and after an
    activation and a second mix values; their weighted sum over the heads.

    Args:
        settings: What the network is.
        pseudo_in: Channels of pseudo features that arrive, 0 for none.
        pseudo_out: Channels of pseudo features that leave, 0 for none.
        last: Whether only scalars leave: then m = 0 is all that matters.
        avg_num_neighbors: Mean neighbours of an atom in the training data.
        message_scale: Size of the result before anything is learnt.
        rng: Source of the initial weights.
    """

    def __init__(
        self,
        settings: ModelSettings,
        *,
        pseudo_in: int,
        pseudo_out: int,
        last: bool,
        avg_num_neighbors: float,
        message_scale: float,
        rng: torch.Generator,
    ) -> None:
        super().__init__()
        s = settings
        (scalars, tensors), lmax = s.num_channels, s.lmax
        mmax = 0 if last else min(lmax, lmax if s.mmax is None else s.mmax)
        shape = AttentionShape(lmax, mmax, s.num_heads, scalars, tensors, 0 if last else pseudo_in, pseudo_out)
        hidden_pseudo = tensors if s.parity and mmax > 0 else 0
        self.ends = BothEnds(shape, rng)
        self.activation = _activation(s, mmax, hidden_pseudo, pseudo_zero=bool(shape.pseudo_in))
        self.logits, self.softmax = _weights(s, avg_num_neighbors, rng)
        self.scalar_sizes = [self.logits.width, scalars + self.activation.extra]
        arriving = FrameChannels(scalars, tensors, shape.pseudo_in)
        hidden = FrameChannels(sum(self.scalar_sizes), tensors, hidden_pseudo)
        self.first = FrameLinear(lmax, arriving, hidden, rng, mmax=mmax)
        activated = FrameChannels(scalars, tensors, hidden_pseudo, pseudo_zero=self.first.has_pseudo_zero)
        width, tensor_width = s.num_heads * shape.scalars_per_head, s.num_heads * shape.tensors_per_head
        values = FrameChannels(width, tensor_width, tensor_width if pseudo_out else 0)
        self.second = FrameLinear(lmax, activated, values, rng, mmax=mmax, lmax_out=0 if last else None)
        self.radial = RadialNetwork(s.radial_width, s.radial_depth, self.first.scale_sizes, rng)
        self.drop = nn.Dropout(s.attention_dropout)
        self.sum = HeadSum(shape, tensors=lmax > 0 and not last, gain=message_scale, rng=rng)

    def forward(self, features: Features, edges: EdgeContext) -> Features:
        """The sum at each node; zero for a node without neighbours."""
        mixed = self.first.mix(self.ends(features, edges), self.radial(edges.radial))
        logits, scalars = mixed.scalars.split(self.scalar_sizes, 1)
        weights = self.drop(self.softmax(self.logits(logits), edges))
        values = self.second.mix(self.activation(replace(mixed, scalars=scalars)))
        return self.sum(values, weights, edges)


def _per_channel(weights: Tensor, channels: int) -> Tensor:
    """(E, heads) → (E, heads·channels): each head's weight for its channels."""
    return weights.unsqueeze(2).expand(-1, -1, channels).flatten(1)


def _weighted(rows: tuple[Tensor, ...], weights: Tensor) -> Tensor:
    """(E, rows·C) and (E, C) → (E, rows, C)."""
    return torch.cat(rows, 1).unflatten(1, (-1, weights.shape[1])) * weights.unsqueeze(1)


def _same_channels(lmax: int, channels: int, rng: torch.Generator, lmin: int = 1) -> DegreeLinear | None:
    """From channels to as many, halving the variance; None where there is nothing to map."""
    return DegreeLinear(lmax, channels, channels, rng, lmin=lmin, gain=_HALF) if lmax and channels else None


def _weights(
    s: ModelSettings, neighbors: float, rng: torch.Generator
) -> tuple[PlainLogits | NoLogits, EnvelopedSoftmax | EnvelopedMean]:
    """Logits and what makes weights of them."""
    if s.attention == "sum":
        return NoLogits(), EnvelopedMean(s.num_heads, neighbors)
    kind = AttentionLogits if s.attention == "renormalised" else PlainLogits
    return kind(s.num_heads, s.attention_channels, rng), EnvelopedSoftmax(s.num_heads)


def _activation(s: ModelSettings, mmax: int, pseudo: int, *, pseudo_zero: bool) -> FrameGate | FrameSphereSquare:
    scalars, tensors = s.num_channels
    if s.activation == "s2_product":
        return FrameSphereSquare(s.lmax, mmax, scalars, tensors, pseudo, pseudo_zero=pseudo_zero)
    return FrameGate(s.lmax, scalars, tensors, pseudo, pseudo_zero=pseudo_zero)


def _truncation_scale(lmax: int, mmax: int, lmin: int) -> Tensor:
    """(rows, 1): unit variance per component although only 2·mmax + 1 of 2l + 1 orders are filled."""
    degrees = degree_of_rows(lmax, lmin) + lmin
    filled = 2 * degrees.clamp(max=mmax) + 1
    return torch.sqrt((2 * degrees + 1).double() / filled).view(-1, 1)
