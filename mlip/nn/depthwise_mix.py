"""Depthwise mixing: NequIP's convolution (2101.03164), written in the edge frame.

The `uvu` tensor product with the spherical harmonics of the edge has one radial weight per channel and path
(l_in, l_filter, l_out). In the edge frame the harmonics are a single component, so each path becomes a constant
per m: couplings with l_in + l_filter + l_out even join m with m and keep η, odd ones join m with −m and change
η. The constants are contracted with the last matrix of the radial network once per forward, so that an edge
only sees weights per (l_in, l_out, m).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from mlip.nn.constants import Constants, clebsch_gordan
from mlip.nn.features import EdgeContext, EdgeMix, Features, present
from mlip.nn.layout import signed_sizes
from mlip.nn.linear import SILU_GAIN, DegreeLinear, Linear, normal

Rows = list[list[Tensor]]


@dataclass(frozen=True)
class Path:
    """One coupling; η is +1 for natural and −1 for pseudo features."""

    eta_in: int
    l_in: int
    l_filter: int
    l_out: int

    @property
    def eta_out(self) -> int:
        """η of the product."""
        return self.eta_in * (-1) ** (self.l_in + self.l_filter + self.l_out)

    def coefficient(self, m: int) -> float:
        """What the path contributes to order m in the edge frame, phases of pseudo features folded in.

        e3nn's component normalisation: √(2·l_filter+1)·√(2·l_out+1)·3j.
        """
        coupling = clebsch_gordan(self.l_in, self.l_filter, self.l_out)
        scale = math.sqrt((2 * self.l_filter + 1) * (2 * self.l_out + 1))
        if self.eta_in == self.eta_out:
            return scale * float(coupling[self.l_in + m, self.l_filter, self.l_out + m])
        # natural → pseudo: ŷ = (−y₋, y₊) = κ(x₊, x₋); pseudo → natural: (y₊, y₋) = −κ x̂, with κ = 3j[−m → +m]
        return self.eta_in * scale * float(coupling[self.l_in - m, self.l_filter, self.l_out + m])


def paths_between(inputs: list[tuple[int, int]], outputs: list[tuple[int, int]], lf_max: int) -> list[Path]:
    """All couplings of degree ≤ ``lf_max`` that lead from inputs (η, l) to outputs (η, l)."""
    found = []
    for eta, l_in in inputs:
        for _, l_out in sorted({(0, l) for _, l in outputs}):
            for l_filter in range(abs(l_in - l_out), min(l_in + l_out, lf_max) + 1):
                path = Path(eta, l_in, l_filter, l_out)
                if (path.eta_out, l_out) in outputs:
                    found.append(path)
    return found


def coupling_table(paths: list[Path], entries: list[tuple[int, tuple[int, int], tuple[int, int]]]) -> Tensor:
    """(paths, entries): the constants that turn weights per path into weights per (m, output, input).

    Each output is normalised by the square root of the number of paths that lead to it.
    """
    counts = {(p.eta_out, p.l_out): 0 for p in paths}
    for p in paths:
        counts[p.eta_out, p.l_out] += 1
    table = torch.zeros(len(paths), len(entries), dtype=torch.float64)
    for a, p in enumerate(paths):
        for b, (m, output, source) in enumerate(entries):
            if (p.eta_out, p.l_out) == output and (p.eta_in, p.l_in) == source:
                table[a, b] = p.coefficient(m) / math.sqrt(counts[output])
    return table


class PathWeights(nn.Module):
    """Radial network whose last layer yields weights per path, delivered per (m, output, input) and channel.

    Args:
        paths: The couplings.
        groups: For each order m the outputs and inputs (η, l) it joins.
        channels: Channels.
        width: Hidden radial features.
        depth: Layers of the radial network.
        rng: Source of the initial weights.
    """

    def __init__(
        self,
        paths: list[Path],
        groups: list[tuple[int, list[tuple[int, int]], list[tuple[int, int]]]],
        channels: int,
        width: int,
        depth: int,
        rng: torch.Generator,
    ) -> None:
        super().__init__()
        entries = [(m, o, i) for m, outputs, inputs in groups for o in outputs for i in inputs]
        self.constants = Constants(table=coupling_table(paths, entries))
        self.hidden = nn.ModuleList(Linear(width, width, rng, gain=SILU_GAIN) for _ in range(depth - 1))
        self.weight = normal(rng, width, channels, len(paths))
        self.bias = nn.Parameter(torch.zeros(channels, len(paths), dtype=torch.float32))
        self.scale = SILU_GAIN / math.sqrt(width)
        self.channels = channels
        self.shapes = [(len(outputs), len(inputs)) for _, outputs, inputs in groups]

    def forward(self, hidden: Tensor) -> list[list[tuple[Tensor, ...]]]:
        """(E, width) → for each group and each of its outputs one (E, C) per input."""
        return self.split(self.columns(hidden))

    def columns(self, hidden: Tensor) -> Tensor:
        """(E, width) → all weights side by side."""
        for layer in self.hidden:
            hidden = nn.functional.silu(layer(hidden))
        table = self.constants.table
        weight = torch.matmul(self.weight, table * self.scale).transpose(1, 2).flatten(1)
        bias = torch.matmul(self.bias, table).t().flatten()
        return torch.addmm(bias, hidden, weight)

    def split(self, columns: Tensor) -> list[list[tuple[Tensor, ...]]]:
        """All weights → for each group and each of its outputs one (E, C) per input."""
        parts = iter(columns.split(self.channels, 1))
        return [[tuple(islice(parts, inputs)) for _ in range(outputs)] for outputs, inputs in self.shapes]


def couple(weights: list[tuple[Tensor, ...]], inputs: Sequence[Tensor]) -> list[Tensor]:
    """y_o = Σ_i w_oi x_i per channel: (E, C) each, since torch is fastest in two dimensions."""
    return [_weighted_sum(row, inputs) for row in weights]


def _weighted_sum(weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> Tensor:
    total = weights[0] * inputs[0]
    for w, x in zip(weights[1:], inputs[1:], strict=True):
        total = total + w * x
    return total


def _natural(lmax: int, lmin: int = 0) -> list[tuple[int, int]]:
    return [(1, l) for l in range(lmin, lmax + 1)]


def _pseudo(lmax: int, lmin: int = 0) -> list[tuple[int, int]]:
    return [(-1, l) for l in range(lmin, lmax + 1)]


class ScalarDepthwiseMix(EdgeMix):
    """First layer: scalars in, all natural degrees out."""

    def __init__(
        self,
        lmax: int,
        lf_max: int,
        scalars: int,
        channels: int,
        width: int,
        depth: int,
        rng: torch.Generator,
    ) -> None:
        super().__init__()
        self.lmax, self.out_scalars = lmax, channels
        outputs = _natural(lmax)
        self.up = Linear(scalars, channels, rng)
        paths = paths_between([(1, 0)], outputs, lf_max)
        self.weights = PathWeights(paths, [(0, outputs, [(1, 0)])], channels, width, depth, rng)

    def forward(self, features: Features, edges: EdgeContext) -> Features:
        """Features of the nodes → the sum of the messages at each node."""
        sent = edges.exchange.gather(self.up(features.scalars))
        (weights,) = self.weights(edges.radial)
        scalars, *tensors = couple(weights, [sent])
        collected = edges.exchange.collect(scalars * edges.weight)
        if self.lmax == 0 or edges.harmonics_back is None:
            return Features(collected)
        in_frame = torch.stack(tensors, 1)
        return Features(collected, edges.exchange.collect_turned(edges.harmonics_back, in_frame))


class FinalDepthwiseMix(EdgeMix):
    """Last layer: natural degrees in, scalars out."""

    def __init__(
        self,
        lmax: int,
        lf_max: int,
        scalars: int,
        channels: int,
        width: int,
        depth: int,
        rng: torch.Generator,
    ) -> None:
        super().__init__()
        self.lmax, self.out_scalars = lmax, channels
        inputs = _natural(lmax)
        self.up = Linear(scalars, channels, rng)
        self.up_tensors = DegreeLinear(lmax, channels, channels, rng) if lmax else None
        paths = paths_between(inputs, [(1, 0)], lf_max)
        self.weights = PathWeights(paths, [(0, [(1, 0)], inputs)], channels, width, depth, rng)

    def forward(self, features: Features, edges: EdgeContext) -> Features:
        """Features of the nodes → the summed scalars at each node."""
        sent = [edges.exchange.gather(self.up(features.scalars))]
        if self.up_tensors is not None and features.tensors is not None and edges.geometry.harmonics is not None:
            tensors = self.up_tensors(present(features.tensors))
            sent += edges.exchange.gather_turned(edges.geometry.harmonics, tensors).unbind(1)
        (weights,) = self.weights(edges.radial)
        (mixed,) = couple(weights, sent)
        return Features(edges.exchange.collect(mixed * edges.weight))


class DepthwiseMix(EdgeMix):
    """Middle layer: all degrees in and out, one weight per channel and path.

    Args:
        lmax: Highest degree.
        lf_max: Highest degree of the filter.
        scalars: Channels of the scalars that arrive; they are mapped to ``channels`` first.
        channels: Channels of everything else.
        pseudo_in: Whether pseudo features arrive.
        pseudo_out: Whether pseudo features leave.
        width: Hidden radial features.
        depth: Layers of the radial network.
        rng: Source of the initial weights.
    """

    def __init__(
        self,
        lmax: int,
        lf_max: int,
        scalars: int,
        channels: int,
        pseudo_in: bool,
        pseudo_out: bool,
        width: int,
        depth: int,
        rng: torch.Generator,
    ) -> None:
        super().__init__()
        self.lmax, self.channels, self.out_scalars = lmax, channels, channels
        self.pseudo_in, self.pseudo_out = pseudo_in, pseudo_out
        self.rows, self.pseudo_rows = signed_sizes(lmax, 1), signed_sizes(lmax, 0)
        self.up = Linear(scalars, channels, rng)
        self.up_tensors = DegreeLinear(lmax, channels, channels, rng)
        self.up_pseudo = DegreeLinear(lmax, channels, channels, rng, lmin=0) if pseudo_in else None
        inputs = _natural(lmax) + (_pseudo(lmax) if pseudo_in else [])
        outputs = _natural(lmax) + (_pseudo(lmax) if pseudo_out else [])
        groups = [(0, _natural(lmax), _natural(lmax))]
        groups += [
            (m, [k for k in outputs if k[1] >= m], [k for k in inputs if k[1] >= m]) for m in range(1, lmax + 1)
        ]
        groups += [(0, _pseudo(lmax), _pseudo(lmax))] if pseudo_in and pseudo_out else []
        self.weights = PathWeights(paths_between(inputs, outputs, lf_max), groups, channels, width, depth, rng)

    def forward(self, features: Features, edges: EdgeContext) -> Features:
        """Features of the nodes → the sum of the messages at each node."""
        weights = self.weights(edges.radial)
        natural, pseudo = self._to_edge(features, edges)
        sent = edges.exchange.gather(self.up(features.scalars))
        scalars, *tensors = couple(weights[0], [sent, *natural[0]])
        orders = self._mix_orders(natural, pseudo, weights)
        collected = edges.exchange.collect(scalars * edges.weight)
        rows = torch.stack([*tensors, *(row for order in orders for row in order[0])], 1)
        back = edges.exchange.collect_turned(present(edges.from_frame), rows)
        return Features(collected, back, self._pseudo_back(pseudo, orders, weights, edges))

    def _to_edge(self, features: Features, edges: EdgeContext) -> tuple[Rows, Rows]:
        """Sent tensors in the edge frame: the rows of m = 0, +1, −1, +2 …; pseudo ones likewise, or nothing."""
        turned, tensors = edges.exchange.gather_turned, self.up_tensors(present(features.tensors))
        natural = _grouped(turned(present(edges.geometry.to_frame), tensors), self.rows)
        if self.up_pseudo is None:
            return natural, []
        pseudo = turned(present(edges.geometry.pseudo_to_frame), self.up_pseudo(present(features.pseudo)))
        return natural, _grouped(pseudo, self.pseudo_rows)

    def _mix_orders(self, natural: Rows, pseudo: Rows, weights: list[list[tuple[Tensor, ...]]]) -> list[Rows]:
        """For m = +1, −1, +2 …: the rows that leave, natural and pseudo."""
        orders = []
        for k in range(1, 2 * self.lmax + 1):
            m = (k + 1) // 2
            mixed = couple(weights[m], [*natural[k], *(pseudo[k] if pseudo else ())])
            n = self.lmax + 1 - m
            orders.append([mixed[:n], mixed[n:]])
        return orders

    def _pseudo_back(
        self, pseudo: Rows, orders: list[Rows], weights: list[list[tuple[Tensor, ...]]], edges: EdgeContext
    ) -> Tensor | None:
        if not self.pseudo_out:
            return None
        rows, back = [row for order in orders for row in order[1]], present(edges.pseudo_from_frame)
        if pseudo:
            rows = [*couple(weights[-1], pseudo[0]), *rows]
        return edges.exchange.collect_turned(back, torch.stack(rows, 1))


def _grouped(block: Tensor, sizes: list[int]) -> Rows:
    """(E, R, C) → its rows (E, C), in groups of ``sizes``."""
    rows = iter(block.unbind(1))
    return [list(islice(rows, size)) for size in sizes]
