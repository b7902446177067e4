"""Equivariant graph attention (EquiformerV2, 2306.12059) that is smooth, conservative and exactly O(3).

What is different from the publication, and why: the softmax is enveloped and has a null mass, so that atoms may come
and go at the cutoff; features are typed by η, so that inversion holds; nothing is detached, so that forces are
gradients.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mlip.nn.activation import FrameGate, FrameSphereSquare
from mlip.nn.constants import Constants
from mlip.nn.features import EdgeContext, Features, present
from mlip.nn.frame_linear import FrameChannels, FrameLinear, FrameRows, natural_rows, pseudo_rows
from mlip.nn.layout import degree_of_rows
from mlip.nn.linear import DegreeLinear, Linear, RadialNetwork, normal
from mlip.settings import ModelSettings

_HALF = 1 / math.sqrt(2)
_EPSILON = 0.01
_SLOPE = 0.2


def smooth_leaky_relu(x: Tensor) -> Tensor:
    """½(1+α)x + ½(1−α)x·(2σ(x) − 1) with α = 0.2."""
    return x * (_SLOPE + (1 - _SLOPE) * torch.sigmoid(x))


class AttentionLogits(nn.Module):
    """Scalars of an edge → one logit per head: LayerNorm (attention re-normalisation), smooth leaky ReLU, sum."""

    def __init__(self, heads: int, channels: int, rng: torch.Generator) -> None:
        super().__init__()
        self.shape = (heads, channels)
        self.gain = nn.Parameter(torch.ones(channels, dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros(channels, dtype=torch.float32))
        self.direction = normal(rng, heads, channels)

    def forward(self, scalars: Tensor) -> Tensor:
        """(E, heads·channels) → (E, heads)."""
        x = scalars.unflatten(1, self.shape)
        x = x - x.mean(2, keepdim=True)
        x = x * torch.rsqrt(x.square().mean(2, keepdim=True) + _EPSILON) * self.gain + self.bias
        return (smooth_leaky_relu(x) * self.direction).sum(2) * (1 / math.sqrt(self.shape[1]))


class EnvelopedSoftmax(nn.Module):
    """a_ij = w_ij² exp(s_ij − m) / (softplus(z₀) exp(−m) + Σ_k w_ik² exp(s_ik − m)), w the envelope.

    The null mass softplus(z₀) lets an atom attend to nobody: weights vanish as the last neighbour leaves, and with
    them all derivatives up to the third. m_i = max(0, max_k s_ik) only keeps the numbers small: because the null
    mass carries exp(−m) as well, the value does not depend on m, which may therefore be detached.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.null = nn.Parameter(torch.zeros(heads, dtype=torch.float32))

    def forward(self, logits: Tensor, edges: EdgeContext) -> Tensor:
        """(E, heads) → (E, heads), at each target a sum below one."""
        exchange = edges.exchange
        largest = exchange.largest(logits)
        mass = edges.geometry.envelope.square() * torch.exp(logits - exchange.receive(largest))
        total = nn.functional.softplus(self.null) * torch.exp(-largest) + exchange.collect(mass)
        return mass * exchange.receive(1 / total)


