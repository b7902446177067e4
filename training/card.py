"""The description that a trained model carries in its header."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

import mlip
from mlip.datasets.frame import LabelledFrame
from mlip.ranges import describe_structure
from mlip.training.data import FrameSet


def data_digest(frames: Sequence[LabelledFrame]) -> str:
    """SHA-256 over species, geometry and labels of all frames, in order."""
    digest = hashlib.sha256()
    for frame in frames:
        atoms = frame.atoms
        digest.update(np.asarray(atoms.numbers, dtype="<i8").tobytes())
        digest.update(np.asarray(atoms.pbc, dtype="?").tobytes())
        for array in (atoms.positions, atoms.cell.array, frame.energy, frame.forces, frame.stress):
            digest.update(b"-" if array is None else np.asarray(array, dtype="<f8").tobytes())
    return digest.hexdigest()


def data_ranges(train: FrameSet, species: Sequence[str]) -> dict[str, Any]:
    """Smallest distances, neighbour counts, volumes and energies per atom that the training data cover.

    Returns:
        ``min_distance`` {"Si-Si": Å}, and ``neighbors``, ``volume_per_atom`` (Å³, periodic frames) and
        ``energy_per_atom`` (eV, total) as [min, max]; ``largest_cell``, rows in Å, of the periodic frame with the
        largest volume; keys without data are left out.
    """
    seen = [
        describe_structure(frame.atoms, sample.graph, species)
        for frame, sample in zip(train.frames, train.samples, strict=True)
    ]
    shortest: dict[str, float] = {}
    for item in seen:
        for pair, length in item["min_distance"].items():
            shortest[pair] = min(length, shortest.get(pair, length))
    energies = [f.energy / len(f) for f in train.frames if f.energy is not None and np.isfinite(f.energy)]
    ranges = {
        "min_distance": shortest,
        "neighbors": _range([n for item in seen for n in item["neighbors"]]),
        "volume_per_atom": _range([item["volume"] for item in seen if item["volume"] is not None]),
        "energy_per_atom": _range(energies),
        "largest_cell": _largest_cell(train.frames),
    }
    return {key: value for key, value in ranges.items() if value}


def _largest_cell(frames: Sequence[LabelledFrame]) -> list[list[float]] | None:
    cells = [frame.atoms.cell.array for frame in frames if frame.atoms.pbc.all()]
    return max(cells, key=lambda cell: abs(np.linalg.det(cell))).tolist() if cells else None


def _range(values: Sequence[float]) -> list[float] | None:
    return [min(values), max(values)] if values else None


def versions() -> dict[str, str]:
    """What the model was trained with."""
    return {"curie-mlip": mlip.__version__, "torch": str(torch.__version__), "python": platform.python_version()}
