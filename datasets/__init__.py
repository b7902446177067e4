"""Reading, checking and splitting labelled structures.

``read_frames`` reads them, ``inspect`` says what they hold, ``split`` divides them. Names are imported when first
used; nothing here needs torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_EXPORTS = {
    "BlochLabels": "commensurate",
    "CachedFrames": "cache",
    "DatasetEntry": "entry",
    "Diagnosis": "doctor",
    "E0Settings": "e0",
    "ForceSets": "force_sets",
    "FrameList": "source",
    "HiddenReport": "hidden",
    "LabelSource": "source",
    "LabelledFrame": "frame",
    "ReferenceEnergies": "e0",
    "SetSummary": "inspection",
    "Split": "splitting",
    "as_frame": "frame",
    "bloch_labels": "commensurate",
    "diagnose": "doctor",
    "find_copies": "neighbours",
    "find_leaks": "inspection",
    "fitted_hessian": "force_sets",
    "hidden_variables": "hidden",
    "inspect": "inspection",
    "print_summaries": "tables",
    "read_force_sets": "force_sets",
    "read_frames": "reading",
    "reference_energies": "e0",
    "refuse_hidden": "hidden",
    "split": "splitting",
    "write_cache": "cache",
    "write_frames": "writing",
}

__all__ = sorted(_EXPORTS)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    """Import an exported name on first use."""
    if name not in _EXPORTS:
        msg = f"module 'mlip.datasets' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"mlip.datasets.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
