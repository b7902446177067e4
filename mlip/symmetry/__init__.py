"""Group theory of structures: subgroups, invariants, domain variants, order parameters, isotropy subgroups."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Public name → module. Modules are named otherwise than functions, so that neither hides the other.
_EXPORTS = {
    "AnisotropyReport": "anisotropy_result",
    "BreakingSet": "breaking_sets",
    "BreakingSets": "breaking_sets",
    "DomainVariants": "variants",
    "IsotropySubgroup": "isotropy",
    "MatrixGroup": "matrix_group",
    "OrderParameter": "order_parameter",
    "ReportSettings": "anisotropy",
    "SupercellGroup": "supercell",
    "anisotropy_report": "anisotropy",
    "breaking_set": "breaking_sets",
    "domain_variants": "variants",
    "invariant_count": "characters",
    "isotropy_classes": "isotropy",
    "isotropy_subgroups": "isotropy",
    "lightest_tensor": "characters",
    "match_structures": "matching",
    "normaliser": "point_groups",
    "point_group": "point_groups",
    "point_group_name": "point_groups",
    "shuffle_frames": "anisotropy",
    "supercell_irreps": "irreps",
}

__all__ = sorted(_EXPORTS)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'mlip.symmetry' has no attribute '{name}'")
    return getattr(import_module(f"mlip.symmetry.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    """Public names."""
    return sorted(_EXPORTS)
