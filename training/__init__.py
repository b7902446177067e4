"""Settings, losses, the training loop and evaluation.

The names below are imported when first used, so that importing the room stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_EXPORTS = {
    "CommitteeEvaluation": "mlip.training.uncertainty",
    "CommitteeRun": "mlip.training.committee",
    "DivergenceError": "mlip.training.step",
    "EvaluationResult": "mlip.training.evaluation",
    "TrainResult": "mlip.training.run",
    "TrainingSettings": "mlip.training.settings",
    "evaluate": "mlip.training.evaluation",
    "evaluate_committee": "mlip.training.uncertainty",
    "load_settings": "mlip.training.load",
    "train": "mlip.training.run",
    "train_committee": "mlip.training.committee",
}

__all__ = [
    "CommitteeEvaluation",
    "CommitteeRun",
    "DivergenceError",
    "EvaluationResult",
    "TrainResult",
    "TrainingSettings",
    "evaluate",
    "evaluate_committee",
    "load_settings",
    "train",
    "train_committee",
]


def __getattr__(name: str) -> Any:
    """Import an exported name on first use."""
    if name not in _EXPORTS:
        msg = f"module 'mlip.training' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
