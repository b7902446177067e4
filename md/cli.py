"""The commands of this room; each is a thin shell over the function of the same name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import typer
from rich.table import Table

from mlip.errors import InputError
from mlip.files import atomic_path
from mlip.md.session import bar, console, finish, folder_for, merge, model_and_structures, read_structure
from mlip.report import Check, CommandReport

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
Json = Annotated[Path | None, typer.Option("--json", help="Also write the report as JSON to this file.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, …")]
Dtype = Annotated[str | None, typer.Option("--dtype", help="float32 or float64. Default: as stored in the model.")]
Index = Annotated[int, typer.Option("--index", help="Which frame of a structure file; -1 is the last.")]


def relax(
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
    json: Json = None,
    device: Device = "cpu",
    dtype: Annotated[str | None, typer.Option("--dtype", help="float32 or float64.")] = "float64",
    index: Index = -1,
) -> None:
    """Relax atoms and, where asked, the cell; ends with minimum or saddle."""
    from mlip.md.relaxation import CellMotion
    from mlip.md.relaxation import relax as run

    calc, structures = model_and_structures(files, calculator, device, dtype)
    report = CommandReport("relax", inputs={"files": files, "calculator": calculator, "cell": cell, "fmax": fmax})
    for path in structures:
        atoms = read_structure(path, calc, index)
        folder = folder_for(path, "relax", out, several=len(structures) > 1, force=force)
        result = run(
            atoms,
            calc,
            cell=cast("CellMotion", cell),
            pressure=pressure,
            keep_symmetry=keep_symmetry,
            symprec=symprec,
            fmax=fmax,
            steps=steps,
            optimiser=optimiser,
        )
        report.files += [result.to_file(folder / "relaxed.xyz"), _figure(result.plot(), folder / "relaxation.png")]
        report.checks += _named(result.checks, path, several=len(structures) > 1)
        merge(report, path, result.to_dict(), several=len(structures) > 1)
        console.print(f"{path}: {result.verdict}", highlight=False, soft_wrap=True)
        energy = f"{result.energies[-1]:.6f} eV after {result.steps} steps"
        groups = " → ".join(dict.fromkeys(str(g) for g in result.space_groups))
        console.print(f"  {energy}; space group {groups}", highlight=False, soft_wrap=True)
    finish(report, json)


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
    drift_limit: Annotated[float, typer.Option(help="Drift allowed, meV/atom/ps.")] = 1.0,
    calculator: Calculator = None,
    out: Out = None,
    force: Force = False,
    json: Json = None,
    device: Device = "cpu",
    dtype: Dtype = None,
    index: Index = -1,
) -> None:
    """Molecular dynamics: log, trajectory, restart file, figure, and the drift of the conserved quantity."""
    from mlip.md.dynamics import outside_training, run_md

    calc, structures = model_and_structures(files, calculator, device, dtype)
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
            drift_limit=drift_limit,
            progress=bar(f"{path.name} {ensemble}"),
            pressure=pressure,
            friction=friction,
            thermostat_time=thermostat_time,
            barostat_time=barostat_time,
        )
        report.files += [folder / "md.csv", folder / trajectory, folder / "restart.npz"]
        report.files.append(_figure(result.plot(), folder / "md.png"))
        report.checks += _named(result.checks, path, several=several)
        merge(report, path, result.to_dict(), several=several)
        for line in result.lines:
            console.print(f"{path}: {line}", highlight=False, soft_wrap=True)
    finish(report, json)


def phonons(
    files: Files,
    reference: Annotated[
        list[Path] | None,
        typer.Option(help="Phonons to compare with: phonopy.yaml, FORCE_SETS, band.yaml, dfpt.json."),
    ] = None,
    path: Annotated[str | None, typer.Option(help="Such as 'GAMMA X U | K GAMMA L'. Default: seekpath's.")] = None,
    points: Annotated[int, typer.Option(help="q points on the path.")] = 200,
    dos: Annotated[str, typer.Option(help="Mesh: three numbers, or a length in Å.")] = "60",
    thermal: Annotated[tuple[float, float, float], typer.Option(help="First and last temperature and step, K.")] = (
        0.0,
        1000.0,
        10.0,
    ),
    supercell: Annotated[
        str | None, typer.Option(help="1, 3 or 9 integers, for force constants. Default: edges of 15 Å.")
    ] = None,
    method: Annotated[str, typer.Option(help="auto, exact, hessian or displacement.")] = "auto",
    finite_displacement: Annotated[
        str | None, typer.Option(help="Finite displacements in this supercell.", metavar="SUPERCELL")
    ] = None,
    displacement: Annotated[float, typer.Option(help="Å, of finite displacements.")] = 0.01,
    relax_first: Annotated[
        bool, typer.Option("--relax/--no-relax", help="Relax the atoms in symmetry first.")
    ] = True,
    relax_cell: Annotated[bool, typer.Option("--relax-cell", help="Relax the cell too.")] = False,
    fmax: Annotated[float, typer.Option(help="eV/Å, of that relaxation.")] = 1e-5,
    symprec: Annotated[float, typer.Option(help="Å, for the space group.")] = 1e-2,
    asr: Annotated[bool, typer.Option("--asr", help="Impose the acoustic sum rule.")] = False,
    nac: Annotated[
        Path | None, typer.Option("--nac", help="BORN file of a polar crystal: add the dipole term.", metavar="BORN")
    ] = None,
    symmetrize: Annotated[
        bool | None,
        typer.Option(
            "--symmetrize/--no-symmetrize",
            help="Average D(q) over the space group / do not even snap the structure onto it. Default: snap only.",
        ),
    ] = None,
    calculator: Calculator = None,
    out: Out = None,
    force: Force = False,
    json: Json = None,
    device: Device = "cpu",
    index: Index = -1,
) -> None:
    """Phonon bands, density of states and thermal properties, in float64, with no silent correction."""
    from mlip.md.lattice_dynamics import Method
    from mlip.md.lattice_dynamics import phonons as run
    from mlip.md.reference import read_reference

    calc, structures = model_and_structures(files, calculator, device, "float64")
    references = [read_reference(file) for file in reference or []]
    cell = _integers(finite_displacement if finite_displacement is not None else supercell, "supercell")
    chosen = "displacement" if finite_displacement is not None else method
    mesh = [float(word) for word in dos.replace(",", " ").replace("x", " ").split()]
    report = CommandReport("phonons", inputs={"files": files, "calculator": calculator, "references": reference})
    several = len(structures) > 1
    for file in structures:
        atoms = read_structure(file, calc, index)
        folder = folder_for(file, "phonons", out, several=several, force=force)
        result = run(
            atoms,
            calc,
            supercell=cell,
            method=cast("Method", chosen),
            displacement=displacement,
            path=path,
            points=points,
            dos_mesh=mesh[0] if len(mesh) == 1 else [int(n) for n in mesh],
            temperatures=np.arange(thermal[0], thermal[1] + 1e-9, thermal[2]),
            relax_first="cell" if relax_cell else ("positions" if relax_first else None),
            fmax=fmax,
            symprec=symprec,
            snap=symmetrize is not False,
            asr=asr,
            symmetrize=bool(symmetrize),
            born=nac,
            references=references,
            progress=bar(f"{file.name} displacements"),
        )
        report.files += result.write(folder)
        report.checks += _named(result.checks, file, several=several)
        merge(report, file, result.to_dict(), several=several)
        for line in result.lines:
            console.print(f"{file}: {line}", highlight=False, soft_wrap=True)
        _print_special_points(result)
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
) -> None:
    """Forces, stress, Hessian, symmetries, smoothness, extensivity, conservation: measured, with pass or fail."""
    from mlip.md.checking import check as run
    from mlip.md.checking import default_structure

    calc, structures = model_and_structures(files or [], calculator, device, dtype, need=0)
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
    report.files.append(_figure(result.plot(), folder / "check.png"))
    for warning in result.warnings:
        if not warning.passed:
            console.print(f"warning: {warning.name}: {warning.value:.3g} {warning.unit}", style="yellow")
    for what, why in result.skipped.items():
        console.print(f"left out: {what}, {why}", style="dim", highlight=False, soft_wrap=True)
    finish(report, json)


def _figure(figure: Any, path: Path) -> Path:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=200)
    return path


def _named(checks: list[Check], path: Path, *, several: bool) -> list[Check]:
    """Checks with the structure's name in front where there are several structures."""
    return [Check(f"{path.name}: {c.name}", c.value, c.limit, c.unit) for c in checks] if several else checks


def _integers(text: str | None, key: str) -> Any:
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


def _print_special_points(result: Any) -> None:
    table = Table("point", "frequencies (THz)", title="Special points")
    for name, values in result.special_points().items():
        table.add_row(name, " ".join(f"{v:.3f}" for v in values))
    console.print(table)
