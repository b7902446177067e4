"""How a file of labelled structures is named in the settings: path, index, keys, units, sign, pbc, frame, weight."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from mlip.errors import InputError
from mlip.settings import StrictModel, settings_error

KeyTarget = Literal["energy", "forces", "stress", "virial", "hessian", "config_type", "weight"]
UnitTarget = Literal["energy", "length", "forces", "stress", "virial", "hessian"]
StressSign = Literal["ase", "vasp"]


def _index_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class DatasetEntry(StrictModel):
    """One file of labelled structures, and everything needed to read it right."""

    path: Annotated[str, BeforeValidator(lambda p: str(p) if isinstance(p, Path) else p)] = Field(
        description="File or folder; a relative one is looked for here, then under $MLIP_DATA.", min_length=1
    )
    index: Annotated[str, BeforeValidator(_index_text)] = Field(
        ":",
        description="Frames to take, as Python counts them: '0:950', '::2', '-1'; quote it, YAML reads 1:30 as 90.",
    )
    keys: dict[KeyTarget, str | None] = Field(
        default_factory=dict,
        description="Names of the labels in the file; null: do not read that label. Without an entry a known "
        "alias is used when exactly one matches.",
    )
    units: dict[UnitTarget, str] = Field(
        default_factory=dict,
        description="Units of the file. Forces, stress and Hessian follow from energy and length unless stated.",
    )
    stress_sign: StressSign = Field(
        "ase",
        description="ase: stress = +dE/dε/V, positive under tension, and virial = −V·stress. vasp: the opposite, "
        "pressure-like, positive under compression. Six numbers are xx yy zz yz xz xy in both.",
    )
    pbc: bool | None = Field(
        None, description="true or false in all directions; false also drops the cell. null: as the file says."
    )
    frame: Literal["lab"] | None = Field(
        None,
        description="lab: structures without a `frame` of their own are in the laboratory's axes, which a model with "
        "relaxed weights needs to know. null: as the file says.",
    )
    weight: float = Field(
        1.0, ge=0.0, allow_inf_nan=False, description="Weight of every frame of this file in the loss."
    )


def make_entry(source: str | Path | DatasetEntry | Mapping[str, Any], **overrides: Any) -> DatasetEntry:
    """A DatasetEntry from a path, an entry or a mapping; ``overrides`` that are not None win.

    Raises:
        InputError: Unknown settings or values of the wrong kind.
    """
    if isinstance(source, DatasetEntry):
        values = source.model_dump()
    elif isinstance(source, Mapping):
        values = dict(source)
    else:
        values = {"path": source}
    values |= {name: value for name, value in overrides.items() if value is not None}
    try:
        return DatasetEntry.model_validate(values)
    except ValidationError as error:
        raise _readable(error, values.get("path")) from None


def _readable(error: ValidationError, path: Any) -> InputError:
    """The first problem that pydantic found, in one line; names of keys and units are spelled out."""
    first = error.errors()[0]
    if first["loc"][-1:] == ("[key]",):
        key = ".".join(str(part) for part in first["loc"][:-1])
        return InputError(
            "unknown name", file=_text(path), key=key, mend=f"one of {first.get('ctx', {}).get('expected')}"
        )
    return settings_error(error, list(DatasetEntry.model_fields), _text(path))


def _text(path: Any) -> str | None:
    return None if path is None else str(path)


def parse_index(text: str, *, file: str | Path | None = None) -> int | slice:
    """``'3'`` → 3, ``'0:950'`` → slice(0, 950), ``'::2'`` → slice(None, None, 2).

    Raises:
        InputError: Not an index, or a step of zero.
    """
    tidy = text.strip()
    if re.fullmatch(r"[+-]?\d+", tidy):
        return int(tidy)
    if re.fullmatch(r"([+-]?\d*)?:([+-]?\d*)?(:([+-]?\d*)?)?", tidy):
        try:
            parts = [int(part) if part else None for part in tidy.split(":")]
        except ValueError:
            parts = [0, 0, 0]
        if len(parts) < 3 or parts[2] != 0:
            return slice(*parts)
    raise InputError(f"'{text}' is not an index", file=file, key="index", mend="such as 0:950, ::2 or -1")


def select(index: int | slice, count: int, *, file: str | Path | None = None) -> range:
    """The frames that ``index`` takes out of ``count``.

    Raises:
        InputError: None at all.
    """
    if isinstance(index, slice):
        chosen = range(count)[index]
    elif -count <= index < count:
        chosen = range(index % count, index % count + 1)
    else:
        chosen = range(0)
    if not chosen:
        shown = index if isinstance(index, int) else f"{index.start}:{index.stop}:{index.step}".replace("None", "")
        raise InputError(f"index {shown} takes none of its {count} frames", file=file, key="index")
    return chosen


def locate(path: str | Path) -> Path:
    """The file itself, or the one under ``$MLIP_DATA`` (default ``../shared/data``) when it is not here.

    Raises:
        InputError: Neither is there.
    """
    here = Path(path).expanduser()
    if here.exists():
        return here
    data = Path(os.environ.get("MLIP_DATA") or "../shared/data")
    if not here.is_absolute() and (data / here).exists():
        return data / here
    near = difflib.get_close_matches(here.name, _names(here.parent), 1)
    mend = f"did you mean '{here.parent / near[0]}'?" if near else None
    raise InputError("no such file", file=here, mend=mend)


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
