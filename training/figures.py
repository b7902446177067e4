"""Figures of a run: learning curve and parity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mlip.files import atomic_path

_STYLE = {"linewidth": 1.2}


def learning_curve(rows: Sequence[dict[str, float]]) -> Figure:
    """Errors against steps, training (as met in the epoch) and validation (averaged weights).

    Forces and energies; the Hessian too where it was learnt.
    """
    quantities = [("forces_mae_meV_per_A", "force MAE (meV/Å)"), ("energy_mae_meV_per_atom", "energy MAE (meV/atom)")]
    if any(np.isfinite(row.get("val_hessian_mae_meV_per_A2", np.nan)) for row in rows):
        quantities.append(("hessian_mae_meV_per_A2", "Hessian MAE (meV/Å²)"))
    figure = Figure(figsize=(4.0 * len(quantities), 3.4), layout="constrained")
    panels = figure.subplots(1, len(quantities))
    for axes, (key, label) in zip(panels, quantities, strict=True):
        for part, name, color in (("train", "training", "tab:gray"), ("val", "validation", "tab:blue")):
            points = np.array([[row["step"], row.get(f"{part}_{key}", np.nan)] for row in rows])
            points = points[np.isfinite(points[:, 1])] if points.size else points.reshape(0, 2)
            marker = "o" if len(points) < 30 else None
            axes.plot(points[:, 0], points[:, 1], label=name, color=color, marker=marker, markersize=3, **_STYLE)
        axes.set(xlabel="step", ylabel=label)
        axes.set_yscale("log")
        axes.grid(which="both", alpha=0.25)
    panels[0].legend(frameon=False)
    return figure


def parity(panels: Sequence[dict[str, Any]]) -> Figure:
    """Prediction against reference, one panel per quantity, three in a row.

    Args:
        panels: ``name``, ``unit``, ``reference`` and ``predicted`` (flat arrays), ``mae`` and ``rmse`` (text).
    """
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.8 * columns, 3.8 * rows), layout="constrained")
    grid = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for unused in grid[len(panels) :]:
        unused.remove()
    for axes, panel in zip(grid, panels, strict=False):
        x, y = panel["reference"], panel["predicted"]
        low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
        margin = 0.04 * (high - low or 1.0)
        ends = [low - margin, high + margin]
        axes.plot(ends, ends, color="0.6", linewidth=0.8, zorder=0)
        axes.plot(x, y, ".", markersize=3, alpha=min(1.0, 0.25 + 200.0 / max(len(x), 1)), rasterized=len(x) > 5000)
        axes.set(xlim=ends, ylim=ends, aspect="equal")
        axes.set(xlabel=f"reference {panel['name']} ({panel['unit']})", ylabel=f"predicted ({panel['unit']})")
        axes.text(0.05, 0.95, f"MAE {panel['mae']}\nRMSE {panel['rmse']}", transform=axes.transAxes, va="top")
        axes.grid(alpha=0.25)
        axes.locator_params(nbins=5)  # labels of five digits do not run into each other
    return figure


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure atomically, in the format of the file's ending."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=150)
    return path
