"""Commands of the core room."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def info(
    model: Annotated[Path, typer.Argument(help="A model file.")],
    json: Annotated[Path | None, typer.Option("--json", help="Also write everything as JSON to this file.")] = None,
) -> None:
    """What a model is, what it was trained on, how good it is, how far it sees."""
    from rich.console import Console

    from mlip.potential import Potential
    from mlip.report import CommandReport

    potential = Potential.load(model)
    results = describe(potential)
    _print(Console(), model, results)
    if json is not None:
        CommandReport("info", inputs={"model": model}, results=results).write_json(json)


def describe(potential: Any) -> dict[str, Any]:
    """Everything a model file says of itself, with what follows from it.

    Args:
        potential: A potential.

    Returns:
        Plain values; energies in eV, lengths in Å.
    """
    return {
        **potential.description(),
        "parameters": sum(p.numel() for p in potential.parameters()),
        "receptive_field": potential.receptive_field,
    }


def _print(console: Any, model: Path, results: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(show_header=False, box=None, title=str(model), title_justify="left")
    for name, value in _rows(results):
        table.add_row(name, value)
    console.print(table)


def _rows(results: dict[str, Any]) -> list[tuple[str, str]]:
    settings, normalization, metadata = results["settings"], results["normalization"], results["metadata"]
    e0 = normalization["e0"]
    rows = [
        ("architecture", f"{settings['architecture']}, {results['parameters']} parameters, {results['dtype']}"),
        ("species", " ".join(results["species"])),
        ("cutoff", f"{settings['cutoff']:g} Å, receptive field {results['receptive_field']:g} Å"),
        ("E0", ", ".join(f"{s} {e0.get(s, 0.0):.6f} eV" for s in results["species"])),
        ("E0 from", str(metadata.get("e0_origin", "not stated"))),
    ]
    rows += [(f"settings.{key}", str(value)) for key, value in settings.items()]
    for section in ("theory", "ranges", "metrics", "versions", "data_digest"):
        value = metadata.get(section)
        if isinstance(value, dict):
            rows += [(f"{section}.{key}", _short(entry)) for key, entry in value.items()]
        elif value is not None:
            rows.append((section, _short(value)))
    return rows


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
