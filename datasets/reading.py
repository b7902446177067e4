"""Read labelled structures: the one door, whatever the format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mlip.datasets.boxes import cell_problem, empty_gaps, in_dummy_box, set_boundaries
from mlip.datasets.cache import CachedFrames, is_hdf5
from mlip.datasets.entry import DatasetEntry, locate, make_entry, parse_index, select
from mlip.datasets.frame import LABELS, LabelledFrame
from mlip.datasets.keys import choose_keys
from mlip.datasets.labels import LabelReader
from mlip.datasets.raw import RawSet
from mlip.datasets.read_ase import read_ase
from mlip.datasets.read_deepmd import is_deepmd, read_deepmd
from mlip.datasets.read_npz import read_npz
from mlip.datasets.read_phonopy import read_phonopy_file
from mlip.datasets.read_q2r import read_q2r
from mlip.datasets.source import FrameList, LabelSource, count_labels
from mlip.datasets.units import parse_units
from mlip.datasets.views import FrameView, Mapped
from mlip.errors import InputError
from mlip.surroundings import FRAME


def read_frames(
    path_or_entry: str | Path | DatasetEntry | Mapping[str, Any],
    *,
    index: str | int | None = None,
    keys: Mapping[str, str | None] | None = None,
    units: Mapping[str, str] | None = None,
    stress_sign: str | None = None,
    pbc: bool | None = None,
    require: Iterable[str] = (),
    weight: float | None = None,
) -> FrameList:
    """Read labelled structures from a file or folder.

    Extended XYZ and whatever else ASE reads, MD17-like npz, deepmd's npy folders, phonopy and phono3py YAML,
    FORCE_SETS, force constants of VASP and q2r.x, and the HDF5 cache of this package. Labels are found by their
    usual names when exactly one matches; ``.source`` of the result says what was read as what.

    Args:
        path_or_entry: A path, or the settings of one (see ``DatasetEntry``).
        index: Frames to take: ``"0:950"``, ``"::2"``, ``-1``.
        keys: Names in the file, ``{"energy": "Energy", "forces": "force"}``; None leaves a label unread.
        units: Units of the file, ``{"energy": "kcal/mol", "length": "Ang"}``.
        stress_sign: ``ase`` (positive under tension) or ``vasp`` (positive under compression).
        pbc: True or False in all directions; False also drops the cell.
        require: Labels that at least one frame must have.
        weight: Weight of every frame, times the file's own.

    Returns:
        Frames in eV and Å, a list with ``.source``.

    Raises:
        InputError: The file cannot be read, a name is ambiguous, or a required label is missing from all frames.
    """
    entry = make_entry(
        path_or_entry, index=index, keys=keys, units=units, stress_sign=stress_sign, pbc=pbc, weight=weight
    )
    path = locate(entry.path)
    wanted = _check_require(require)
    frames, source = _read_cache(path, entry) if is_hdf5(path) else _read_raw(path, entry)
    source.frames, source.counts = len(frames), count_labels(frames)
    for name in wanted:
        _demand(name, source)
    _remark_boxes(frames, source)
    if entry.frame == "lab":
        _in_laboratory(frames, source)
    return FrameList(frames, source)


@dataclass(frozen=True)
class OpenFrames:
    """Frames, a list or in a cache, and where their labels came from."""

    frames: Sequence[LabelledFrame]
    source: LabelSource


def _in_laboratory(frames: Sequence[LabelledFrame], source: LabelSource) -> None:
    """Structures that say nothing of their axes are in the laboratory's."""
    silent = [frame for frame in frames if frame.atoms.info.get(FRAME) is None]
    for frame in silent:
        frame.atoms.info[FRAME] = np.eye(3)
    if silent:
        source.notes.append(f"{len(silent)} frames declared to be in the laboratory's axes (frame: lab)")


def _check_require(require: Iterable[str]) -> tuple[str, ...]:
    names = tuple(require.split(",")) if isinstance(require, str) else tuple(require)
    for name in names:
        if name not in LABELS:
            raise InputError(f"'{name}' is not a label", key="require", mend=f"one of {', '.join(LABELS)}")
    return names


def _read_raw(path: Path, entry: DatasetEntry) -> tuple[list[LabelledFrame], LabelSource]:
    raw = _open(path, parse_index(entry.index, file=path), entry)
    units = parse_units({**raw.units, **_texts(entry.units)}, file=path)
    chosen, notes = choose_keys(raw.frames, {str(k): v for k, v in entry.keys.items()}, file=path)
    sign = {"ase": 1.0, "vasp": -1.0}[entry.stress_sign]
    reader = LabelReader(path, chosen, units, sign, entry.pbc, entry.weight)
    frames = [reader(frame) for frame in raw.frames]
    notes += all_zero(frames)
    source = LabelSource(
        path,
        raw.format,
        keys=chosen,
        units={name: units.names[name] for name in chosen if name in units.names} | {"length": units.names["length"]},
        units_from="stated" if entry.units else raw.units_from,
        stress_sign=entry.stress_sign,
        available=sorted({name for frame in raw.frames for name in frame.values}),
        masked=dict(reader.masked),
        notes=[*raw.notes, *notes, *(f"{note} ({count} frames)" for note, count in reader.notes.items())],
    )
    return frames, source


