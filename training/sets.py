"""The labelled frames of a run: read, checked, split, and their isolated-atom energies determined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from mlip.datasets.e0 import elements
from mlip.datasets.entry import DatasetEntry
from mlip.datasets.frame import LabelledFrame
from mlip.datasets.reading import open_frames
from mlip.datasets.splitting import split
from mlip.datasets.views import Frames, chosen, joined, kept
from mlip.errors import InputError
from mlip.training.loss import Loss
from mlip.training.paths import resolve
from mlip.training.settings import DataSettings

_OF_SUBSET = 1  # beside the seed: a draw of its own
_LARGE = 20_000  # frames
_CONVERT = "`mlip data convert {} frames.h5` makes a cache, from which training reads them one by one"


@dataclass
class RunData:
    """Frames of a run: lists, or views of HDF5 caches, whose frames are read when they are asked for.

    Attributes:
        train: Frames to train on, without isolated atoms.
        validation: Frames the best model is chosen by.
        test: Frames evaluated once.
        isolated: Single atoms among the training frames; they set E0.
        sources: What was read from each file, as plain values.
        lines: The same, to print.
    """

    train: Frames
    validation: Frames
    test: Frames
    isolated: list[LabelledFrame]
    sources: list[dict[str, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @property
    def theory(self) -> Any:
        """The level of theory that the files state; None when they do not."""
        stated = (frame.info["theory"] for frame in self.train if frame.info.get("theory"))
        return next(stated, None)

    @cached_property
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
    alone = [frame.is_isolated_atom for frame in everything]
    data.isolated = [everything[k] for k, is_alone in enumerate(alone) if is_alone]
    data.train = chosen(everything, np.flatnonzero(np.logical_not(alone))) if data.isolated else everything
    if isinstance(settings.validation, float):
        _split(data, settings.validation, seed if settings.split_seed is None else settings.split_seed)
    else:
        data.validation = kept(_read(settings.validation, data), _is_condensed)
    data.test = kept(_read(settings.test, data), _is_condensed)
    if settings.subset is not None:
        _thin(data, settings.subset, seed)
    _check_labels(data, loss, settings.train)
    return data


def _is_condensed(frame: LabelledFrame) -> bool:
    return not frame.is_isolated_atom


def _read(entries: Sequence[DatasetEntry], data: RunData) -> Frames:
    opened = [open_frames(resolve(entry)) for entry in entries]
    for part in opened:
        data.sources.append(part.source.to_dict())
        data.lines += part.source.lines()
        if isinstance(part.frames, list) and len(part.frames) > _LARGE:
            data.lines.append(f"  {len(part.frames)} frames in memory: {_CONVERT.format(part.source.file.name)}")
    return joined([part.frames for part in opened])


def _split(data: RunData, fraction: float, seed: int) -> None:
    """Move a fraction of the training frames to validation; copies of a geometry stay together."""
    parts = split(data.train, validation=fraction, seed=seed)
    everything = data.train
    data.train, data.validation = chosen(everything, parts.train), chosen(everything, parts.validation)
    data.lines += [f"validation: {fraction:g} of the training frames, seed {seed}", *parts.notes]
    if not len(data.validation):
        raise InputError(f"{fraction:g} of {len(data.train)} frames is none", key="data.validation", mend="raise it")


def _thin(data: RunData, share: float, seed: int) -> None:
    """Keep a share of the training frames, drawn without replacement and left in their order."""
    count = max(1, round(share * len(data.train)))
    drawn = np.sort(np.random.default_rng([seed, _OF_SUBSET]).choice(len(data.train), count, replace=False))
    data.lines.append(f"subset: {count} of {len(data.train)} training frames, seed {seed}")
    data.train = chosen(data.train, drawn)


def _check_labels(data: RunData, loss: Loss, entries: Sequence[DatasetEntry]) -> None:
    """An error before the first step is worth more than a loss of 0.000."""
    files = ", ".join(entry.path for entry in entries)
    for name, frames in (("train", data.train), ("validation", data.validation)):
        if not len(frames):
            raise InputError("no frames left (isolated atoms only set E0)", file=files, key=f"data.{name}")
        carried: set[str] = set().union(*((*f.labels, *f.response_labels) for f in frames))
        missing = sorted(loss.targets - carried)
        if missing and (name == "train" or not loss.targets & carried):
            raise InputError(
                f"the loss needs {', '.join(missing)}, and no frame has it",
                file=files,
                key=f"data.{name}",
                mend="name the label under `keys`, or take the term out of `loss`",
            )
