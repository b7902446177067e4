"""The table that is printed before anything is trained: what a set of frames holds, and what is odd about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mlip.datasets.boxes import in_dummy_box, unboxed
from mlip.datasets.doctor import Diagnosis, diagnose
from mlip.datasets.e0 import elements
from mlip.datasets.entry import DatasetEntry
from mlip.datasets.frame import LABELS, Array, LabelledFrame, heights
from mlip.datasets.hidden import HiddenReport, hidden_variables
from mlip.datasets.neighbours import find_copies
from mlip.datasets.reading import read_frames
from mlip.datasets.source import FrameList, LabelSource, count_labels

_EXTRA_LABELS = ("polarization", "born_charges", "dielectric", "polarizability", "dipole", "magmoms", "charges")
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
    """The summary of frames that are in memory."""
    sizes = [len(frame) for frame in frames]
    free = [unboxed(frame) for frame in frames]
    cells = _heights(frames)
    per_atom = [f.energy / len(f) for f in frames if f.energy is not None and not f.is_isolated_atom]
    lengths = [np.linalg.norm(f.forces, axis=1) for f in frames if f.forces is not None]
    every = np.concatenate(lengths) if lengths else np.empty(0)
    hessians = [frame.hessian for frame in frames if frame.hessian is not None]
    weights = [frame.weight for frame in frames]
    return SetSummary(
        file=name,
        frames=len(frames),
        periodic=any(frame.atoms.pbc.any() for frame in frames),
        species=elements(frames),
        atoms_min=min(sizes),
        atoms_max=max(sizes),
        labels=_label_counts(frames),
        energy_per_atom=(min(per_atom), max(per_atom)) if per_atom else None,
        force_rms=float(np.sqrt(np.mean(every**2))) if every.size else None,
        force_max=float(every.max()) if every.size else None,
        net_force_max=_largest(_net_force(f) for f in frames if f.forces is not None),
        net_torque_max=_largest(_net_torque(f) for f in free if f.forces is not None and not f.atoms.pbc.any()),
        hessian_asymmetry=_largest(float(np.abs(h - h.T).max()) for h in hessians),
        hessian_drift=_largest(float(np.abs(h.reshape(len(h), -1, 3).sum(axis=1)).max()) for h in hessians),
        height_min=min(cells) if cells else None,
        height_max=max(cells) if cells else None,
        cutoff=cutoff,
        below_cutoff=sum(_sees_itself(frame, cutoff) for frame in frames),
        dummy_boxes=sum(in_dummy_box(frame.atoms) for frame in frames),
        isolated_atoms=sum(frame.is_isolated_atom for frame in frames),
        compositions=len({frame.composition for frame in frames}),
        config_types=dict(Counter(f.config_type for f in frames if f.config_type is not None)),
        weights=(min(weights), max(weights)),
        copies=len(frames) - len(set(find_copies(frames).tolist())),
        force_outliers=_force_outliers(frames),
        diagnosis=diagnose(frames),
        hidden=hidden_variables(frames),
        source=source,
    )


def find_leaks(sets: Mapping[str, Sequence[LabelledFrame]]) -> list[tuple[str, str, int]]:
    """Copies across sets: (first set, second set, frames of the second that are copies of frames of the first)."""
    everything = [frame for frames in sets.values() for frame in frames]
    numbers = find_copies(everything)
    parts, start = {}, 0
    for name, frames in sets.items():
        parts[name] = numbers[start : start + len(frames)]
        start += len(frames)
    names = list(parts)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    found = [(a, b, int(np.isin(parts[b], parts[a]).sum())) for a, b in pairs]
    return [leak for leak in found if leak[2]]


def _label_counts(frames: Sequence[LabelledFrame]) -> dict[str, int]:
    extra = {name: sum(name in frame.info for frame in frames) for name in _EXTRA_LABELS}
    return {name: count_labels(list(frames))[name] for name in LABELS} | {k: v for k, v in extra.items() if v}


def _heights(frames: Sequence[LabelledFrame]) -> list[float]:
    return [float(h) for f in frames if f.atoms.pbc.any() for h in heights(f.atoms)[f.atoms.pbc]]


def _sees_itself(frame: LabelledFrame, cutoff: float) -> bool:
    pbc = frame.atoms.pbc
    return bool(pbc.any()) and bool((heights(frame.atoms)[pbc] < 2 * cutoff).any())


def _net_force(frame: LabelledFrame) -> float:
    return float(np.linalg.norm(np.sum(np.asarray(frame.forces), axis=0)))


def _net_torque(frame: LabelledFrame) -> float:
    positions: Array = frame.atoms.positions - frame.atoms.positions.mean(axis=0)
    return float(np.linalg.norm(np.cross(positions, np.asarray(frame.forces)).sum(axis=0)))


def _largest(values: Any) -> float | None:
    return max(values, default=None)


def _force_outliers(frames: Sequence[LabelledFrame]) -> list[ForceOutlier]:
    """Frames whose largest |F| is above 5 eV/Å and 20 times the median of the frames' largest |F|."""
    with_forces = [(f, np.linalg.norm(f.forces, axis=1)) for f in frames if f.forces is not None]
    if not with_forces:
        return []
    typical = float(np.median([lengths.max() for _, lengths in with_forces]))
    limit = max(_OUTLIER_FORCE, _OUTLIER * typical)
    found = [
        ForceOutlier(frame.name, int(lengths.argmax()), float(lengths.max()))
        for frame, lengths in with_forces
        if lengths.max() > limit
    ]
    return sorted(found, key=lambda outlier: -outlier.force)
