"""Atomic reference energies E0: what is subtracted from total energies before a network sees them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from mlip.datasets.frame import Array, LabelledFrame
from mlip.errors import InputError
from mlip.settings import StrictModel

Method = Literal["isolated", "fit", "explicit"]


class E0Settings(StrictModel):
    """Where the atomic reference energies come from."""

    method: Method = Field(
        "fit",
        description="isolated: energies of single-atom frames, in the training set or in `path`. fit: least squares "
        "over the compositions. explicit: `values`.",
    )
    path: str | None = Field(None, description="isolated: a file of single-atom frames.")
    values: dict[str, float] = Field(default_factory=dict, description="explicit: element → eV.")

    @model_validator(mode="after")
    def _belongs(self) -> E0Settings:
        if self.method == "explicit" and not self.values:
            raise ValueError("method explicit needs `values`")
        if self.method != "explicit" and self.values:
            raise ValueError(f"`values` go with method explicit, not {self.method}")
        if self.method != "isolated" and self.path is not None:
            raise ValueError(f"`path` goes with method isolated, not {self.method}")
        return self


@dataclass(frozen=True)
class ReferenceEnergies:
    """E0 of each element and where they came from.

    Attributes:
        values: Element → E0, eV, float64.
        method: isolated, fit or explicit.
        rank: Of the matrix of compositions, for a fit.
        residual: Rms of what a fit leaves, eV/atom.
        notes: What is and is not meaningful with them.
    """

    values: dict[str, float]
    method: Method
    rank: int | None = None
    residual: float | None = None
    notes: list[str] = field(default_factory=list)

    def total(self, symbols: Sequence[str]) -> float:
        """Σ E0 over the atoms, eV, float64."""
        return float(np.sum([self.values[symbol] for symbol in symbols], dtype=np.float64))

    def subtract(self, frame: LabelledFrame) -> float:
        """Energy above the free (or fitted) atoms, eV; subtracted in float64, before any float32.

        Raises:
            InputError: The frame has no energy, or an element without E0.
        """
        if frame.energy is None:
            raise InputError("has no energy", file=frame.file, frame=frame.index)
        symbols = frame.atoms.get_chemical_symbols()
        missing = sorted(set(symbols) - set(self.values))
        if missing:
            raise InputError(f"no E0 for {', '.join(missing)}", file=frame.file, frame=frame.index)
        return frame.energy - self.total(symbols)


def reference_energies(
    frames: Sequence[LabelledFrame],
    method: Method = "fit",
    *,
    values: Mapping[str, float] | None = None,
    isolated: Sequence[LabelledFrame] | None = None,
) -> ReferenceEnergies:
    """Atomic reference energies for the elements of ``frames``.

    Args:
        frames: Training frames.
        method: ``isolated``, ``fit`` or ``explicit``.
        values: Element → eV, for ``explicit``.
        isolated: Frames that hold the single atoms, for ``isolated``; default: those among ``frames``.

    Raises:
        InputError: An element is left without a value, or energies are missing.
    """
    if method == "isolated":
        return _isolated(frames, frames if isolated is None else isolated)
    if method == "fit":
        return _fit(frames)
    if method == "explicit":
        return _explicit(frames, values or {})
    raise InputError(f"'{method}' is not a method", key="e0.method", mend="isolated, fit or explicit")


def elements(frames: Sequence[LabelledFrame]) -> list[str]:
    """Elements in the frames, by atomic number."""
    from ase.data import chemical_symbols

    numbers = sorted({int(z) for frame in frames for z in np.unique(frame.atoms.numbers)})
    return [chemical_symbols[z] for z in numbers]


def _isolated(frames: Sequence[LabelledFrame], atoms: Sequence[LabelledFrame]) -> ReferenceEnergies:
    found: dict[str, set[float]] = defaultdict(set)
    for frame in atoms:
        if frame.is_isolated_atom and frame.energy is not None:
            found[frame.atoms.get_chemical_symbols()[0]].add(frame.energy)
    several = [symbol for symbol, energies in found.items() if max(energies) - min(energies) > 1e-6]
    if several:
        raise InputError(f"several energies for an isolated {several[0]} atom", key="e0", mend="keep one frame")
    missing = [symbol for symbol in elements(frames) if symbol not in found]
    if missing:
        raise InputError(
            f"no isolated atom with an energy for {', '.join(missing)}",
            key="e0",
            mend="name their file, or method: fit",
        )
    return ReferenceEnergies({symbol: min(found[symbol]) for symbol in elements(frames)}, "isolated")


def _explicit(frames: Sequence[LabelledFrame], values: Mapping[str, float]) -> ReferenceEnergies:
    missing = [symbol for symbol in elements(frames) if symbol not in values]
    if missing:
        raise InputError(f"no value for {', '.join(missing)}", key="e0.values")
    if not all(np.isfinite(list(values.values()))):
        raise InputError("a value is NaN or Inf", key="e0.values")
    return ReferenceEnergies({symbol: float(values[symbol]) for symbol in values}, "explicit")


def _fit(frames: Sequence[LabelledFrame]) -> ReferenceEnergies:
    """Least squares of E/N over the compositions; minimum norm of E0 where they do not determine them.

    Single atoms are left out: their energies would be fitted together with condensed ones.
    """
    symbols = elements(frames)
    rows = (
        (*(frame.atoms.symbols.count(s) for s in symbols), frame.energy)
        for frame in frames
        if frame.energy is not None and not frame.is_isolated_atom
    )
    table = np.fromiter(rows, dtype=(np.float64, len(symbols) + 1))
    if not len(table):
        raise InputError("no frame with an energy to fit", key="e0", mend="method: explicit")
    counts, energies = table[:, :-1], table[:, -1]
    missing = [symbol for symbol, column in zip(symbols, counts.T, strict=True) if not column.any()]
    if missing:
        raise InputError(f"no frame with an energy holds {', '.join(sorted(missing))}", key="e0")
    atoms = counts.sum(axis=1)
    fractions, per_atom = counts / atoms[:, None], energies / atoms
    solution, _, rank, _ = np.linalg.lstsq(fractions, per_atom, rcond=1e-10)
    residual = float(np.sqrt(np.mean((per_atom - fractions @ solution) ** 2)))
    values = dict(zip(symbols, solution.tolist(), strict=True))
    return ReferenceEnergies(values, "fit", int(rank), residual, _caveats(fractions, symbols, int(rank)))


def _caveats(fractions: Array, symbols: list[str], rank: int) -> list[str]:
    notes = ["fitted E0 are not energies of free atoms: dissociation energies are meaningless with them"]
    if rank < len(symbols):
        count = len(np.unique(np.round(fractions, 10), axis=0))
        notes.append(
            f"{count} composition{'s' * (count > 1)} cannot determine {len(symbols)} elements (rank {rank}): "
            "minimum norm; vacancies, other defects and surfaces off these compositions are meaningless too"
        )
    return notes
