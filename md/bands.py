"""The path through the Brillouin zone, and bands with branches that have names."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from mlip.errors import InputError
from mlip.files import write_text
from mlip.md.dynamical import DynamicalMatrices, frequencies_thz
from mlip.md.structure import PrimitiveCell

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BandPath:
    """A path of q points, segment by segment; both ends of each segment are in it.

    Attributes:
        q: (nq, 3) in fractions of the primitive reciprocal vectors.
        distance: (nq,) length along the path in 1/Å (without 2π), not advancing where the path jumps.
        segments: (first, last + 1) of each segment.
        ends: Labels of both ends of each segment, as printed.
    """

    q: Array
    distance: Array
    segments: list[tuple[int, int]]
    ends: list[tuple[str, str]]

    @property
    def ticks(self) -> tuple[list[float], list[str]]:
        """Where labels go on an axis, and what they say; a jump reads "X|K"."""
        places = [float(self.distance[self.segments[0][0]])]
        labels = [self.ends[0][0]]
        for (_, last), (start, stop) in zip(self.segments, self.ends, strict=True):
            if labels[-1] != start:
                labels[-1] += f"|{start}"
            places.append(float(self.distance[last - 1]))
            labels.append(stop)
        return places, labels


@dataclass(frozen=True)
class Bands:
    """Frequencies along a path.

    Attributes:
        path: The q points.
        frequencies: (nq, 3n) THz in rising order; imaginary ones negative.
        branches: (nq, 3n) branch of each: "TA", "LA", "TO" or "LO", by the polarisation of the eigenvectors.
        reciprocal: (3, 3) rows, primitive reciprocal vectors in 1/Å without 2π.
        vectors: (nq, 3n, 3n) eigenvectors of D(q), in columns in the order of the frequencies.
    """

    path: BandPath
    frequencies: Array
    branches: NDArray[np.str_]
    reciprocal: Array
    vectors: NDArray[np.complex128] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        places, labels = self.path.ticks
        return {
            "q": self.path.q,
            "distance": self.path.distance,
            "segments": self.path.segments,
            "ticks": places,
            "labels": labels,
            "frequencies_THz": self.frequencies,
            "branches": self.branches.tolist(),
            "reciprocal_lattice": self.reciprocal,
        }

    def to_yaml(self, path: str | Path, cell: PrimitiveCell) -> Path:
        """Write a file in the layout of phonopy's ``band.yaml``, which phonopy-bandplot reads."""
        atoms = cell.atoms
        write_text(
            path,
            yaml.safe_dump(
                {
                    "calculator": "mlip",
                    "nqpoint": len(self.path.q),
                    "npath": len(self.path.segments),
                    "segment_nqpoint": [stop - start for start, stop in self.path.segments],
                    "labels": [list(pair) for pair in self.path.ends],
                    "reciprocal_lattice": self.reciprocal.tolist(),
                    "natom": len(atoms),
                    "lattice": atoms.cell.array.tolist(),
                    "points": [
                        {"symbol": s, "coordinates": x.tolist(), "mass": float(m)}
                        for s, x, m in zip(
                            atoms.get_chemical_symbols(),
                            atoms.get_scaled_positions(wrap=False),
                            atoms.get_masses(),
                            strict=True,
                        )
                    ],
                    "phonon": [
                        {
                            "q-position": q.tolist(),
                            "distance": float(d),
                            "band": [{"frequency": float(f)} for f in row],
                        }
                        for q, d, row in zip(self.path.q, self.path.distance, self.frequencies, strict=True)
                    ],
                },
                sort_keys=False,
                default_flow_style=None,
                width=200,
            ),
        )
        return Path(path)


