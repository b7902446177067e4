"""The commands ``mlip elastic``, ``mlip eos`` and ``mlip qha``: thin shells over the functions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import typer
from ase import Atoms

from mlip.md.options import Calculator, Device, Files, Force, Index, Json, Out, integers
from mlip.md.session import bar, console, finish, folder_for, merge, model_and_structures, named, read_structure
from mlip.report import CommandReport

AXES = ("xx", "yy", "zz", "yz", "xz", "xy")
Members = Annotated[
    list[Path] | None,
    typer.Option("--member", help="Further model files: a committee, whose spread is reported.", metavar="MODEL"),
]
Fmax = Annotated[float, typer.Option(help="eV/Å, of relaxations.")]
Symprec = Annotated[float, typer.Option(help="Å, for the space group.")]
Snap = Annotated[
    bool, typer.Option("--symmetrize/--no-symmetrize", help="Snap the structure onto its space group first.")
]
Relax = Annotated[bool, typer.Option("--relax/--no-relax", help="Relax atoms and cell within the space group first.")]
Isotropic = Annotated[bool, typer.Option("--isotropic", help="Hold the shape of the cell at other volumes.")]


def elastic(
    files: Files,
    member: Members = None,
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
    json: Json = None,
    device: Device = "cpu",
    index: Index = -1,
) -> None:
    """Elastic constants, moduli, stability, sound and Debye temperature of a bulk crystal."""
    from mlip.md.elasticity import Method
    from mlip.md.elasticity import elastic as run

    def one(atoms: Atoms, calc: Any, name: str) -> Any:  # noqa: ARG001
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

    _each("elastic", files, member, calculator, out, force, json, device, index, one, _print_tensor)


def eos(
    files: Files,
    member: Members = None,
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
    json: Json = None,
    device: Device = "cpu",
    index: Index = -1,
) -> None:
    """Equation of state: E(V) and P(V) with atoms and shape relaxed, and the fit of Birch and Murnaghan."""
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

    _each("eos", files, member, calculator, out, force, json, device, index, one)


def qha(
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
    json: Json = None,
    device: Device = "cpu",
    index: Index = -1,
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

    _each("qha", files, None, calculator, out, force, json, device, index, one)


def _each(
    command: str,
    files: list[Path],
    members: list[Path] | None,
    calculator: str | None,
    out: Path | None,
    force: bool,
    json: Path | None,
    device: str,
    index: int,
    one: Callable[[Atoms, Any, str], Any],
    show: Callable[[Any], None] | None = None,
) -> None:
    """Run one function over the structures, in float64; print, write, report."""
    calc, structures = model_and_structures(files, calculator, device, "float64", members=members or [])
    report = CommandReport(command, inputs={"files": files, "members": members or [], "calculator": calculator})
    several = len(structures) > 1
    for file in structures:
        atoms = read_structure(file, calc, index)
        folder = folder_for(file, command, out, several=several, force=force)
        result = one(atoms, calc, file.name)
        report.files += result.write(folder)
        report.checks += named(result.checks, file, several=several)
        merge(report, file, result.to_dict(), several=several)
        for line in result.lines:
            console.print(f"{file}: {line}", highlight=False, soft_wrap=True)
        if show is not None:
            show(result)
    finish(report, json)


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
