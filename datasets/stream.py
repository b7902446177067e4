"""Labelled frames one after another, and what is to be said about all of them once the last has gone by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

from mlip.datasets.boxes import empty_gaps, in_dummy_box
from mlip.datasets.frame import LABELS, LabelledFrame
from mlip.datasets.labels import LabelReader
from mlip.datasets.source import LabelSource
from mlip.errors import InputError
from mlip.surroundings import FRAME


class FrameStream(Iterable[LabelledFrame]):
    """The frames of one file in turn, for sets larger than memory; go over them once.

    Args:
        frames: The frames, or how to come by them.
        source: Where they come from.
        require: Labels that at least one frame must have.
        laboratory: Whether structures that say nothing of their axes are in the laboratory's.
        reader: Who turned the file's values into labels; its remarks go into ``source``.

    Attributes:
        source: As given; its counts and notes are complete after the last frame.

    Raises:
        InputError: After the last frame: a required label is missing from all of them.
    """

    def __init__(
        self,
        frames: Iterable[LabelledFrame],
        source: LabelSource,
        require: Iterable[str] = (),
        *,
        laboratory: bool = False,
        reader: LabelReader | None = None,
    ) -> None:
        self.source = source
        self._frames, self._require, self._laboratory, self._reader = frames, tuple(require), laboratory, reader

    def __iter__(self) -> Iterator[LabelledFrame]:
        seen = _Seen()
        for frame in self._frames:
            seen.add(frame)
            if self._laboratory:
                frame.atoms.info.setdefault(FRAME, np.eye(3))
            yield frame
        self._finish(seen)

    def _finish(self, seen: _Seen) -> None:
        source = self.source
        source.frames, source.counts = seen.frames, {name: seen.labels[name] for name in LABELS}
        source.notes += seen.placeholders()
        if self._reader is not None:
            source.masked = dict(self._reader.masked)
            source.notes += [f"{note} ({count} frames)" for note, count in self._reader.notes.items()]
        for name in self._require:
            _demand(name, source)
        source.notes += seen.boxes()
        if self._laboratory and seen.silent:
            source.notes.append(f"{seen.silent} frames declared to be in the laboratory's axes (frame: lab)")


class _Seen:
    """Counts over the frames that went by."""

    def __init__(self) -> None:
        self.frames, self.labels, self.nonzero = 0, Counter[str](), set[str]()
        self.boxed, self.narrowest, self.silent = 0, np.inf, 0

    def add(self, frame: LabelledFrame) -> None:
        self.frames += 1
        self.labels.update(frame.labels)
        self.nonzero |= {name for name in frame.labels if name not in self.nonzero and np.any(getattr(frame, name))}
        self.silent += frame.atoms.info.get(FRAME) is None
        if in_dummy_box(frame.atoms):
            self.boxed += 1
            self.narrowest = min(self.narrowest, float(np.min(empty_gaps(frame.atoms))))

    def placeholders(self) -> list[str]:
        """Remarks on labels that are exactly zero everywhere, as placeholders are."""
        found = [(name, self.labels[name]) for name in LABELS if name not in self.nonzero]
        return [f"{name}: exactly zero in all {count} frames, a placeholder?" for name, count in found if count > 1]

    def boxes(self) -> list[str]:
        """A remark on molecules in boxes that they do not feel."""
        if not self.boxed:
            return []
        box = f"{self.boxed} frames are molecules in a periodic box, at least {self.narrowest:.0f} Å empty"
        return [f"{box}: --no-pbc drops it"]


def _demand(name: str, source: LabelSource) -> None:
    if source.counts[name] == 0:
        masked = source.masked.get(name, 0)
        problem = f"no frame has a finite {name}" if masked else f"no frame has {name}"
        names = ", ".join(source.available[:12]) or "nothing"
        raise InputError(problem, file=source.file, mend=f"it has {names}; --key {name}=NAME if it is one of these")
    if source.counts[name] < source.frames:
        missing = source.frames - source.counts[name]
        source.notes.append(f"{missing} of {source.frames} frames have no {name}: masked")
