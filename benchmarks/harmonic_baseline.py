"""Force error of a harmonic fit: what a potential has to beat before it has learnt anything.

    python benchmarks/harmonic_baseline.py

Force constants are fitted by symfc to the training frames of the recipes ``nacl`` and ``diamond`` and tested on their
last 20 frames.
"""

from __future__ import annotations

import sys

import ase.io
import numpy as np
from ase.build import bulk
from real_phonons import DIAMOND, NACL, displaced, harmonic
from structures import DATA

SETS = {
    "nacl": ("nacl/NaCl_rd.extxyz", bulk("NaCl", "rocksalt", NACL, cubic=True), 2),
    "diamond": ("diamond/C_diamond_111_rd100.extxyz", bulk("C", "diamond", DIAMOND, cubic=True), 1),
}


def main() -> None:
    """Print a row per set."""
    sys.stdout.write("| set | RMSE, meV/Å | of rms |\n|---|---|---|\n")
    for name, (file, unit, repeat) in SETS.items():
        frames = list(ase.io.read(DATA / file, ":"))
        phonon = harmonic(unit, repeat, frames[:75])
        moves, forces = displaced(phonon, frames[80:])
        predicted = -np.einsum("ijab,njb->nia", phonon.force_constants, moves)
        error = np.sqrt(np.mean((predicted - forces) ** 2))
        share = 100 * error / np.sqrt(np.mean(forces**2))
        sys.stdout.write(f"| {name} | {1000 * error:.2f} | {share:.1f} % |\n")


if __name__ == "__main__":
    main()
