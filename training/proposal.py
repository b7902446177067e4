"""A first configuration from what a set of frames holds, with the reasons beside each choice."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import yaml

from mlip.datasets.boxes import in_dummy_box
from mlip.datasets.entry import DatasetEntry
from mlip.datasets.frame import LabelledFrame
from mlip.datasets.inspection import SetSummary, summarise
from mlip.datasets.reading import read_frames
from mlip.datasets.source import FrameList
from mlip.errors import InputError
from mlip.graph import neighbor_pairs
from mlip.training.forecast import Forecast, forecast
from mlip.training.load import validate
from mlip.training.paths import resolve
from mlip.training.settings import WEIGHTS, TrainingSettings

_STEP = 128  # atoms of a step, at most five frames: of large frames few give more steps, and smaller errors
_FEW, _MANY = 14, 75  # neighbours at 5 Å below which 6 Å, and above which 4.5 Å, is proposed
_RUNGS = {"fast": ("small", 2_000), "small": ("medium", 5_000)}  # the next preset, taken above so many steps
_UNITS = {"energy": "eV/atom", "forces": "eV/Å", "stress": "eV/Å³"}


@dataclass(frozen=True)
class Proposal:
    """A configuration as text, what it was made from, and what it will cost.

    Attributes:
        text: The commented YAML.
        summary: What the frames hold.
        forecast: What the run will cost.
    """

    text: str
    summary: SetSummary
    forecast: Forecast

    @property
    def settings(self) -> TrainingSettings:
        """The settings that the text holds."""
        return validate(yaml.safe_load(self.text))


@dataclass(frozen=True)
class _Choices:
    """What the frames suggest."""

    entries: list[DatasetEntry]
    notes: list[list[str]]
    tests: list[str]
    cutoff: float
    neighbors: float
    preset: str
    validation: float
    isolated: list[str]
    targets: list[Literal["energy", "forces", "stress"]]
    batch_size: int
    minutes: float

    def values(self) -> dict[str, Any]:
        """As the schema takes it."""
        return {
            "model": {"preset": self.preset, "cutoff": self.cutoff},
            "data": {"train": [entry.model_dump() for entry in self.entries], "validation": self.validation},
            "loss": [{"target": target, "weight": WEIGHTS[target]} for target in self.targets],
            "training": {"max_epochs": None, "max_minutes": self.minutes, "batch_size": self.batch_size},
        }


def propose(
    entries: Sequence[DatasetEntry],
    *,
    tests: Sequence[str] = (),
    cutoff: float | None = None,
    minutes: float = 30.0,
    head: str = "",
) -> Proposal:
    """Read the frames, choose, and time a few steps of the model that was chosen.

    Args:
        entries: The training files.
        tests: Files to evaluate at the end.
        cutoff: Å; None: 5, or 6 where neighbours are few, or 4.5 where they are many.
        minutes: Length of the run.
        head: A first line of the text.

    Raises:
        InputError: A file cannot be read, or no frame has a label to train on.
    """
    lists = [read_frames(resolve(entry)) for entry in entries]
    frames = [frame for found in lists for frame in found]
    summary = summarise(frames, ", ".join(entry.path for entry in entries), cutoff or 5.0)
    bulk = [frame for frame in frames if not frame.is_isolated_atom]
    targets = [name for name in WEIGHTS if any(getattr(frame, name) is not None for frame in bulk)]
    if not targets:
        raise InputError("no frame has an energy, forces or stress", file=entries[0].path, mend="--key energy=NAME")
    read = [_read_as(entry, found) for entry, found in zip(entries, lists, strict=True)]
    chosen = _cutoff(bulk) if cutoff is None else cutoff
    choices = _Choices(
        entries=[entry for entry, _ in read],
        notes=[notes for _, notes in read],
        tests=list(tests),
        cutoff=chosen,
        neighbors=mean_neighbors(bulk, chosen),
        preset="fast",
        validation=_validation(len(bulk)),
        isolated=sorted({f.composition for f in frames if f.is_isolated_atom and f.energy is not None}),
        targets=targets,
        batch_size=_batch_size(bulk),
        minutes=minutes,
    )
    choices, cost = _with_preset(choices, bulk)
    text = _text(choices, summary, cost, head)
    validate(yaml.safe_load(text))
    return Proposal(text, summary, cost)


def mean_neighbors(frames: Sequence[LabelledFrame], cutoff: float, most: int = 20) -> float:
    """Mean neighbours of an atom within the cutoff (Å), over at most ``most`` frames spread over the set."""
    some = [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, most).astype(int))]
    return sum(len(neighbor_pairs(f.atoms, cutoff)[0]) for f in some) / sum(len(f) for f in some)


def _cutoff(frames: Sequence[LabelledFrame]) -> float:
    neighbors = mean_neighbors(frames, 5.0)
    if neighbors > _MANY:
        return 4.5
    return 6.0 if neighbors < _FEW and frames[0].atoms.pbc.all() and not in_dummy_box(frames[0].atoms) else 5.0


def _batch_size(frames: Sequence[LabelledFrame]) -> int:
    """Up to five that hold some 128 atoms, at most a tenth of the frames."""
    fitting = round(_STEP * len(frames) / sum(len(frame) for frame in frames))
    return max(1, min(5, fitting, len(frames) // 10))


def _validation(count: int) -> float:
    """A twentieth, of small sets enough that the best model is not chosen by one or two frames."""
    return 0.05 if count >= 200 else (0.1 if count >= 60 else 0.2)


def _read_as(entry: DatasetEntry, found: FrameList) -> tuple[DatasetEntry, list[str]]:
    """The entry with the names that were found written out, and remarks."""
    keys: Mapping[Any, str | None] = {**found.source.keys, **entry.keys}
    boxed = sum(in_dummy_box(frame.atoms) for frame in found)
    notes = [note for note in found.source.notes if "--no-pbc" not in note]
    if entry.pbc is None and boxed == len(found):
        notes.append("all frames are molecules in an empty periodic box, which is dropped")
        entry = entry.model_copy(update={"pbc": False})
    written = found.source.format != "cache" and ":" not in entry.path
    return entry.model_copy(update={"keys": dict(keys)}) if written else entry, notes


def _with_preset(choices: _Choices, frames: Sequence[LabelledFrame]) -> tuple[_Choices, Forecast]:
    """The largest preset that the minutes allow, by timing each from the fastest on."""
    cost = _cost(choices, frames)
    while choices.preset in _RUNGS and cost.run_epochs * cost.steps_per_epoch > _RUNGS[choices.preset][1]:
        choices = replace(choices, preset=_RUNGS[choices.preset][0])
        cost = _cost(choices, frames)
    return choices, cost


def _cost(choices: _Choices, frames: Sequence[LabelledFrame]) -> Forecast:
    validation = max(1, round(choices.validation * len(frames)))
    train = frames[: max(1, len(frames) - validation)]
    return forecast(validate(choices.values()), train, validation)


def _text(choices: _Choices, summary: SetSummary, cost: Forecast, head: str) -> str:
    lines = [head] if head else []
    kind = "periodic" if summary.periodic and not summary.dummy_boxes else "molecules"
    lines += [
        (
            f"# {summary.frames} frames of {_between(summary.atoms_min, summary.atoms_max)} atoms ({kind}): "
            f"{' '.join(summary.species)}"
        ),
        *(f"# Forecast: {line}" for line in cost.lines()),
        "model:",
        f"  preset: {choices.preset}".ljust(28) + "# fast, small, medium, large",
        f"  cutoff: {choices.cutoff:g}".ljust(28) + f"# Å; {choices.neighbors:.0f} neighbours of an atom",
        "  # zbl: true".ljust(28) + "# nuclear repulsion where no frame reaches: for runs at high temperature",
        "data:",
        "  train:",
    ]
    for entry, notes in zip(choices.entries, choices.notes, strict=True):
        lines += [f"    # {note}" for note in notes]
        lines.append(f"    - {_flow(entry)}")
    lines += [
        f"  validation: {choices.validation:g}".ljust(28) + "# share of the frames that the best model is chosen by",
        *([f"  test: {json.dumps(choices.tests)}"] if choices.tests else []),
        *_e0(choices, summary),
        "loss:".ljust(28) + "# Σ weight × mean square error",
    ]
    for target in choices.targets:
        count = f"{summary.labels[target]} of {summary.frames} frames"
        lines.append(
            f"  - {{target: {target}, weight: {WEIGHTS[target]:g}}}".ljust(42) + f"# {_UNITS[target]}; {count}"
        )
    lines += [
        "training:",
        "  max_epochs: null",
        f"  max_minutes: {choices.minutes:g}".ljust(28) + "# the learning rate lands at zero after so many",
        f"  batch_size: {choices.batch_size}".ljust(28) + "# frames a step; fewer give more steps in the same time",
    ]
    return "\n".join(lines) + "\n"


def _between(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def _flow(entry: DatasetEntry) -> str:
    """The settings of a file that are not the default, on one line of YAML."""
    plain = entry.model_dump(exclude_defaults=True)
    text = yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True)
    return text.strip()


def _e0(choices: _Choices, summary: SetSummary) -> list[str]:
    """Reference energies: of the isolated atoms where every element has one, else fitted."""
    if "energy" not in choices.targets:
        return []
    whole = set(choices.isolated) >= set(summary.species)
    method = "isolated" if whole else "fit"
    reason = "energies of the isolated atoms in the set" if whole else "least squares over the compositions"
    caveat = "" if whole or summary.compositions > len(summary.species) else "; not those of free atoms"
    return [f"  e0: {{method: {method}}}".ljust(28) + f"# {reason}{caveat}"]
