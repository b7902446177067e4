"""The lowest frequency of a crystal, and its imaginary modes with their wavevector and representation."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlip.md.bands import Bands, pretty
from mlip.md.dynamical import DynamicalMatrices
from mlip.md.irreps import modes_at
from mlip.md.structure import PrimitiveCell

Array = NDArray[np.float64]
IMAGINARY = 0.02  # THz: a frequency below minus this is called imaginary


class ImaginaryMode(NamedTuple):
    """Imaginary modes at one q that belong together.

    Attributes:
        q: (3,) fractions.
        frequency: THz, negative.
        degeneracy: How many modes.
        point: Label of q, or "".
        point_group: International symbol of the point group of q, or "" where symmetry was not used.
        irrep: Name or dimension of the representation, or None where symmetry was not used.
    """

    q: Array
    frequency: float
    degeneracy: int = 1
    point: str = ""
    point_group: str = ""
    irrep: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        names = self._asdict()
        return {"q": names.pop("q"), "THz": names.pop("frequency"), **names}


def without_acoustic(q: Array, frequencies: Array) -> Array:
    """Frequencies with the acoustic modes at Γ, which are zero by nature, set to infinity."""
    values = frequencies.copy()
    gamma = np.all(np.abs(q - np.rint(q)) < 2e-4, axis=1)  # a polar crystal's path stops short of Γ
    for row in np.flatnonzero(gamma):
        values[row, np.argsort(np.abs(values[row]))[:3]] = np.inf
    return values


def lowest_frequency(bands: Bands, mesh_q: Array, mesh_frequencies: Array) -> tuple[float, Array]:
    """The lowest frequency in THz over path and mesh, and its q."""
    q = np.concatenate([bands.path.q, mesh_q])
    lowest = without_acoustic(q, np.concatenate([bands.frequencies, mesh_frequencies])).min(axis=1)
    worst = int(lowest.argmin())
    return float(lowest[worst]), q[worst]


def imaginary_modes(
    matrices: DynamicalMatrices, cell: PrimitiveCell, bands: Bands, lowest: tuple[float, Array], *, symmetric: bool
) -> list[ImaginaryMode]:
    """Imaginary modes at the ends of the path's segments, and where the lowest frequency is.

    Args:
        matrices: D(q).
        cell: The primitive cell.
        bands: Frequencies along the path.
        lowest: The lowest frequency, and its q.
        symmetric: Whether D(q) has the crystal's symmetry; without it modes get no representation.
    """
    ends = sorted({i for first, stop in bands.path.segments for i in (first, stop - 1)})
    values = without_acoustic(bands.path.q[ends], bands.frequencies[ends])
    found = {tuple(np.round(q, 6)): row for q, row in zip(bands.path.q[ends], values, strict=True)}
    found.setdefault(tuple(np.round(lowest[1], 6)), np.array([lowest[0]]))
    modes: list[ImaginaryMode] = []
    for key, row in found.items():
        if row.min() >= -IMAGINARY:
            continue
        q = np.array(key)
        if symmetric:
            modes += _with_names(matrices, cell, np.where(np.abs(q) < 2e-4, 0.0, q))
        else:
            modes += [ImaginaryMode(q, float(v), point=_label(cell, q)) for v in row if v < -IMAGINARY]
    return modes


def _with_names(matrices: DynamicalMatrices, cell: PrimitiveCell, q: Array) -> list[ImaginaryMode]:
    table = modes_at(matrices, cell, q)
    return [
        ImaginaryMode(q, one.frequency, one.degeneracy, _label(cell, q), table.point_group, one.label)
        for one in table.sets
        if one.frequency < -IMAGINARY
    ]


def _label(cell: PrimitiveCell, q: Array) -> str:
    return next((pretty(name) for name, point in cell.points.items() if np.abs(point - q).max() < 1e-5), "")
