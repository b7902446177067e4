"""How much an edge counts: a softmax that is enveloped and has a null mass, or, to compare, every neighbour alike."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mlip.nn.features import EdgeContext
from mlip.nn.linear import normal

_EPSILON = 0.01
_SLOPE = 0.2


def smooth_leaky_relu(x: Tensor) -> Tensor:
    """½(1+α)x + ½(1−α)x·(2σ(x) − 1) with α = 0.2."""
    return x * (_SLOPE + (1 - _SLOPE) * torch.sigmoid(x))


class PlainLogits(nn.Module):
    """Scalars of an edge → one logit per head: an affine map of each, smooth leaky ReLU, sum."""

    def __init__(self, heads: int, channels: int, rng: torch.Generator) -> None:
        super().__init__()
        self.shape, self.width = (heads, channels), heads * channels
        self.gain = nn.Parameter(torch.ones(channels, dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros(channels, dtype=torch.float32))
        self.direction = normal(rng, heads, channels)

    def forward(self, scalars: Tensor) -> Tensor:
        """(E, heads·channels) → (E, heads)."""
        x = self.normalised(scalars.unflatten(1, self.shape)) * self.gain + self.bias
        return (smooth_leaky_relu(x) * self.direction).sum(2) * (1 / math.sqrt(self.shape[1]))

    def normalised(self, x: Tensor) -> Tensor:
        """(E, heads, channels), as they are."""
        return x


class AttentionLogits(PlainLogits):
    """The same after a LayerNorm of each head's scalars (attention re-normalisation, 2306.12059 §4.1)."""

    def normalised(self, x: Tensor) -> Tensor:
        """(E, heads, channels) of mean 0 and variance 1 in the channels."""
        x = x - x.mean(2, keepdim=True)
        return x * torch.rsqrt(x.square().mean(2, keepdim=True) + _EPSILON)


class NoLogits(nn.Module):
    """Where every neighbour counts alike."""

    width = 0

    def forward(self, scalars: Tensor) -> Tensor:
        """(E, 0), as it is."""
        return scalars


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


class EnvelopedMean(nn.Module):
    """a_ij = w_ij² / n̄, w the envelope and n̄ the mean number of neighbours: no attention, to compare."""

    def __init__(self, heads: int, avg_num_neighbors: float) -> None:
        super().__init__()
        self.heads, self.scale = heads, 1 / max(1.0, avg_num_neighbors)

    def forward(self, _: Tensor, edges: EdgeContext) -> Tensor:
        """Whatever logits → (E, heads)."""
        return (edges.geometry.envelope.square() * self.scale).expand(-1, self.heads)
