"""Frames by index without a copy of them: parts of caches and lists, joined, chosen and changed on the way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlip.datasets.frame import LabelledFrame

Frames = Sequence[LabelledFrame]
_BLOCK = 256  # frames that are in memory at a time while one iterates
_SPARSE = 4  # a block of a cache is read whole unless it holds so many times more frames than are wanted


class FrameView(Sequence[LabelledFrame]):
    """Frames of one or several sequences in any order; eight bytes for each, wherever it lies.

    Iterating reads neighbouring frames together, so that a pass over a cache costs little more than its bytes.

    Args:
        parts: Lists, caches or other views, one after another.
        index: Which frames, counted over all parts; None: all.
    """

    def __init__(self, parts: Sequence[Frames], index: ArrayLike | None = None) -> None:
        self._parts = list(parts)
        self._starts = np.cumsum([0, *(len(part) for part in self._parts)])
        chosen = np.arange(self._starts[-1]) if index is None else index
        self._index: NDArray[np.int64] = np.asarray(chosen, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, index: int) -> LabelledFrame: ...
    @overload
    def __getitem__(self, index: slice) -> FrameView: ...
    def __getitem__(self, index: int | slice) -> LabelledFrame | FrameView:
        if isinstance(index, slice):
            return FrameView(self._parts, self._index[index])
        number = int(self._index[index])
        part = self._part_of(number)
        return self._parts[part][number - int(self._starts[part])]

    def __iter__(self) -> Iterator[LabelledFrame]:
        for start in range(0, len(self._index), _BLOCK):
            yield from self._block(self._index[start : start + _BLOCK])

    def select(self, indices: ArrayLike) -> FrameView:
        """The frames at these places, in this order."""
        return FrameView(self._parts, self._index[np.asarray(indices, dtype=np.int64)])

    def _part_of(self, number: int) -> int:
        return int(np.searchsorted(self._starts, number, side="right")) - 1

    def _block(self, numbers: NDArray[np.int64]) -> Iterator[LabelledFrame]:
        low, high = int(numbers.min()), int(numbers.max()) + 1
        part = self._part_of(low)
        if high > self._starts[part + 1] or high - low > _SPARSE * len(numbers):
            yield from (FrameView(self._parts, [number])[0] for number in numbers)
            return
        start = int(self._starts[part])
        frames = list(self._parts[part][low - start : high - start])
        yield from (frames[number - low] for number in numbers)


class Mapped(Sequence[LabelledFrame]):
    """Frames on which something is done each time they are asked for.

    Args:
        frames: The frames.
        change: From a frame to another, or to itself.
    """

    def __init__(self, frames: Frames, change: Callable[[LabelledFrame], LabelledFrame]) -> None:
        self._frames, self._change = frames, change

    def __len__(self) -> int:
        return len(self._frames)

    @overload
    def __getitem__(self, index: int) -> LabelledFrame: ...
    @overload
    def __getitem__(self, index: slice) -> Mapped: ...
    def __getitem__(self, index: int | slice) -> LabelledFrame | Mapped:
        if isinstance(index, slice):
            return Mapped(self._frames[index], self._change)
        return self._change(self._frames[index])

    def __iter__(self) -> Iterator[LabelledFrame]:
        return map(self._change, self._frames)


def chosen(frames: Frames, indices: Any) -> Frames:
    """The frames at these places: a list of a list, a view of what is not in memory."""
    if isinstance(frames, list):
        return [frames[k] for k in indices]
    return FrameView([frames], indices)


def kept(frames: Frames, wanted: Callable[[LabelledFrame], bool]) -> Frames:
    """The frames that pass a test: a list of a list, a view of what is not in memory."""
    if isinstance(frames, list):
        return [frame for frame in frames if wanted(frame)]
    return FrameView([frames], [k for k, frame in enumerate(frames) if wanted(frame)])


def joined(parts: Sequence[Frames]) -> Frames:
    """Several sequences as one: a list where all are, else a view."""
    if all(isinstance(part, list) for part in parts):
        return [frame for part in parts for frame in part]
    return FrameView([part for part in parts if len(part)])
