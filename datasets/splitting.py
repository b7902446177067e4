"""Split frames into training, validation and test so that no copy and no neighbour in time leaks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from mlip.datasets.frame import LabelledFrame
from mlip.datasets.neighbours import find_copies
from mlip.errors import InputError

Mode = Literal["random", "contiguous"]
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Indices of the frames of each part, ascending.

    Attributes:
        train: Training.
        validation: Validation.
        test: Test.
        left_out: Frames of the gaps between contiguous parts.
        notes: What was kept together and why.
    """

    train: list[int]
    validation: list[int]
    test: list[int]
    left_out: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def select(self, frames: Sequence[LabelledFrame]) -> dict[str, list[LabelledFrame]]:
        """The frames of each part."""
        return {part: [frames[i] for i in getattr(self, part)] for part in PARTS}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: getattr(self, name) for name in (*PARTS, "left_out", "notes")}


def split(
    frames: Sequence[LabelledFrame],
    *,
    validation: float | int = 0.05,
    test: float | int = 0.0,
    seed: int = 0,
    mode: Mode = "random",
    block: int = 1,
    gap: int = 0,
) -> Split:
    """Split frames.

    Copies of one geometry always stay together; isolated atoms go to training. Random splits take the same
    fraction of every config type (structures of one formula where none is given).

    Args:
        frames: The frames.
        validation: Fraction (below 1) or number of frames.
        test: The same for the test part.
        seed: Seed of a random split.
        mode: ``random``, or ``contiguous``: training first, then validation, then test, in the order given, for
            molecular-dynamics trajectories.
        block: Random: so many consecutive frames of one file stay together.
        gap: Contiguous: so many frames are left out between parts.

    Raises:
        InputError: Impossible sizes.
    """
    count = len(frames)
    if mode not in ("random", "contiguous"):
        raise InputError(f"'{mode}' is not a way to split", key="mode", mend="random or contiguous")
    if block < 1 or gap < 0:
        raise InputError("block must be 1 or more and gap 0 or more", key="split")
    sizes = {"validation": _size(validation, count, "validation"), "test": _size(test, count, "test")}
    if sum(sizes.values()) >= count:
        raise InputError(f"{sum(sizes.values())} of {count} frames leave nothing to train on", key="split")
    clusters = find_copies(frames)
    if mode == "contiguous":
        return _contiguous(count, sizes, gap, clusters)
    return _random(frames, sizes, seed, block, clusters)


def _size(wanted: float, count: int, name: str) -> int:
    if wanted < 0 or not np.isfinite(wanted) or (wanted >= 1 and wanted != int(wanted)):
        raise InputError(f"{wanted} is neither a fraction nor a number of frames", key=name)
    if wanted >= 1 or wanted == 0:
        return int(wanted)
    return max(1, round(wanted * count))


def _random(frames: Sequence[LabelledFrame], sizes: dict[str, int], seed: int, block: int, clusters: Any) -> Split:
    groups = _groups(frames, block, clusters)
    kinds = [None if f.is_isolated_atom else f.config_type or f.composition for f in frames]
    strata: dict[str, list[list[int]]] = defaultdict(list)
    for group in groups:
        if all(kinds[i] is not None for i in group):
            strata[str(kinds[group[0]])].append(group)
    rng = np.random.default_rng(seed)
    free = sum(len(group) for stratum in strata.values() for group in stratum)
    parts: dict[str, list[int]] = {"validation": [], "test": []}
    owed = dict.fromkeys(parts, 0.0)
    for name in _small_first(strata, rng):
        order = [strata[name][i] for i in rng.permutation(len(strata[name]))]
        members = sum(len(group) for group in order)
        for part, wanted in sizes.items():
            owed[part] += wanted * members / max(free, 1)
            while order and owed[part] >= len(order[-1]) - 0.5 and (len(order) > 1 or len(strata[name]) == 1):
                owed[part] -= len(order[-1])
                parts[part] += order.pop()
    return _finish(len(frames), parts, [], _notes(len(frames), clusters, block))


def _small_first(strata: dict[str, list[list[int]]], rng: np.random.Generator) -> list[str]:
    """Names of the strata by size, those of one size in random order."""
    shuffled = rng.permutation(sorted(strata)).tolist()
    return sorted(shuffled, key=lambda name: len(strata[name]))


def _groups(frames: Sequence[LabelledFrame], block: int, clusters: Any) -> list[list[int]]:
    """Frames that must stay together: copies, and blocks of consecutive frames of one file."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    position: dict[Any, int] = defaultdict(int)
    names: dict[Any, int] = {}
    blocks = []
    for frame in frames:
        blocks.append(names.setdefault((frame.file, position[frame.file] // block), len(names)))
        position[frame.file] += 1
    rows = np.concatenate([np.arange(len(frames))] * 2)
    columns = np.concatenate([len(frames) + clusters, len(frames) * 2 + np.array(blocks, dtype=int)])
    size = 3 * len(frames)
    labels = connected_components(
        coo_array((np.ones(len(rows)), (rows, columns)), shape=(size, size)), directed=False
    )[1]
    groups: dict[int, list[int]] = defaultdict(list)
    for index in range(len(frames)):
        groups[int(labels[index])].append(index)
    return list(groups.values())


def _contiguous(count: int, sizes: dict[str, int], gap: int, clusters: Any) -> Split:
    """Parts in the order of the frames; a copy of a training frame in a later part is left out."""
    gaps = gap * sum(size > 0 for size in sizes.values())
    last = count - sizes["validation"] - sizes["test"] - gaps
    if last < 1:
        raise InputError("the gaps leave nothing to train on", key="gap")
    start = last + gap * (sizes["validation"] > 0)
    validation = range(start, start + sizes["validation"])
    test = range(count - sizes["test"], count)
    seen: set[int] = set(clusters[:last].tolist())
    parts: dict[str, list[int]] = {}
    for name, members in (("validation", validation), ("test", test)):
        parts[name] = [i for i in members if int(clusters[i]) not in seen]
        seen |= {int(clusters[i]) for i in members}
    taken = {*range(last), *parts["validation"], *parts["test"]}
    left_out = [i for i in range(count) if i not in taken]
    return _finish(count, parts, left_out, _notes(count, clusters, 1))


def _finish(count: int, parts: dict[str, list[int]], left_out: list[int], notes: list[str]) -> Split:
    away = {*parts["validation"], *parts["test"], *left_out}
    train = [i for i in range(count) if i not in away]
    if not train:
        raise InputError("nothing is left to train on", key="split", mend="smaller parts or smaller blocks")
    return Split(train, sorted(parts["validation"]), sorted(parts["test"]), left_out, notes)


def _notes(count: int, clusters: Any, block: int) -> list[str]:
    copies = count - len(set(clusters.tolist()))
    notes = [f"{copies} frames are copies of others and stay with them"] if copies else []
    return [*notes, f"blocks of {block} consecutive frames stay together"] if block > 1 else notes
