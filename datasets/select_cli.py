"""``mlip data select``: a thin shell over `mlip.datasets.selection.select_frames`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlip.datasets.entry import make_entry
from mlip.datasets.reading import read_frames
from mlip.datasets.selection import select_frames
from mlip.datasets.writing import write_frames
from mlip.errors import InputError


def select(
    files: Annotated[
        list[str], typer.Argument(help="Frames to choose from; labels are not needed.", metavar="FILE...")
    ],
    count: Annotated[int, typer.Option(help="How many.", min=1)],
    out: Annotated[Path, typer.Option(help="The file to write, .extxyz, .xyz or .h5.")],
    known: Annotated[list[str] | None, typer.Option(help="Frames that are in the training set; repeat.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Members of a committee (or a quoted pattern): choose where its forces differ most."),
    ] = None,
    cutoff: Annotated[float, typer.Option(help="Radius of the descriptor, Å.", min=1.0)] = 5.0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite.")] = False,
) -> None:
    """Choose the frames that differ most, from each other and from --known, or where a committee disagrees."""
    committee = None
    if model:
        from mlip import MLIPCalculator

        committee = MLIPCalculator(model)
        if len(committee.potentials) < 2:
            raise InputError("a committee needs two models or more", key="--model")
    frames = [frame for file in files for frame in read_frames(make_entry(file))]
    there = [frame for file in known or [] for frame in read_frames(make_entry(file))]
    chosen, scores = select_frames(frames, count, known=there, committee=committee, cutoff=cutoff)
    write_frames([frames[i] for i in chosen], out, force=force)
    finite = scores[scores < float("inf")]
    what = "force disagreement (eV/Å)" if committee else "distance to the nearest chosen before"
    ends = f": {what} {finite.max():.3g} … {finite.min():.3g}" if finite.size else ""
    typer.echo(f"{out}: {count} of {len(frames)} frames{ends}")