def band_path(cell: PrimitiveCell, path: str | None = None, points: int = 200, *, polar: bool = False) -> BandPath:
    """Sample a path evenly.

    Args:
        cell: The primitive cell with its special points.
        path: Labels such as ``"GAMMA X U | K GAMMA L"``, a bar where the path jumps; also ``G`` for Γ, and three
            numbers joined by commas for a point without a name. None: seekpath's standard path.
        points: About how many q points in all.
        polar: Approach Γ along each segment instead of reaching it: longitudinal optical modes of a polar crystal
            have a limit there that depends on the direction.

    Raises:
        InputError: A label that this crystal does not have.
    """
    ends = cell.path if path is None else _legs(path)
    corners = [(_point(a, cell), _point(b, cell)) for a, b in ends]
    reciprocal = np.linalg.inv(cell.atoms.cell.array).T
    lengths = [float(np.linalg.norm((b - a) @ reciprocal)) for a, b in corners]
    spacing = sum(lengths) / max(points - 1, 1)
    if spacing == 0:
        raise InputError("the path has no length", key="path")
    q: list[Array] = []
    distance: list[Array] = []
    segments: list[tuple[int, int]] = []
    at = 0.0
    for (a, b), length in zip(corners, lengths, strict=True):
        t = np.linspace(0, 1, max(2, 1 + round(length / spacing)))
        first = segments[-1][1] if segments else 0
        q.append(a + _short_of_gamma(t, a, b, polar=polar)[:, None] * (b - a))
        distance.append(at + t * length)
        segments.append((first, first + len(t)))
        at += length
    labels = [(pretty(a), pretty(b)) for a, b in ends]
    return BandPath(np.concatenate(q), np.concatenate(distance), segments, labels)


def _short_of_gamma(t: Array, a: Array, b: Array, *, polar: bool) -> Array:
    """The parameter of a segment, kept a ten-thousandth away from an end at Γ."""
    low = 1e-4 if polar and not np.any(a) else 0.0
    high = 1 - 1e-4 if polar and not np.any(b) else 1.0
    return np.clip(t, low, high)


def pretty(label: str) -> str:
    """A label as it is printed, GAMMA as Γ and X_1 as X₁."""
    name = {"GAMMA": "Γ", "G": "Γ", "SIGMA": "Σ", "DELTA": "Δ", "LAMBDA": "Λ"}
    head, _, index = label.partition("_")
    return name.get(head.upper(), head) + index.translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def _legs(path: str) -> list[tuple[str, str]]:
    runs = [re.findall(r"[^\s\-–→]+", run) if "," not in run else run.split() for run in path.split("|")]
    if not path.strip() or any(len(run) < 2 for run in runs):
        raise InputError(f"cannot read the path '{path}'", key="path", mend="write it like 'GAMMA X U | K GAMMA L'")
    return [leg for run in runs for leg in pairwise(run)]


def _point(label: str, cell: PrimitiveCell) -> Array:
    if "," in label:
        values = label.split(",")
        try:
            return np.array([float(v) for v in values]).reshape(3)
        except ValueError as error:
            raise InputError(f"'{label}' is not three numbers", key="path") from error
    key = "GAMMA" if label.upper() in ("G", "Γ") else label
    if key not in cell.points:
        raise InputError(f"no point '{label}' here", key="path", mend=f"it has {', '.join(cell.points)}")
    return cell.points[key]


def bands_along(matrices: DynamicalMatrices, cell: PrimitiveCell, path: BandPath) -> Bands:
    """Diagonalise D(q) along a path."""
    reciprocal = np.linalg.inv(cell.atoms.cell.array).T
    d = matrices.at(path.q)
    values, vectors = np.linalg.eigh((d + d.conj().swapaxes(-1, -2)) / 2)
    return Bands(
        path=path,
        frequencies=frequencies_thz(values),
        branches=branch_names(values, vectors, path.q @ reciprocal),
        reciprocal=reciprocal,
        vectors=vectors,
    )


def branch_names(values: Array, vectors: NDArray[np.complex128], q: Array) -> NDArray[np.str_]:
    """Name branches by polarisation.

    The three lowest are acoustic. In each group the branches with the largest longitudinal weight
    Σ_i |q̂·e_i|² are called longitudinal: one acoustic, and one in three of the optical. Exact along axes of
    high symmetry, a convention elsewhere; at Γ, where q has no direction, nothing is longitudinal.

    Args:
        values: (nq, 3n).
        vectors: (nq, 3n, 3n), eigenvectors in columns.
        q: (nq, 3) Cartesian.
    """
    nq, size = values.shape
    names = np.full((nq, size), "TO")
    names[:, :3] = "TA"
    for i in range(nq):
        length = np.linalg.norm(q[i])
        if length < 1e-8:
            continue
        along = np.abs(np.einsum("a,jab->jb", q[i] / length, vectors[i].reshape(-1, 3, size))) ** 2
        weight = along.sum(axis=0)
        names[i, int(weight[:3].argmax())] = "LA"
        names[i, 3 + np.argsort(-weight[3:])[: (size - 3) // 3]] = "LO"
    return names
