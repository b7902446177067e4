"""``mlip data``: inspect, convert and split labelled structures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from mlip.datasets.entry import DatasetEntry, locate, make_entry
from mlip.datasets.frame import LabelledFrame
from mlip.datasets.inspection import SetSummary, find_leaks, summarise
from mlip.datasets.reading import read_frames, stream_frames
from mlip.datasets.select_cli import select
from mlip.datasets.source import FrameList
from mlip.datasets.splitting import PARTS
from mlip.datasets.splitting import split as split_frames
from mlip.datasets.tables import print_summaries
from mlip.datasets.writing import write_frames
from mlip.errors import InputError
from mlip.files import output_folder, write_text
from mlip.report import plain

data = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="Labelled structures.",
    pretty_exceptions_enable=False,
)  # fmt: skip

Files = Annotated[list[str], typer.Argument(help="Files or folders of labelled structures.", metavar="FILE...")]
Keys = Annotated[
    list[str] | None, typer.Option("--key", help="Name of a label in the file, such as energy=Energy; repeat.")
]
UnitOptions = Annotated[
    list[str] | None, typer.Option("--unit", help="Unit of the file, such as energy=kcal/mol; repeat.")
]
Pbc = Annotated[
    bool | None, typer.Option("--pbc/--no-pbc", help="Periodic in all directions, or in none (drops the cell).")
]
Index = Annotated[str | None, typer.Option("--index", help="Frames, as Python counts: 0:100, ::2, -1.")]
Require = Annotated[str, typer.Option("--require", help="Labels that must be there, such as energy,forces.")]
Sign = Annotated[
    str | None, typer.Option("--stress-sign", help="ase: positive under tension; vasp: under compression.")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the results here, as JSON.")]


@data.command("inspect")
def inspect_command(
    files: Files,
    key: Keys = None,
    unit: UnitOptions = None,
    pbc: Pbc = None,
    index: Index = None,
    require: Require = "",
    stress_sign: Sign = None,
    json_file: Json = None,
    cutoff: Annotated[float, typer.Option(help="Radius to compare cells with, Å.", min=0.5)] = 5.0,
) -> None:
    """What is in each file: frames, labels, ranges, copies across files, and what is odd."""
    entries = [_entry(file, key, unit, pbc, index, stress_sign) for file in files]
    sets: dict[str, FrameList] = {}
    summaries: list[SetSummary] = []
    console = Console()
    for entry in entries:
        frames = read_frames(entry, require=_labels(require))
        sets[entry.path] = frames
        summaries.append(summarise(frames, entry.path, cutoff, frames.source))
    print_summaries(summaries, console)
    for first, second, count in find_leaks(sets):
        console.print(
            f"LEAK: {count} frames of {second} are copies of frames of {first}", markup=False, soft_wrap=True
        )
    if json_file is not None:
        text = json.dumps(plain([summary.to_dict() for summary in summaries]), indent=2, allow_nan=False)
        write_text(json_file, text + "\n")


@data.command("convert")
def convert_command(
    files: Annotated[list[str], typer.Argument(help="Files to read, then the file to write.", metavar="IN... OUT")],
    key: Keys = None,
    unit: UnitOptions = None,
    pbc: Pbc = None,
    index: Index = None,
    require: Require = "",
    stress_sign: Sign = None,
    force: Force = False,
) -> None:
    """Rewrite files in eV and Å: OUT.extxyz for other programs, OUT.h5 as a fast cache for large sets."""
    if len(files) < 2:
        raise InputError("name the files to read and the file to write", mend="mlip data convert IN OUT")
    *inputs, output = files
    entries = [_entry(file, key, unit, pbc, index, stress_sign) for file in inputs]
    if any(locate(entry.path).resolve() == Path(output).resolve() for entry in entries):
        raise InputError("is both read and written", file=output)
    count = write_frames(_in_turn(entries, _labels(require)), output, force=force)
    typer.echo(f"{output}: {count} frames")


@data.command("split")
def split_command(
    files: Files,
    out: Annotated[Path, typer.Option("--out", help="Folder for train, validation and test.")] = Path("split"),
    validation: Annotated[float, typer.Option(help="Fraction below 1, or number of frames.")] = 0.05,
    test: Annotated[float, typer.Option(help="Fraction below 1, or number of frames.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the random choice.")] = 0,
    mode: Annotated[str, typer.Option(help="random, or contiguous for trajectories.")] = "random",
    block: Annotated[int, typer.Option(help="Consecutive frames that stay together.")] = 1,
    gap: Annotated[int, typer.Option(help="contiguous: frames left out between parts.")] = 0,
    key: Keys = None,
    unit: UnitOptions = None,
    pbc: Pbc = None,
    index: Index = None,
    require: Require = "",
    stress_sign: Sign = None,
    form: Annotated[str, typer.Option("--format", help="extxyz or h5.")] = "extxyz",
    force: Force = False,
) -> None:
    """Split into train, validation and test; copies of one geometry stay together."""
    if form not in ("extxyz", "h5"):
        raise InputError(f"'{form}' is not a format", key="format", mend="extxyz or h5")
    entries = [_entry(file, key, unit, pbc, index, stress_sign) for file in files]
    frames = list(_in_turn(entries, _labels(require)))
    chosen = split_frames(frames, validation=validation, test=test, seed=seed, mode=mode, block=block, gap=gap)  # type: ignore[arg-type]
    folder = output_folder(out, force=force)
    for part, members in chosen.select(frames).items():
        if members:
            write_frames(members, folder / f"{part}.{form}")
    write_text(folder / "split.json", json.dumps(plain(_record(chosen.to_dict(), frames, seed, mode))) + "\n")
    typer.echo(f"{folder}: " + ", ".join(f"{len(getattr(chosen, part))} {part}" for part in PARTS))
    for note in chosen.notes:
        typer.echo(f"  {note}")


data.command("select")(select)


def _record(chosen: dict[str, Any], frames: Sequence[LabelledFrame], seed: int, mode: str) -> dict[str, Any]:
    """Which frame of which file went where."""
    parts = {part: [[str(frames[i].file), frames[i].index] for i in chosen[part]] for part in (*PARTS, "left_out")}
    return {"seed": seed, "mode": mode, "notes": chosen["notes"], **parts}


def _in_turn(entries: list[DatasetEntry], require: tuple[str, ...]) -> Iterator[LabelledFrame]:
    """The frames of each file, and then what was read as what."""
    for entry in entries:
        frames = stream_frames(entry, require)
        yield from frames
        for line in frames.source.lines():
            typer.echo(line)


def _entry(
    file: str,
    key: list[str] | None,
    unit: list[str] | None,
    pbc: bool | None,
    index: str | None,
    stress_sign: str | None,
) -> DatasetEntry:
    keys = {name: None if value == "none" else value for name, value in _pairs(key, "--key", "energy=Energy").items()}
    units = _pairs(unit, "--unit", "energy=kcal/mol")
    return make_entry(file, index=index, keys=keys, units=units, pbc=pbc, stress_sign=stress_sign)


def _pairs(options: list[str] | None, option: str, example: str) -> dict[str, str]:
    """``["energy=Energy"]`` → ``{"energy": "Energy"}``."""
    pairs = {}
    for text in options or []:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise InputError(f"'{text}' is not NAME=VALUE", key=option, mend=f"such as {option} {example}")
        if name in pairs:
            raise InputError(f"{name} is given twice", key=option)
        pairs[name.strip()] = value.strip()
    return pairs


def _labels(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
