"""The commands ``mlip init`` and ``mlip schema``."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mlip.errors import InputError
from mlip.files import write_text


def init(
    data: Annotated[list[str], typer.Argument(metavar="DATA...", help="Labelled frames to train on.")],
    out: Annotated[Path | None, typer.Option(help="The configuration to write (default DATA.yaml).")] = None,
    test: Annotated[list[str] | None, typer.Option(help="Frames to evaluate at the end; repeat.")] = None,
    minutes: Annotated[float, typer.Option(help="Length of the run.", min=0.01)] = 30.0,
    cutoff: Annotated[float | None, typer.Option(help="Å. Default: by the number of neighbours.", min=1.0)] = None,
    key: Annotated[list[str] | None, typer.Option(help="Label and its name: energy=Energy.")] = None,
    unit: Annotated[list[str] | None, typer.Option(help="Quantity and its unit: energy=kcal/mol.")] = None,
    pbc: Annotated[bool | None, typer.Option("--pbc/--no-pbc", help="Override periodicity.")] = None,
    index: Annotated[str | None, typer.Option(help="Which frames: 0:100.")] = None,
    schema: Annotated[
        bool, typer.Option("--schema/--no-schema", help="Write mlip-schema.json beside it, for editors.")
    ] = True,
) -> None:
    """Write a short commented configuration from what DATA holds, with a forecast of minutes and memory."""
    from mlip.datasets.entry import locate, make_entry
    from mlip.datasets.tables import print_summaries
    from mlip.training.cli import pairs
    from mlip.training.paths import resolve
    from mlip.training.proposal import propose
    from mlip.training.schema import FILE, editor_line, write_schema

    target = out or Path(f"{Path(data[0].replace(':', '-')).stem}.yaml")
    if target.exists():
        raise InputError("exists already, and is not overwritten", file=target, mend="another --out")
    options = {"keys": pairs(key, "--key"), "units": pairs(unit, "--unit"), "pbc": pbc, "index": index}
    entries = [make_entry(path, **options) for path in data]
    for path in test or []:
        locate(resolve(make_entry(path)).path)  # a name that is wrong is said now, not after the run
    head = editor_line(FILE) if schema else ""
    found = propose(entries, tests=test or [], cutoff=cutoff, minutes=minutes, head=head)
    console = Console()
    print_summaries([found.summary], console)
    if schema:
        write_schema(target.parent / FILE)
    write_text(target, found.text)
    for line in found.forecast.lines():
        console.print(line, highlight=False, soft_wrap=True)
    console.print(f"wrote {target}; go on with: mlip train {target}", highlight=False, soft_wrap=True)


def schema(
    out: Annotated[Path | None, typer.Option(help="Write it here instead of printing it.")] = None,
) -> None:
    """The settings of a training run as JSON schema, for editors."""
    from mlip.training.schema import json_schema, write_schema

    if out is None:
        typer.echo(json_module.dumps(json_schema(), indent=1, ensure_ascii=False))
    else:
        typer.echo(f"wrote {write_schema(out)}")
