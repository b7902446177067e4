"""The figures of a search for distorted phases: the landscape along the order parameters, and the tree of phases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from mlip.md.dynamics_figures import COLOURS
from mlip.md.figures import BLUE, GREEN, GREY, VERMILION, house_style

if TYPE_CHECKING:
    from mlip.md.distortion_result import Distortion, DistortionResult, Scan


def landscape_figure(result: DistortionResult) -> Figure:
    """Energy against amplitude along each soft direction of the parent, one panel for each mode."""
    scans = [s for s in result.scans if s.start == 0]
    modes = list(dict.fromkeys(s.mode for s in scans))
    with house_style():
        figure = Figure(figsize=(1.2 + 3.0 * max(1, len(modes)), 4.0), layout="constrained")
        axes: Any = figure.subplots(1, max(1, len(modes)), sharey=True, squeeze=False)[0]
        lowest = min([0.0, *(1000 * float((s.energies - _start(s)).min()) for s in scans)])
        for axis, mode in zip(axes, modes, strict=False):
            frequency = next((m.frequency for m in result.parent.imaginary if m.name == mode), None)
            _panel(axis, [s for s in scans if s.mode == mode], lowest)
            axis.set_title(mode if frequency is None else f"{mode}   {_imaginary(frequency)}")
        if not modes:
            axes[0].text(0.5, 0.5, "no soft mode", transform=axes[0].transAxes, ha="center", color=GREY)
        axes[0].set_ylabel("energy (meV per formula unit)")
        figure.suptitle(
            f"{result.cell.atoms.get_chemical_formula('metal')}, {result.cell.space_group}: along its soft modes",
            x=0.01,
            ha="left",
            fontsize=10,
        )
    return figure


def _start(scan: Scan) -> float:
    return float(scan.energies[np.abs(scan.amplitudes).argmin()])


def _imaginary(frequency: float) -> str:
    return f"{abs(frequency):.2f}i THz" if frequency < 0 else f"{frequency:.2f} THz"


def _panel(axis: Any, scans: list[Scan], lowest: float) -> None:
    styles = ["-", "--", "-."]
    for k, scan in enumerate(sorted(scans, key=lambda s: float(s.energies.min()))):
        x, y = scan.amplitudes, 1000 * (scan.energies - _start(scan))
        if x.min() == 0:  # the other way is the same by symmetry
            x, y = np.concatenate([-x[:0:-1], x]), np.concatenate([y[:0:-1], y])
        axis.plot(
            *_smooth(x, y),
            color=COLOURS[k % len(COLOURS)],
            ls=styles[k // len(COLOURS) % 3],
            label=_formatted(scan.symbol),
        )
        axis.plot(x, y, ".", ms=3, color=COLOURS[k % len(COLOURS)])
    axis.axhline(0, color=GREY, lw=0.6)
    axis.set_ylim(1.15 * lowest - 0.5, -0.8 * lowest + 0.5)
    axis.set_xlabel("amplitude (Å per parent cell)")
    axis.legend(
        fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, handlelength=1.4, columnspacing=1.0
    )


def _smooth(x: Any, y: Any) -> tuple[Any, Any]:
    """A monotone cubic through the points."""
    from scipy.interpolate import PchipInterpolator

    if len(x) < 3:
        return x, y
    fine = np.linspace(x[0], x[-1], 300)
    return fine, PchipInterpolator(x, y)(fine)


def tree_figure(result: DistortionResult) -> Figure:
    """Phases at their energies, parent on the left, each one step of the tree further to the right."""
    depth = _depths(result)
    columns = max(depth.values()) + 1
    rows = max(sum(1 for d in depth.values() if d == k) for k in range(columns))
    with house_style():
        figure = Figure(figsize=(1.4 + 2.1 * columns, max(3.6, 0.36 * rows + 1.8)), layout="constrained")
        axis = figure.subplots()
        place = {d.number: (depth[d.number], 1000 * d.relative) for d in result.phases}
        for step in result.edges:
            _arrow(axis, place[step.above], place[step.below], subgroup=step.subgroup)
        heights = _label_heights(result, place)
        for d in result.phases:
            _node(axis, d, place[d.number], heights[d.number])
        axis.set_xlim(-0.35, columns - 0.2)
        low, high = min(0.0, *(y for _, y in place.values())), max(0.0, *(y for _, y in place.values()))
        axis.set_ylim(low - 0.08 * (high - low) - 0.5, high + 0.06 * (high - low) + 0.5)
        axis.set_xticks(range(columns), ["parent", *(f"step {k}" for k in range(1, columns))])
        axis.set_ylabel("energy (meV per formula unit)")
        axis.spines["bottom"].set_visible(False)
        axis.tick_params(axis="x", length=0)
        title = "Phases and what their imaginary modes lead to"
        axis.set_title(
            f"{title}\ngreen: no imaginary mode left; dashed: not a subgroup of the phase before", fontsize=9
        )
    return figure


def _depths(result: DistortionResult) -> dict[int, int]:
    """Fewest steps from the parent."""
    depth, frontier = {0: 0}, [0]
    while frontier:
        found = [e.below for e in result.edges if e.above in frontier and e.below not in depth]
        last = max(depth.values())
        depth |= dict.fromkeys(found, last + 1)
        frontier = list(dict.fromkeys(found))
    return {d.number: depth.get(d.number, max(depth.values())) for d in result.phases}


def _label_heights(result: DistortionResult, place: dict[int, tuple[int, float]]) -> dict[int, float]:
    """Energies at which labels stand, pushed apart within each column."""
    span = max(1.0, *(abs(y) for _, y in place.values()))
    heights: dict[int, float] = {}
    for column in {x for x, _ in place.values()}:
        inside = sorted((d.number for d in result.phases if place[d.number][0] == column), key=lambda n: place[n][1])
        wanted = np.array([place[n][1] for n in inside])
        for _ in range(200):
            gaps = np.diff(wanted)
            tight = gaps < 0.06 * span
            if not tight.any():
                break
            push = np.where(tight, 0.06 * span - gaps, 0) / 2
            wanted[:-1] -= push
            wanted[1:] += push
        heights |= dict(zip(inside, wanted.tolist(), strict=True))
    return heights


def _arrow(axis: Any, start: tuple[int, float], end: tuple[int, float], *, subgroup: bool) -> None:
    bend = 0.25 if start[0] >= end[0] else 0.0  # within a column, or back: a bow beside the labels
    style: dict[str, Any] = {"arrowstyle": "-", "color": GREY, "shrinkA": 4, "shrinkB": 4}
    style |= {"lw": 0.9, "alpha": 0.7} if subgroup else {"lw": 0.7, "alpha": 0.45, "ls": (0, (3, 3))}
    axis.annotate("", end, start, arrowprops=style | {"connectionstyle": f"arc3,rad={bend}"})


def _node(axis: Any, d: Distortion, at: tuple[int, float], height: float) -> None:
    colour = GREEN if not d.imaginary else (BLUE if d.number == 0 else VERMILION)
    axis.plot(*at, "o", ms=5, color=colour, zorder=3)
    if d.sigma:
        axis.errorbar(*at, yerr=1000 * d.sigma, color=colour, lw=1, capsize=2, zorder=2)
    axis.annotate(
        _formatted(d.label),
        at,
        xytext=(at[0] + 0.07, height),
        textcoords="data",
        va="center",
        fontsize=7.5,
        bbox={"fc": "white", "ec": "none", "pad": 0.4, "alpha": 0.75},
        zorder=4,
    )


def _formatted(symbol: str) -> str:
    """Pm-3m → Pm3̄m, P2_1/m → P2₁/m."""
    import re

    symbol = re.sub(r"-(\d)", r"$\\bar{\1}$", symbol)
    return re.sub(r"_(\d)", r"$_\1$", symbol)
