"""The command ``mlip phonons``: a thin shell over the function of the same name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import numpy as np
import typer
from rich.table import Table

from mlip.errors import InputError
from mlip.md.calculators import calculator_from
from mlip.md.many import Origin, Outcome, for_each
from mlip.md.options import (
    Calculator,
    Device,
    Files,
    Force,
    Frame,
    Index,
    Json,
    Out,
    Resume,
    ShardIndex,
    Shards,
    frame_from,
    integers,
)
from mlip.md.session import bar, console, finish, models_and_structures, read_structure
from mlip.md.shards import shard_from
from mlip.report import CommandReport

if TYPE_CHECKING:
    from mlip.md.phonon_result import PhononResult


def phonons(
    context: typer.Context,
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
        Path | None,
        typer.Option(
            "--nac",
            help="BORN or phonopy.yaml with Born charges, or 'model' for its own: add the dipole term.",
            metavar="BORN",
        ),
    ] = None,
    symmetrize: Annotated[
        bool | None,
        typer.Option(
            "--symmetrize/--no-symmetrize",
            help="Average D(q) over the space group / do not even snap the structure onto it. Default: snap only.",
        ),
    ] = None,
    committee: Annotated[
        bool, typer.Option("--committee", help="Several models are one committee: their mean, and their spread.")
    ] = False,
    irreps: Annotated[
        bool, typer.Option("--irreps/--no-irreps", help="Name the modes at Γ, with infrared and Raman activity.")
    ] = True,
    displacements: Annotated[
        bool,
        typer.Option(
            "--thermal-displacements/--no-thermal-displacements", help="Mean square displacements of the atoms."
        ),
    ] = True,
    group_velocities: Annotated[
        bool, typer.Option("--group-velocities", help="dω/dk along the path, in km/s.")
    ] = False,
    gruneisen: Annotated[
        str | None,
        typer.Option(help="Mode Grüneisen parameters: 'volume', or a strain as 3, 6 (Voigt) or 9 numbers."),
    ] = None,
    dos_sampling: Annotated[
        str, typer.Option(help="exact D(q) on the mesh, interpolated, or auto: by what the mesh costs.")
    ] = "auto",
    calculator: Calculator = None,
    out: Out = None,
    force: Force = False,
    resume: Resume = False,
    shards: Shards = None,
    shard_index: ShardIndex = None,
    json: Json = None,
    device: Device = "cpu",
    index: Index = -1,
    frame: Frame = None,
) -> None:
    """Phonon bands, density of states and thermal properties, in float64, with no silent correction.

    Several models are drawn in one figure; with --committee they are one potential with an uncertainty.
    """
    from mlip.md.lattice_dynamics import phonons as run
    from mlip.md.mesh import Sampling
    from mlip.md.phonon_analyses import Analyses
    from mlip.md.phonon_comparison import compare_phonons
    from mlip.md.phonon_tables import tables
    from mlip.md.reference_files import read_reference
    from mlip.md.solution import Method

    models, structures = models_and_structures(files, calculator)
    calculators = calculators_of(models, calculator, device, committee=committee, frame=frame_from(frame))
    references = [read_reference(file) for file in reference or []]
    cell = integers(finite_displacement if finite_displacement is not None else supercell, "supercell")
    chosen = "displacement" if finite_displacement is not None else method
    mesh = [float(word) for word in dos.replace(",", " ").replace("x", " ").split()]
    analyses = Analyses(
        irreps=irreps,
        group_velocities=group_velocities,
        gruneisen=strain_from(gruneisen),
        displacements=displacements,
        dos_sampling=cast("Sampling", dos_sampling),
    )
    report = CommandReport("phonons", inputs={"files": files, "calculator": calculator, "references": reference})

    def phonons_of(file: Path, calc: Any) -> PhononResult:
        return run(
            read_structure(file, calc, index),
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
            analyses=analyses,
            references=references,
            progress=bar(f"{file.name} displacements"),
        )

    def work(file: Path, folder: Path) -> Outcome:
        results = {name: phonons_of(file, calc) for name, calc in calculators.items()}
        if committee:
            results = {name: with_names(result, short_names(models)) for name, result in results.items()}
        for name, result in results.items():
            _print_special_points(result, f"Special points, {name}" if len(results) > 1 else "Special points")
            for table in tables(result):
                console.print(table)
        found = compare_phonons(list(results.values()), list(results)) if len(results) > 1 else first_of(results)
        return Outcome(found.to_dict(), found.checks, found.write(folder), found.lines)

    origin = Origin.of(context, "phonons", models)
    errors = for_each(
        structures, work, origin, report, out=out, force=force, resume=resume, shard=shard_from(shards, shard_index)
    )
    finish(report, json, errors=errors)


def strain_from(text: str | None) -> Any:
    """'volume', or numbers; None stays None.

    Raises:
        InputError: Neither.
    """
    if text is None or text == "volume":
        return text
    try:
        return [float(word) for word in text.replace(",", " ").split()]
    except ValueError as error:
        raise InputError(f"'{text}' is neither 'volume' nor numbers", key="gruneisen") from error


def calculators_of(
    models: list[Path], factory: str | None, device: str, *, committee: bool, frame: Any = None
) -> dict[str, Any]:
    """What to compute with, by name: every model by itself, or all as one committee.

    Raises:
        InputError: A committee of fewer than two, or a model that cannot be opened.
    """
    if committee and len(models) < 2:
        raise InputError("a committee needs two models or more", key="committee")
    if factory is not None:
        return {factory: calculator_from(factory=factory, frame=frame)}
    if committee:
        return {"committee": calculator_from(models, device=device, dtype="float64", frame=frame)}
    names = short_names(models)
    opened = [calculator_from(model, device=device, dtype="float64", frame=frame) for model in models]
    return dict(zip(names, opened, strict=True))


def short_names(models: list[Path]) -> list[str]:
    """Names that tell model files apart: their stems where these differ, else with their folders' names, numbered."""
    stems = [model.stem for model in models]
    longer = [
        s if stems.count(s) == 1 else f"{m.resolve().parent.name}-{s}" for m, s in zip(models, stems, strict=True)
    ]
    return [n if longer.count(n) == 1 else f"{n}-{i + 1}" for i, n in enumerate(longer)]


def with_names(result: PhononResult, names: list[str]) -> PhononResult:
    """A committee's result with its members called by their files."""
    return result if result.spread is None else replace(result, spread=replace(result.spread, names=names))


def first_of(results: dict[str, PhononResult]) -> PhononResult:
    """The only result."""
    return next(iter(results.values()))


def _print_special_points(result: PhononResult, title: str) -> None:
    table = Table("point", "frequencies (THz)", title=title)
    for name, values in result.special_points().items():
        table.add_row(name, " ".join(f"{v:.3f}" for v in values))
    console.print(table)
