"""The HDF5 cache: labelled frames in eV and Å, read one by one, for sets larger than memory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import h5py
import numpy as np
from ase import Atoms

from mlip.datasets.frame import Array, LabelledFrame
from mlip.datasets.raw import readable
from mlip.errors import InputError
from mlip.files import atomic_path

FORMAT, SCHEMA = "curie-mlip-frames", 1
_CHUNK = 256  # frames written at a time
_PER_FRAME = {"energy": (), "stress": (3, 3), "cell": (3, 3), "weight": ()}
_PER_ATOM = {"positions": (3,), "forces": (3,)}


def is_hdf5(path: Path) -> bool:
    """Whether the file is HDF5, by its first bytes or, for a damaged one, by its name."""
    if path.suffix.lower() in (".h5", ".hdf5"):
        return path.is_file()
    return path.is_file() and h5py.is_hdf5(path)


def write_cache(frames: Iterable[LabelledFrame], path: str | Path) -> int:
    """Write frames to an HDF5 cache, atomically; an iterator need not fit into memory.

    A label that a frame lacks is stored as NaN. Numbers are stored as float64 with checksums and come back bit by
    bit.

    Returns:
        The number of frames.

    Raises:
        InputError: No frames at all.
    """
    source, count = iter(frames), 0
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"], file.attrs["schema"] = FORMAT, SCHEMA
        file.attrs["units"] = "eV, Angstrom, eV/Angstrom, eV/Angstrom^3, eV/Angstrom^2"
        _create(file)
        while block := list(islice(source, _CHUNK)):
            _append_block(file, block)
            count += len(block)
        if count == 0:
            raise InputError("no frames to write", file=path)
    return count


def _create(file: Any) -> None:
    def make(name: str, shape: tuple[int, ...], kind: str, chunk: int) -> None:
        file.create_dataset(name, (0, *shape), kind, maxshape=(None, *shape), chunks=(chunk, *shape), fletcher32=True)

    for name, shape in _PER_FRAME.items():
        make(name, shape, "f8", _CHUNK)
    for name, shape in _PER_ATOM.items():
        make(name, shape, "f8", 4096)
    make("numbers", (), "u1", 4096)
    make("pbc", (3,), "?", _CHUNK)
    make("hessian", (), "f8", 65536)
    file.create_dataset("text", (0,), h5py.string_dtype(), maxshape=(None,), chunks=(_CHUNK,))
    for name in ("atom_offsets", "hessian_offsets"):
        make(name, (), "i8", 4096)
        _append(file[name], [0])


def _append_block(file: Any, block: list[LabelledFrame]) -> None:
    _append(file["energy"], [np.nan if f.energy is None else f.energy for f in block])
    _append(file["stress"], [np.full((3, 3), np.nan) if f.stress is None else f.stress for f in block])
    _append(file["cell"], [np.asarray(f.atoms.cell) for f in block])
    _append(file["weight"], [f.weight for f in block])
    _append(file["pbc"], [f.atoms.pbc for f in block])
    _append(file["numbers"], np.concatenate([f.atoms.numbers for f in block]))
    _append(file["positions"], np.concatenate([f.atoms.positions for f in block]))
    forces = [np.full((len(f), 3), np.nan) if f.forces is None else f.forces for f in block]
    _append(file["forces"], np.concatenate(forces))
    hessians = [np.empty(0) if f.hessian is None else np.ravel(f.hessian) for f in block]
    _append(file["hessian"], np.concatenate(hessians))
    _append(file["text"], [_text(f) for f in block])
    _append(file["atom_offsets"], file["atom_offsets"][-1] + np.cumsum([len(f) for f in block]))
    _append(file["hessian_offsets"], file["hessian_offsets"][-1] + np.cumsum([h.size for h in hessians]))


def _append(dataset: Any, rows: Any) -> None:
    old = len(dataset)
    dataset.resize(old + len(rows), axis=0)
    dataset[old:] = rows


def _text(frame: LabelledFrame) -> str:
    """Everything that is not a large array, as JSON."""
    arrays = {k: v for k, v in frame.atoms.arrays.items() if k not in ("numbers", "positions")}
    fields = {
        "config_type": frame.config_type,
        "file": None if frame.file is None else str(frame.file),
        "index": frame.index,
        "info": frame.info,
        "atoms_info": frame.atoms.info,
        "atoms_arrays": arrays,
    }
    return json.dumps(fields, default=_encode)


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {"__array__": value.tolist(), "dtype": "str" if value.dtype.kind in "OU" else value.dtype.str}
    if isinstance(value, np.generic):
        return value.item()
    return str(value)


def _decode(value: dict[str, Any]) -> Any:
    return np.array(value["__array__"], dtype=value["dtype"]) if "__array__" in value else value


class CachedFrames(Sequence[LabelledFrame]):
    """The frames of a cache as a sequence; each is read from the file when it is asked for.

    Can be pickled and used after a fork: every process opens the file for itself.

    Args:
        path: A file written by ``write_cache``.

    Raises:
        InputError: Not such a file, or a damaged one.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: Any = None
        self._process = -1
        self._large: dict[str, Any] = {}  # handles of what is read frame by frame
        self._small: dict[str, Array] = {}  # what is kept in memory: 160 bytes per frame
        with readable(self.path, "HDF5 cache"):
            file = self._open()
            self._atoms = file["atom_offsets"][:]
            self._hessians = file["hessian_offsets"][:]
            lengths = {len(file[name]) for name in (*_PER_FRAME, "pbc", "text")}
        if lengths != {len(self._atoms) - 1} or len(self._large["positions"]) != self._atoms[-1]:
            raise InputError("its arrays do not agree in length", file=self.path, mend="write it again")

    def _open(self) -> Any:
        """The open file of this process; a fork opens its own."""
        if self._file is None or self._process != os.getpid():
            self._file, self._process = h5py.File(self.path, "r"), os.getpid()
            if self._file.attrs.get("format") != FORMAT or self._file.attrs.get("schema") != SCHEMA:
                raise InputError("is HDF5, but not a cache of this version", file=self.path)
            self._large = {name: self._file[name] for name in ("numbers", "positions", "forces", "hessian", "text")}
            self._small = {name: self._file[name][:] for name in (*_PER_FRAME, "pbc")}
        return self._file

    def __len__(self) -> int:
        return len(self._atoms) - 1

    @overload
    def __getitem__(self, index: int) -> LabelledFrame: ...
    @overload
    def __getitem__(self, index: slice) -> list[LabelledFrame]: ...
    def __getitem__(self, index: int | slice) -> LabelledFrame | list[LabelledFrame]:
        if not isinstance(index, slice):
            return self._read(range(len(self))[index])
        wanted = range(len(self))[index]
        if wanted and wanted.step == 1:
            return self._read_block(wanted.start, wanted.stop)
        return [self._read(i) for i in wanted]

    def __iter__(self) -> Iterator[LabelledFrame]:
        for start in range(0, len(self), _CHUNK):
            yield from self._read_block(start, min(start + _CHUNK, len(self)))

    @property
    def atom_counts(self) -> Any:
        """Atoms of every frame, (frames,), without reading them."""
        return np.diff(self._atoms)

    @property
    def cells(self) -> Array:
        """(frames, 3, 3), Å."""
        self._open()
        return self._small["cell"]

    @property
    def pbc(self) -> Array:
        """(frames, 3), which directions are periodic."""
        self._open()
        return self._small["pbc"]

    def _read(self, i: int) -> LabelledFrame:
        return self._read_block(i, i + 1)[0]

    def _read_block(self, start: int, stop: int) -> list[LabelledFrame]:
        """Consecutive frames with one access to each array of the file."""
        with readable(self.path, "HDF5 cache", frame=start):
            self._open()
            rows = slice(self._atoms[start], self._atoms[stop])
            arrays = {name: self._large[name][rows] for name in ("numbers", "positions", "forces")}
            hessians = self._large["hessian"][self._hessians[start] : self._hessians[stop]]
            texts = self._large["text"][start:stop]
        return [self._frame(i, arrays, hessians, texts, start) for i in range(start, stop)]

    def _frame(self, i: int, arrays: dict[str, Array], hessians: Array, texts: Any, start: int) -> LabelledFrame:
        with readable(self.path, "HDF5 cache", frame=i):
            small, first = self._small, self._atoms[start]
            rows = slice(self._atoms[i] - first, self._atoms[i + 1] - first)
            text = json.loads(texts[i - start], object_hook=_decode)
            atoms = Atoms(
                arrays["numbers"][rows],
                positions=arrays["positions"][rows],
                cell=small["cell"][i],
                pbc=small["pbc"][i],
            )
            atoms.info = text["atoms_info"]
            for name, array in text["atoms_arrays"].items():
                atoms.set_array(name, array)
            energy = float(small["energy"][i])
            return LabelledFrame(
                atoms=atoms,
                energy=None if np.isnan(energy) else energy,
                forces=_or_none(arrays["forces"][rows].copy()),  # not the whole block kept alive by one frame
                stress=_or_none(small["stress"][i].copy()),
                hessian=self._hessian(i, start, hessians, len(atoms)),
                weight=float(small["weight"][i]),
                config_type=text["config_type"],
                file=None if text["file"] is None else Path(text["file"]),
                index=text["index"],
                info=text["info"],
            )

    def _hessian(self, i: int, start: int, values: Array, atoms: int) -> Array | None:
        first = self._hessians[start]
        rows = slice(self._hessians[i] - first, self._hessians[i + 1] - first)
        return None if rows.start == rows.stop else values[rows].reshape(3 * atoms, 3 * atoms).copy()

    def close(self) -> None:
        """Close the file; it opens again when a frame is asked for."""
        if self._file is not None and self._process == os.getpid():
            self._file.close()
        self._file, self._large, self._small = None, {}, {}

    def __enter__(self) -> CachedFrames:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_process": -1, "_large": {}, "_small": {}}


def _or_none(array: Array) -> Array | None:
    return None if np.isnan(array).any() else array
