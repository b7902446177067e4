"""The commands ``mlip train`` and ``mlip evaluate``: thin shells over the functions of the same names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mlip.errors import InputError
from mlip.files import output_folder
from mlip.report import CommandReport


def train(
    config: Annotated[str, typer.Argument(help="A YAML file, or a recipe: silicon, 3bpa, acac, mgo.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Settings that win over the file.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that is there.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the run that is there.")] = False,
    json: Annotated[Path | None, typer.Option("--json", help="Also write the report as JSON to this file.")] = None,
) -> None:
    """Train a potential; everything goes to runs/NAME, and an interrupted run goes on with --resume."""
    from mlip.training.run import train as run

    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts, one speaks
    console = Console(quiet=not first)
    result = run(config, overrides or [], resume=resume, force=force, console=console)
    if result.signal is not None:
        console.print(f"interrupted: go on with --resume ({result.folder})", highlight=False)
        raise typer.Exit(128 + result.signal)
    if json is not None and first:
        inputs = {"config": config, "overrides": overrides or []}
        CommandReport("train", inputs, result.to_dict(), files=result.files).write_json(json)
    console.print(f"done ({result.reason}): {result.best_path}", highlight=False)


def evaluate(
    model: Annotated[Path, typer.Argument(help="A model file.")],
    data: Annotated[str, typer.Argument(help="Labelled frames, or an embedded set such as silicon:test.")],
    plot: Annotated[bool, typer.Option("--plot", help="Draw parity plots.")] = False,
    key: Annotated[list[str] | None, typer.Option(help="Label and its name: energy=Energy.")] = None,
    unit: Annotated[list[str] | None, typer.Option(help="Quantity and its unit: energy=kcal/mol.")] = None,
    pbc: Annotated[bool | None, typer.Option("--pbc/--no-pbc", help="Override periodicity.")] = None,
    index: Annotated[str | None, typer.Option(help="Which frames: 0:100.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for figures (default DATA-evaluate).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what the folder holds.")] = False,
    json: Annotated[Path | None, typer.Option("--json", help="Also write the report as JSON to this file.")] = None,
) -> None:
    """Errors of a model on labelled frames, per configuration type and element."""
    from mlip.training.evaluation import evaluate as run
    from mlip.training.figures import save_figure

    result = run(model, data, keys=pairs(key, "--key"), units=pairs(unit, "--unit"), pbc=pbc, index=index)
    files: list[Path] = []
    if plot:
        folder = output_folder(out or Path(f"{Path(data.replace(':', '-')).stem}-evaluate"), force=force)
        files.append(save_figure(result.plot(), folder / "parity.png"))
    if json is not None:
        inputs = {"model": str(model), "data": data}
        CommandReport("evaluate", inputs, result.to_dict(), files=files).write_json(json)
    console = Console()
    console.print(result.table())
    for file in files:
        console.print(f"wrote {file}", highlight=False)


def pairs(items: Sequence[str] | None, option: str) -> dict[str, str] | None:
    """``["energy=Energy"]`` → {"energy": "Energy"}."""
    if not items:
        return None
    pairs: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name or not value:
            raise InputError(f"'{item}' is not NAME=VALUE", key=option, mend=f"{option} energy=Energy")
        pairs[name] = value
    return pairs
