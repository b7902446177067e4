"""Phonons of the same crystal from elsewhere, and the comparison branch by branch at equal q."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlip.errors import InputError
from mlip.md.bands import BandPath, Bands, branch_names
from mlip.md.dynamical import DynamicalMatrices, frequencies_thz
from mlip.md.structure import PrimitiveCell

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """Phonons known at some q points, or at any.

    Attributes:
        name: What to call it in figures.
        cell: Its primitive cell, standardised as ours is, so that q points correspond.
        lattice: (3, 3) rows: the lattice whose reciprocal vectors its q points are fractions of.
        q: (nq, 3) fractions where it is known, or None where it can be asked at any q.
        frequencies: (nq, 3n) THz at those points, or None.
        solve: (nq, 3) → (nq, 3n) THz, or None.
        polar: Whether it has the dipole term of a polar crystal.
    """

    name: str
    cell: PrimitiveCell
    lattice: Array
    q: Array | None = None
    frequencies: Array | None = None
    solve: Callable[[Array], Array] | None = None
    polar: bool = False


@dataclass(frozen=True)
class Comparison:
    """Our frequencies against a reference at the same q points, paired in rising order.

    Attributes:
        name: The reference's name.
        q: (nq, 3) in fractions of our primitive reciprocal vectors.
        places: (nq,) distance along our path in 1/Å; NaN where a point does not lie on it.
        ours: (nq, 3n) THz.
        theirs: (nq, 3n) THz.
        branches: (nq, 3n) names, from our eigenvectors.
        volume_ratio: Our primitive volume over theirs.
    """

    name: str
    q: Array
    places: Array
    ours: Array
    theirs: Array
    branches: NDArray[np.str_]
    volume_ratio: float

    @property
    def mean(self) -> float:
        """Mean |Δν| in THz over all q and branches."""
        return float(np.abs(self.ours - self.theirs).mean())

    @property
    def worst(self) -> tuple[float, Array]:
        """Largest |Δν| in THz, and its q."""
        gap = np.abs(self.ours - self.theirs)
        return float(gap.max()), self.q[gap.max(axis=1).argmax()]

    def by_branch(self) -> dict[str, tuple[float, float]]:
        """Mean and largest |Δν| in THz of TA, LA, TO and LO branches."""
        gap = np.abs(self.ours - self.theirs)
        names = [name for name in ("TA", "LA", "TO", "LO") if (self.branches == name).any()]
        return {n: (float(gap[self.branches == n].mean()), float(gap[self.branches == n].max())) for n in names}

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "q_points": len(self.q),
            "mean_THz": self.mean,
            "max_THz": self.worst[0],
            "max_at_q": self.worst[1],
            "branches_THz": {n: {"mean": a, "max": b} for n, (a, b) in self.by_branch().items()},
            "volume_ratio": self.volume_ratio,
        }

    @property
    def line(self) -> str:
        """One line for people."""
        worst, at = self.worst
        branches = ", ".join(f"{n} {a:.3f}" for n, (a, _) in self.by_branch().items())
        volume = (
            f"; volumes differ by {100 * (self.volume_ratio - 1):+.2f} %" if abs(self.volume_ratio - 1) > 1e-4 else ""
        )
        return (
            f"against {self.name}: mean |Δν| {self.mean:.3f} THz over {len(self.q)} q points ({branches}), "
            f"largest {worst:.3f} at q = ({', '.join(f'{x:.3f}' for x in at)}){volume}"
        )


def compare(reference: Reference, cell: PrimitiveCell, matrices: DynamicalMatrices, bands: Bands) -> Comparison:
    """Put our phonons beside a reference, at its own q points or along our path where it is known anywhere.

    q points correspond through the standardised primitive lattices of the two crystals, so that lattice
    constants, orientations and choices of primitive vectors may differ.

    Raises:
        InputError: The two are not the same crystal.
    """
    if reference.cell.space_group != cell.space_group or len(reference.cell.atoms) != len(cell.atoms):
        raise InputError(
            f"is {reference.cell.atoms.get_chemical_formula()} in {reference.cell.space_group}, not "
            f"{cell.atoms.get_chemical_formula()} in {cell.space_group}",
            file=reference.name,
            key="reference",
        )
    if reference.solve is not None:
        q, theirs = bands.path.q, reference.solve(_to_reference(bands.path.q, reference))
    else:
        q, theirs = _from_reference(np.asarray(reference.q), reference), np.asarray(reference.frequencies)
    d = matrices.at(q)
    values, vectors = np.linalg.eigh((d + d.conj().swapaxes(-1, -2)) / 2)
    places = bands.path.distance if reference.solve is not None else on_path(q, cell, bands.path)
    return Comparison(
        name=reference.name,
        q=q,
        places=places,
        ours=frequencies_thz(values),
        theirs=np.sort(theirs, axis=1),
        branches=branch_names(values, vectors, q @ bands.reciprocal),
        volume_ratio=cell.atoms.get_volume() / reference.cell.atoms.get_volume(),
    )


def _to_reference(q: Array, reference: Reference) -> Array:
    """Fractions of the standard reciprocal vectors → fractions of the reference's own."""
    cartesian = q @ np.linalg.inv(reference.cell.atoms.cell.array).T
    return cartesian @ reference.lattice.T


def _from_reference(q: Array, reference: Reference) -> Array:
    cartesian = q @ np.linalg.inv(reference.lattice).T
    return cartesian @ reference.cell.atoms.cell.array.T


def on_path(q: Array, cell: PrimitiveCell, path: BandPath, tolerance: float = 1e-3) -> Array:
    """Where points lie on a path, counting symmetry-equivalent ones: distance along it, or NaN.

    Args:
        q: (nq, 3) fractions.
        cell: Its point group and time reversal make the star of each point.
        path: The path.
        tolerance: 1/Å.
    """
    reciprocal = np.linalg.inv(cell.atoms.cell.array).T
    turns = [np.linalg.inv(w) for w in cell.rotations]
    shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
    places = np.full(len(q), np.nan)
    for i, point in enumerate(q):
        star = np.array([s * point @ turn for turn in turns for s in (1, -1)])
        star = (np.unique(np.round(star - np.floor(star), 9), axis=0)[:, None] + shifts).reshape(-1, 3)
        places[i] = _first_hit(star @ reciprocal, path, reciprocal, tolerance)
    return places


def _first_hit(star: Array, path: BandPath, reciprocal: Array, tolerance: float) -> float:
    for first, stop in path.segments:
        start, end = path.q[first] @ reciprocal, path.q[stop - 1] @ reciprocal
        length = np.linalg.norm(end - start)
        t = (star - start) @ (end - start) / length**2
        off = np.linalg.norm(star - start - t[:, None] * (end - start), axis=1)
        hit = np.flatnonzero((off < tolerance) & (t > -1e-6) & (t < 1 + 1e-6))
        if len(hit):
            return float(path.distance[first] + t[hit[0]] * length)
    return float("nan")
