"""The commands ``mlip symmetry report`` and ``mlip symmetry shuffle``, which read labelled frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import ase.io
import typer
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console
from rich.table import Table

from mlip.datasets.entry import make_entry
from mlip.datasets.frame import LabelledFrame
from mlip.datasets.progress import slowly
from mlip.datasets.reading import read_frames
from mlip.errors import InputError
from mlip.files import output_folder
from mlip.report import CommandReport
from mlip.training.cli import pairs
from mlip.training.paths import resolve

Keys = Annotated[list[str] | None, typer.Option("--key", help="Label and its name: energy=Energy.")]
Units = Annotated[list[str] | None, typer.Option("--unit", help="Quantity and its unit: energy=kcal/mol.")]
Periodic = Annotated[bool | None, typer.Option("--pbc/--no-pbc", help="Override periodicity.")]
Index = Annotated[str | None, typer.Option("--index", help="Which frames: 0:100.")]
Parent = Annotated[
    str | None,
    typer.Option(
        "--parent",
        help="The undistorted crystal as it lies in the laboratory: a structure file, an embedded cell (silicon), or "
        "a Schoenflies symbol (Oh).",
    ),
]


def report(
    files: Annotated[
        list[str],
        typer.Argument(metavar="MODEL DATA...", help="A model file, then frames; no MODEL with --calculator"),
    ],
    parent: Parent = None,
    control: Annotated[
        list[Path] | None, typer.Option(help="A model trained on shuffled frames; repeatable.")
    ] = None,
    lmax: Annotated[int, typer.Option(help="Highest degree, 1 to 5.")] = 4,
    rotations: Annotated[int, typer.Option(help="Random rotations of each structure.")] = 16,
    reorientations: Annotated[int, typer.Option(help="Of the frames, in tests.")] = 5000,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    key: Keys = None,
    unit: Units = None,
    pbc: Periodic = None,
    index: Index = None,
    calculator: Annotated[
        str | None, typer.Option("--calculator", metavar="MODULE:FACTORY", help="An ASE calculator instead.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder (default DATA-anisotropy).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace results that are there.")] = False,
    json: Annotated[Path | None, typer.Option("--json", help="Also write the report as JSON to this file.")] = None,
) -> None:
    """Do the data break a symmetry: which one, by how many meV, how sure."""
    from mlip.symmetry.anisotropy import ReportSettings, anisotropy_report

    model, data = _split(files, calculator)
    console = Console()
    frames = [f for path in data for f in _read(path, key, unit, pbc, index, console)]
    settings = ReportSettings(lmax=lmax, rotations=rotations, reorientations=reorientations, seed=seed)
    result = anisotropy_report(
        model,
        [as_atoms(frame) for frame in frames],
        parent=_parent(parent),
        controls=control or [],
        settings=settings,
        progress=lambda items: slowly(items, "orientations"),
    )
    folder = output_folder(out or Path(f"{Path(data[0].replace(':', '-')).stem}-anisotropy"), force=force)
    inputs = {"files": files, "calculator": calculator, "parent": parent, "controls": control or []}
    summary = CommandReport("symmetry report", inputs, result.to_dict(), result.checks, result.write(folder))
    rows = result.table()
    table = Table(*rows[0], title="Dependence of the energy on orientation: rms, 95 % interval")
    for row in rows:
        table.add_row(*row.values())
    console.print(table)
    for line in result.lines:
        console.print(line, highlight=False, soft_wrap=True)
    summary.print_checks(console)
    for file in summary.files:
        console.print(f"wrote {file}", style="dim", highlight=False, soft_wrap=True)
    if json is not None:
        summary.write_json(json)
    if not summary.passed:
        raise typer.Exit(1)


def shuffle(
    data: Annotated[str, typer.Argument(help="Labelled frames, or an embedded set such as silicon:broken.")],
    out: Annotated[Path, typer.Argument(help="An extended xyz file to write.")],
    parent: Parent = None,
    seed: Annotated[int, typer.Option(help="Of the orientations.")] = 0,
    key: Keys = None,
    unit: Units = None,
    pbc: Periodic = None,
    index: Index = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Write the same frames in random orientations against their laboratory, to train a control on."""
    from mlip.datasets.writing import write_frames
    from mlip.symmetry.anisotropy import shuffle_frames

    frames = _read(data, key, unit, pbc, index, Console())
    shuffled = shuffle_frames([as_atoms(f) for f in frames], seed, parent=_parent(parent))
    for frame, atoms in zip(frames, shuffled, strict=True):
        frame.atoms.info["frame"] = atoms.info["frame"]
    write_frames(frames, out, force=force)


def as_atoms(frame: LabelledFrame) -> Atoms:
    """A labelled frame as ASE atoms with its labels in a calculator."""
    atoms = frame.atoms.copy()
    labels = {"energy": frame.energy, "forces": frame.forces, "stress": frame.stress}
    atoms.calc = SinglePointCalculator(atoms, **{k: v for k, v in labels.items() if v is not None})
    return atoms


def _split(files: Sequence[str], calculator: str | None) -> tuple[Any, list[str]]:
    if len(files) < (1 if calculator else 2):
        raise InputError("give MODEL and DATA, or --calculator and DATA")
    if calculator is not None:
        from mlip.factories import made_by

        return made_by(calculator), list(files)
    if not Path(files[0]).is_file():
        raise InputError("no such model file", file=files[0])
    return files[0], list(files[1:])


def _read(
    data: str, key: list[str] | None, unit: list[str] | None, pbc: bool | None, index: str | None, console: Console
) -> list[LabelledFrame]:
    options = {"index": index, "keys": pairs(key, "--key"), "units": pairs(unit, "--unit"), "pbc": pbc}
    frames = read_frames(resolve(make_entry(data, **options)))
    for line in frames.source.lines():
        console.print(line, highlight=False, soft_wrap=True)
    return [f for f in frames if not f.is_isolated_atom]


def _parent(name: str | None) -> Atoms | str | None:
    """A structure file or an embedded cell; what is neither is taken for a Schoenflies symbol."""
    if name is None:
        return None
    if name == "silicon":
        from mlip.datasets import silicon

        return silicon.primitive_cell()
    if not Path(name).is_file():
        return name
    try:
        atoms: Atoms = ase.io.read(name)
    except Exception as error:
        raise InputError(f"ASE cannot read this structure: {error!r}", file=name) from error
    return atoms
