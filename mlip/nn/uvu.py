"""NequIP's convolution with every path kept apart: the `uvu` tensor product of 2101.03164, channels per degree free.

`mlip.nn.depthwise_mix` sums the paths that lead to one output on the edge; NequIP sends them one by one and mixes
them at the node, and its degrees may have different channels. Both are the same map of harmonics and features. Here
the Clebsch–Gordan coefficients are contracted with the harmonics of an edge first: one small matrix per edge and
input degree, (rows of all outputs, 2·l_in+1), which is the same for all layers and channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from e3nn import o3
from torch import Tensor, nn

from mlip.exchange import Exchange
from mlip.nn.constants import Constants, clebsch_gordan
from mlip.nn.geometry import Harmonics

Kind = tuple[int, int]
"""What a feature is: degree l and parity p."""
Blocks = list[Tensor]
"""Features: one (N, 2l+1, channels) per kind."""


@dataclass(frozen=True)
class Channels:
    """Kinds of features and the channels each has, in order."""

    kinds: tuple[Kind, ...]
    counts: tuple[int, ...]

    def of(self, kind: Kind) -> int:
        """Channels of one kind, 0 where there is none."""
        return dict(zip(self.kinds, self.counts, strict=True)).get(kind, 0)


@dataclass(frozen=True)
class UVUPath:
    """One coupling of an input with the harmonics of degree ``l_filter``."""

    l_filter: int
    output: Kind


def paths_from(source: Kind, lmax: int, outputs: Sequence[Kind]) -> tuple[UVUPath, ...]:
    """All couplings of one input that lead to wanted outputs, in NequIP's order."""
    l_in, parity = source
    found = []
    for l_filter in range(lmax + 1):
        for l_out in range(abs(l_in - l_filter), l_in + l_filter + 1):
            output = (l_out, parity * (-1) ** l_filter)
            if output in outputs:
                found.append(UVUPath(l_filter, output))
    return tuple(found)


def in_order(kinds: Iterable[Kind]) -> list[Kind]:
    """Kinds in e3nn's order, which is that of NequIP's weights."""
    return [(ir.l, ir.p) for ir in sorted(o3.Irrep(l, p) for l, p in kinds)]


@dataclass(frozen=True)
class LayerPlan:
    """What enters and leaves one interaction.

    Attributes:
        lmax: Highest degree of the filter.
        inputs: Features that enter.
        scalars: Scalars that leave.
        gated: Tensors that leave, each opened by gates of its own.
    """

    lmax: int
    inputs: Channels
    scalars: Channels
    gated: Channels

    @property
    def outputs(self) -> Channels:
        """What the gates are handed: the gates stand behind the even scalars."""
        kinds = in_order({*self.scalars.kinds, *self.gated.kinds, (0, 1)})
        gates = sum(self.gated.counts)
        counts = [self.scalars.of(k) + self.gated.of(k) + (gates if k == (0, 1) else 0) for k in kinds]
        return Channels(tuple(kinds), tuple(counts))

    @property
    def features(self) -> Channels:
        """What leaves."""
        return Channels(self.scalars.kinds + self.gated.kinds, self.scalars.counts + self.gated.counts)

    def paths(self, source: Kind) -> tuple[UVUPath, ...]:
        """Couplings of one input."""
        return paths_from(source, self.lmax, self.outputs.kinds)


def plan_layers(num_layers: int, channels: Sequence[int], parity: bool, type_channels: int) -> list[LayerPlan]:
    """The layers of a NequIP: a kind exists from the layer on in which a path first leads to it.

    Args:
        num_layers: Interactions.
        channels: Channels of each degree.
        parity: Whether both parities of each degree may exist.
        type_channels: Width of the embedding of the species.
    """
    lmax = len(channels) - 1
    hidden = [(l, p) for l in range(lmax + 1) for p in ((1, -1) if parity else ((-1) ** l,))]
    plans, inputs = [], Channels(((0, 1),), (type_channels,))
    for k in range(num_layers):
        wanted = [(0, 1)] if k == num_layers - 1 else hidden
        there = {path.output for kind in inputs.kinds for path in paths_from(kind, lmax, wanted)}
        scalars, gated = ([kind for kind in wanted if kind in there and (kind[0] > 0) == up] for up in (False, True))
        plans.append(LayerPlan(lmax, inputs, _with_channels(scalars, channels), _with_channels(gated, channels)))
        inputs = plans[-1].features
    return plans


