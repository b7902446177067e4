"""The commands of this room; each is a thin shell over the function of the same name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from mlip.errors import InputError
from mlip.md.many import Origin, Outcome, for_each
from mlip.md.options import (
    Calculator,
    Device,
    Dtype,
    Files,
    Force,
    Frame,
    Index,
    Json,
    Out,
    Resume,
    ShardIndex,
    Shards,
)
from mlip.md.session import (
    bar,
    console,
    finish,
    folder_for,
    merge,
    model_and_structures,
    named,
    read_structure,
    save_figure,
)
from mlip.md.shards import shard_from
from mlip.report import CommandReport


def relax(
    context: typer.Context,
    files: Files,
    cell: Annotated[str, typer.Option(help="fixed, free, isotropic or shape (at constant volume).")] = "fixed",
    pressure: Annotated[float, typer.Option(help="Target pressure, GPa.")] = 0.0,
    keep_symmetry: Annotated[bool, typer.Option("--keep-symmetry", help="Hold the space group.")] = False,
    symprec: Annotated[float, typer.Option(help="Å, for the space group.")] = 1e-2,
    fmax: Annotated[float, typer.Option(help="Largest force allowed, eV/Å.")] = 1e-4,
    steps: Annotated[int, typer.Option(help="Most steps allowed.")] = 1000,
    optimiser: Annotated[str, typer.Option(help="lbfgs, bfgs, bfgs-line-search or fire.")] = "lbfgs",
    calculator: Calculator = None,
    out: Out = None,
    force: Force = False,
    resume: Resume = False,
    shards: Shards = None,
    shard_index: ShardIndex = None,
    json: Json = None,
    device: Device = "cpu",
    dtype: Annotated[str | None, typer.Option("--dtype", help="float32 or float64.")] = "float64",
    index: Index = -1,
    frame: Frame = None,
) -> None:
    """Relax atoms and, where asked, the cell; ends with minimum or saddle."""
    from mlip.md.relaxation import CellMotion
    from mlip.md.relaxation import relax as run

    calc, structures = model_and_structures(files, calculator, device, dtype, frame=frame)
    report = CommandReport("relax", inputs={"files": files, "calculator": calculator, "cell": cell, "fmax": fmax})

    def work(path: Path, folder: Path) -> Outcome:
        result = run(
            read_structure(path, calc, index),
            calc,
            cell=cast("CellMotion", cell),
            pressure=pressure,
            keep_symmetry=keep_symmetry,
            symprec=symprec,
            fmax=fmax,
            steps=steps,
            optimiser=optimiser,
        )
        written = [
            result.to_file(folder / "relaxed.xyz"),
            save_figure(result.plot(), folder / "relaxation.png"),
        ]
        return Outcome(result.to_dict(), result.checks, written, result.lines)

    models = [] if calculator is not None else files[:1]
    origin = Origin.of(context, "relax", models)
    errors = for_each(
        structures, work, origin, report, out=out, force=force, resume=resume, shard=shard_from(shards, shard_index)
    )
    finish(report, json, errors=errors)


def md(
    files: Files,
    ensemble: Annotated[str, typer.Option(help="nve, langevin, bussi, nose-hoover, npt or npt-isotropic.")] = "nve",
    temperature: Annotated[float, typer.Option(help="K.")] = 300.0,
    pressure: Annotated[float, typer.Option(help="GPa, in NPT.")] = 0.0,
    timestep: Annotated[
        float | None, typer.Option(help="fs. Default: a twentieth of the shortest vibrational period.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Number of steps; or --time.")] = None,
    time: Annotated[float | None, typer.Option(help="Length in ps.")] = None,
    seed: Annotated[int, typer.Option(help="Of start velocities and noise.")] = 0,
    friction: Annotated[float, typer.Option(help="1/ps, Langevin.")] = 10.0,
    thermostat_time: Annotated[float, typer.Option(help="fs, Bussi and Nosé–Hoover.")] = 100.0,
    barostat_time: Annotated[float, typer.Option(help="fs, NPT.")] = 1000.0,
    every: Annotated[int, typer.Option(help="Steps between frames.")] = 5,
    log_every: Annotated[int, typer.Option(help="Steps between rows of md.csv.")] = 1,
    trajectory: Annotated[str, typer.Option(help="trajectory.xyz or trajectory.h5.")] = "trajectory.xyz",
    keep_velocities: Annotated[
        bool, typer.Option("--keep-velocities", help="Start with the momenta in the file.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    stop_outside: Annotated[
        bool, typer.Option("--stop-outside", help="Stop on leaving the range of the training data.")
    ] = False,
    harvest: Annotated[
        float | None,
        typer.Option(
            help="Keep frames where a committee's forces differ by more (eV/Å) or the training ranges are left.",
            metavar="THRESHOLD",
        ),
    ] = None,
    drift_limit: Annotated[float, typer.Option(help="Drift allowed, meV/atom/ps.")] = 1.0,
    calculator: Calculator = None,
    out: Out = None,
    force: Force = False,
    json: Json = None,
    device: Device = "cpu",
    dtype: Dtype = None,
    index: Index = -1,
    frame: Frame = None,
) -> None:
    """Molecular dynamics: log, trajectory, restart file, figure, and the drift of the conserved quantity.

    Several models are a committee: their mean forces move the atoms.
    """
    from mlip.md.dynamics import outside_training, run_md
    from mlip.md.harvest import Harvest

    calc, structures = model_and_structures(files, calculator, device, dtype, committee=True, frame=frame)
    settings = {"ensemble": ensemble, "temperature": temperature, "seed": seed}
    report = CommandReport("md", inputs={"files": files, "calculator": calculator, **settings})
    several, outside = len(structures) > 1, outside_training(calc)
    for path in structures:
        atoms = read_structure(path, calc, index)
        if resume:
            name = f"{path.stem}-md"
            folder = (out / name if several else out) if out is not None else Path(name)
        else:
            folder = folder_for(path, "md", out, several=several, force=force)
        keep = None if harvest is None else Harvest(folder / "harvested.xyz", calc, harvest)
        result = run_md(
            atoms,
            calc,
            ensemble=ensemble,
            temperature=temperature,
            timestep=timestep,
            steps=steps,
            time=time,
            seed=seed,
            keep_velocities=keep_velocities,
            folder=folder,
            resume=resume,
            trajectory=trajectory,
            every=every,
            log_every=log_every,
            stop_when=outside if stop_outside else None,
            warn_when=None if stop_outside else outside,
            observe=keep,
            drift_limit=drift_limit,
            progress=bar(f"{path.name} {ensemble}"),
            pressure=pressure,
            friction=friction,
            thermostat_time=thermostat_time,
            barostat_time=barostat_time,
        )
        report.files += [folder / "md.csv", folder / trajectory, folder / "restart.npz"]
        report.files.append(save_figure(result.plot(), folder / "md.png"))
        report.checks += named(result.checks, path, several=several)
        merge(report, path, result.to_dict(), several=several)
        report.files += [] if keep is None or not keep.kept else [keep.path]
        for line in [*result.lines, *([] if keep is None else [keep.line])]:
            console.print(f"{path}: {line}", highlight=False, soft_wrap=True)
    finish(report, json)


def check(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="MODEL [STRUCTURE]", help="A model file and a structure it is meant for."),
    ] = None,
    nve_steps: Annotated[int, typer.Option(help="Steps of the NVE run; 0 leaves it out.")] = 400,
    temperature: Annotated[float, typer.Option(help="K, of the NVE run.")] = 300.0,
    rattle: Annotated[float, typer.Option(help="Å, random displacements before the checks.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    calculator: Calculator = None,
    out: Out = None,
    force: Force = False,
    json: Json = None,
    device: Device = "cpu",
    dtype: Annotated[str, typer.Option("--dtype", help="float32 or float64.")] = "float64",
    index: Index = -1,
    frame: Frame = None,
) -> None:
    """Forces, stress, Hessian, symmetries, smoothness, extensivity, conservation: measured, with pass or fail."""
    from mlip.md.checking import check as run
    from mlip.md.checking import default_structure

    calc, structures = model_and_structures(files or [], calculator, device, dtype, need=0, frame=frame)
    if len(structures) > 1:
        raise InputError("one STRUCTURE at a time")
    atoms = read_structure(structures[0], calc, index) if structures else default_structure(calc)
    subject = structures[0] if structures else Path((files or [Path("calculator")])[0].name)
    folder = folder_for(subject, "check", out, several=False, force=force)
    result = run(
        calc, atoms, nve_steps=nve_steps, temperature=temperature, rattle=rattle, seed=seed, progress=bar("checks")
    )
    report = CommandReport("check", inputs={"files": files or [], "calculator": calculator, "dtype": dtype})
    report.results.update(result.to_dict())
    report.checks += result.checks
    report.files.append(save_figure(result.plot(), folder / "check.png"))
    for warning in result.warnings:
        if not warning.passed:
            console.print(f"warning: {warning.name}: {warning.value:.3g} {warning.unit}", style="yellow")
    for what, why in result.skipped.items():
        console.print(f"left out: {what}, {why}", style="dim", highlight=False, soft_wrap=True)
    finish(report, json)
