"""Energies of isolated atoms for a run: `mlip.datasets.reference_energies`, and what fine-tuning adds to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from mlip.datasets.e0 import reference_energies
from mlip.datasets.entry import make_entry
from mlip.datasets.frame import LabelledFrame
from mlip.datasets.reading import read_frames
from mlip.potential import Normalization, Potential
from mlip.training.paths import resolve
from mlip.training.sets import RunData
from mlip.training.settings import E0Settings


@dataclass(frozen=True)
class RunReferences:
    """E0 of each element, eV, and where they come from."""

    values: dict[str, float]
    origin: str
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What to print."""
        shown = ", ".join(f"{symbol} {value:.4f}" for symbol, value in self.values.items())
        return [f"E0 ({self.origin}): {shown} eV", *(f"  {note}" for note in self.notes)]

    def with_sizes_of(self, start: Potential) -> Normalization:
        """For fine-tuning: the weights were trained with the old sizes, so only E0 is new."""
        shift = torch.as_tensor(start.reference.shift).item()  # learnt: not what the header started from
        return replace(start.normalization, energy_shift=shift, e0=self.values)


def run_references(settings: E0Settings, data: RunData, start: Potential | None) -> RunReferences:
    """Determine E0 as the settings say.

    Args:
        settings: Method, file or values.
        data: The frames.
        start: The model that is fine-tuned. A fit then fits what its interaction energy leaves over, so that the
            loaded weights and the new E0 agree; elements that the data lack keep the E0 they had.

    Raises:
        InputError: An element is missing from the values or from the isolated atoms.
    """
    isolated = list(data.isolated)
    if settings.path is not None:
        isolated += read_frames(resolve(make_entry(settings.path)))
    method = settings.method or ("isolated" if _covers(isolated, data.species) else "fit")
    if method == "fit" and not any(frame.energy is not None for frame in data.train):
        return RunReferences(dict.fromkeys(data.species, 0.0), "zero: no frame has an energy")
    frames = data.train if start is None or method != "fit" else _without_interaction(data.train, start)
    found = reference_energies(frames, method, values=settings.values, isolated=isolated)
    origin = {"isolated": "isolated atoms", "fit": "least squares over compositions", "explicit": "explicit"}[method]
    if start is None:
        return RunReferences(found.values, origin, found.notes)
    origin += ", after the interaction energy of init_from" if method == "fit" else ""
    return RunReferences({**start.normalization.e0, **found.values}, origin, found.notes)


def _covers(isolated: Sequence[LabelledFrame], species: Sequence[str]) -> bool:
    there = {f.atoms.get_chemical_symbols()[0] for f in isolated if f.is_isolated_atom and f.energy is not None}
    return set(species) <= there


def _without_interaction(frames: Sequence[LabelledFrame], start: Potential) -> list[LabelledFrame]:
    """Frames whose energy is what the old model's energy above E0 leaves over.

    Frames with elements that the old model does not know are kept as they are.
    """
    known = [frame for frame in frames if set(frame.atoms.get_chemical_symbols()) <= set(start.species)]
    results = start.evaluate([frame.atoms for frame in known], ("energy",))
    above = {id(f): r["energy"] - _total(f, start.normalization.e0) for f, r in zip(known, results, strict=True)}
    return [f if f.energy is None else replace(f, energy=f.energy - above.get(id(f), 0.0)) for f in frames]


def _total(frame: LabelledFrame, e0: Mapping[str, float]) -> float:
    return sum(e0.get(symbol, 0.0) for symbol in frame.atoms.get_chemical_symbols())
