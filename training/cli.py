"""The commands ``mlip train`` and ``mlip evaluate``: thin shells over the functions of the same names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

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
    seeds: Annotated[
        int | None, typer.Option(help="Train a committee: so many seeds, one after another.", min=2)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that is there.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the run that is there.")] = False,
    json: Annotated[Path | None, typer.Option("--json", help="Also write the report as JSON to this file.")] = None,
) -> None:
    """Train a potential; everything goes to runs/NAME, and an interrupted run goes on with --resume."""
    from mlip.training.run import train as run

    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts, one speaks
    console = Console(quiet=not first)
    if seeds is not None:
        _train_committee(config, overrides or [], seeds, resume=resume, force=force, console=console, json=json)
        return
    result = run(config, overrides or [], resume=resume, force=force, console=console)
    if result.signal is not None:
        console.print(f"interrupted: go on with --resume ({result.folder})", highlight=False)
        raise typer.Exit(128 + result.signal)
    if json is not None and first:
        inputs = {"config": config, "overrides": overrides or []}
        CommandReport("train", inputs, result.to_dict(), files=result.files).write_json(json)
    console.print(f"done ({result.reason}): {result.best_path}", highlight=False)


def _train_committee(
    config: str, overrides: list[str], seeds: int, *, resume: bool, force: bool, console: Console, json: Path | None
) -> None:
    from mlip.training.committee import train_committee

    result = train_committee(config, seeds, overrides, resume=resume, force=force, console=console)
    if result.signal is not None:
        console.print(f"interrupted: go on with --resume ({result.folder})", highlight=False)
        raise typer.Exit(128 + result.signal)
    if result.validation is None or result.calibration is None:
        return  # not the first process
    console.print(result.validation.table())
    if json is not None:
        inputs = {"config": config, "overrides": overrides, "seeds": seeds}
        results = {"models": result.models, **result.validation.to_dict(), "scales": result.calibration.scales}
        CommandReport("train", inputs, results, files=result.models).write_json(json)
    factors = ", ".join(f"{name} × {value:.3g}" for name, value in result.calibration.scales.items())
    console.print(f"done: {result.folder}/*/best.mlip; spread calibrated on validation: {factors}", highlight=False)


def evaluate(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL... DATA",
            help="Model files (several are a committee), then labelled frames, or a set such as silicon:test.",
        ),
    ],
    plot: Annotated[bool, typer.Option("--plot", help="Draw parity plots, and a committee's calibration.")] = False,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Calibrate a committee's spread on DATA, and keep it beside the models."),
    ] = False,
    key: Annotated[list[str] | None, typer.Option(help="Label and its name: energy=Energy.")] = None,
    unit: Annotated[list[str] | None, typer.Option(help="Quantity and its unit: energy=kcal/mol.")] = None,
    pbc: Annotated[bool | None, typer.Option("--pbc/--no-pbc", help="Override periodicity.")] = None,
    index: Annotated[str | None, typer.Option(help="Which frames: 0:100.")] = None,
    frame: Annotated[
        str | None, typer.Option(help="lab: structures are in the laboratory's axes (for relaxed weights).")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for figures (default DATA-evaluate).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what the folder holds.")] = False,
    json: Annotated[Path | None, typer.Option("--json", help="Also write the report as JSON to this file.")] = None,
) -> None:
    """Errors of a model on labelled frames, per type and element; of several, how honest their spread is."""
    from mlip.calibration import Calibration, expand
    from mlip.training.evaluation import evaluate as run
    from mlip.training.figures import save_figure
    from mlip.training.uncertainty import CommitteeEvaluation, evaluate_committee

    if len(files) < 2:
        raise InputError("a MODEL and labelled frames are needed", mend="mlip evaluate MODEL DATA")
    models, data = [path for pattern in files[:-1] for path in expand(pattern)], files[-1]
    reading: dict[str, Any] = {
        "keys": pairs(key, "--key"),
        "units": pairs(unit, "--unit"),
        "pbc": pbc,
        "index": index,
        "frame": frame,
    }
    committee = None
    if len(models) > 1:
        committee = evaluate_committee(models, data, **reading)
        committee.calibration = committee.calibrate(models, data) if calibrate else Calibration.find(models)
    elif calibrate:
        raise InputError("one model has no spread to calibrate", key="--calibrate", mend="give several")
    mean = run(models[0], data, **reading) if committee is None else committee.mean
    result = mean if committee is None else committee
    written: list[Path] = []
    if plot:
        folder = output_folder(out or Path(f"{Path(data.replace(':', '-')).stem}-evaluate"), force=force)
        written.append(save_figure(mean.plot(), folder / "parity.png"))
        if isinstance(result, CommitteeEvaluation):
            written.append(save_figure(result.plot(), folder / "calibration.png"))
    if calibrate and committee is not None and committee.calibration is not None:
        written.append(committee.calibration.save(models))
    if json is not None:
        inputs = {"model": models[0] if committee is None else models, "data": data}
        CommandReport("evaluate", inputs, result.to_dict(), files=written).write_json(json)
    console = Console()
    for table in mean.tables:
        console.print(table)
    if committee is not None:
        console.print(committee.table())
    for file in written:
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
