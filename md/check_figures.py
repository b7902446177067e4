"""The figure of the physical checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from mlip.md.dynamics_figures import COLOURS
from mlip.md.figures import BLUE, GREEN, GREY, ORANGE, VERMILION, house_style

if TYPE_CHECKING:
    from mlip.md.checking import CheckResult


def check_figure(result: CheckResult) -> Figure:
    """Measured over allowed for every check; pair curves; the bond stretch; the energy in dynamics."""
    with house_style():
        rows = len(result.checks) + len(result.warnings)
        figure = Figure(figsize=(9.6, 0.26 * rows + 1.2), layout="constrained")
        halves: Any = figure.subfigures(1, 2, width_ratios=(1.35, 1))
        left, right = halves
        _table(left.subplots(), result)
        top, middle, bottom = right.subplots(3, 1)
        _pairs(top, result)
        _stretch(middle, result)
        _energy(bottom, result)
        figure.suptitle(
            f"{result.atoms.get_chemical_formula()}, {result.precision}: {_verdict(result)}",
            x=0.01,
            ha="left",
            fontsize=11,
        )
    return figure


def _verdict(result: CheckResult) -> str:
    warned = sum(not warning.passed for warning in result.warnings)
    verdict = "all checks passed" if result.passed else "checks failed"
    return verdict + (f", {warned} warning{'s' * (warned > 1)}" if warned else "")


def _table(axis: Any, result: CheckResult) -> None:
    """Every check, and below them what only warns."""
    rows = [*result.checks, *result.warnings]
    ratios = [max(abs(c.value) / c.limit if c.limit else abs(c.value), 1e-8) for c in rows]
    ratios = [r if np.isfinite(r) else 1e8 for r in ratios]
    y = np.arange(len(ratios))[::-1]
    wrong = [VERMILION] * len(result.checks) + [ORANGE] * len(result.warnings)
    colours = [GREEN if c.passed else colour for c, colour in zip(rows, wrong, strict=True)]
    axis.hlines(y, 1e-8, np.clip(ratios, None, 1e4), color=colours, lw=1.2, alpha=0.5)
    axis.scatter(np.clip(ratios, None, 1e4), y, color=colours, s=26, zorder=3)
    axis.axvline(1, color=GREY, lw=1, ls="--")
    axis.set_xscale("log")
    axis.set_yticks(y, [c.name for c in rows])
    axis.set(xlim=(1e-8, 2e4), ylim=(-0.7, len(y) - 0.3), xlabel="measured / allowed")
    for c, ratio, height in zip(rows, ratios, y, strict=True):
        inside = ratio > 1e1
        axis.annotate(
            f"{c.value:.1e} {c.unit}".replace("relative", "").strip(),
            (min(ratio, 1e4), height),
            xytext=(-7 if inside else 7, 0),
            textcoords="offset points",
            ha="right" if inside else "left",
            va="center",
            fontsize=7,
            color=GREY,
            bbox={"fc": "white", "ec": "none", "pad": 0.6, "alpha": 0.8},
        )
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="y", length=0)


def _pairs(axis: Any, result: CheckResult) -> None:
    low = 0.0
    for (name, (r, energy)), colour in zip(result.pair_curves.items(), COLOURS * 8, strict=False):
        values = energy - energy[-1]
        axis.plot(r, values, color=colour, lw=1.1, label=name)
        low = min(low, float(values[np.isfinite(values)].min()))
    axis.axhline(0, color=GREY, lw=0.5)
    axis.set(title="Pairs alone in space", xlabel="distance (Å)", ylabel="energy (eV)")
    axis.set_ylim(1.2 * min(low, -0.2), 3 * max(-low, 1.0))
    axis.legend(ncols=2)


def _stretch(axis: Any, result: CheckResult) -> None:
    axis.set(title="One atom pulled by 2 Å", xlabel="displacement (Å)", ylabel="energy (eV)")
    x = 2 * (result.scan[:, 0] - 0.5)
    axis.plot(x, result.scan[:, 1] - result.scan[:, 1].min(), color=BLUE, lw=1.1)


def _energy(axis: Any, result: CheckResult) -> None:
    axis.set(title="NVE", xlabel="time (ps)", ylabel="total energy (meV/atom)")
    run = result.dynamics
    if run is None:
        axis.text(0.5, 0.5, "left out", transform=axis.transAxes, ha="center", va="center", color=GREY)
        return
    change = (run.log["conserved"] - run.log["conserved"].mean()) * 1000 / len(run.atoms)
    axis.plot(run.log["time"] / 1000, change, color=GREEN, lw=0.8)
    axis.set_title(f"NVE, drift {run.drift:+.1g} ± {run.drift_error:.1g} meV/atom/ps")
