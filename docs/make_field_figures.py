"""The figure of docs/anisotropy.md on fields: what a model says of dipoles, Born charges and polarizabilities.

python docs/make_field_figures.py MODEL [DATA] [--index 7::8] [--out docs/figures]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mlip.datasets.frame import LabelledFrame
from mlip.training import EvaluationResult, evaluate

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#999999")
Groups = dict[str, tuple[np.ndarray, np.ndarray]]


def dipoles(result: EvaluationResult) -> Groups:
    """By axis, on the branch next to the label."""
    return divided(result, "polarization", {name: _constant(k) for k, name in enumerate("xyz")})


def charges(result: EvaluationResult) -> Groups:
    """By species."""
    species = sorted({s for frame in result.frames for s in frame.atoms.get_chemical_symbols()})
    return divided(result, "born_charges", {s: _atoms_of(s) for s in species})


def polarizabilities(result: EvaluationResult) -> Groups:
    """By component, less the mean of the labels: how they follow the positions."""
    parts = {2 * name: _constant((k, k)) for k, name in enumerate("xyz")} | {
        "others": _constant(~np.eye(3, dtype=bool))
    }
    found = divided(result, "polarizability", parts)
    return {name: (one - one.mean(), two - one.mean()) for name, (one, two) in found.items()}


def divided(result: EvaluationResult, label: str, parts: dict[str, Callable[[LabelledFrame], Any]]) -> Groups:
    """Label and prediction of each part."""
    pairs = {name: result.pairs(label, chosen) for name, chosen in parts.items()}
    return {name: (found.reference, found.predicted) for name, found in pairs.items() if found is not None}


def _constant(rows: Any) -> Callable[[LabelledFrame], Any]:
    return lambda _: rows


def _atoms_of(symbol: str) -> Callable[[LabelledFrame], Any]:
    return lambda frame: np.array(frame.atoms.get_chemical_symbols()) == symbol


def panel(axis: Axes, found: Groups, name: str, unit: str) -> None:
    """Prediction against label, one colour per group."""
    values = np.concatenate([np.concatenate(pair) for pair in found.values()])
    margin = 0.05 * np.ptp(values)
    ends = (values.min() - margin, values.max() + margin)
    axis.plot(ends, ends, color="0.7", lw=0.8, zorder=0)
    for colour, (group, (reference, predicted)) in zip(COLOURS, found.items(), strict=False):
        size = 6 if len(reference) < 100 else 3.5
        axis.plot(reference, predicted, ".", color=colour, ms=size, alpha=0.7, mew=0, label=group, rasterized=True)
    error = np.sqrt(np.mean(np.concatenate([two - one for one, two in found.values()]) ** 2))
    axis.set_title(f"{name}: RMSE {error:.2g} {unit}", fontsize=9)
    axis.set(xlim=ends, ylim=ends, aspect="equal", xlabel=f"label ({unit})", ylabel=f"model ({unit})")
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.yaxis.set_major_locator(MaxNLocator(5))
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8, handletextpad=0.1)


def parity(result: EvaluationResult) -> Figure:
    """The labels that the frames carry, side by side."""
    kinds = [
        (dipoles(result), "dipole", "e Å"),
        (charges(result), "Born charges", "e"),
        (polarizabilities(result), "α less its mean", "e Å²/V"),
    ]
    there = [kind for kind in kinds if kind[0]]
    figure = Figure(figsize=(3.2 * len(there), 3.4), layout="constrained")
    for axis, kind in zip(np.atleast_1d(figure.subplots(1, len(there))), there, strict=True):
        panel(axis, *kind)
    return figure


def main() -> None:
    """Draw for a model and labelled frames."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("data", nargs="?", default="batio3_field/BaTiO3_59.xyz")
    parser.add_argument("--index", default="7::8")
    parser.add_argument("--out", default="docs/figures", type=Path)
    options = parser.parse_args()
    result = evaluate(options.model, options.data, index=options.index)
    parity(result).savefig(options.out / "field-parity.png", dpi=200)
    print(result.rows[0])


if __name__ == "__main__":
    main()
