"""Phonons of trained silicon potentials at the q points of the DFPT reference, beside the interpolation baseline.

    for s in 1 2 3; do mlip demo --seed $s --out demo-$s; done
    python benchmarks/silicon_phonons.py demo-*/training/best.mlip

The baseline is plain Fourier interpolation of the same potential's exact Hessian in a 16-atom cell: what a training
cell by itself would give.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlip import MLIPCalculator
from mlip.datasets import silicon
from mlip.md import interpolation_baseline
from mlip.md.dynamical import frequencies_thz


def exact(calculator: MLIPCalculator, q: NDArray[np.float64]) -> NDArray[np.float64]:
    """(nq, 6) THz from D(q)."""
    values = np.linalg.eigvalsh(calculator.get_dynamical_matrix(silicon.primitive_cell(), q))
    return frequencies_thz(values)


def main() -> None:
    """Print one row per model and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="+")
    reference = silicon.dfpt_reference()
    away = np.abs(reference.q_points).sum(axis=1) > 0
    rows = []
    sys.stdout.write(
        "| model | mean | TA branches | largest | baseline, mean | baseline, TA |\n|---|---|---|---|---|---|\n"
    )
    for number, model in enumerate(parser.parse_args().models, 1):
        calculator = MLIPCalculator(model, dtype="float64")
        error = np.abs(exact(calculator, reference.q_points) - reference.frequencies)
        plain = interpolation_baseline(silicon.primitive_cell(), calculator, 2, reference.q_points)
        base = np.abs(np.sort(plain, axis=1) - reference.frequencies)
        rows.append([error.mean(), error[away, :2].mean(), error.max(), base.mean(), base[away, :2].mean()])
        sys.stdout.write(f"| {number} | " + " | ".join(f"{value:.3f}" for value in rows[-1]) + " |\n")
    sys.stdout.write("| median | " + " | ".join(f"{value:.3f}" for value in np.median(rows, axis=0)) + " |\n")


if __name__ == "__main__":
    main()