class GraphAttention(nn.Module):
    """Normalised node features → what attention sends to each node.

    Source and target features are mapped and added at the edge, rotated into its frame, mixed, activated, mixed
    again, weighted by attention head by head, rotated back and summed.

    Args:
        settings: What the network is.
        pseudo_in: Channels of pseudo features that arrive, 0 for none.
        pseudo_out: Channels of pseudo features that leave, 0 for none.
        last: Whether only scalars leave: then m = 0 is all that matters.
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
        message_scale: float,
        rng: torch.Generator,
    ) -> None:
        super().__init__()
        s = settings
        scalars, tensors = s.num_channels
        self.heads, self.last, self.lmax = s.num_heads, last, s.lmax
        self.mmax = 0 if last else min(s.lmax, s.lmax if s.mmax is None else s.mmax)
        self.pseudo_in = 0 if last else pseudo_in
        hidden_pseudo = tensors if s.parity and self.mmax > 0 else 0
        self.per_head = [max(1, scalars // s.num_heads), max(1, tensors // s.num_heads)]
        values = [s.num_heads * size for size in self.per_head]
        logit_width = s.num_heads * s.attention_channels

        self.source, self.target = (Linear(scalars, scalars, rng, gain=_HALF) for _ in range(2))
        self.tensor_source, self.tensor_target = (_degree_linear(s.lmax, tensors, rng) for _ in range(2))
        self.pseudo_source, self.pseudo_target = (
            _degree_linear(s.lmax, self.pseudo_in, rng, lmin=0) for _ in range(2)
        )
        zero = bool(self.pseudo_in)
        self.activation = _activation(s, self.mmax, hidden_pseudo, pseudo_zero=zero)
        first_scalars = logit_width + scalars + self.activation.extra
        self.first = FrameLinear(
            s.lmax,
            FrameChannels(scalars, tensors, self.pseudo_in),
            FrameChannels(first_scalars, tensors, hidden_pseudo),
            rng,
            mmax=self.mmax,
        )
        self.second = FrameLinear(
            s.lmax,
            FrameChannels(scalars, tensors, hidden_pseudo, pseudo_zero=self.first.has_pseudo_zero),
            FrameChannels(values[0], values[1], values[1] if pseudo_out else 0),
            rng,
            mmax=self.mmax,
            lmax_out=0 if last else None,
        )
        self.radial = RadialNetwork(s.radial_width, s.radial_depth, self.first.scale_sizes, rng)
        self.scalar_sizes = [logit_width, scalars + self.activation.extra]
        self.logits = AttentionLogits(s.num_heads, s.attention_channels, rng)
        self.softmax = EnvelopedSoftmax(s.num_heads)
        self.drop = nn.Dropout(s.attention_dropout)

        has_tensors = s.lmax > 0 and not last
        gain = message_scale
        self.out = Linear(values[0], scalars, rng, gain=gain)
        self.tensor_out = DegreeLinear(s.lmax, values[1], tensors, rng, gain=gain) if has_tensors else None
        self.pseudo_out = None
        if pseudo_out:
            self.pseudo_out = DegreeLinear(s.lmax, values[1], pseudo_out, rng, lmin=0, gain=gain)
        scales = {name: _truncation_scale(s.lmax, self.mmax, lmin) for name, lmin in (("natural", 1), ("pseudo", 0))}
        self.constants = Constants(**scales)

    def forward(self, features: Features, edges: EdgeContext) -> Features:
        """The sum at each node; zero for a node without neighbours."""
        mixed = self.first.mix(self._to_edge(features, edges), self.radial(edges.radial))
        logits, scalars = mixed.scalars.split(self.scalar_sizes, 1)
        weights = self.drop(self.softmax(self.logits(logits), edges))
        hidden = FrameRows(scalars, mixed.natural, mixed.pseudo, mixed.pseudo_zero)
        return self._to_node(self.second.mix(self.activation(hidden)), weights, edges)

    def _to_edge(self, features: Features, edges: EdgeContext) -> FrameRows:
        """Both ends' features, added, in the edge frame."""
        exchange, geometry = edges.exchange, edges.geometry

        def both(source: nn.Module, target: nn.Module, x: Tensor) -> Tensor:
            return exchange.gather(source(x)) + exchange.receive(target(x))

        scalars = both(self.source, self.target, features.scalars)
        if self.tensor_source is None or self.tensor_target is None:
            return FrameRows(scalars)
        tensors = both(self.tensor_source, self.tensor_target, present(features.tensors))
        frame = present(geometry.harmonics if self.mmax == 0 else geometry.to_frame)
        natural = natural_rows(torch.bmm(frame, tensors), self.lmax, self.mmax)
        if self.pseudo_source is None or self.pseudo_target is None:
            return FrameRows(scalars, natural)
        pseudo = both(self.pseudo_source, self.pseudo_target, present(features.pseudo))
        zero, *orders = pseudo_rows(torch.bmm(present(geometry.pseudo_to_frame), pseudo), self.lmax, self.mmax)
        return FrameRows(scalars, natural, tuple(orders), zero)

    def _to_node(self, values: FrameRows, weights: Tensor, edges: EdgeContext) -> Features:
        """Weighted, rotated back, summed, and the heads mixed."""
        collect, geometry = edges.exchange.collect, edges.geometry
        scalars = self.out(collect(values.scalars * self._spread(weights, 0)))
        if self.tensor_out is None:
            return Features(scalars)
        per_channel = self._spread(weights, 1)
        frame = present(geometry.harmonics if self.mmax == 0 else geometry.to_frame).transpose(1, 2)
        tensors = collect(torch.bmm(frame, _weighted(values.natural, per_channel)))
        tensors = self.tensor_out(tensors * self.constants.natural)
        if self.pseudo_out is None:
            return Features(scalars, tensors)
        frame = present(geometry.pseudo_to_frame).transpose(1, 2)
        rows = values.pseudo
        if values.pseudo_zero is None:
            frame = frame.split([self.lmax + 1, frame.shape[2] - self.lmax - 1], 2)[1]
        else:
            rows = (values.pseudo_zero, *rows)
        pseudo = collect(torch.bmm(frame, _weighted(rows, per_channel)))
        return Features(scalars, tensors, self.pseudo_out(pseudo * self.constants.pseudo))

    def _spread(self, weights: Tensor, kind: int) -> Tensor:
        """(E, heads) → (E, channels): each head's weight for its channels."""
        return weights.unsqueeze(2).expand(-1, -1, self.per_head[kind]).flatten(1)


def _weighted(rows: tuple[Tensor, ...], weights: Tensor) -> Tensor:
    """(E, rows·C) and (E, C) → (E, rows, C)."""
    return torch.cat(rows, 1).unflatten(1, (-1, weights.shape[1])) * weights.unsqueeze(1)


def _degree_linear(lmax: int, channels: int, rng: torch.Generator, lmin: int = 1) -> DegreeLinear | None:
    """From channels to as many, halving the variance; None where there is nothing to map."""
    return DegreeLinear(lmax, channels, channels, rng, lmin=lmin, gain=_HALF) if lmax and channels else None


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
