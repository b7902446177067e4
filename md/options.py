"""Command-line options that the commands of this room share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from mlip.errors import InputError
from mlip.surroundings import frame_matrix

Files = Annotated[
    list[Path],
    typer.Argument(metavar="MODEL STRUCTURE...", help="A model file, then structures; no MODEL with --calculator."),
]
Calculator = Annotated[
    str | None,
    typer.Option(
        "--calculator", help="Any ASE calculator instead of MODEL, as module:factory.", metavar="MODULE:FACTORY"
    ),
]
Out = Annotated[Path | None, typer.Option("--out", help="Folder for the results. Default: STRUCTURE-COMMAND.")]
Force = Annotated[bool, typer.Option("--force", help="Replace results that are there.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the structures that results.jsonl in --out lacks.")
]
Shards = Annotated[
    int | None, typer.Option("--shards", help="Divide the structures among so many calls with one --out.", min=1)
]
ShardIndex = Annotated[
    int | None, typer.Option("--shard-index", help="Which part this call does, from 0; then mlip merge OUT.", min=0)
]
Json = Annotated[Path | None, typer.Option("--json", help="Also write the report as JSON to this file.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, …")]
Dtype = Annotated[str | None, typer.Option("--dtype", help="float32 or float64. Default: as stored in the model.")]
Index = Annotated[int, typer.Option("--index", help="Which frame of a structure file; -1 is the last.")]
Frame = Annotated[
    str | None,
    typer.Option(
        "--frame",
        help="For relaxed weights: how the structures lie in the laboratory, v_structure = frame · v_lab, as nine "
        "numbers row by row, or 'identity'. A frame in the file itself goes first.",
    ),
]


def integers(text: str | None, key: str) -> Any:
    """'2', '2 2 2' or nine integers, as phonons takes them."""
    if text is None:
        return None
    try:
        numbers = [int(word) for word in text.replace(",", " ").replace("x", " ").split()]
    except ValueError as error:
        raise InputError(f"'{text}' is not integers", key=key) from error
    if len(numbers) not in (1, 3, 9):
        raise InputError(f"'{text}' is not 1, 3 or 9 integers", key=key)
    return np.array(numbers).reshape(3, 3) if len(numbers) == 9 else numbers


def frame_from(text: str | None) -> Any:
    """'identity' or nine numbers as a matrix; None stays None.

    Raises:
        InputError: Neither, or the matrix is not orthogonal.
    """
    if text is None:
        return None
    if text.strip() == "identity":
        return np.eye(3)
    mend = "nine numbers row by row, or --frame identity"
    try:
        numbers = np.array([float(word) for word in text.replace(",", " ").split()])
    except ValueError as error:
        raise InputError(f"'{text}' is not numbers", key="frame", mend=mend) from error
    if numbers.size != 9:
        raise InputError(f"'{text}' is {numbers.size} numbers, not nine", key="frame", mend=mend)
    try:
        return frame_matrix(numbers)
    except InputError as error:
        raise InputError(error.problem, key="frame", mend=error.mend or mend) from error
