"""Phonons of one crystal from several models, side by side at equal q."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from mlip.errors import InputError
from mlip.files import atomic_path, write_text
from mlip.md.phonon_result import PhononResult
from mlip.md.reference import Comparison, Reference, compare
from mlip.report import Check, plain


@dataclass(frozen=True)
class PhononComparison:
    """Several results for the same crystal.

    Attributes:
        results: By name; the path of the first is everyone's.
        against_first: Each other one's frequencies on that path beside the first's.
    """

    results: dict[str, PhononResult]
    against_first: dict[str, Comparison]

    @property
    def first(self) -> PhononResult:
        """The result whose path and structure the others are laid on."""
        return next(iter(self.results.values()))

    @property
    def checks(self) -> list[Check]:
        """The checks of all, with the model's name in front."""
        return [
            Check(f"{name}: {c.name}", c.value, c.limit, c.unit)
            for name, result in self.results.items()
            for c in result.checks
        ]

    @property
    def lines(self) -> list[str]:
        """What was found, for people."""
        own = [f"{name}: {line}" for name, result in self.results.items() for line in result.lines]
        first = next(iter(self.results))
        return own + [
            f"{name} against {first}: mean |Δν| {c.mean:.3f} THz, largest {c.worst[0]:.3f} THz"
            for name, c in self.against_first.items()
        ]

    def plot(self) -> Figure:
        """All bands in one figure, with the densities of states beside them."""
        from mlip.md.phonon_figures import comparison_figure

        return comparison_figure(self)

    def to_dict(self) -> dict[str, Any]:
        """Each model's own figures, with its special points, and its differences from the first."""
        return {
            "models": {name: result.to_dict() for name, result in self.results.items()},
            "against_first": {name: c.to_dict() for name, c in self.against_first.items()},
        }

    def write(self, folder: str | Path) -> list[Path]:
        """Write the figure and a table into a folder, and below it a folder for each model; return the files."""
        folder = Path(folder)
        files = [file for name, result in self.results.items() for file in result.write(folder / name)]
        with atomic_path(folder / "comparison.png") as temporary:
            self.plot().savefig(temporary, dpi=200)
        text = json.dumps(plain(self.to_dict()), indent=1, allow_nan=False)
        write_text(folder / "comparison.json", text + "\n")
        return [folder / "comparison.png", folder / "comparison.json", *files]


def compare_phonons(results: Sequence[PhononResult], names: Sequence[str] | None = None) -> PhononComparison:
    """Put the phonons that several models give for one crystal side by side.

    q points correspond through the standardised primitive lattices, so that each model may have relaxed the cell to
    its own lattice constant.

    Args:
        results: Two or more; the first gives the path.
        names: What to call them; None: "model 1", "model 2", ….

    Raises:
        InputError: Fewer than two results, names that do not tell them apart, or not the same crystal.
    """
    called = [f"model {i + 1}" for i in range(len(results))] if names is None else list(names)
    if len(results) < 2:
        raise InputError("a comparison needs two results or more")
    if len(called) != len(results) or len(set(called)) != len(called):
        raise InputError(f"{len(results)} results need as many different names, not {called}", key="names")
    first = results[0]
    others = {
        name: compare(_reference(result, name), first.cell, first.matrices, first.bands)
        for name, result in zip(called[1:], results[1:], strict=True)
    }
    return PhononComparison(dict(zip(called, results, strict=True)), others)


def _reference(result: PhononResult, name: str) -> Reference:
    return Reference(
        name,
        result.cell,
        result.cell.atoms.cell.array,
        solve=result.frequencies,
        polar=result.polar is not None,
    )
