"""The commands ``mlip symmetry …``: thin shells over the functions of the same names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import ase.io
import typer
from ase import Atoms
from rich.table import Table

from mlip.errors import InputError
from mlip.md.calculators import calculator_from
from mlip.md.options import Calculator, Device, Force, Frame, Index, Json, Out, frame_from, integers
from mlip.md.session import bar, console, finish, folder_for, read_structure
from mlip.report import CommandReport

symmetry = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Domain variants, distorted phases, and what breaks a symmetry.",
)


@symmetry.command()
def variants(
    parent: Annotated[Path, typer.Argument(metavar="PARENT", help="The structure of higher symmetry.")],
    child: Annotated[Path, typer.Argument(metavar="CHILD", help="A distortion of it, in any cell and orientation.")],
    symprec: Annotated[float, typer.Option(help="Å, for both space groups.")] = 1e-3,
    max_strain: Annotated[float, typer.Option(help="Largest strain between the two.")] = 0.15,
    max_displacement: Annotated[float, typer.Option(help="Å, the farthest that an atom may have moved.")] = 1.2,
    json: Json = None,
) -> None:
    """The equivalent states of lower symmetry: how many, related by what, told apart by which tensor."""
    from mlip.symmetry.matching import Limits
    from mlip.symmetry.variants import domain_variants

    limits = Limits(max_strain, max_displacement)
    result = domain_variants(_read(parent), _read(child), symprec=symprec, limits=limits)
    report = CommandReport("symmetry variants", inputs={"parent": parent, "child": child, "symprec": symprec})
    report.results.update(result.to_dict())
    for line in result.lines:
        console.print(line, highlight=False, soft_wrap=True)
    finish(report, json)


@symmetry.command()
def distortions(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL... STRUCTURE",
            help="A model file, or several for a committee, then the parent structure; no MODEL with --calculator.",
        ),
    ],
    supercell: Annotated[
        str, typer.Option(help="1, 3 or 9 integers on the primitive cell: distortions fit into it.")
    ] = "2",
    max_candidates: Annotated[
        int, typer.Option(help="Most candidates to relax; the lowest are followed first.")
    ] = 40,
    imaginary: Annotated[float, typer.Option(help="THz; frequencies below minus this are imaginary.")] = 0.05,
    fmax: Annotated[float, typer.Option(help="eV/Å, of the relaxations.")] = 1e-3,
    displacement: Annotated[float, typer.Option(help="Å, of finite differences without exact D(q).")] = 0.01,
    symprec: Annotated[float, typer.Option(help="Å, for the parent's space group.")] = 1e-2,
    calculator: Calculator = None,
    out: Out = None,
    force: Force = False,
    json: Json = None,
    device: Device = "cpu",
    index: Index = -1,
    frame: Frame = None,
) -> None:
    """Which distorted phase is the ground state: from the soft modes down the tree of subgroups."""
    from mlip.md.distortions import SearchSettings, find_distortions

    models = files[:-1]
    if bool(models) == (calculator is not None):
        raise InputError("give MODEL... STRUCTURE, or --calculator and one STRUCTURE")
    placed = frame_from(frame)
    calc = calculator_from(models or None, factory=calculator, device=device, dtype="float64", frame=placed)
    path = files[-1]
    atoms = read_structure(path, calc, index)
    folder = folder_for(path, "distortions", out, several=False, force=force)
    settings = SearchSettings(
        imaginary=imaginary, fmax=fmax, displacement=displacement, max_candidates=max_candidates
    )
    result = find_distortions(
        atoms,
        calc,
        supercell=integers(supercell, "supercell"),
        symprec=symprec,
        settings=settings,
        progress=bar("candidates"),
    )
    report = CommandReport("symmetry distortions", inputs={"files": files, "calculator": calculator})
    report.results.update(result.to_dict())
    report.checks += result.checks
    report.files += result.write(folder)
    for line in result.lines:
        console.print(line, highlight=False, soft_wrap=True)
    rows = result.table()
    table = Table(*rows[0], title="Phases, lowest first")
    for row in rows:
        table.add_row(*row.values())
    console.print(table)
    finish(report, json)


def _read(path: Path) -> Atoms:
    if not path.is_file():
        raise InputError("no such structure file", file=path)
    try:
        return ase.io.read(path)
    except Exception as error:
        raise InputError(f"ASE cannot read this structure: {error!r}", file=path) from error
