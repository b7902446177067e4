"""Read labelled structures: the one door, whatever the format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlip.datasets.boxes import first_cell_problem, set_boundaries
from mlip.datasets.cache import CachedFrames, is_hdf5
from mlip.datasets.entry import DatasetEntry, locate, make_entry, parse_index, select
from mlip.datasets.frame import LABELS, LabelledFrame
from mlip.datasets.keys import Names, choose_keys
from mlip.datasets.labels import LabelReader
from mlip.datasets.raw import RawSet
from mlip.datasets.read_ase import read_ase
from mlip.datasets.read_deepmd import is_deepmd, read_deepmd
from mlip.datasets.read_npz import read_npz
from mlip.datasets.read_phonopy import read_phonopy_file
from mlip.datasets.read_q2r import read_q2r
from mlip.datasets.source import FrameList, LabelSource, count_labels
from mlip.datasets.stream import FrameStream
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
    path, wanted = locate(entry.path), _check_require(require)
    stream = _of_cache(path, entry, wanted) if is_hdf5(path) else _of_raw(_held(path, entry), path, entry, wanted)
    frames = list(stream)
    return FrameList(frames, stream.source)


def stream_frames(entry: DatasetEntry, require: Iterable[str] = ()) -> FrameStream:
    """The frames of a file in turn: extended XYZ and HDF5 caches are read frame by frame, others as a whole.

    Text is read three times: for its shape, for its names, and for the labels.

    Raises:
        InputError: As ``read_frames``; a missing label only after the last frame.
    """
    path, wanted = locate(entry.path), _check_require(require)
    if is_hdf5(path):
        return _of_cache(path, entry, wanted)
    return _of_raw(_open(path, parse_index(entry.index, file=path), entry), path, entry, wanted)


@dataclass(frozen=True)
class OpenFrames:
    """Frames, a list or in a cache, and where their labels came from."""

    frames: Sequence[LabelledFrame]
    source: LabelSource


def _check_require(require: Iterable[str]) -> tuple[str, ...]:
    names = tuple(require.split(",")) if isinstance(require, str) else tuple(require)
    for name in names:
        if name not in LABELS:
            raise InputError(f"'{name}' is not a label", key="require", mend=f"one of {', '.join(LABELS)}")
    return names


def _held(path: Path, entry: DatasetEntry) -> RawSet:
    """The frames of a file in memory, so that it is read once."""
    raw = _open(path, parse_index(entry.index, file=path), entry)
    return replace(raw, frames=list(raw.frames))


def _of_raw(raw: RawSet, path: Path, entry: DatasetEntry, require: tuple[str, ...]) -> FrameStream:
    units = parse_units({**raw.units, **_texts(entry.units)}, file=path)
    names = Names.of(raw.frames)
    chosen, notes = choose_keys(names, {str(k): v for k, v in entry.keys.items()}, file=path)
    sign = {"ase": 1.0, "vasp": -1.0}[entry.stress_sign]
    reader = LabelReader(path, chosen, units, sign, entry.pbc, entry.weight)
    source = LabelSource(
        path,
        raw.format,
        keys=chosen,
        units={name: units.names[name] for name in chosen if name in units.names} | {"length": units.names["length"]},
        units_from="stated" if entry.units else raw.units_from,
        stress_sign=entry.stress_sign,
        available=sorted(names.counts),
        notes=[*raw.notes, *notes],
    )
    laboratory = entry.frame == "lab"
    return FrameStream(map(reader, raw.frames), source, require, laboratory=laboratory, reader=reader)


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
    places = select(parse_index(entry.index, file=path), len(cached), file=path)
    _refuse_cells(cached, np.asarray(places), entry.pbc)
    wanted = FrameView([cached], places)
    return Mapped(wanted, partial(_as_entered, entry)), LabelSource(path, "cache", units_from="eV, Å")


def _refuse_cells(cached: CachedFrames, places: NDArray[np.int64], pbc: bool | None) -> None:
    """Cells that are none are found before any frame is read."""
    if pbc is False:
        return
    cells, periodic = cached.cells[places], cached.pbc[places]
    found = first_cell_problem(cells, periodic if pbc is None else np.ones_like(periodic))
    if found is not None:
        frame = cached[int(places[found[0]])]
        raise InputError(found[1], file=cached.path, frame=frame.index, mend="--no-pbc")


def _as_entered(entry: DatasetEntry, frame: LabelledFrame) -> LabelledFrame:
    """A frame of a cache with the entry's boundary conditions, weight and axes."""
    set_boundaries(frame.atoms, entry.pbc)
    if entry.frame == "lab":
        frame.atoms.info.setdefault(FRAME, np.eye(3))
    stress = None if entry.pbc is False else frame.stress
    return replace(frame, weight=frame.weight * entry.weight, stress=stress)


def _of_cache(path: Path, entry: DatasetEntry, require: tuple[str, ...]) -> FrameStream:
    frames, source = _open_cache(path, entry.model_copy(update={"frame": None}))
    return FrameStream(_named(frames, source), source, require, laboratory=entry.frame == "lab")


def _named(frames: Iterable[LabelledFrame], source: LabelSource) -> Iterator[LabelledFrame]:
    """The frames of a cache, whose labels have the names of this package."""
    seen: set[str] = set()
    for frame in frames:
        seen.update(frame.labels)
        yield frame
    source.keys = {name: name for name in LABELS if name in seen}


def _texts(units: Mapping[Any, str]) -> dict[str, str]:
    return {str(kind): unit for kind, unit in units.items()}
