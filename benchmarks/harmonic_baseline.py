"""Force error of a harmonic fit: what a potential has to beat before it has learnt anything.

    python benchmarks/harmonic_baseline.py

Force constants are fitted by symfc to the training frames of the recipes ``nacl``, ``diamond`` and
``studies/recipes/si.yaml`` and tested on their test frames.
"""

from __future__ import annotations

import sys

import numpy as np
from curvature_labels import SOURCES
from real_phonons import displaced, harmonic

TEST = {"nacl": "80:", "diamond": "80:", "si": "500:"}


def main() -> None:
    """Print a row per set."""
    sys.stdout.write("| set | RMSE, meV/Å | of rms |\n|---|---|---|\n")
    for name, source in SOURCES.items():
        phonon = harmonic(source.unit, source.repeat, source.frames())
        moves, forces = displaced(phonon, source.frames(TEST[name]))
        predicted = -np.einsum("ijab,njb->nia", phonon.force_constants, moves)
        error = np.sqrt(np.mean((predicted - forces) ** 2))
        share = 100 * error / np.sqrt(np.mean(forces**2))
        sys.stdout.write(f"| {name} | {1000 * error:.2f} | {share:.1f} % |\n")


if __name__ == "__main__":
    main()
