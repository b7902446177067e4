"""What a file holds before anything is taken for a label: geometry and named values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ase import Atoms

from mlip.errors import InputError


@dataclass
class RawFrame:
    """One structure and every named value that came with it.

    Attributes:
        atoms: Geometry; ``info`` and ``arrays`` as the file has them, no calculator, no constraints.
        values: Name → value, of calculator results, per-structure values and per-atom arrays together.
        results: Which of those names are calculator results (properties).
        index: Index in the file.
    """

    atoms: Atoms
    values: dict[str, Any]
    results: frozenset[str] = frozenset()
    index: int = 0


@dataclass
class RawSet:
    """The frames of one file, the units that its format implies, and remarks for the user.

    The frames are a list, or are read anew each time one goes over them.
    """

    frames: Iterable[RawFrame]
    format: str
    units: dict[str, str] = field(default_factory=dict)
    units_from: str = "assumed"
    notes: list[str] = field(default_factory=list)


@contextmanager
def readable(file: Path, what: str, frame: int | None = None) -> Iterator[None]:
    """Turn whatever a parser raises into one line that names the file.

    Parsers of many formats raise everything from IndexError to zlib.error on a damaged file.
    """
    try:
        yield
    except InputError as error:
        if error.file is not None:
            raise
        raise InputError(error.problem, file=file, frame=frame, key=error.key, mend=error.mend) from None
    except (RecursionError, StopIteration):
        raise InputError(f"cannot be read as {what}: it ends too early", file=file, frame=frame) from None
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        detail = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
        raise InputError(f"cannot be read as {what}: {detail}", file=file, frame=frame) from error


def raw_from_atoms(atoms: Atoms, index: int) -> RawFrame:
    """Separate geometry and values of ASE atoms; calculator results are taken as stored, past constraints."""
    results = {} if atoms.calc is None else {k: v for k, v in atoms.calc.results.items() if v is not None}
    arrays = {k: v for k, v in atoms.arrays.items() if k not in ("numbers", "positions")}
    values = {**atoms.info, **arrays, **results}
    bare = atoms.copy()
    bare.set_constraint()
    return RawFrame(bare, values, frozenset(results), index)
