"""Figures of phonons: bands with the density of states, and thermal properties."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from mlip.md.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION, house_style
from mlip.md.phonon_result import METHODS

if TYPE_CHECKING:
    from mlip.md.phonon_result import PhononResult
    from mlip.md.reference import Comparison

REFERENCE_COLOURS = (VERMILION, GREEN, PURPLE, ORANGE)


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
            for axis in (left, right):
                axis.axhspan(axis.get_ylim()[0], 0, color=VERMILION, alpha=0.06, lw=0)
            left.annotate(
                "imaginary",
                (0.01, 0.01),
                xycoords="axes fraction",
                ha="left",
                va="bottom",
                color=VERMILION,
                fontsize=8,
            )
        if result.references:
            figure.legend(*left.get_legend_handles_labels(), loc="outside upper right", ncols=3)
        left.set_title(f"{_name(result)}, {result.cell.space_group}")
    return figure


def _draw_bands(axis: Any, result: PhononResult) -> None:
    path, bands = result.bands.path, result.bands.frequencies
    for first, stop in path.segments:
        axis.plot(path.distance[first:stop], bands[first:stop], color=BLUE, lw=1.3, zorder=2)
    axis.plot([], [], color=BLUE, label=f"this model, {METHODS[result.method]}")
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


def _draw_reference(axis: Any, comparison: Comparison, result: PhononResult, colour: str) -> None:
    label = f"{comparison.name}: mean |Δν| {comparison.mean:.2g} THz"
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
    axis.axhline(0, color=GREY, lw=0.5, zorder=0)
    axis.set(xlim=(0, 1.08 * dos.total.max()), xlabel="states per THz\nand cell")
    axis.set_title(f"{'×'.join(map(str, dos.mesh))}\n{result.dos_source}", fontsize=7, color=GREY)


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
        axis.set_title(f"{_name(result)}, harmonic, cells of {table.atoms} atoms{note}")
    return figure


def _name(result: PhononResult) -> str:
    """The reduced formula with subscripts."""
    formula = result.cell.atoms.symbols.formula.reduce()[0].format("metal")
    return str(formula).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
