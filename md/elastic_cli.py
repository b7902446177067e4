"""The commands ``mlip elastic``, ``mlip eos`` and ``mlip qha``: thin shells over the functions."""

# What the three commands share is read from the context.
# ruff: noqa: ARG001

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import typer
from ase import Atoms

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
    integers,
)
from mlip.md.session import bar, console, finish, model_and_structures, read_structure
from mlip.md.shards import shard_from
from mlip.report import CommandReport

AXES = ("xx", "yy", "zz", "yz", "xz", "xy")
Fmax = Annotated[float, typer.Option(help="eV/Å, of relaxations.")]
Symprec = Annotated[float, typer.Option(help="Å, for the space group.")]
Snap = Annotated[
    bool, typer.Option("--symmetrize/--no-symmetrize", help="Snap the structure onto its space group first.")
]
Relax = Annotated[bool, typer.Option("--relax/--no-relax", help="Relax atoms and cell within the space group first.")]
Isotropic = Annotated[bool, typer.Option("--isotropic", help="Hold the shape of the cell at other volumes.")]


def elastic(
    context: typer.Context,
    files: Files,
    method: Annotated[str, typer.Option(help="auto, exact or strain.")] = "auto",
    relax_first: Relax = True,
    check: Annotated[
        bool | None,
        typer.Option("--check/--no-check", help="Hold exact constants against finite strains. Default: ≤ 8 atoms."),
    ] = None,
    fmax: Fmax = 1e-6,
    symprec: Symprec = 1e-2,
    snap: Snap = True,
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
    """Elastic constants, moduli, stability, sound and Debye temperature of a bulk crystal.

    Several models are a committee, whose spread is reported.
    """
    from mlip.md.elasticity import Method
    from mlip.md.elasticity import elastic as run

    def one(atoms: Atoms, calc: Any, name: str) -> Any:
        return run(
            atoms,
            calc,
            method=cast("Method", method),
            relax_first=relax_first,
            check=check,
            fmax=fmax,
            symprec=symprec,
            snap=snap,
        )

    _each(context, "elastic", one, committee=True, show=_print_tensor)


def eos(
    context: typer.Context,
    files: Files,
    span: Annotated[float, typer.Option(help="Volumes from 1 − span to 1 + span.")] = 0.06,
    points: Annotated[int, typer.Option(help="Number of volumes.")] = 13,
    isotropic: Isotropic = False,
    relax_first: Relax = True,
    fmax: Fmax = 1e-5,
    symprec: Symprec = 1e-2,
    snap: Snap = True,
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
    """Equation of state: E(V) and P(V) with atoms and shape relaxed, and the fit of Birch and Murnaghan.

    Several models are a committee, whose spread is reported.
    """
    from mlip.md.equation_of_state import eos as run

    def one(atoms: Atoms, calc: Any, name: str) -> Any:
        return run(
            atoms,
            calc,
            span=span,
            points=points,
            isotropic=isotropic,
            relax_first=relax_first,
            fmax=fmax,
            symprec=symprec,
            snap=snap,
            progress=bar(f"{name} volumes"),
        )

    _each(context, "eos", one, committee=True)


def qha(
    context: typer.Context,
    files: Files,
    span: Annotated[
        tuple[float, float], typer.Option(help="First and last volume, relative to the static minimum.")
    ] = (-0.03, 0.06),
    points: Annotated[int, typer.Option(help="Number of volumes, five or more.")] = 10,
    mesh: Annotated[float, typer.Option(help="Å: as many q points as cells fit into it.")] = 40.0,
    thermal: Annotated[tuple[float, float, float], typer.Option(help="First and last temperature and step, K.")] = (
        0.0,
        1000.0,
        10.0,
    ),
    pressure: Annotated[float, typer.Option(help="GPa.")] = 0.0,
    fit: Annotated[str, typer.Option(help="vinet, birch_murnaghan or murnaghan.")] = "vinet",
    isotropic: Isotropic = False,
    supercell: Annotated[
        str | None, typer.Option(help="1, 3 or 9 integers, for finite displacements. Default: edges of 15 Å.")
    ] = None,
    displacement: Annotated[float, typer.Option(help="Å, of finite displacements.")] = 0.01,
    fmax: Fmax = 1e-5,
    symprec: Symprec = 1e-2,
    snap: Snap = True,
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
    """Thermal expansion, B(T) and C_p(T) in the quasi-harmonic approximation, from phonons at several volumes."""
    from mlip.md.thermal_expansion import Fit, quasi_harmonic

    cell = integers(supercell, "supercell")

    def one(atoms: Atoms, calc: Any, name: str) -> Any:
        return quasi_harmonic(
            atoms,
            calc,
            span=span,
            points=points,
            mesh=mesh,
            temperatures=np.arange(thermal[0], thermal[1] + 1e-9, thermal[2]),
            pressure=pressure,
            fit=cast("Fit", fit),
            isotropic=isotropic,
            supercell=cell,
            displacement=displacement,
            fmax=fmax,
            symprec=symprec,
            snap=snap,
            progress=bar(f"{name} volumes"),
        )

    _each(context, "qha", one)


def _each(
    context: typer.Context,
    command: str,
    one: Callable[[Atoms, Any, str], Any],
    *,
    committee: bool = False,
    show: Callable[[Any], None] | None = None,
) -> None:
    """Run one function over the structures, in float64; print, write, report."""
    given = context.params
    files = [Path(file) for file in given["files"]]
    out, json = (None if given[name] is None else Path(given[name]) for name in ("out", "json"))
    calculator, index = given["calculator"], given["index"]
    calc, structures = model_and_structures(
        files, calculator, given["device"], "float64", committee=committee, frame=given["frame"]
    )
    models = [file for file in files if file not in structures]
    report = CommandReport(command, inputs={"files": files, "calculator": calculator})

    def work(file: Path, folder: Path) -> Outcome:
        result = one(read_structure(file, calc, index), calc, file.name)
        if show is not None:
            show(result)
        return Outcome(result.to_dict(), result.checks, result.write(folder), result.lines)

    origin = Origin.of(context, command, models)
    shard = shard_from(given["shards"], given["shard_index"])
    flags = {name: given[name] for name in ("force", "resume")}
    errors = for_each(structures, work, origin, report, out=out, shard=shard, **flags)
    finish(report, json, errors=errors)


def _print_tensor(result: Any) -> None:
    """C_IJ in the crystal's standard axes, the committee's spread, and the clamped-ion part."""
    blocks = {"C (GPa) in standard axes": result.standard_matrix, "of these, clamped ions": result.standard_clamped}
    if result.members:
        blocks["± over the committee"] = result.spread()["C_GPa"]
    for title, matrix in blocks.items():
        console.print(title, style="bold", highlight=False)
        console.print("    " + "".join(f"{name:>9}" for name in AXES), highlight=False)
        for name, row in zip(AXES, matrix, strict=True):
            console.print(f"  {name}" + "".join(_number(c, matrix) for c in row), highlight=False)


def _number(value: float, matrix: Any) -> str:
    """Nine columns; a dot for what is zero by symmetry."""
    return f"{value:9.2f}" if abs(value) > 1e-6 * np.abs(matrix).max() else f"{'·':>9}"
