"""Features turned on their way between nodes and edges, without a copy of them at the edges.

A frame matrix M has one block for each degree. What a node sends, turned into the frame of an edge, is a sum of few
weighted rows of the table of all nodes' features,

    (M x)[e, i] = Σ_j M[e, i, j] x[s(e), j],

which `embedding_bag` computes without the copies x[s(e)] and without the zeros between the blocks. A batched product
of matrices this small spends most of its time on a CPU on beginning each of them.

The form T(M, x, y) = Σ y[e, i] M[e, i, j] x[s(e), j] is linear in all three. Its derivatives by y, x and M are the
three functions of `Way`, and theirs are again among them: everything can be differentiated any number of times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor, nn

from mlip.exchange import Exchange
from mlip.nn.layout import frame_degrees

# Below, the looking up costs more than the copies (benchmarks/turning.py --structure "aspirin 21").
_FEWEST_EDGES = 1500
_BY_NODES, _BY_EDGES = 1, 2  # x and y among the arguments of T
_MOST_EDGES = 2**22  # rows are counted in 32 bits, some hundred for each edge


@dataclass(frozen=True, eq=False)
class Pattern:
    """Where a frame matrix has its blocks.

    Attributes:
        rows: (n,), row of each entry, row by row.
        columns: (n,), its column.
        shape: Rows R and columns D.
    """

    rows: Tensor
    columns: Tensor
    shape: tuple[int, int]

    @cached_property
    def entries(self) -> Tensor:
        """(n,), where they are in the flattened matrix."""
        return self.rows * self.shape[1] + self.columns

    @cached_property
    def starts(self) -> Tensor:
        """(R,), the first entry of each row."""
        counts = torch.bincount(self.rows, minlength=self.shape[0])
        return counts.cumsum(0) - counts

    @cached_property
    def by_column(self) -> Tensor:
        """(n,), the entries column by column."""
        return torch.argsort(self.columns, stable=True)

    @cached_property
    def transposed(self) -> Pattern:
        """That of the transposed matrix."""
        return Pattern(self.columns[self.by_column], self.rows[self.by_column], (self.shape[1], self.shape[0]))


@cache
def pattern(num_rows: int, num_columns: int, last: int) -> Pattern:
    """That of the last rows of all frame matrices of this shape."""
    of_rows, of_columns = frame_degrees(num_rows, num_columns)
    rows, columns = (of_rows.tensor_split([num_rows - last])[1].unsqueeze(1) == of_columns).nonzero().unbind(1)
    return Pattern(rows.contiguous(), columns.contiguous(), (last, num_columns))


class Places:
    """Where each edge finds its rows in a table: at its source, at its target, or at itself.

    Args:
        place: (E,).
        number: Places in the table.
    """

    def __init__(self, place: Tensor, number: int) -> None:
        self.place, self.number = place, number
        self._lookups: dict[Pattern, tuple[Tensor, Tensor]] = {}

    def turned(self, values: Tensor, table: Tensor, pattern: Pattern) -> Tensor:
        """Entries (E, n) of M and (places, D, C) → M times what is at each edge's place, (E, R, C)."""
        rows, starts = self._lookup(pattern)
        # detached, as embedding_bag would else make ready to be differentiated
        table, weights = table.detach().flatten(0, 1), values.detach().flatten()
        turned = nn.functional.embedding_bag(rows, table, starts, mode="sum", per_sample_weights=weights)
        return turned.unflatten(0, (-1, pattern.shape[0]))

    def at_edges(self, table: Tensor) -> Tensor:
        """(places, D, C) → (E, D, C)."""
        return table.flatten(1).index_select(0, self.place).unflatten(1, table.shape[1:])

    def sum(self, edges: Tensor) -> Tensor:
        """(E, D, C) → (places, D, C)."""
        flat = edges.flatten(1)
        total = flat.new_zeros(self.number, flat.shape[1]).index_add(0, self.place, flat)
        return total.unflatten(1, edges.shape[1:])

    def _lookup(self, pattern: Pattern) -> tuple[Tensor, Tensor]:
        """Rows of the table that are summed, and where each sum begins."""
        if pattern not in self._lookups:
            rows = (self.place.int() * pattern.shape[1]).unsqueeze(1) + pattern.columns.int()
            edges = torch.arange(0, rows.numel(), rows.shape[1], dtype=torch.int32).unsqueeze(1)
            self._lookups[pattern] = rows.flatten(), (edges + pattern.starts.int()).flatten()
        return self._lookups[pattern]


