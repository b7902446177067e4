"""What was read from a file, under which names and units: the report that every command prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlip.datasets.frame import LABELS, LabelledFrame


@dataclass
class LabelSource:
    """Where each label of one file came from.

    Attributes:
        file: The file.
        format: Its format.
        frames: How many frames were taken.
        keys: Label → name in the file.
        units: Quantity → unit of the file.
        units_from: Who said so: stated, recognised, converted by ASE …
        stress_sign: ``ase`` or ``vasp``.
        counts: Label → number of frames that carry it.
        masked: Label → number of frames whose value was NaN or Inf and was dropped.
        notes: Remarks for the user.
        available: Every name that the file holds.
    """

    file: Path
    format: str
    frames: int = 0
    keys: dict[str, str] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    units_from: str = "assumed"
    stress_sign: str = "ase"
    counts: dict[str, int] = field(default_factory=dict)
    masked: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    available: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What to print: one line for the labels, one for each remark."""
        unit_of = {"config_type": "", "weight": ""} | self.units
        parts = []
        for target, name in self.keys.items():
            unit = unit_of.get(target, "")
            count = self.counts.get("stress" if target == "virial" else target)
            some = "" if count in (None, self.frames) else f", {count} of {self.frames} frames"
            parts.append(f"{target} ← '{name}'" + (f" [{unit}{some}]" if unit or some else ""))
        labels = "; ".join(parts) or "no labels"
        first = f"{self.file} ({self.format}, {self.frames} frames, units {self.units_from}): {labels}"
        masked = [f"{count} frames have a {name} that is NaN or Inf: masked" for name, count in self.masked.items()]
        return [first, *(f"  {note}" for note in [*masked, *self.notes])]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and for the metadata of models."""
        return {
            "file": str(self.file),
            "format": self.format,
            "frames": self.frames,
            "keys": self.keys,
            "units": self.units,
            "units_from": self.units_from,
            "stress_sign": self.stress_sign,
            "counts": self.counts,
            "masked": self.masked,
            "notes": self.notes,
            "available": self.available,
        }


class FrameList(list[LabelledFrame]):
    """A list of frames that remembers where its labels came from, in ``source``."""

    def __init__(self, frames: list[LabelledFrame], source: LabelSource) -> None:
        super().__init__(frames)
        self.source = source


def count_labels(frames: Iterable[LabelledFrame]) -> dict[str, int]:
    """Label → number of frames that carry it; one pass."""
    counts = Counter(label for frame in frames for label in frame.labels)
    return {name: counts[name] for name in LABELS}
