"""Figures of phonons: bands with the density of states, and thermal properties."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlip.md.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, house_style
from mlip.md.phonon_result import METHODS

if TYPE_CHECKING:
    from mlip.md.bands import BandPath
    from mlip.md.phonon_comparison import PhononComparison
    from mlip.md.phonon_result import PhononResult
    from mlip.md.reference import Comparison

Array = NDArray[np.float64]
REFERENCE_COLOURS = (VERMILION, GREEN, PURPLE, ORANGE)
MODEL_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY)


def band_figure(result: PhononResult) -> Figure:
    """Bands along the path; beside them the density of states on the same frequency axis."""
    with house_style():
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(4.2, 1))
        _draw_bands(left, result)
        for comparison, colour in zip(result.references, REFERENCE_COLOURS * 4, strict=False):
            _draw_reference(left, comparison, result, colour)
        _draw_dos(right, result)
        if result.lowest[0] < -0.02:
            _shade_imaginary(left, right)
        if result.references or result.spread is not None:
            figure.legend(*left.get_legend_handles_labels(), loc="outside upper right", ncols=3)
        left.set_title(f"{formula_of(result)}, {result.cell.space_group}")
    return figure


def comparison_figure(comparison: PhononComparison) -> Figure:
    """The bands and densities of states of several models, and the references of the first.

    Frequencies of the others are laid on the path of the first; a committee's come with their spread.
    """
    first = comparison.first
    path = first.bands.path
    with house_style():
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(4.2, 1))
        values = [first.bands.frequencies, *(c.theirs for c in comparison.against_first.values())]
        _frame_bands(left, path, np.concatenate(values))
        for (name, result), bands, colour in zip(
            comparison.results.items(), values, MODEL_COLOURS * len(values), strict=False
        ):
            _draw_lines(left, path, bands, colour, _with_errors(name, result))
            if result.spread is not None and result.spread.std.shape == bands.shape:
                _draw_spread(left, path, bands, result.spread.std, colour)
            right.plot(result.dos.total, result.dos.frequency, color=colour, lw=1.1)
        for reference, colour in zip(first.references, REFERENCE_COLOURS * 4, strict=False):
            _draw_reference(left, reference, first, colour, reference.name)
        _frame_dos(right, max(result.dos.total.max() for result in comparison.results.values()))
        if min(result.lowest[0] for result in comparison.results.values()) < -0.02:
            _shade_imaginary(left, right)
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper right", ncols=3)
        left.set_title(f"{formula_of(first)}, {first.cell.space_group}")
    return figure


def _with_errors(name: str, result: PhononResult) -> str:
    """A model's name with its distance from the only reference."""
    if len(result.references) != 1:
        return name
    return f"{name}: mean |Δν| {result.references[0].mean:.2g} THz"


def _shade_imaginary(left: Any, right: Any) -> None:
    for axis in (left, right):
        axis.axhspan(axis.get_ylim()[0], 0, color=VERMILION, alpha=0.06, lw=0)
    where = {"xycoords": "axes fraction", "ha": "left", "va": "bottom"}
    left.annotate("imaginary", (0.01, 0.01), color=VERMILION, fontsize=8, **where)


def _draw_lines(axis: Any, path: BandPath, bands: Array, colour: str, label: str) -> None:
    for first, stop in path.segments:
        axis.plot(path.distance[first:stop], bands[first:stop], color=colour, lw=1.3, zorder=2)
    axis.plot([], [], color=colour, label=label)


def _draw_bands(axis: Any, result: PhononResult) -> None:
    path, bands = result.bands.path, result.bands.frequencies
    label = f"this model, {METHODS[result.method]}"
    if result.spread is not None:
        _draw_spread(axis, path, bands, result.spread.std, BLUE)
        label = f"mean of {len(result.spread.names)} models ± standard deviation"
    _draw_lines(axis, path, bands, BLUE, label)
    _frame_bands(axis, path, bands)


def _frame_bands(axis: Any, path: BandPath, bands: Array) -> None:
    places, labels = path.ticks
    for x in places:
        axis.axvline(x, color=GREY, lw=0.5, zorder=0)
    axis.axhline(0, color=GREY, lw=0.5, zorder=0)
    axis.set_xticks(places, labels)
    top, bottom = bands.max(), bands.min()
    axis.set(
        xlim=(path.distance[0], path.distance[-1]),
        ylim=(min(0.0, 1.06 * bottom) if bottom < -0.02 else 0.0, 1.06 * top),
        ylabel="frequency (THz)",
    )
    axis.tick_params(axis="x", length=0)


