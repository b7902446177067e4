"""What a potential is for: relaxation, dynamics, phonons and checks, with any ASE calculator."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Public name → module. Modules are named otherwise than functions, so that neither hides the other.
_EXPORTS = {
    "CheckResult": "checking",
    "DistortionResult": "distortion_result",
    "MDResult": "dynamics",
    "PhononResult": "phonon_result",
    "RelaxResult": "relaxation",
    "RotationAveragedCalculator": "rotation_average",
    "SearchSettings": "distortions",
    "check": "checking",
    "find_distortions": "distortions",
    "interpolation_baseline": "lattice_dynamics",
    "phonons": "lattice_dynamics",
    "read_reference": "reference",
    "relax": "relaxation",
    "rotational_spread": "rotation_average",
    "run_md": "dynamics",
    "symmetry_error": "symmetry_defect",
}

__all__ = sorted(_EXPORTS)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'mlip.md' has no attribute '{name}'")
    return getattr(import_module(f"mlip.md.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    """Public names."""
    return sorted(_EXPORTS)
