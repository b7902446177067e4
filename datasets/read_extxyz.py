"""Extended XYZ, read by ASE but checked first: a damaged frame is named instead of silently dropped."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from ase.io.extxyz import key_val_str_to_dict, read_xyz
from ase.io.formats import open_with_compression

from mlip.datasets.entry import select
from mlip.datasets.progress import slowly
from mlip.datasets.raw import RawFrame, RawSet, raw_from_atoms, readable
from mlip.errors import InputError

# ASE reshapes these two in Fortran order, refuses six numbers and keeps only three shear components: they go
# through under another name and are understood with the other labels.
_RESERVED = re.compile(r"(?:^|(?<=\s))(stress|virial)(?=\s*=)")
_PREFIX = "as_written_"
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'|\{[^}]*\}|\[[^\]]*\]")
_NAMES = re.compile(r"(?:^|(?<=\s))([A-Za-z_][\w-]*)\s*=")
_PROPERTIES = re.compile(r"Properties\s*=\s*\"?([^\s\"]+)")


def read_extxyz(path: Path, index: int | slice) -> RawSet:
    """Frames of an extended XYZ file (plain, .gz, .bz2 or .xz), read from it each time one goes over them.

    Raises:
        InputError: A frame is truncated, its count of atoms is wrong, or (on the way) a number is not a number.
    """
    with readable(path, "extended XYZ"), open_with_compression(str(path), "rt") as stream:
        count, notes = _scan(stream, path)
    return RawSet(ExtxyzFrames(path, select(index, count, file=path)), "extended XYZ", notes=notes)


class ExtxyzFrames(Iterable[RawFrame]):
    """Some frames of a file without damage; one at a time is in memory, unless they are wanted backwards."""

    def __init__(self, path: Path, chosen: range) -> None:
        self._path, self._chosen = path, chosen

    def __iter__(self) -> Iterator[RawFrame]:
        if self._chosen.step > 0:
            return self._forwards(self._chosen)
        return reversed(list(self._forwards(self._chosen[::-1])))

    def _forwards(self, chosen: range) -> Iterator[RawFrame]:
        with open_with_compression(str(self._path), "rt") as stream:
            texts = islice(_texts(stream), chosen.start, chosen.stop, chosen.step)
            for number, text in zip(chosen, slowly(texts, self._path.name, total=len(chosen)), strict=True):
                with readable(self._path, "extended XYZ", frame=number):
                    image = next(iter(read_xyz(io.StringIO(text), index=0, properties_parser=_parse_comment)))
                    raw = _raw(image, number)
                yield raw


def _texts(stream: TextIO) -> Iterator[str]:
    """The lines of each frame as one text; cell vectors of ADF's kind stand behind the atoms."""
    lines = iter(stream)
    line = next(lines, "")
    while line.strip():
        text = [line, *islice(lines, int(line) + 1)]
        line = next(lines, "")
        while line.lstrip().startswith("VEC"):
            text.append(line)
            line = next(lines, "")
        yield "".join(text)


def _parse_comment(line: str) -> dict[str, Any]:
    names = _NAMES.findall(_QUOTED.sub("", line))
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"key '{twice}' is there twice")
    return dict(key_val_str_to_dict(_RESERVED.sub(rf"{_PREFIX}\1", line)))


def _raw(atoms: Any, number: int) -> RawFrame:
    for name in ("stress", "virial"):
        if _PREFIX + name in atoms.info:
            atoms.info[name] = atoms.info.pop(_PREFIX + name)
    raw = raw_from_atoms(atoms, number)
    return RawFrame(raw.atoms, raw.values, raw.results | ({"stress", "virial"} & set(raw.values)), number)


def _scan(stream: TextIO, path: Path) -> tuple[int, list[str]]:
    """Count the frames, and stop where the next one should begin and does not."""
    lines = iter(stream)
    count, extra = 0, 0
    for line in lines:
        if not line.strip():
            _only_blank(lines, path, count)
            break
        if line.lstrip().startswith("VEC"):
            continue
        atoms = _count_of_atoms(line, path, count)
        comment = next(lines, None)
        for row in range(atoms):
            atom = next(lines, None)
            if atom is None:
                raise InputError(f"ends after {row} of {atoms} atoms", file=path, frame=count, mend="truncated?")
            if row == 0:
                extra += len(atom.split()) > _columns(comment or "", path, count)
        count += 1
    if count == 0:
        raise InputError("is empty", file=path)
    notes = [f"{extra} frames have more columns than Properties declares: not read"] if extra else []
    return count, notes


def _count_of_atoms(line: str, path: Path, frame: int) -> int:
    try:
        atoms = int(line)
    except ValueError:
        hint = f"or the count of frame {frame - 1} is wrong" if frame else "is it an XYZ file?"
        problem = f"expected a number of atoms, found '{line.strip()[:40]}'"
        raise InputError(problem, file=path, frame=frame, mend=hint) from None
    if atoms < 1:
        raise InputError(f"has {atoms} atoms", file=path, frame=frame)
    return atoms


def _columns(comment: str, path: Path, frame: int) -> int:
    """Columns that Properties declares; ASE would drop a declaration that it cannot make out."""
    match = _PROPERTIES.search(comment)
    if match is None:
        return 4
    fields = match[1].split(":")
    counts = fields[2::3]
    if len(fields) % 3 or not all(number.isdigit() for number in counts):
        raise InputError(
            f"Properties '{match[1][:60]}' is not name:type:columns:…", file=path, frame=frame, key="Properties"
        )
    return sum(int(number) for number in counts)


def _only_blank(lines: Iterator[str], path: Path, frame: int) -> None:
    """ASE stops at the first blank line; frames behind it would be lost without a word."""
    for line in lines:
        if line.strip():
            raise InputError("a blank line comes before it", file=path, frame=frame, mend="remove the blank line")
