"""What the data say about the sizes of things, in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
        no forces); mean energy per atom above E0.
    """
    edges, atoms = int(train.samples.num_edges.sum()), int(train.samples.num_atoms.sum())
    binding = binding_energies(train.frames, e0)
    return Normalization(
        avg_num_neighbors=max(edges / atoms, 1.0),
        energy_scale=_scale(rms_force(train.frames), binding),
        energy_shift=float(binding.mean()) if binding.size else 0.0,
        e0=dict(e0),
    )


def _scale(force: float | None, binding: np.ndarray) -> float:
    if force is not None and force > 1e-6:
        return force
    spread = float(binding.std()) if binding.size else 0.0
    return spread if spread > 1e-6 else 1.0


def rms_force(frames: Sequence[LabelledFrame]) -> float | None:
    """Root mean square of all force components, eV/Å; None without forces."""
    parts = [np.asarray(f.forces, dtype=np.float64).ravel() for f in frames if f.forces is not None]
    values = np.concatenate(parts) if parts else np.empty(0)
    values = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(values**2))) if values.size else None


def binding_energies(frames: Sequence[LabelledFrame], e0: Mapping[str, float]) -> np.ndarray:
    """(E − Σ E0)/atom of each frame that has an energy, eV."""
    values = [
        (frame.energy - sum(e0.get(symbol, 0.0) for symbol in frame.atoms.get_chemical_symbols())) / len(frame)
        for frame in frames
        if frame.energy is not None
    ]
    array = np.array(values, dtype=np.float64)
    return array[np.isfinite(array)]
