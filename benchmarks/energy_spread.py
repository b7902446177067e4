"""Error bars of a committee's energies: its own spread, and two made from the spread of the forces.

    mlip train acac-committee --seeds 5 training.max_minutes=2.5
    python benchmarks/energy_spread.py runs/acac-committee-committee/*/best.mlip \
      --validation acac/train_300K.xyz 400:450 --test acac/train_600K.xyz 1::2

Files are looked for in the data folder. Each error bar is stretched by one factor so that 68 % of the first file's
errors lie within it; printed is how many of the second file's lie within one and two, and the rank correlation of
error bar and error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from structures import DATA

from mlip.datasets import LabelledFrame, read_frames
from mlip.training import evaluate_committee

Array = NDArray[np.float64]


def spreads(models: Sequence[str], frames: Sequence[LabelledFrame]) -> tuple[Array, dict[str, Array]]:
    """Errors of the mean energy per atom (B,), eV, and what might be an error bar of it, not yet stretched."""
    members = evaluate_committee(models, frames).members
    energies = np.array([[found["energy"] / len(found["forces"]) for found in member] for member in members])
    labels = np.array([frame.energy / len(frame.atoms) for frame in frames])
    forces = [np.array([member[k]["forces"] for member in members]) for k in range(len(frames))]
    disagreement = np.array([np.sqrt(f.var(axis=0, ddof=1).mean()) for f in forces])
    size = np.array([np.sqrt((f.mean(axis=0) ** 2).mean()) for f in forces])
    bars = {"σ_E": energies.std(axis=0, ddof=1), "σ_F": disagreement, "σ_F |F|": disagreement * size}
    return np.abs(energies.mean(axis=0) - labels), bars


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    for name in ("--validation", "--test"):
        parser.add_argument(name, nargs=2, metavar=("FILE", "INDEX"), required=True)
    arguments = parser.parse_args()
    (seen, bars), (errors, of_test) = (
        spreads(arguments.models, list(read_frames(str(DATA / file), index=index)))
        for file, index in (arguments.validation, arguments.test)
    )
    sys.stdout.write("| error bar | within one (68 %) | within two (95 %) | rank correlation |\n|---|---|---|---|\n")
    for name, bar in bars.items():
        stretched = np.quantile(seen / bar, 0.6827) * of_test[name]
        within = [100 * float((errors <= times * stretched).mean()) for times in (1, 2)]
        rank = float(spearmanr(errors, stretched).statistic)
        sys.stdout.write(f"| {name} | {within[0]:.0f} % | {within[1]:.0f} % | {rank:.2f} |\n")


if __name__ == "__main__":
    main()
