"""Command-line options that the commands of this room share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from mlip.errors import InputError

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
