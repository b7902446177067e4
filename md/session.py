"""What the commands of this room share: reading arguments, output folders, progress, the report at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import ase.io
import typer
from ase import Atoms
from rich.console import Console
from rich.progress import track

from mlip.errors import InputError, MLIPError
from mlip.files import atomic_path, output_folder
from mlip.md.calculators import attached, calculator_from
from mlip.md.options import frame_from
from mlip.report import Check, CommandReport

console = Console()


def models_and_structures(
    files: Sequence[Path], calculator: str | None, *, need: int = 1
) -> tuple[list[Path], list[Path]]:
    """Split the positional arguments: MODEL first, unless ``--calculator`` names another one, then more models.

    Returns:
        Model files, none with ``calculator``; and structure files.

    Raises:
        InputError: Too few files.
    """
    if calculator is None and not files:
        raise InputError("a MODEL is needed", mend="or --calculator module:factory")
    count = 0 if calculator is not None else 1
    while calculator is None and count < len(files) and is_model(files[count]):
        count += 1
    if len(files) - count < need:
        raise InputError("a STRUCTURE is needed")
    return list(files[:count]), list(files[count:])


def is_model(path: Path) -> bool:
    """Whether a file is a model, by its suffix or by how a safetensors file begins: a length, then a JSON object."""
    if path.suffix in {".mlip", ".safetensors"}:
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def model_and_structures(
    files: Sequence[Path],
    calculator: str | None,
    device: str,
    dtype: str | None,
    *,
    need: int = 1,
    committee: bool = False,
    frame: str | None = None,
) -> tuple[Any, list[Path]]:
    """One MODEL, or ``--calculator``, and the structures.

    Where a command takes a ``committee``, several models are one. ``frame`` is the text of ``--frame``.

    Raises:
        InputError: Too few files, several models, or the model cannot be opened.
    """
    models, structures = models_and_structures(files, calculator, need=need)
    if len(models) > 1 and not committee:
        raise InputError("a second model", file=models[1], mend="this command takes one")
    chosen = models if calculator is None else None
    placed = frame_from(frame)
    return calculator_from(chosen, factory=calculator, device=device, dtype=dtype, frame=placed), structures


def read_structure(path: Path, calculator: Any, index: int = -1) -> Atoms:
    """Read one structure, and see that the calculator can work with it.

    Raises:
        InputError: No such file, ASE cannot read it, or the calculator refuses it.
    """
    if not path.is_file():
        raise InputError("no such structure file", file=path)
    try:
        atoms = ase.io.read(path, index=index)
    except Exception as error:
        raise InputError(f"ASE cannot read this structure: {error!r}", file=path) from error
    try:
        attached(atoms, calculator).get_potential_energy()
    except MLIPError:
        raise
    except Exception as error:
        raise InputError(f"the calculator cannot do this structure: {error!r}", file=path) from error
    return atoms


def folder_for(structure: Path, command: str, out: Path | None, *, several: bool, force: bool) -> Path:
    """``--out``, or ``STRUCTURE-COMMAND`` in the present folder; one below ``--out`` for each of several."""
    name = f"{structure.stem}-{command}"
    return output_folder((out / name if several else out) if out is not None else Path(name), force=force)


def bar(description: str) -> Callable[[Iterable[Any]], Iterable[Any]]:
    """A progress bar with time left, on a terminal's standard error; nothing elsewhere."""
    shown = Console(stderr=True)
    if not sys.stderr.isatty():
        return iter
    return lambda items: track(items, description=description, console=shown, transient=True)


def finish(report: CommandReport, json_path: Path | None, *, errors: int = 0) -> None:
    """Print the table of checks and the files, write the JSON; end with 2 after errors, 1 when a check failed."""
    report.print_checks(console)
    for file in report.files:
        console.print(f"wrote {file}", style="dim", highlight=False, soft_wrap=True)
    if json_path is not None:
        report.write_json(json_path)
    if errors:
        raise typer.Exit(2)
    if not report.passed:
        raise typer.Exit(1)


def merge(report: CommandReport, structure: Path, results: dict[str, Any], *, several: bool) -> None:
    """Put one structure's results into the report: as they are for one, by file name for several."""
    if several:
        report.results.setdefault("structures", {})[str(structure)] = results
    else:
        report.results.update(results)


def save_figure(figure: Any, path: Path) -> Path:
    """Write a figure, whole or not at all."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=200)
    return path


def named(checks: list[Check], path: Path, *, several: bool) -> list[Check]:
    """Checks with the structure's name in front where there are several structures."""
    return [Check(f"{path.name}: {c.name}", c.value, c.limit, c.unit) for c in checks] if several else checks
