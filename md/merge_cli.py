"""The command ``mlip merge``: the results of all shards as one file."""

from __future__ import annotations

import json as json_module
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from mlip.errors import InputError
from mlip.files import write_text
from mlip.md.shards import merged


def merge(
    folder: Annotated[Path, typer.Argument(help="The --out that the shards share.")],
    keep_errors: Annotated[
        bool, typer.Option("--keep-errors", help="Accept structures that ended with an error.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a results.jsonl that is there.")] = False,
) -> None:
    """Merge the results of shards into results.jsonl; duplicates, holes and mixtures are refused."""
    target = folder / "results.jsonl"
    if target.exists() and not force:
        raise InputError("exists already", file=target, mend="--force")
    records = merged(folder, keep_errors=keep_errors)
    lines = [json_module.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records]
    write_text(target, "".join(lines))
    counts = Counter(record["status"] for record in records)
    typer.echo(f"{target}: {len(records)} structures: " + ", ".join(f"{n} {what}" for what, n in counts.items()))
