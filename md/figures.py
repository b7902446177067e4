"""The look that all figures share, and the figures of relaxation, dynamics and checks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from mlip.md.relaxation import RelaxResult

# Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#7F7F7F",
)
STYLE: dict[str, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.dpi": 110,
    "savefig.bbox": "tight",
}


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib settings of the house, for the length of a block only."""
    with mpl.rc_context(STYLE):
        yield


def relaxation_figure(result: RelaxResult) -> Figure:
    """Energy above the last one and largest force against the step."""
    with house_style():
        figure = Figure(figsize=(6.4, 3.0), layout="constrained")
        left, right = figure.subplots(1, 2)
        steps = np.arange(len(result.energies))
        gain = (result.energies - result.energies[-1]) * 1000 / len(result.atoms)
        left.plot(steps, gain, color=BLUE, marker="." if len(steps) < 60 else None)
        left.set(xlabel="step", ylabel="energy above the last (meV/atom)", title="Energy")
        right.semilogy(steps, result.max_forces, color=VERMILION, marker="." if len(steps) < 60 else None)
        right.axhline(result.fmax, color=GREY, lw=0.8, ls="--")
        right.annotate(f"limit {result.fmax:g}", (0, result.fmax), ha="left", va="bottom", color=GREY, fontsize=8)
        right.set(xlabel="step", ylabel="largest force (eV/Å)", title="Force")
        figure.suptitle(f"{result.atoms.get_chemical_formula()}: {result.verdict}", x=0.01, ha="left", fontsize=10)
    return figure
