"""The figure of an anisotropy report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

if TYPE_CHECKING:
    from mlip.symmetry.anisotropy_result import AnisotropyReport, Component, ParentSpectrum

# Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, VERMILION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#7F7F7F"
STYLE = {
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}


def report_figure(report: AnisotropyReport) -> Figure:
    """Energies and forces by (l, p); below, the parent's irreps (or the structures) and what the labels say."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 5.6), layout="constrained")
        (top, forces), (lower, tests) = figure.subplots(2, 2)
        _bars(top, report.spectrum, "energy")
        top.set(ylabel="rms energy (meV/atom)", title="Dependence on orientation")
        _bars(forces, report.spectrum, "force")
        forces.set(ylabel="rms force (meV/Å)", title="The same in the forces")
        if report.parent is not None:
            _parent(lower, report.parent)
        else:
            _structures(lower, report)
        _tests(tests, report.parent.irreps if report.parent is not None and report.aligned else report.spectrum)
        _legend(top, report)
        figure.suptitle(_title(report), x=0.01, ha="left", fontsize=10.5)
    return figure


def _title(report: AnisotropyReport) -> str:
    return f"{len(report.structures)} structures; {report.verdict}"


def _colour(name: str) -> str:
    return VERMILION if name.rstrip("″′0123456789").endswith(("o", "u")) else BLUE


def _bars(axis: Any, parts: list[Component], kind: str) -> None:
    x = np.arange(len(parts))
    values = np.array([getattr(c, kind) for c in parts])
    ends = np.array([getattr(c, f"{kind}_interval") for c in parts])
    errors = np.maximum(0, np.stack([values - ends[:, 0], ends[:, 1] - values]))
    colours = [_colour(c.name) for c in parts]
    axis.bar(x, values, width=0.62, color=colours, alpha=0.85)
    axis.errorbar(x, values, yerr=errors, fmt="none", ecolor="black", elinewidth=0.9, capsize=2)
    if kind == "energy":
        for k, c in enumerate(parts):
            for level in c.controls:
                axis.plot([k - 0.38, k + 0.38], [level, level], color=GREY, lw=1.4)
    axis.set_xticks(x, [c.name for c in parts])
    axis.set_ylim(0, 1.1 * max(float(ends.max()), float(values.max()), 1e-6 if kind == "stress" else 1e-3))


def _parent(axis: Any, parent: ParentSpectrum) -> None:
    """Stresses where there are any, as energies and forces stand above; else energies."""
    stressed = all(c.stress is not None for c in parent.irreps)
    _bars(axis, parent.irreps, "stress" if stressed else "energy")
    label = "rms stress (GPa)" if stressed else "rms energy (meV/atom)"
    axis.set(ylabel=label, title=f"By irreps of the parent's {parent.group}")


def _legend(axis: Any, report: AnisotropyReport) -> None:
    handles = [Patch(color=BLUE, label="even"), Patch(color=VERMILION, label="odd")]
    if any(c.controls for c in report.spectrum):
        handles.append(Patch(color=GREY, label="control: frames shuffled"))
    axis.legend(handles=handles, loc="best")


def _structures(axis: Any, report: AnisotropyReport) -> None:
    values = np.sort([s.rms for s in report.structures])[::-1]
    axis.plot(np.arange(1, len(values) + 1), values, color=GREEN, marker="." if len(values) < 80 else None, lw=1.2)
    axis.set(xlabel="structure, by rank", ylabel="rms energy (meV/atom)", title="Which structures depend on it")
    axis.set_ylim(bottom=0)


def _tests(axis: Any, parts: list[Component]) -> None:
    if not any(c.test for c in parts):
        axis.text(0.5, 0.5, "not tested", transform=axis.transAxes, ha="center", color=GREY)
        axis.set_axis_off()
        return
    x = np.arange(len(parts))
    scores = [c.test.score if c.test else 0.0 for c in parts]
    axis.axhspan(-2, 2, color=GREY, alpha=0.15, lw=0)
    axis.axhline(0, color=GREY, lw=0.7)
    for k, (c, score) in enumerate(zip(parts, scores, strict=True)):
        axis.vlines(k, 0, score, color=_colour(c.name), lw=1.4)
        axis.plot(k, score, "o", color=_colour(c.name), mfc=_colour(c.name) if c.found else "w")
        if c.test:
            text = f"p = {c.test.adjusted:.2g}" if c.found else ""
            axis.annotate(text, (k, score), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8)
    axis.set_xticks(x, [c.name for c in parts])
    axis.set(ylabel="score (σ of re-oriented frames)", title="What the labels say of it")
    low, high = min(-3.0, *scores), max(3.0, *scores)
    axis.set_ylim(low - 0.05 * (high - low), high + 0.15 * (high - low))
