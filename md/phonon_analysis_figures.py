"""Figures of group velocities, Grüneisen parameters and thermal displacements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from mlip.md.bands import BandPath
from mlip.md.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, house_style

if TYPE_CHECKING:
    from mlip.md.group_velocity import GroupVelocities
    from mlip.md.gruneisen import GruneisenParameters
    from mlip.md.thermal_displacements import ThermalDisplacements

COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)


def velocity_figure(result: GroupVelocities) -> Figure:
    """Speed along the path, coloured by frequency, and against frequency."""
    with house_style():
        figure = Figure(figsize=(7.2, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(2.4, 1))
        speeds, top = result.speeds, 1.06 * result.fastest or 1.0
        dots = _along(left, result.path, speeds, result.frequencies)
        left.set(ylim=(0, top), ylabel="group velocity |dω/dk| (km/s)")
        left.set_title(f"Group velocities from {_source(result.method)}")
        right.plot(result.frequencies.ravel(), speeds.ravel(), ".", ms=2, color=BLUE)
        right.set(xlabel="frequency (THz)", xlim=(min(0.0, float(result.frequencies.min())), None))
        figure.colorbar(dots, ax=right, label="frequency (THz)", pad=0.02)
    return figure


def gruneisen_figure(result: GruneisenParameters) -> Figure:
    """γ along the path, coloured by frequency."""
    with house_style():
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axis = figure.subplots()
        dots = _along(axis, result.path, result.values, result.frequencies)
        axis.axhline(0, color=GREY, lw=0.5, zorder=0)
        finite = result.values[np.isfinite(result.values)]
        low, high = np.percentile(finite, [1, 99]) if finite.size else (0.0, 1.0)
        room = 0.25 * max(high - low, 0.1)
        axis.set(ylim=(low - room, high + room), ylabel="Grüneisen parameter γ")
        axis.set_title(f"Mode Grüneisen parameters, {_source(result.method)}")
        figure.colorbar(dots, ax=axis, label="frequency (THz)", pad=0.02)
    return figure


def displacement_figure(result: ThermalDisplacements) -> Figure:
    """U_iso of each atom against temperature, with the range of its principal values."""
    with house_style():
        figure = Figure(figsize=(5.6, 3.6), layout="constrained")
        axis = figure.subplots()
        for (symbol, values, principal), colour in zip(_kinds(result), COLOURS * 99, strict=False):
            axis.plot(result.temperature, values, color=colour, label=symbol)
            axis.fill_between(
                result.temperature, principal.min(axis=1), principal.max(axis=1), color=colour, alpha=0.15, lw=0
            )
        axis.set(
            xlabel="temperature (K)",
            ylabel="mean square displacement (Å²)",
            xlim=(result.temperature[0], result.temperature[-1]),
        )
        axis.set_ylim(bottom=0)
        axis.set_title("U_iso (lines), principal values (bands)")
        axis.legend()
    return figure


def _kinds(result: ThermalDisplacements) -> list[tuple[str, Any, Any]]:
    """One entry for each atom with values of its own, equivalent atoms together."""
    found: list[tuple[str, Any, Any]] = []
    for j, symbol in enumerate(result.symbols):
        values = result.isotropic[:, j]
        if any(symbol == s and np.allclose(values, v, rtol=1e-4) for s, v, _ in found):
            continue
        found.append((symbol, values, np.linalg.eigvalsh(result.cartesian[:, j])))
    return found


def _along(axis: Any, path: BandPath, values: Any, frequencies: Any) -> Any:
    """Dots along the path, the ticks of the bands."""
    x = np.repeat(path.distance[:, None], values.shape[1], axis=1)
    dots = axis.scatter(x, values, c=frequencies, s=4, lw=0, cmap="viridis")
    places, labels = path.ticks
    for place in places:
        axis.axvline(place, color=GREY, lw=0.5, zorder=0)
    axis.set_xticks(places, labels)
    axis.set_xlim(path.distance[0], path.distance[-1])
    axis.tick_params(axis="x", length=0)
    return dots


def _source(method: str) -> str:
    return {
        "exact": "exact derivatives of D(q)",
        "force constants": "force constants",
        "three volumes": "three volumes",
    }[method]
