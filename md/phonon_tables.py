"""What the phonon command prints beside its lines: modes at Γ, and imaginary modes, as tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from mlip.md.phonon_result import PhononResult


def tables(result: PhononResult) -> Iterator[Table]:
    """The tables that have something in them."""
    modes = result.analyses.irreps
    if modes is not None and modes.sets:
        table = Table(
            "irrep", "degeneracy", "THz", "cm⁻¹", "activity", title=f"Optical modes at Γ, {modes.point_group}"
        )
        for one in modes.sets:
            wavenumber = one.frequency * 33.35641
            table.add_row(one.label, str(one.degeneracy), f"{one.frequency:.3f}", f"{wavenumber:.1f}", one.activity)
        yield table
    if result.imaginary:
        table = Table("q", "point", "THz", "degeneracy", "irrep", "of", title="Imaginary modes")
        for mode in result.imaginary:
            q = " ".join(f"{x:.3f}" for x in mode.q)
            irrep = mode.irrep or "no symmetry"
            table.add_row(q, mode.point, f"{mode.frequency:.3f}", str(mode.degeneracy), irrep, mode.point_group)
        yield table
