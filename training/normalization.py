"""What the data say about the sizes of things, in float64."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from mlip.datasets.frame import LabelledFrame
from mlip.potential import Normalization
from mlip.training.data import FrameSet


def compute_normalization(train: FrameSet, e0: Mapping[str, float]) -> Normalization:
    """Neighbours, scale and shift of the training frames.

    Args:
        train: The training frames with their graphs.
        e0: Energy of each isolated atom, eV.

    Returns:
        Mean neighbours of an atom; rms force component × 1 Å (spread of the energies per atom where there are
        no forces); mean energy per atom above E0; smallest distances.
    """
    edges, atoms = int(train.samples.num_edges.sum()), int(train.samples.num_atoms.sum())
    binding = binding_energies(train.frames, e0)
    return Normalization(
        avg_num_neighbors=max(edges / atoms, 1.0),
        energy_scale=_scale(rms_force(train.frames), binding),
        energy_shift=float(binding.mean()) if binding.size else 0.0,
        e0=dict(e0),
        min_distance=train.coverage.min_distance,
    )


def _scale(force: float | None, binding: np.ndarray) -> float:
    if force is not None and force > 1e-6:
        return force
    spread = float(binding.std()) if binding.size else 0.0
    return spread if spread > 1e-6 else 1.0


def rms_force(frames: Iterable[LabelledFrame]) -> float | None:
    """Root mean square of all force components, eV/Å; None without forces."""
    squares, count = 0.0, 0
    for frame in frames:
        if frame.forces is not None:
            values = np.asarray(frame.forces, dtype=np.float64)
            values = values[np.isfinite(values)]
            squares, count = squares + float(np.sum(values**2)), count + values.size
    return float(np.sqrt(squares / count)) if count else None


def binding_energies(frames: Iterable[LabelledFrame], e0: Mapping[str, float]) -> np.ndarray:
    """(E − Σ E0)/atom of each frame that has an energy, eV; eight bytes a frame."""
    values = (
        (frame.energy - sum(e0.get(symbol, 0.0) for symbol in frame.atoms.get_chemical_symbols())) / len(frame)
        for frame in frames
        if frame.energy is not None
    )
    found = np.fromiter(values, dtype=np.float64)
    return found[np.isfinite(found)]
