"""Energies of isolated atoms for a run: `mlip.datasets.reference_energies`, and what fine-tuning adds to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import overload

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from mlip.datasets.e0 import reference_energies
from mlip.datasets.entry import make_entry
from mlip.datasets.frame import LabelledFrame
from mlip.datasets.reading import read_frames
from mlip.potential import Normalization, Potential
from mlip.training.paths import resolve
from mlip.training.sets import RunData
from mlip.training.settings import E0Settings

_BLOCK = 1000  # frames that are in memory at a time


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

    def with_sizes_of(self, start: Potential, min_distance: Mapping[str, float]) -> Normalization:
        """For fine-tuning: the weights were trained with the old sizes, so only E0 is new, and distances never seen.

        Args:
            start: The model that is fine-tuned.
            min_distance: Smallest distance by pair of species in the new data, Å.
        """
        shift = torch.as_tensor(start.reference.shift).item()  # learnt: not what the header started from
        # files from before normalisation kept them have them among the ranges
        shortest = dict(start.normalization.min_distance or start.metadata.get("ranges", {}).get("min_distance", {}))
        for pair, length in min_distance.items():
            shortest[pair] = min(length, shortest.get(pair, length))
        return replace(start.normalization, energy_shift=shift, e0=self.values, min_distance=shortest)


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


def _without_interaction(frames: Sequence[LabelledFrame], start: Potential) -> Sequence[LabelledFrame]:
    """Frames whose energy is what the old model's energy above E0 leaves over.

    Frames with elements that the old model does not know are kept as they are.
    """
    known = [k for k, f in enumerate(frames) if set(f.atoms.get_chemical_symbols()) <= set(start.species)]
    above = np.zeros(len(frames))
    for first in range(0, len(known), _BLOCK):
        block = known[first : first + _BLOCK]
        structures = [frames[k].atoms for k in block]
        for k, atoms, found in zip(block, structures, start.evaluate(structures, ("energy",)), strict=True):
            above[k] = found["energy"] - _total(atoms, start.normalization.e0)
    return _Lowered(frames, above)


class _Lowered(Sequence[LabelledFrame]):
    """Frames whose energies are lower by so much each."""

    def __init__(self, frames: Sequence[LabelledFrame], above: NDArray[np.float64]) -> None:
        self._frames, self._above = frames, above

    def __len__(self) -> int:
        return len(self._frames)

    @overload
    def __getitem__(self, index: int) -> LabelledFrame: ...
    @overload
    def __getitem__(self, index: slice) -> _Lowered: ...
    def __getitem__(self, index: int | slice) -> LabelledFrame | _Lowered:
        if isinstance(index, slice):
            return _Lowered(self._frames[index], self._above[index])
        frame = self._frames[index]
        return frame if frame.energy is None else replace(frame, energy=frame.energy - self._above[index])

    def __iter__(self) -> Iterator[LabelledFrame]:
        for frame, above in zip(self._frames, self._above, strict=True):
            yield frame if frame.energy is None else replace(frame, energy=frame.energy - above)


def _total(atoms: Atoms, e0: Mapping[str, float]) -> float:
    return sum(e0.get(symbol, 0.0) for symbol in atoms.get_chemical_symbols())
