"""Frames that are near each other, and frames that are copies of each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import islice

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from mlip.datasets.align import step_between, wrapped
from mlip.datasets.boxes import unboxed
from mlip.datasets.frame import Array, LabelledFrame, heights
from mlip.datasets.views import FrameView, Mapped

COPY_TOLERANCE = 1e-3  # Å, largest displacement of an atom between two copies
STRAIN_TOLERANCE = 1e-4
CELL_TOLERANCE = 0.2
_DIMENSIONS = 32  # of the space in which neighbours are searched
_PAIRS = 400  # distances that describe a molecule
_BLOCK = 256  # frames that are described at a time


def comparable_groups(frames: Sequence[LabelledFrame]) -> list[list[int]]:
    """Indices of frames with the same atoms in the same order, the same boundary conditions and similar cells.

    Cells are similar that differ by less than 20 % from that of a part's first frame. One pass over the frames.
    """
    groups: dict[tuple[bytes, bytes], list[tuple[Array | None, list[int]]]] = defaultdict(list)
    for index, frame in enumerate(frames):
        _place(groups[frame.atoms.numbers.tobytes(), frame.atoms.pbc.tobytes()], frame, index)
    return [members for parts in groups.values() for _, members in parts]


def _place(parts: list[tuple[Array | None, list[int]]], frame: LabelledFrame, index: int) -> None:
    """Into the first part whose cell is similar, or a new one."""
    if not frame.atoms.pbc.any():
        cell, near = None, iter([members for _, members in parts])
    else:
        cell = np.asarray(frame.atoms.cell.complete())
        near = (
            members
            for inverse, members in parts
            if inverse is not None and np.abs(inverse @ cell - np.eye(3)).max() < CELL_TOLERANCE
        )
    members = next(near, None)
    if members is None:
        parts.append((None if cell is None else np.linalg.inv(cell), [index]))
    else:
        members.append(index)


def fingerprints(frames: Sequence[LabelledFrame]) -> Array:
    """(frames, d ≤ 32) points whose distances follow those between the comparable ``frames``, in about Å.

    Distances between atoms for molecules; sines and cosines of the fractional displacements from the first
    frame for crystals, with the cell: neither depends on translation, and the former not on rotation.
    """
    first, rest, start = frames[0], iter(frames), 0
    points = np.empty((0, 0))
    while block := list(islice(rest, _BLOCK)):
        rows = _reduced(_crystal(first, block) if first.atoms.pbc.any() else _molecule(block))
        points = points if start else np.empty((len(frames), rows.shape[1]))
        points[start : start + len(block)] = rows
        start += len(block)
    return points


def _reduced(many: Array) -> Array:
    """At most 32 coordinates: a random projection, the same for all blocks."""
    if many.shape[1] <= _DIMENSIONS:
        return many
    projection = np.random.default_rng(0).normal(size=(many.shape[1], _DIMENSIONS)) / np.sqrt(_DIMENSIONS)
    return np.asarray(many @ projection)


def _molecule(frames: Sequence[LabelledFrame]) -> Array:
    i, j = np.triu_indices(len(frames[0]), 1)
    if len(i) > _PAIRS:
        kept = np.random.default_rng(0).choice(len(i), _PAIRS, replace=False)
        i, j = i[kept], j[kept]
    if len(i) == 0:
        return np.zeros((len(frames), 1))
    return np.stack([np.linalg.norm(f.atoms.positions[i] - f.atoms.positions[j], axis=1) for f in frames])


def _crystal(first: LabelledFrame, frames: Sequence[LabelledFrame]) -> Array:
    pbc, tall = first.atoms.pbc, heights(first.atoms)
    cells = np.stack([np.asarray(f.atoms.cell.complete()) for f in frames])
    positions = np.stack([f.atoms.positions for f in frames])
    fractions = positions @ np.linalg.inv(cells)
    origin = first.atoms.positions @ np.linalg.inv(np.asarray(first.atoms.cell.complete()))
    turns = 2 * np.pi * wrapped(fractions - origin, pbc)
    scale = np.where(pbc, np.where(np.isfinite(tall), tall, 1.0), 1.0)
    waves = np.concatenate([np.sin(turns), np.cos(turns)], axis=-1) * np.tile(scale, 2) / (2 * np.pi)
    return np.concatenate([waves.reshape(len(frames), -1), cells.reshape(len(frames), 9)], axis=1)


def nearest_pairs(frames: Sequence[LabelledFrame], count: int = 3) -> list[tuple[int, int]]:
    """For each frame, its ``count`` nearest comparable frames, as pairs (i, j), i < j, each once."""
    pairs: set[tuple[int, int]] = set()
    for group in comparable_groups(frames):
        if len(group) < 2:
            continue
        points = fingerprints([frames[i] for i in group])
        k = min(count + 1, len(group))
        _, near = cKDTree(points).query(points, k=k)
        for a, row in enumerate(near):
            pairs |= {(group[min(a, b)], group[max(a, b)]) for b in row if a != b}
    return sorted(pairs)


def find_copies(frames: Sequence[LabelledFrame], tolerance: float = COPY_TOLERANCE) -> Array:
    """(frames,) integer: frames with the same number are the same geometry.

    Same atoms in the same order, up to translation, lattice vectors, and (for molecules) rotation and mirror.

    Args:
        frames: The frames.
        tolerance: Largest displacement of an atom between two copies, Å.
    """
    edges: list[tuple[int, int]] = []
    free = Mapped(frames, unboxed)
    for group in comparable_groups(free):
        edges += [(group[a], group[b]) for a, b in _copies_in(FrameView([free], group), tolerance)]
    rows, columns = (np.array(edges, dtype=int).reshape(-1, 2)).T
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(frames), len(frames)))
    labels: Array = connected_components(graph, directed=False)[1]
    return labels


def _copies_in(frames: Sequence[LabelledFrame], tolerance: float) -> list[tuple[int, int]]:
    """Pairs that connect copies among comparable frames; candidates are checked atom by atom."""
    if len(frames) < 2:
        return []
    points = fingerprints(frames)
    edges, first = _repeated(points)
    distinct = points if len(first) == len(points) else points[first]
    radius = 4 * tolerance * np.sqrt(len(frames[0]))
    near = cKDTree(distinct).query_pairs(radius)
    edges += [(int(first[a]), int(first[b])) for a, b in sorted(near)]
    return [(a, b) for a, b in edges if _same(frames[a], frames[b], tolerance)]


def _repeated(points: Array) -> tuple[list[tuple[int, int]], Array]:
    """Pairs (first, later) of equal points, and the first of each; eight bytes a point, its hash."""
    hashes = np.fromiter((hash(np.round(point, 9).tobytes()) for point in points), dtype=np.int64, count=len(points))
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    earliest = first[inverse.ravel()]
    later = np.flatnonzero(earliest != np.arange(len(points)))
    return [(int(earliest[k]), int(k)) for k in later], np.sort(first)


def _same(a: LabelledFrame, b: LabelledFrame, tolerance: float) -> bool:
    step = step_between(a.atoms, b.atoms)
    return step.largest < tolerance and float(np.abs(step.strain).max()) < STRAIN_TOLERANCE
