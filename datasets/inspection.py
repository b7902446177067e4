"""The table that is printed before anything is trained: what a set of frames holds, and what is odd about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mlip.datasets.doctor import Diagnosis, diagnose
from mlip.datasets.entry import DatasetEntry
from mlip.datasets.frame import LabelledFrame
from mlip.datasets.hidden import HiddenReport, hidden_variables
from mlip.datasets.neighbours import find_copies
from mlip.datasets.progress import slowly
from mlip.datasets.reading import read_frames
from mlip.datasets.source import FrameList, LabelSource
from mlip.datasets.statistics import SetStatistics
from mlip.datasets.views import FrameView

MOST_EXAMINED = 5000  # frames whose neighbours are compared pair by pair
_OUTLIER = 20.0  # times the median |F| of the set, and
_OUTLIER_FORCE = 5.0  # eV/Å


@dataclass(frozen=True)
class ForceOutlier:
    """A frame with one very large force: eV/Å, and the atom that feels it."""

    name: str
    atom: int
    force: float


@dataclass(frozen=True)
class SetSummary:
    """What a set of frames holds.

    Energies in eV, forces in eV/Å, lengths in Å. Quantities that need labels that are not there are None.

    Attributes:
        file: The file, or a name.
        frames: Number of frames.
        periodic: Whether any frame is periodic in any direction.
        species: Elements, by atomic number.
        atoms_min: Fewest atoms of a frame.
        atoms_max: Most atoms.
        labels: Label → number of frames that carry it.
        energy_per_atom: Lowest and highest.
        force_rms: Rms of |F|.
        force_max: Largest |F|.
        net_force_max: Largest |Σ F| of a frame.
        net_torque_max: Largest |Σ (x − x̄) × F| of a molecule, eV.
        hessian_asymmetry: Largest |H − Hᵀ| element, eV/Å².
        hessian_drift: Largest |Σ_j H_ij| element, eV/Å²; zero where translations cost nothing.
        height_min: Smallest distance between faces of a periodic cell.
        height_max: Largest.
        cutoff: The cutoff that cells are compared with.
        below_cutoff: Frames with a cell height below twice the cutoff, which see their own images.
        dummy_boxes: Frames of molecules in a periodic box.
        isolated_atoms: Frames of single atoms.
        compositions: Number of different formulas.
        config_types: Config type → number of frames.
        weights: Smallest and largest frame weight.
        copies: Frames that are copies of an earlier one.
        examined: Frames that the label doctor and the search for hidden variables looked at.
        force_outliers: Frames with very large forces.
        diagnosis: The label doctor's.
        hidden: Hidden variables and noise floor.
        source: Where the labels came from.
    """

    file: str
    frames: int
    periodic: bool
    species: list[str]
    atoms_min: int
    atoms_max: int
    labels: dict[str, int]
    energy_per_atom: tuple[float, float] | None
    force_rms: float | None
    force_max: float | None
    net_force_max: float | None
    net_torque_max: float | None
    hessian_asymmetry: float | None
    hessian_drift: float | None
    height_min: float | None
    height_max: float | None
    cutoff: float
    below_cutoff: int
    dummy_boxes: int
    isolated_atoms: int
    compositions: int
    config_types: dict[str, int]
    weights: tuple[float, float]
    copies: int
    examined: int
    force_outliers: list[ForceOutlier] = field(default_factory=list)
    diagnosis: Diagnosis | None = None
    hidden: HiddenReport = field(default_factory=HiddenReport)
    source: LabelSource | None = None

    def to_dict(self) -> dict[str, Any]:
        """One entry of ``mlip data inspect --json``."""
        special = {
            "force_outliers": [vars(outlier) for outlier in self.force_outliers],
            "diagnosis": None if self.diagnosis is None else self.diagnosis.to_dict(),
            "hidden_variables": self.hidden.lines(),
            "source": None if self.source is None else self.source.to_dict(),
        }
        skipped = {*special, "hidden"}
        return {name: value for name, value in vars(self).items() if name not in skipped} | special


def inspect(
    data: str | Path | DatasetEntry | Mapping[str, Any] | Sequence[LabelledFrame],
    *,
    cutoff: float = 5.0,
    name: str | None = None,
    **reading: Any,
) -> SetSummary:
    """Summarise a set of labelled frames.

    Args:
        data: Frames, or what ``read_frames`` takes.
        cutoff: Radius with which cells are compared, Å.
        name: Name of the set; default its file.
        **reading: Passed to ``read_frames``: index, keys, units, stress_sign, pbc, require, weight.

    Returns:
        The summary; print it with ``mlip.datasets.tables.print_summaries``.
    """
    readable = isinstance(data, str | Path | DatasetEntry | Mapping)
    frames = read_frames(data, **reading) if readable else data  # type: ignore[arg-type]
    source = frames.source if isinstance(frames, FrameList) else None
    title = name or (str(source.file) if source else "frames")
    return summarise(list(frames), title, cutoff, source)  # type: ignore[arg-type]


def summarise(
    frames: Sequence[LabelledFrame], name: str, cutoff: float = 5.0, source: LabelSource | None = None
) -> SetSummary:
    """The summary of frames, in memory or not. Numbers are of all frames; near pairs are looked for in a part."""
    seen = SetStatistics.of(slowly(frames, f"looking at {name}", total=len(frames)), cutoff)
    some = thinned(frames)
    return SetSummary(
        file=name,
        frames=len(frames),
        periodic=seen.periodic,
        species=seen.species,
        atoms_min=int(seen.atoms.low or 0),
        atoms_max=int(seen.atoms.high or 0),
        labels=seen.label_counts,
        energy_per_atom=seen.energy_per_atom.ends,
        force_rms=seen.force_rms,
        force_max=max(seen.largest_forces, default=None),
        net_force_max=seen.net_force.high,
        net_torque_max=seen.net_torque.high,
        hessian_asymmetry=seen.hessian_asymmetry.high,
        hessian_drift=seen.hessian_drift.high,
        height_min=seen.heights.low,
        height_max=seen.heights.high,
        cutoff=cutoff,
        below_cutoff=seen.below_cutoff,
        dummy_boxes=seen.dummy_boxes,
        isolated_atoms=seen.isolated_atoms,
        compositions=len(seen.compositions),
        config_types=dict(seen.config_types),
        weights=seen.weights.ends or (1.0, 1.0),
        copies=len(frames) - len(np.unique(find_copies(frames))),
        examined=len(some),
        force_outliers=_force_outliers(frames, seen),
        diagnosis=diagnose(some),
        hidden=hidden_variables(some),
        source=source,
    )


def thinned(frames: Sequence[LabelledFrame]) -> list[LabelledFrame]:
    """Frames in memory, evenly taken where there are more than `MOST_EXAMINED`."""
    return list(frames[:: -(-len(frames) // MOST_EXAMINED)])


def find_leaks(sets: Mapping[str, Sequence[LabelledFrame]]) -> list[tuple[str, str, int]]:
    """Copies across sets: (first set, second set, frames of the second that are copies of frames of the first)."""
    numbers = find_copies(FrameView([frames for frames in sets.values() if len(frames)]))
    parts, start = {}, 0
    for name, frames in sets.items():
        parts[name] = numbers[start : start + len(frames)]
        start += len(frames)
    names = list(parts)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    found = [(a, b, int(np.isin(parts[b], parts[a]).sum())) for a, b in pairs]
    return [leak for leak in found if leak[2]]


def _force_outliers(frames: Sequence[LabelledFrame], seen: SetStatistics) -> list[ForceOutlier]:
    """Frames whose largest |F| is above 5 eV/Å and 20 times the median of the frames' largest |F|."""
    largest = np.array(seen.largest_forces)
    if not largest.size:
        return []
    limit = max(_OUTLIER_FORCE, _OUTLIER * float(np.median(largest)))
    worst = [int(k) for k in np.argsort(-largest, kind="stable") if largest[k] > limit]
    return [
        ForceOutlier(frames[seen.force_frames[k]].name, seen.largest_atoms[k], seen.largest_forces[k]) for k in worst
    ]
