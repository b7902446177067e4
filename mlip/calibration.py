"""How far a committee's spread must be stretched to be an error bar, and the file that remembers it."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlip.errors import InputError
from mlip.files import write_text

FILE = "committee.json"
_FORMAT = "curie-mlip-committee"


@dataclass(frozen=True)
class Calibration:
    """Factors on a committee's standard deviations, and the members and frames they belong to.

    Attributes:
        scales: ``energy``, ``forces`` and ``stress``, those that were calibrated, → factor.
        members: SHA-256 of each model file, sorted.
        frames: Label → number of values it was calibrated on.
        data: What the frames are called.
    """

    scales: dict[str, float]
    members: list[str]
    frames: dict[str, int]
    data: str

    def scale(self, name: str) -> float:
        """Factor on the standard deviation of one quantity; 1 where it was not calibrated."""
        return self.scales.get(name, 1.0)

    def save(self, models: Sequence[str | Path]) -> Path:
        """Write it where `find` looks for these models."""
        path = _place(models)
        write_text(path, json.dumps({"format": _FORMAT, **vars(self)}, indent=1) + "\n")
        return path

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read a calibration.

        Raises:
            InputError: Not such a file.
        """
        try:
            values: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
            if values.pop("format") != _FORMAT:
                raise ValueError
            found = cls(**values)
            if not all(isinstance(s, float | int) and 0 < s < float("inf") for s in found.scales.values()):
                raise ValueError
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            raise InputError("is not a committee's calibration", file=path, mend="calibrate again") from None
        return found

    @classmethod
    def find(cls, models: Sequence[str | Path]) -> Calibration | None:
        """The calibration beside these model files; None where there is none, or it is that of other models.

        Raises:
            InputError: The file is there, and damaged.
        """
        path = _place(models)
        if not path.is_file():
            return None
        found = cls.load(path)
        return found if found.members == fingerprints(models) else None


def fingerprints(models: Sequence[str | Path]) -> list[str]:
    """SHA-256 of each file, sorted: a committee has no order."""
    return sorted(hashlib.sha256(Path(model).read_bytes()).hexdigest() for model in models)


def _place(models: Sequence[str | Path]) -> Path:
    """The folder that holds all of the models."""
    return Path(os.path.commonpath([Path(model).resolve().parent for model in models])) / FILE


def expand(pattern: str) -> list[Path]:
    """The files that a pattern with ``*``, ``?`` or ``[`` matches, sorted; the path itself without one.

    Raises:
        InputError: None at all.
    """
    if not glob.has_magic(pattern) or Path(pattern).exists():
        return [Path(pattern)]
    found = sorted(glob.glob(pattern))  # noqa: PTH207  (a Path does not match absolute patterns)
    if not found:
        raise InputError("no model file matches", file=pattern)
    return [Path(path) for path in found]
