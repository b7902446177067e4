"""Figures against volume and temperature: equation of state, and the quasi-harmonic approximation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from mlip.md.figures import BLUE, GREEN, GREY, ORANGE, VERMILION, house_style

if TYPE_CHECKING:
    from mlip.md.equation_of_state import EquationOfState
    from mlip.md.quasi_harmonic_result import QuasiHarmonicResult
    from mlip.md.structure import PrimitiveCell


def _name(cell: PrimitiveCell) -> str:
    formula = str(cell.atoms.symbols.formula.reduce()[0].format("metal"))
    return formula.translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def eos_figure(result: EquationOfState) -> Figure:
    """Energy with the residual of the fit beneath, and pressure from the stress on the fit's derivative."""
    n, fit = len(result.cell.atoms), result.fit
    fine = np.linspace(result.volumes[0], result.volumes[-1], 200)
    with house_style():
        figure = Figure(figsize=(7.6, 3.6), layout="constrained")
        axes: dict[str, Any] = figure.subplot_mosaic(
            [["energy", "pressure"], ["rest", "pressure"]], height_ratios=[3, 1]
        )
        energy, rest, pressure = axes["energy"], axes["rest"], axes["pressure"]
        energy.plot(fine / n, (fit.energies(fine) - fit.energy) * 1000 / n, color=BLUE, label="Birch–Murnaghan")
        energy.plot(
            result.volumes / n,
            (result.energies - fit.energy) * 1000 / n,
            "o",
            ms=4,
            mfc="none",
            mec=ORANGE,
            label="energies",
        )
        energy.axvline(fit.volume / n, color=GREY, lw=0.6, zorder=0)
        energy.set(ylabel="$E - E_0$ (meV/atom)", title=f"$V_0$ = {fit.volume / n:.3f} Å³/atom")
        energy.tick_params(labelbottom=False)
        energy.legend(loc="upper center", frameon=True, framealpha=1, edgecolor="none")
        rest.plot(
            result.volumes / n,
            (result.energies - fit.energies(result.volumes)) * 1e6 / n,
            "o-",
            ms=3,
            lw=0.8,
            color=ORANGE,
        )
        rest.axhline(0, color=GREY, lw=0.6, zorder=0)
        rest.set(xlabel="volume (Å³/atom)", ylabel="$E$ − fit\n(µeV/atom)")
        pressure.plot(fine / n, fit.pressures(fine), color=BLUE, label="−d$E$/d$V$ of the fit to energies")
        pressure.plot(result.volumes / n, result.pressures, "o", ms=4, mfc="none", mec=VERMILION, label="stress")
        pressure.axhline(0, color=GREY, lw=0.6, zorder=0)
        pressure.axvline(fit.volume / n, color=GREY, lw=0.6, zorder=0)
        pressure.set(
            xlabel="volume (Å³/atom)",
            ylabel="pressure (GPa)",
            title=f"$B_0$ = {fit.bulk:.1f} GPa, $B'$ = {fit.derivative:.2f}",
        )
        pressure.legend(frameon=True, framealpha=1, edgecolor="none")
        figure.suptitle(f"{_name(result.cell)}, {result.cell.space_group}", x=0.01, ha="left", fontsize=11)
    return figure


def quasi_harmonic_figure(result: QuasiHarmonicResult) -> Figure:
    """F(V) at several temperatures; expansion with the Grüneisen sum; volume; bulk modulus and heat capacity."""
    n, found = len(result.cell.atoms), result.expansion
    with house_style():
        figure = Figure(figsize=(8.2, 6.0), layout="constrained")
        (free, expansion), (volume, capacity) = figure.subplots(2, 2)
        _draw_free_energies(free, result, n)
        expansion.plot(found.temperature, found.expansion * 1e6, color=BLUE, label="quasi-harmonic, d ln$V$/d$T$")
        other = result.grueneisen_expansion()
        if other is not None:
            expansion.plot(
                other[0], other[1] * 1e6, "o", ms=4, mfc="none", mec=ORANGE, label="mode sum $\\Sigma\\gamma c/BV$"
            )
        expansion.axhline(0, color=GREY, lw=0.6, zorder=0)
        expansion.set(ylabel="volumetric expansion ($10^{-6}$/K)", title="Thermal expansion")
        expansion.legend()
        volume.plot(found.temperature, found.volume / n, color=GREEN)
        volume.axhline(result.cell.atoms.get_volume() / n, color=GREY, lw=0.8, ls="--")
        volume.annotate(
            "static", (found.temperature[-1], result.cell.atoms.get_volume() / n), ha="right", va="bottom", color=GREY
        )
        volume.set(xlabel="temperature (K)", ylabel="volume (Å³/atom)", title="Volume")
        _draw_bulk_and_capacity(capacity, result, n)
        for axis in (expansion, volume, capacity):
            axis.set_xlim(found.temperature[0], found.temperature[-1])
        expansion.set_xlabel("temperature (K)")
        pressure = f", {result.pressure:g} GPa" if result.pressure else ""
        figure.suptitle(
            f"{_name(result.cell)}, {result.cell.space_group}, quasi-harmonic{pressure}",
            x=0.01,
            ha="left",
            fontsize=11,
        )
    return figure


def _draw_free_energies(axis: Any, result: QuasiHarmonicResult, n: int) -> None:
    """F(V, T) minus its own minimum over the scanned volumes, which drift with T."""
    found = result.expansion
    volumes = np.array([v.volume for v in result.volumes]) / n
    chosen = np.unique(np.linspace(0, len(found.temperature) - 1, 6).astype(int))
    colours = mpl.colormaps["plasma"](np.linspace(0.05, 0.85, len(chosen)))
    for i, colour in zip(chosen, colours, strict=True):
        rise = (found.free_energies[i] - found.gibbs[i]) * 1000 / n
        axis.plot(volumes, rise, "-", color=colour, lw=1.0, marker=".", ms=4, label=f"{found.temperature[i]:g} K")
        axis.plot(found.volume[i] / n, 0, "|", color=colour, ms=9, mew=1.6)
    axis.axhline(0, color=GREY, lw=0.6, zorder=0)
    axis.set(xlabel="volume (Å³/atom)", ylabel="$F - F_{min}$ (meV/atom)", title="Free energy; marks: minima")
    axis.legend(ncols=2, fontsize=7.5)


def _draw_bulk_and_capacity(axis: Any, result: QuasiHarmonicResult, n: int) -> None:
    found = result.expansion
    axis.plot(found.temperature, found.heat_capacity / n, color=VERMILION)
    axis.axhline(3 * 8.314462618, color=GREY, lw=0.8, ls="--")
    axis.set_ylim(top=1.08 * max(3 * 8.314462618, found.heat_capacity.max() / n))
    axis.annotate("3R", (found.temperature[0], 3 * 8.314462618), ha="left", va="bottom", color=GREY, fontsize=8)
    axis.set(xlabel="temperature (K)", title="Heat capacity and bulk modulus")
    axis.set_ylabel("$C_p$ (J/K per mole of atoms)", color=VERMILION)
    right = axis.twinx()
    right.spines["right"].set_visible(True)
    right.plot(found.temperature, found.bulk, color=BLUE)
    right.set_ylabel("$B_T$ (GPa)", color=BLUE)