def _with_channels(kinds: Sequence[Kind], channels: Sequence[int]) -> Channels:
    return Channels(tuple(kinds), tuple(channels[l] for l, _ in kinds))


@dataclass(frozen=True)
class Coupling:
    """The rows that one input's paths make: output by output, component by component, path by path.

    Attributes:
        l_in: Degree of the input.
        paths: The paths, in the order of their weights.
    """

    l_in: int
    paths: tuple[UVUPath, ...]

    @property
    def outputs(self) -> list[Kind]:
        """Outputs in the order of their rows."""
        return in_order({path.output for path in self.paths})

    @property
    def rows(self) -> list[tuple[int, int]]:
        """(path, component) of each row."""
        found = []
        for output in self.outputs:
            chosen = [k for k, path in enumerate(self.paths) if path.output == output]
            found += [(k, m) for m in range(2 * output[0] + 1) for k in chosen]
        return found

    def table(self) -> Tensor:
        """(harmonics, rows·(2·l_in+1)): contracts harmonics of unit norm with √(2l_f+1)·√(2l_out+1)·3j."""
        lmax = max(path.l_filter for path in self.paths)
        table = torch.zeros((lmax + 1) ** 2, len(self.rows), 2 * self.l_in + 1, dtype=torch.float64)
        for row, (k, m) in enumerate(self.rows):
            f, l_out = self.paths[k].l_filter, self.paths[k].output[0]
            scale = math.sqrt((2 * f + 1) * (2 * l_out + 1))
            table[f * f : (f + 1) ** 2, row] = scale * clebsch_gordan(self.l_in, f, l_out)[:, :, m].t()
        return table.flatten(1)


class CouplingMatrices(nn.Module):
    """Harmonics of the edges → the matrix of each coupling, once per forward."""

    def __init__(self, lmax: int, couplings: Sequence[Coupling]) -> None:
        super().__init__()
        self.couplings = list(dict.fromkeys(couplings))
        self.harmonics = Harmonics(lmax) if lmax else None
        tables = [
            nn.functional.pad(t, (0, 0, 0, (lmax + 1) ** 2 - len(t))) for t in (c.table() for c in self.couplings)
        ]
        self.sizes = [table.shape[1] for table in tables]
        self.constants = Constants(table=torch.cat(tables, 1))

    def forward(self, direction: Tensor) -> dict[Coupling, Tensor]:
        """(E, 3) unit vectors → (E, rows, 2·l_in+1) for each coupling."""
        harmonics = torch.ones_like(direction[:, :1])
        if self.harmonics is not None:
            harmonics = torch.cat([harmonics, self.harmonics(direction).sum(1)], 1)
        parts = (harmonics @ self.constants.table).split(self.sizes, 1)
        return {c: part.unflatten(1, (-1, 2 * c.l_in + 1)) for c, part in zip(self.couplings, parts, strict=True)}


@dataclass(frozen=True)
class UVUEdges:
    """What all layers of one forward share.

    Attributes:
        radial: (E, num_radial), radial functions with the envelope.
        couplings: The matrix of each coupling.
        norm: (N, 1, 1), 1/√⟨neighbours⟩ of the sending node.
        one_hot: (N, 1, S), species of the nodes.
        types: (S, type_channels), embedding of the species.
        exchange: How features travel.
    """

    radial: Tensor
    couplings: dict[Coupling, Tensor]
    norm: Tensor
    one_hot: Tensor
    types: Tensor
    exchange: Exchange