def _open(path: Path, index: int | slice, entry: DatasetEntry) -> RawSet:
    """Choose the reader by the name of the file or the contents of the folder."""
    if path.is_dir():
        return _open_folder(path, index)
    if not path.is_file():
        raise InputError("is not a file", file=path)
    if path.name.startswith("FORCE_SETS"):
        return read_phonopy_file(path, index)
    suffixes = [s.lower() for s in path.suffixes if s.lower() not in (".xz", ".gz", ".lzma")]
    match suffixes[-1] if suffixes else "":
        case ".npz":
            return read_npz(path, index, _texts(entry.units))
        case ".yaml" | ".yml":
            return read_phonopy_file(path, index)
        case ".fc":
            return read_q2r(path, index)
        case ".npy" | ".pkl" | ".pickle" | ".pt" | ".pth":
            raise InputError("this format is not read", file=path, mend="save it as extended XYZ or npz")
        case _:
            return read_ase(path, index)


def _open_folder(path: Path, index: int | slice) -> RawSet:
    if is_deepmd(path):
        return read_deepmd(path, index)
    if (path / "FORCE_SETS").is_file():
        return read_phonopy_file(path / "FORCE_SETS", index)
    raise InputError(
        "is a folder without deepmd's type.raw or phonopy's FORCE_SETS", file=path, mend="name a file in it"
    )


def open_frames(entry: DatasetEntry) -> OpenFrames:
    """Frames of a training set: those of an HDF5 cache stay in it, others are read.

    Raises:
        InputError: As ``read_frames``.
    """
    path = locate(entry.path)
    if not is_hdf5(path):
        found = read_frames(entry)
        return OpenFrames(list(found), found.source)
    frames, source = _open_cache(path, entry)
    source.frames, source.counts = len(frames), count_labels(frames)
    source.keys = {name: name for name, count in source.counts.items() if count}
    return OpenFrames(frames, source)


def _open_cache(path: Path, entry: DatasetEntry) -> tuple[Sequence[LabelledFrame], LabelSource]:
    """The frames of a cache, as the entry wants them, in the cache."""
    if entry.keys or entry.units or entry.stress_sign != "ase":
        raise InputError("a cache is in eV and Å already: keys, units and signs do not apply", file=path)
    cached = CachedFrames(path)
    wanted = FrameView([cached], select(parse_index(entry.index, file=path), len(cached), file=path))
    return Mapped(wanted, partial(_as_entered, entry, path)), LabelSource(path, "cache", units_from="eV, Å")


def _as_entered(entry: DatasetEntry, path: Path, frame: LabelledFrame) -> LabelledFrame:
    """A frame of a cache with the entry's boundary conditions, weight and axes."""
    set_boundaries(frame.atoms, entry.pbc)
    problem = cell_problem(frame.atoms)
    if problem:
        raise InputError(problem, file=path, frame=frame.index, mend="--no-pbc")
    if entry.frame == "lab":
        frame.atoms.info.setdefault(FRAME, np.eye(3))
    stress = None if entry.pbc is False else frame.stress
    return replace(frame, weight=frame.weight * entry.weight, stress=stress)


def _read_cache(path: Path, entry: DatasetEntry) -> tuple[list[LabelledFrame], LabelSource]:
    opened, source = _open_cache(path, entry.model_copy(update={"frame": None}))
    frames = list(opened)
    present = [name for name in LABELS if any(getattr(f, name) is not None for f in frames)]
    source.keys = {n: n for n in present}
    return frames, source


def _texts(units: Mapping[Any, str]) -> dict[str, str]:
    return {str(kind): unit for kind, unit in units.items()}


def all_zero(frames: Sequence[LabelledFrame]) -> list[str]:
    """Remarks on labels that are exactly zero everywhere, as placeholders are."""
    remarks = []
    for name in LABELS:
        values = [getattr(frame, name) for frame in frames if getattr(frame, name) is not None]
        if len(values) > 1 and not any(np.any(value) for value in values):
            remarks.append(f"{name}: exactly zero in all {len(values)} frames, a placeholder?")
    return remarks


def _demand(name: str, source: LabelSource) -> None:
    if source.counts[name] == 0:
        masked = source.masked.get(name, 0)
        problem = f"no frame has a finite {name}" if masked else f"no frame has {name}"
        names = ", ".join(source.available[:12]) or "nothing"
        raise InputError(problem, file=source.file, mend=f"it has {names}; --key {name}=NAME if it is one of these")
    if source.counts[name] < source.frames:
        missing = source.frames - source.counts[name]
        source.notes.append(f"{missing} of {source.frames} frames have no {name}: masked")


def _remark_boxes(frames: Sequence[LabelledFrame], source: LabelSource) -> None:
    boxed = [frame.atoms for frame in frames if in_dummy_box(frame.atoms)]
    if boxed:
        gap = min(float(np.min(empty_gaps(atoms))) for atoms in boxed)
        source.notes.append(
            f"{len(boxed)} frames are molecules in a periodic box, at least {gap:.0f} Å empty: --no-pbc drops it"
        )
