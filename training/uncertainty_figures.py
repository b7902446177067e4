"""The calibration plot of a committee."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray
from scipy.special import erfinv

Array = NDArray[np.float64]
# label → name, unit, factor to it
_QUANTITIES = {
    "energy": ("energy", "meV/atom", 1e3),
    "forces": ("force component", "meV/Å", 1e3),
    "stress": ("stress component", "meV/Å³", 1e3),
}


def calibration_figure(spreads: Mapping[str, Any], scales: Mapping[str, float]) -> Figure:
    """One column for each label: coverage above, errors against the spread below.

    Args:
        spreads: Label → `mlip.training.uncertainty.Spread`.
        scales: Label → factor on its standard deviations.
    """
    figure = Figure(figsize=(3.9 * len(spreads), 7.0), layout="constrained")
    panels = figure.subplots(2, len(spreads), squeeze=False)
    for (label, spread), above, below in zip(spreads.items(), *panels, strict=True):
        _coverage(above, spread, scales[label])
        _errors(below, spread, scales[label], _QUANTITIES[label])
        above.set_title(_QUANTITIES[label][0].replace(" component", "s"), loc="left", fontsize=10)
    return figure


def _coverage(axes: Axes, spread: Any, scale: float) -> None:
    """Share of errors within the interval that a normal distribution would fill to so much."""
    expected = np.linspace(0.0, 0.99, 100)
    sigmas = np.sqrt(2.0) * erfinv(expected)
    axes.plot([0, 100], [0, 100], color="0.6", linewidth=0.8)
    curves = [(1.0, "as it is", "tab:gray", "--")] if scale != 1.0 else []
    curves.append((scale, "calibrated" if scale != 1.0 else "as it is", "tab:blue", "-"))
    for factor, name, color, style in curves:
        observed = [100 * spread.coverage(factor, s) for s in sigmas]
        text = f"{name}: {100 * spread.coverage(factor):.0f} % within 1σ"
        axes.plot(100 * expected, observed, style, color=color, label=text, linewidth=1.3)
    axes.axvline(68.27, color="0.8", linewidth=0.8, zorder=0)
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal", xlabel="expected within (%)", ylabel="found within (%)")
    axes.legend(frameon=False, fontsize=8, loc="best")


def _errors(axes: Axes, spread: Any, scale: float, quantity: tuple[str, str, float]) -> None:
    """|error| against the error bar, and the rms error of equally filled groups: on the line when it is honest."""
    _, unit, factor = quantity
    bar, error = factor * scale * spread.std, factor * np.abs(spread.error)
    alpha = min(0.6, 0.05 + 150.0 / len(bar))
    axes.plot(bar, error, ".", color="tab:blue", markersize=3, alpha=alpha, rasterized=len(bar) > 5000, zorder=1)
    centres, rms = _groups(bar, error, min(15, max(1, len(bar) // 10)))
    axes.plot(
        centres, rms, "o-", color="tab:red", markersize=4, linewidth=1.2, label="rms error of a group", zorder=3
    )
    low, high = np.percentile(bar, 0.2), max(np.percentile(bar, 99.8), rms.max())
    axes.plot([low / 2, 2 * high], [low / 2, 2 * high], color="0.4", linewidth=0.8, zorder=2, label="error = σ")
    axes.set(xscale="log", yscale="log", xlim=(low / 1.3, high * 1.3), ylim=(low / 10, high * 5))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if axis is axes.xaxis else (1.0,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set(xlabel=f"committee σ ({unit})", ylabel=f"|error| ({unit})")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    axes.grid(alpha=0.25)


def _groups(bar: Array, error: Array, count: int) -> tuple[Array, Array]:
    """Rms of σ and of the error in groups of equal size, in rising σ."""
    order = np.array_split(np.argsort(bar), count)
    rms = [[np.sqrt(np.mean(values[rows] ** 2)) for rows in order] for values in (bar, error)]
    return np.array(rms[0]), np.array(rms[1])
