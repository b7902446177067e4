"""Linear maps with weights of unit variance; the 1/√fan_in stands in the forward, so one learning rate fits all."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from mlip.nn.layout import degree_of_rows

# 1/rms of the activation under a unit normal.
SILU_GAIN = 1.6765324703310907
_SIGMOID_GAIN = 1.8467055342154763


def silu(x: Tensor) -> Tensor:
    """SiLU, scaled so that a unit normal keeps its second moment."""
    return nn.functional.silu(x) * SILU_GAIN


def gate(x: Tensor) -> Tensor:
    """Sigmoid, scaled so that a unit normal has second moment one."""
    return torch.sigmoid(x) * _SIGMOID_GAIN


def normal(rng: torch.Generator, *shape: int) -> nn.Parameter:
    """A parameter drawn from the unit normal, in float32 whatever the default dtype."""
    return nn.Parameter(torch.randn(*shape, generator=rng, dtype=torch.float32))


class Linear(nn.Module):
    """x ↦ x·W/√fan_in, without bias unless asked for."""

    def __init__(
        self, inputs: int, outputs: int, rng: torch.Generator, *, bias: bool = False, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = normal(rng, inputs, outputs)
        self.bias = nn.Parameter(torch.zeros(outputs, dtype=torch.float32)) if bias else None
        self.scale = gain / math.sqrt(inputs)

    def forward(self, x: Tensor) -> Tensor:
        """(…, inputs) → (…, outputs)."""
        if self.bias is not None:
            return torch.addmm(self.bias, x, self.weight * self.scale)
        return x @ (self.weight * self.scale)

    def add_to(self, total: Tensor, x: Tensor) -> Tensor:
        """``total`` + x·W/√fan_in in one call."""
        return torch.addmm(total, x, self.weight * self.scale)


class DegreeLinear(nn.Module):
    """One channel-mixing matrix per degree: the O(3)-equivariant linear map of a packed tensor block.

    Args:
        lmax: Highest degree.
        inputs: Channels in.
        outputs: Channels out.
        rng: Source of the initial weights.
        lmin: Lowest degree in the block.
        gain: Factor on the result.
    """

    degrees: Tensor

    def __init__(
        self, lmax: int, inputs: int, outputs: int, rng: torch.Generator, lmin: int = 1, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = normal(rng, lmax + 1 - lmin, inputs, outputs)
        self.scale = gain / math.sqrt(inputs)
        self.register_buffer("degrees", degree_of_rows(lmax, lmin), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, D, inputs) → (N, D, outputs)."""
        weights = (self.weight * self.scale).index_select(0, self.degrees)
        return torch.bmm(x.transpose(0, 1), weights).transpose(0, 1)


class SpeciesLinear(nn.Module):
    """A linear map of scalars with weights of its own for each species (NequIP's self-connection)."""

    def __init__(self, num_species: int, inputs: int, outputs: int, rng: torch.Generator) -> None:
        super().__init__()
        self.weight = normal(rng, num_species, inputs, outputs)
        self.scale = 1 / math.sqrt(inputs)

    def forward(self, x: Tensor, one_hot: Tensor) -> Tensor:
        """(N, inputs) and species as (N, S, 1) → (N, outputs)."""
        return (x.unsqueeze(1) * one_hot).flatten(1) @ (self.weight * self.scale).flatten(0, 1)


class RadialNetwork(nn.Module):
    """Hidden radial features of each edge → the radial weights of one layer. No norm: it would undo the envelope.

    The gain of the activation stands in the weights after it, which are fewer than the edges.
    """

    def __init__(self, width: int, depth: int, sizes: list[int], rng: torch.Generator) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(Linear(width, width, rng, gain=SILU_GAIN) for _ in range(depth - 1))
        self.last = Linear(width, sum(sizes), rng, bias=True, gain=SILU_GAIN)
        self.sizes = sizes

    def forward(self, hidden: Tensor) -> list[Tensor]:
        """(E, width) → one (E, size) per entry of ``sizes``."""
        return self.split(self.columns(hidden))

    def columns(self, hidden: Tensor) -> Tensor:
        """(E, width) → all radial weights side by side."""
        for layer in self.hidden:
            hidden = nn.functional.silu(layer(hidden))
        return cast("Tensor", self.last(hidden))

    def split(self, columns: Tensor) -> list[Tensor]:
        """All radial weights → one (E, size) per entry of ``sizes``."""
        return list(columns.split(self.sizes, 1))
