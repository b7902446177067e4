"""`mlip convert`: models of other packages as model files of this one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

convert = typer.Typer(help="Models of other packages as model files of this one.", rich_markup_mode=None)

SEVENNET = (
    "SevenNet models have no counterpart here: the published ones tell mirror images apart (is_parity: False), "
    "and all give lone atoms a learnt energy"
)


@convert.callback()
def _group() -> None:
    """Models of other packages as model files of this one."""


@convert.command()
def nequip(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint that nequip-train wrote.")],
    out: Annotated[Path | None, typer.Option("--out", help="The model file; CHECKPOINT.mlip unless given.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the model file if it exists.")] = False,
) -> None:
    """A NequIP checkpoint → a model file with the same energies, and exact phonons from the primitive cell."""
    from mlip.convert.nequip import convert_nequip
    from mlip.errors import InputError

    target = out or checkpoint.with_suffix(".mlip")
    if target.exists() and not force:
        raise InputError("exists", file=target, mend="use --force to replace it or another --out")
    potential = convert_nequip(checkpoint)
    potential.save(target)
    settings = potential.settings
    typer.echo(
        f"{target}: {' '.join(potential.species)}, {settings.num_layers} layers, lmax {settings.lmax}, "
        f"cutoff {settings.cutoff:g} Å, {sum(p.numel() for p in potential.parameters())} weights"
    )


@convert.command()
def sevennet(
    checkpoint: Annotated[Path, typer.Argument(help="A SevenNet checkpoint.")],
) -> None:
    """Not possible, and why: SevenNet's published models are not the network that NequIP's become."""
    from mlip.errors import InputError

    raise InputError(
        SEVENNET, file=checkpoint, mend="mlip phonons --calculator module:factory takes SevenNet as it is"
    )