@dataclass(frozen=True)
class Way:
    """Between the nodes at one end of the edges and the edges, by matrices of one pattern.

    Attributes:
        nodes: The end.
        edges: The edges themselves.
        pattern: Of the matrices.
    """

    nodes: Places
    edges: Places
    pattern: Pattern

    def turned(self, values: Tensor, nodes: Tensor) -> Tensor:
        """M (E, n) and x (N, D, C) → Σ_j M[e, i, j] x[s(e), j], (E, R, C)."""
        return self.nodes.turned(values, nodes, self.pattern)

    def collected(self, values: Tensor, edges: Tensor) -> Tensor:
        """M (E, n) and y (E, R, C) → Σ_i M[e, i, j] y[e, i], summed over the edges of a node, (N, D, C)."""
        values = values.index_select(1, self.pattern.by_column)
        return self.nodes.sum(self.edges.turned(values, edges, self.pattern.transposed))

    def products(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """Nodes x (N, D, C) and edges y (E, R, C) → y[e, i]·x[s(e), j], (E, n)."""
        products = torch.bmm(edges, self.nodes.at_edges(nodes).transpose(1, 2))
        return products.flatten(1).index_select(1, self.pattern.entries)

    def derivative(self, by: int, others: Sequence[Tensor]) -> Tensor:
        """Of T(M, x, y) by its first, second or third argument, from the two others in their order."""
        return (self.products, self.collected, self.turned)[by](*others)


class _Derivative(torch.autograd.Function):
    """`Way.derivative`; a gradient takes the place of the argument that was differentiated by."""

    @staticmethod
    def forward(ctx: Any, way: Way, by: int, *others: Tensor) -> Tensor:
        ctx.save_for_backward(*others)
        ctx.way, ctx.by = way, by
        return way.derivative(by, others)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        arguments = list(ctx.saved_tensors)
        arguments.insert(ctx.by, gradient)
        others = [k for k in range(3) if k != ctx.by]
        return None, None, *(_Derivative.apply(ctx.way, k, *arguments[:k], *arguments[k + 1 :]) for k in others)


class TurningExchange(Exchange):
    """Exchange within one graph on a CPU, which turns features while it gathers and collects them."""

    def __init__(self, source: Tensor, target: Tensor, num_nodes: int) -> None:
        super().__init__(source, target, num_nodes)
        self._sources, self._targets = Places(source, num_nodes), Places(target, num_nodes)
        self._edges = Places(torch.arange(len(source)), len(source))
        self._known: dict[int, tuple[Tensor, Tensor]] = {}

    def gather_turned(self, matrix: Tensor, nodes: Tensor) -> Tensor:
        """(E, R, D) and (N, D, C) → (E, R, C): what each edge's source sends, in the frame of the edge."""
        _, rows, columns = matrix.shape
        way = Way(self._sources, self._edges, pattern(rows, columns, last=rows))
        turned: Tensor = _Derivative.apply(way, _BY_EDGES, self._values(matrix, matrix), nodes)
        return turned

    def collect_turned(self, matrix: Tensor, messages: Tensor) -> Tensor:
        """(E, D, R) and (E, R, C) → (N, D, C): the sum of what arrives at each target, turned back.

        Messages with fewer rows lack the first ones, those of m = 0.
        """
        _, columns, rows = matrix.shape
        way = Way(self._targets, self._edges, pattern(rows, columns, last=messages.shape[1]))
        values = self._values(matrix, matrix.transpose(1, 2))
        if rows > messages.shape[1]:
            values = values.tensor_split([-len(way.pattern.rows)], 1)[1]
        collected: Tensor = _Derivative.apply(way, _BY_NODES, values, messages)
        return collected

    def _values(self, key: Tensor, matrix: Tensor) -> Tensor:
        """The entries of a matrix (E, R, D) → (E, n), once for all layers that use it.

        The key is kept, so that no other tensor gets its id.
        """
        if id(key) not in self._known:
            _, rows, columns = matrix.shape
            entries = pattern(rows, columns, last=rows).entries
            self._known[id(key)] = key, matrix.flatten(1).index_select(1, entries)
        return self._known[id(key)][1]


def exchange_within(source: Tensor, target: Tensor, num_nodes: int, like: Tensor) -> Exchange:
    """The exchange that was measured to be the faster one for edges (E, 3) ``like`` these.

    Turning on the way pays in float32 on a CPU, from some thousand edges on: in float64 the rows are summed one
    number at a time, and of a few edges the looking up costs more than the copies. Tensors without values, by which a
    step is traced, are left to their compiler; and inference mode may not touch the patterns, which are kept.
    """
    plain = type(like) is Tensor and not torch.is_inference_mode_enabled()
    served = plain and like.device.type == "cpu" and like.dtype == torch.float32
    turning = served and _FEWEST_EDGES <= like.shape[0] < _MOST_EDGES
    return (TurningExchange if turning else Exchange)(source, target, num_nodes)
