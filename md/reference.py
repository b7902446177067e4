"""Phonons of the same crystal from elsewhere, and the comparison branch by branch at equal q."""

from __future__ import annotations

import contextlib
import io
import json
import lzma
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import phonopy
import yaml
from ase import Atoms
from numpy.typing import NDArray

from mlip.errors import InputError
from mlip.md.bands import BandPath, Bands, branch_names
from mlip.md.dynamical import DynamicalMatrices, frequencies_thz, from_phonopy
from mlip.md.structure import PrimitiveCell, primitive_cell

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


# ---------------------------------------------------------------------------------------------------------
# Reading


def read_reference(path: str | Path) -> Reference:
    """Read phonons to compare with.

    Known are phonopy's ``phonopy.yaml`` family with force sets or force constants in it or a ``FORCE_SETS``
    beside it (also ``.xz``; a ``BORN`` beside it is used), ``FORCE_SETS`` itself with ``phonopy_disp.yaml``
    beside it, phonopy's ``band.yaml``, and ``dfpt.json`` (keys cell, scaled_positions, mass or symbols,
    q_points, frequencies, bands).

    Raises:
        InputError: Not there, or none of these.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("no such reference file", file=path)
    if path.name.startswith("FORCE_SETS"):
        return _from_phonopy_yaml(_beside(path, "phonopy_disp.yaml"), path)
    if path.suffix == ".json":
        return _from_json(path)
    text = (lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()).decode()
    if "\nphonon:" in text:
        return _from_band_yaml(path, text)
    if "supercell_matrix" not in text:
        raise InputError("is neither phonopy.yaml, band.yaml nor dfpt.json", file=path, key="reference")
    has_forces = "\nforce_constants:" in text or "  forces:" in text or "force_sets" in text
    return _from_phonopy_yaml(path, None if has_forces else _beside(path, "FORCE_SETS"), text)


def _beside(path: Path, name: str) -> Path:
    other = path.parent / name
    if not other.is_file():
        raise InputError(f"needs {name} beside it", file=path, key="reference")
    return other


def _from_phonopy_yaml(path: Path, force_sets: Path | None, text: str | None = None) -> Reference:
    text = path.read_text() if text is None else text
    _refuse_tags(path, text)
    born = path.parent / "BORN"
    born_file = born if born.is_file() and "born_effective_charge" not in text else None
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        phonon = phonopy.load(
            path,
            force_sets_filename=force_sets,
            born_filename=born_file,
            is_nac=born_file is not None or "born_effective_charge" in text,
            log_level=0,
        )
    if phonon.force_constants is None:
        raise InputError("holds no force sets and no force constants", file=path, key="reference")
    return reference_from_phonopy(phonon, _name(path))


def _refuse_tags(path: Path, text: str) -> None:
    """Phonopy's loader runs what a YAML tag asks for; the files it writes have no tags."""
    try:
        events = yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        tagged = any(getattr(event, "tag", None) is not None for event in events)
    except yaml.YAMLError as error:
        problem = str(error).splitlines()[0]
        raise InputError(f"is not valid YAML: {problem}", file=path, key="reference") from None
    if tagged:
        raise InputError("carries YAML tags, which could run code", file=path, key="reference")


def reference_from_phonopy(phonon: Any, name: str) -> Reference:
    """Any phonopy object with force constants as a reference, known at every q."""
    primitive = from_phonopy(phonon.primitive)
    return Reference(
        name=name,
        cell=primitive_cell(primitive, symprec=1e-3),
        lattice=primitive.cell.array,
        solve=lambda q: np.array(phonon.run_qpoints(q).frequencies),
        polar=phonon.nac_params is not None,
    )


def _from_band_yaml(path: Path, text: str) -> Reference:
    data = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 — both are safe
    try:
        points = data["points"]
        atoms = Atoms(
            symbols=[p["symbol"] for p in points],
            cell=data["lattice"],
            scaled_positions=[p["coordinates"] for p in points],
            pbc=True,
        )
        q = np.array([entry["q-position"] for entry in data["phonon"]])
        values = np.array([[band["frequency"] for band in entry["band"]] for entry in data["phonon"]])
    except (KeyError, TypeError) as error:
        raise InputError(f"is no band.yaml: {error} is missing", file=path, key="reference") from error
    return Reference(_name(path), primitive_cell(atoms, symprec=1e-3), atoms.cell.array, q, values)


def _from_json(path: Path) -> Reference:
    data = json.loads(path.read_text())
    try:
        positions = np.array(data["scaled_positions"])
        symbols = data.get("symbols", ["X"] * len(positions))
        q, values = [data["q_points"]], [data["frequencies"]]
        if "bands" in data:
            q.append(data["bands"]["q_points"])
            values.append(data["bands"]["frequencies"])
        atoms = Atoms(symbols=symbols, cell=data["cell"], scaled_positions=positions, pbc=True)
    except (KeyError, TypeError) as error:
        raise InputError(f"is no dfpt.json: {error} is missing", file=path, key="reference") from error
    return Reference(
        _name(path),
        primitive_cell(atoms, symprec=1e-3),
        atoms.cell.array,
        np.concatenate([np.array(part, dtype=np.float64) for part in q]),
        np.concatenate([np.array(part, dtype=np.float64) for part in values]),
    )


def _name(path: Path) -> str:
    generic = {"FORCE_SETS", "phonopy_disp.yaml", "phonopy.yaml", "band.yaml", "phonopy_params.yaml"}
    return f"{path.parent.name}/{path.name}" if path.name in generic else path.name
