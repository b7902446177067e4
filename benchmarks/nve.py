"""Energy conservation of a trained silicon potential: drift over 10 ps, and fluctuation against the time step.

    python benchmarks/nve.py MODEL

64 atoms in the cubic cell, 300 K, float64. A velocity-Verlet trajectory of a smooth potential conserves a shadow
energy, so the true one fluctuates in proportion to Δt² and does not drift.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import make_supercell

from mlip import MLIPCalculator
from mlip.datasets import silicon
from mlip.md import MDResult, run_md
from mlip.memory import keep_freed_memory


def crystal() -> Atoms:
    """64 atoms in a cubic cell."""
    to_cubic = np.ones((3, 3), dtype=int) - 2 * np.eye(3, dtype=int)
    return make_supercell(silicon.primitive_cell(), 2 * to_cubic)


def simulate(calculator: MLIPCalculator, timestep: float, picoseconds: float) -> MDResult:
    """NVE from the same velocities, which start at twice 300 K since half goes into displacements."""
    with tempfile.TemporaryDirectory() as folder:
        return run_md(
            crystal(),
            calculator,
            ensemble="nve",
            temperature=600.0,
            timestep=timestep,
            steps=round(1000 * picoseconds / timestep),
            seed=1,
            folder=Path(folder) / "run",
        )


def main() -> None:
    """Print drift, fluctuations and their exponent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--picoseconds", type=float, default=10.0)
    arguments = parser.parse_args()
    keep_freed_memory()
    calculator = MLIPCalculator(arguments.model, dtype="float64")
    steps = np.array([0.5, 1.0, 2.0, 4.0])
    spread = []
    for step in steps:
        spread.append(simulate(calculator, step, 1.0).fluctuation)
        sys.stdout.write(f"Δt {step:g} fs: fluctuation {spread[-1]:.3e} meV/atom\n")
        sys.stdout.flush()
    exponent = np.polyfit(np.log(steps), np.log(spread), 1)[0]
    sys.stdout.write(f"fluctuation ∝ Δt^{exponent:.3f}\n")
    long = simulate(calculator, 2.0, arguments.picoseconds)
    sys.stdout.write(
        f"drift over {arguments.picoseconds:g} ps: {long.drift:.2e} ± {long.drift_error:.1e} meV/atom/ps\n"
    )


if __name__ == "__main__":
    main()
