"""The description that a trained model carries in its header."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

import mlip
from mlip.datasets.frame import LabelledFrame
from mlip.datasets.statistics import Extremes
from mlip.ranges import describe_structure
from mlip.training.data import FrameSet


def data_digest(frames: Iterable[LabelledFrame]) -> str:
    """SHA-256 over species, geometry and labels of all frames, in order; Hessians where there are any."""
    digest = hashlib.sha256()
    for frame in frames:
        atoms = frame.atoms
        digest.update(np.asarray(atoms.numbers, dtype="<i8").tobytes())
        digest.update(np.asarray(atoms.pbc, dtype="?").tobytes())
        for array in (atoms.positions, atoms.cell.array, frame.energy, frame.forces, frame.stress):
            digest.update(b"-" if array is None else np.asarray(array, dtype="<f8").tobytes())
        if frame.hessian is not None:
            digest.update(np.asarray(frame.hessian, dtype="<f8").tobytes())
    return digest.hexdigest()


def data_ranges(train: FrameSet, species: Sequence[str]) -> dict[str, Any]:
    """Smallest distances, neighbour counts, volumes and energies per atom that the training data cover.

    Returns:
        ``min_distance`` {"Si-Si": Å}, and ``neighbors``, ``volume_per_atom`` (Å³, periodic frames) and
        ``energy_per_atom`` (eV, total) as [min, max]; ``largest_cell``, rows in Å, of the periodic frame with the
        largest volume; keys without data are left out.
    """
    shortest: dict[str, float] = {}
    neighbors, volumes, energies = Extremes(), Extremes(), Extremes()
    largest: list[list[float]] | None = None
    for frame, sample in zip(train.frames, train.samples, strict=True):
        seen = describe_structure(frame.atoms, sample.graph, species)
        for pair, length in seen["min_distance"].items():
            shortest[pair] = min(length, shortest.get(pair, length))
        neighbors.add(seen["neighbors"])
        volumes.add([] if seen["volume"] is None else [seen["volume"]])
        energies.add([frame.energy / len(frame)] if frame.energy is not None and np.isfinite(frame.energy) else [])
        largest = _larger(largest, frame)
    ranges = {
        "min_distance": shortest,
        "neighbors": _range(neighbors),
        "volume_per_atom": _range(volumes),
        "energy_per_atom": _range(energies),
        "largest_cell": largest,
    }
    return {key: value for key, value in ranges.items() if value}


def _larger(cell: list[list[float]] | None, frame: LabelledFrame) -> list[list[float]] | None:
    """The cell with the larger volume, of those periodic in all directions."""
    if not frame.atoms.pbc.all():
        return cell
    other = frame.atoms.cell.array
    is_larger = cell is None or abs(np.linalg.det(other)) > abs(np.linalg.det(np.array(cell)))
    return other.tolist() if is_larger else cell


def _range(extremes: Extremes) -> list[float] | None:
    return None if extremes.ends is None else list(extremes.ends)


def versions() -> dict[str, str]:
    """What the model was trained with."""
    return {"curie-mlip": mlip.__version__, "torch": str(torch.__version__), "python": platform.python_version()}
