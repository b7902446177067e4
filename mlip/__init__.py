"""Curie: exactly O(3)-equivariant interatomic potentials, their exact derivatives, and their symmetry.

The names below are imported when first used, so that ``import mlip`` (and ``mlip --help``) need no torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_EXPORTS = {
    "AtomicGraph": "mlip.graph",
    "MLIPCalculator": "mlip.calculator",
    "MLIPError": "mlip.errors",
    "InputError": "mlip.errors",
    "Potential": "mlip.potential",
}

__all__ = ["AtomicGraph", "InputError", "MLIPCalculator", "MLIPError", "Potential", "__version__"]


def _refuse_namesake() -> None:
    """Stop when the unrelated JAX distribution ``mlip``, which installs the same import name, is present."""
    try:
        version("mlip")
    except PackageNotFoundError:
        return
    msg = "another distribution, 'mlip', installs the same import name: run `pip uninstall mlip` first"
    raise ImportError(msg)


_refuse_namesake()

try:
    __version__ = version("curie-mlip")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    """Import an exported name on first use."""
    if name not in _EXPORTS:
        msg = f"module 'mlip' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
