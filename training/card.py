"""The description that a trained model carries in its header."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable

import numpy as np
import torch

import mlip
from mlip.datasets.frame import LabelledFrame


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


def versions() -> dict[str, str]:
    """What the model was trained with."""
    return {"curie-mlip": mlip.__version__, "torch": str(torch.__version__), "python": platform.python_version()}
