"""The labelled frames of a run: read, checked, split, and their isolated-atom energies determined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mlip.datasets.e0 import elements
from mlip.datasets.entry import DatasetEntry
from mlip.datasets.frame import LabelledFrame
from mlip.datasets.reading import read_frames
from mlip.datasets.splitting import split
from mlip.errors import InputError
from mlip.training.loss import Loss
from mlip.training.paths import resolve
from mlip.training.settings import DataSettings


@dataclass
class RunData:
    """Frames of a run.

    Attributes:
        train: Frames to train on, without isolated atoms.
        validation: Frames the best model is chosen by.
        test: Frames evaluated once.
        isolated: Single atoms among the training frames; they set E0.
        sources: What was read from each file, as plain values.
        lines: The same, to print.
    """

    train: list[LabelledFrame]
    validation: list[LabelledFrame]
    test: list[LabelledFrame]
    isolated: list[LabelledFrame]
    sources: list[dict[str, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @property
    def theory(self) -> Any:
        """The level of theory that the files state; None when they do not."""
        found = [frame.info["theory"] for frame in self.train if frame.info.get("theory")]
        return found[0] if found else None

    @property
    def species(self) -> list[str]:
        """Elements of the training frames, by atomic number."""
        return elements(self.train)


def load_data(settings: DataSettings, loss: Loss, seed: int) -> RunData:
    """Read, split and check the frames.

    Raises:
        InputError: A file cannot be read, a label that the loss needs is in no frame, or a set is empty.
    """
    data = RunData([], [], [], [])
    everything = _read(settings.train, data)
    data.isolated = [frame for frame in everything if frame.is_isolated_atom]
    data.train = [frame for frame in everything if not frame.is_isolated_atom]
    if isinstance(settings.validation, float):
        _split(data, settings.validation, seed if settings.split_seed is None else settings.split_seed)
    else:
        data.validation = [f for f in _read(settings.validation, data) if not f.is_isolated_atom]
    data.test = [f for f in _read(settings.test, data) if not f.is_isolated_atom]
    _check_labels(data, loss, settings.train)
    return data


def _read(entries: Sequence[DatasetEntry], data: RunData) -> list[LabelledFrame]:
    frames: list[LabelledFrame] = []
    for entry in entries:
        found = read_frames(resolve(entry))
        data.sources.append(found.source.to_dict())
        data.lines += found.source.lines()
        frames += found
    return frames


def _split(data: RunData, fraction: float, seed: int) -> None:
    """Move a fraction of the training frames to validation; copies of a geometry stay together."""
    parts = split(data.train, validation=fraction, seed=seed)
    chosen = parts.select(data.train)
    data.train, data.validation = chosen["train"], chosen["validation"]
    data.lines += [f"validation: {fraction:g} of the training frames, seed {seed}", *parts.notes]
    if not data.validation:
        raise InputError(f"{fraction:g} of {len(data.train)} frames is none", key="data.validation", mend="raise it")


def _check_labels(data: RunData, loss: Loss, entries: Sequence[DatasetEntry]) -> None:
    """An error before the first step is worth more than a loss of 0.000."""
    files = ", ".join(entry.path for entry in entries)
    for name, frames in (("train", data.train), ("validation", data.validation)):
        if not frames:
            raise InputError("no frames left (isolated atoms only set E0)", file=files, key=f"data.{name}")
        carried = {label for frame in frames for label in (*frame.labels, *frame.response_labels)}
        missing = sorted(loss.targets - carried)
        if missing and (name == "train" or not loss.targets & carried):
            raise InputError(
                f"the loss needs {', '.join(missing)}, and no frame has it",
                file=files,
                key=f"data.{name}",
                mend="name the label under `keys`, or take the term out of `loss`",
            )