def _draw_spread(axis: Any, path: BandPath, bands: Array, std: Array, colour: str) -> None:
    for first, stop in path.segments:
        for mean, away in zip(bands[first:stop].T, std[first:stop].T, strict=True):
            x = path.distance[first:stop]
            axis.fill_between(x, mean - away, mean + away, color=colour, alpha=0.22, lw=0, zorder=1)


def _draw_reference(
    axis: Any, comparison: Comparison, result: PhononResult, colour: str, label: str | None = None
) -> None:
    label = f"{comparison.name}: mean |Δν| {comparison.mean:.2g} THz" if label is None else label
    if len(comparison.places) == len(result.bands.path.distance) and not np.isnan(comparison.places).any():
        for first, stop in result.bands.path.segments:
            axis.plot(
                comparison.places[first:stop],
                comparison.theirs[first:stop],
                color=colour,
                lw=1.0,
                ls=(0, (4, 2)),
                zorder=3,
            )
        axis.plot([], [], color=colour, lw=1.0, ls=(0, (4, 2)), label=label)
    else:
        there = ~np.isnan(comparison.places)
        x = np.repeat(comparison.places[there], comparison.theirs.shape[1])
        axis.plot(
            x, comparison.theirs[there].ravel(), "o", ms=3, mfc="none", mec=colour, mew=0.8, label=label, zorder=3
        )
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, 1.06 * comparison.theirs.min() if comparison.theirs.min() < -0.02 else low),
                  max(high, 1.06 * comparison.theirs.max()))  # fmt: skip


def _draw_dos(axis: Any, result: PhononResult) -> None:
    dos = result.dos
    parts = dos.by_element()
    if len(parts) == 1:
        axis.fill_betweenx(dos.frequency, dos.total, color=BLUE, alpha=0.18, lw=0)
    else:
        below = np.zeros_like(dos.total)
        for (element, part), colour in zip(parts.items(), (VERMILION, GREEN, ORANGE, PURPLE) * 9, strict=False):
            axis.fill_betweenx(dos.frequency, below, below + part, color=colour, alpha=0.35, lw=0, label=element)
            below = below + part
        axis.legend(loc="best", handlelength=1.0)
    axis.plot(dos.total, dos.frequency, color=BLUE, lw=1.1)
    _frame_dos(axis, dos.total.max())
    axis.set_title(f"{'×'.join(map(str, dos.mesh))}\n{result.dos_source}", fontsize=7, color=GREY)


def _frame_dos(axis: Any, highest: float) -> None:
    axis.axhline(0, color=GREY, lw=0.5, zorder=0)
    axis.set(xlim=(0, 1.08 * highest), xlabel="states per THz\nand cell")


def thermal_figure(result: PhononResult) -> Figure:
    """Free energy, entropy and heat capacity against temperature, per mole of primitive cells."""
    table = result.thermal
    with house_style():
        figure = Figure(figsize=(5.6, 3.6), layout="constrained")
        axis = figure.subplots()
        axis.plot(table.temperature, table.free_energy, color=BLUE, label="free energy (kJ/mol)")
        axis.plot(table.temperature, table.entropy, color=GREEN, label="entropy (J/K/mol)")
        axis.plot(
            table.temperature, table.heat_capacity, color=VERMILION, label="heat capacity at constant V (J/K/mol)"
        )
        limit = 3 * table.atoms * 8.314462618
        axis.axhline(limit, color=GREY, lw=0.8, ls="--")
        axis.annotate("Dulong–Petit", (table.temperature[-1], limit), ha="right", va="bottom", color=GREY, fontsize=8)
        axis.axhline(0, color=GREY, lw=0.5, zorder=0)
        axis.set(
            xlabel="temperature (K)",
            ylabel="per mole of primitive cells",
            xlim=(table.temperature[0], table.temperature[-1]),
        )
        axis.legend()
        note = (
            f", {100 * table.left_out:.2g} % of the modes are imaginary and left out" if table.left_out > 1e-9 else ""
        )
        axis.set_title(f"{formula_of(result)}, harmonic, cells of {table.atoms} atoms{note}")
    return figure


def formula_of(result: PhononResult) -> str:
    """The reduced formula with subscripts."""
    formula = result.cell.atoms.symbols.formula.reduce()[0].format("metal")
    return str(formula).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
