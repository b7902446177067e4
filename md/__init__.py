"""What a potential is for: relaxation, dynamics, phonons and checks, with any ASE calculator."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Public name → module. Modules are named otherwise than functions, so that neither hides the other.
_EXPORTS = {
    "Analyses": "phonon_analyses",
    "CheckResult": "checking",
    "ElasticResult": "elastic_result",
    "EquationOfState": "equation_of_state",
    "DistortionResult": "distortion_result",
    "MDResult": "dynamics",
    "PhononComparison": "phonon_comparison",
    "PhononResult": "phonon_result",
    "QuasiHarmonicResult": "quasi_harmonic_result",
    "RelaxResult": "relaxation",
    "RotationAveragedCalculator": "rotation_average",
    "SearchSettings": "distortions",
    "VibrationResult": "vibration_result",
    "check": "checking",
    "compare_phonons": "phonon_comparison",
    "elastic": "elasticity",
    "eos": "equation_of_state",
    "find_distortions": "distortions",
    "find_point_group": "point_group",
    "interpolation_baseline": "lattice_dynamics",
    "phonons": "lattice_dynamics",
    "quasi_harmonic": "thermal_expansion",
    "read_reference": "reference_files",
    "relax": "relaxation",
    "rotational_spread": "rotation_average",
    "run_md": "dynamics",
    "symmetry_error": "symmetry_defect",
    "vibrations": "vibration_analysis",
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
