"""Summaries of sets, printed side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from mlip.datasets.inspection import SetSummary


def _range(low: float | None, high: float | None, form: str) -> str:
    if low is None or high is None:
        return "–"
    return f"{low:{form}}" if low == high else f"{low:{form}} … {high:{form}}"


def _ends(pair: tuple[float, float] | None) -> tuple[float | None, float | None]:
    return (None, None) if pair is None else pair


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _slope(summary: SetSummary) -> str:
    found = summary.diagnosis
    if found is None or found.slope is None or not found.testable:
        return "not testable"
    return f"{found.slope:.3f} ± {found.uncertainty:.3f}"


_ROWS: list[tuple[str, Callable[[SetSummary], str]]] = [
    ("frames", lambda s: str(s.frames)),
    ("atoms per frame", lambda s: _range(s.atoms_min, s.atoms_max, "d")),
    ("elements", lambda s: " ".join(s.species[:12]) + (f" … ({len(s.species)})" if len(s.species) > 12 else "")),
    ("periodic", lambda s: "yes" if s.periodic else "no"),
    ("energy / forces / stress / Hessian", lambda s: " / ".join(str(n) for n in list(s.labels.values())[:4])),
    ("other labels", lambda s: ", ".join(f"{k} {n}" for k, n in list(s.labels.items())[4:]) or "–"),
    ("energy (eV/atom)", lambda s: _range(*_ends(s.energy_per_atom), ".4f")),
    ("|F| rms, max (eV/Å)", lambda s: f"{_number(s.force_rms)}, {_number(s.force_max)}"),
    ("net force, max (eV/Å)", lambda s: _number(s.net_force_max)),
    ("net torque, max (eV)", lambda s: _number(s.net_torque_max)),
    ("cell heights (Å)", lambda s: _range(s.height_min, s.height_max, ".2f")),
    ("cells below 2 × cutoff", lambda s: f"{s.below_cutoff} (cutoff {s.cutoff:g} Å)"),
    ("isolated atoms", lambda s: str(s.isolated_atoms)),
    ("copies within", lambda s: str(s.copies)),
    ("weights", lambda s: _range(*s.weights, "g")),
    ("ΔE / −½(F₁+F₂)·Δx", _slope),
]


def print_summaries(summaries: Sequence[SetSummary], console: Console | None = None) -> None:
    """Print where the labels came from, one column per set, and what is odd."""
    console = console or Console()
    for summary in summaries:
        for line in [] if summary.source is None else summary.source.lines():
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    table = Table("", *(summary.file.rsplit("/", 1)[-1] for summary in summaries))
    for title, cell in _ROWS:
        table.add_row(title, *(cell(summary) for summary in summaries))
    console.print(table)
    for summary in summaries:
        for line in remarks(summary):
            console.print(f"{summary.file}: {line}", markup=False, highlight=False, soft_wrap=True)


def remarks(summary: SetSummary, most: int = 5) -> list[str]:
    """What deserves a second look, in lines."""
    lines = list(summary.hidden.lines())
    if summary.examined < summary.frames:
        lines.append(f"labels were compared, and hidden variables looked for, in {summary.examined} frames of these")
    found = summary.diagnosis
    if found is not None and (summary.labels["energy"] and summary.labels["forces"]):
        lines.insert(0, f"label doctor: {found.verdict}")
        lines += [f"off the line of its neighbours: {o.name}, by {o.residual:+.3g} eV" for o in found.outliers[:most]]
        lines += [f"and {len(found.outliers) - most} more off the line"] if len(found.outliers) > most else []
    lines += [f"large force: {o.name}, atom {o.atom}, {o.force:.3g} eV/Å" for o in summary.force_outliers[:most]]
    if summary.hessian_drift is not None:
        lines.append(
            f"Hessian: asymmetry up to {summary.hessian_asymmetry:.2g}, "
            f"translations cost up to {summary.hessian_drift:.2g} eV/Å²"
        )
    more = len(summary.force_outliers) - most
    return [*lines, f"and {more} more large forces"] if more > 0 else lines
