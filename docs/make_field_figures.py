"""The figure of docs/anisotropy.md on fields: what a model says of dipoles, Born charges and polarizabilities.

python docs/make_field_figures.py MODEL [DATA] [--index 7::8] [--out docs/figures]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlip.training import EvaluationResult, evaluate

COLOURS = ("#0072B2", "#D55E00", "#009E73")


def groups(result: EvaluationResult, label: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Reference and prediction of one label, divided as one looks at it."""
    species = sorted({s for frame in result.frames for s in frame.atoms.get_chemical_symbols()})
    diagonal = np.eye(3, dtype=bool)
    parts = {
        "polarization": {axis: (lambda _, k=k: np.array([k])) for k, axis in enumerate("xyz")},
        "born_charges": {s: (lambda f, s=s: np.array(f.atoms.get_chemical_symbols()) == s) for s in species},
        "polarizability": {"diagonal": lambda _: diagonal, "others": lambda _: ~diagonal},
    }[label]
    pairs = {name: result.pairs(label, chosen) for name, chosen in parts.items()}
    return {name: (found.reference, found.predicted) for name, found in pairs.items() if found is not None}


def panel(axis: Axes, result: EvaluationResult, label: str, name: str, unit: str) -> None:
    """Prediction against label, one colour per group."""
    found = groups(result, label)
    values = np.concatenate([np.concatenate(pair) for pair in found.values()])
    margin = 0.05 * np.ptp(values)
    ends = [values.min() - margin, values.max() + margin]
    axis.plot(ends, ends, color="0.7", lw=0.8, zorder=0)
    for colour, (group, (reference, predicted)) in zip(COLOURS, found.items(), strict=False):
        axis.plot(reference, predicted, ".", color=colour, ms=4, alpha=0.6, mew=0, label=group, rasterized=True)
    whole = result.pairs(label)
    if whole is not None:
        axis.set_title(f"{name}: RMSE {whole.rmse:.2g} {unit}", fontsize=9)
    axis.set(xlim=ends, ylim=ends, aspect="equal", xlabel=f"DFT ({unit})", ylabel=f"model ({unit})")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8, handletextpad=0.1)


def parity(result: EvaluationResult) -> Figure:
    """The labels that the frames carry, side by side."""
    kinds = [("polarization", "dipole", "e Å"), ("born_charges", "Z*", "e"), ("polarizability", "α", "e Å²/V")]
    there = [kind for kind in kinds if result.pairs(kind[0]) is not None]
    figure = Figure(figsize=(3.2 * len(there), 3.4), layout="constrained")
    for axis, kind in zip(np.atleast_1d(figure.subplots(1, len(there))), there, strict=True):
        panel(axis, result, *kind)
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
