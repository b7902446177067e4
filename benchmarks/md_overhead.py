"""How much of a molecular-dynamics step is not the potential: ASE's velocity Verlet on a molecule of 21 atoms.

    python benchmarks/md_overhead.py

One thread, process-CPU time. Everything outside ``mlip.derivatives.evaluate`` counts: ASE's integrator and
bookkeeping, neighbours, the graph, the conversion of results. An untrained potential does not hold a molecule
together: its forces are scaled to nearly nothing, and every 20 steps the molecule starts anew at 300 K, so that it
moves as a real one does.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import structures
import torch
from alternate import machine
from ase import Atoms, units
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet

import mlip.calculator
from mlip import MLIPCalculator, Potential
from mlip.derivatives import evaluate
from mlip.potential import Normalization

STEPS, BLOCKS = 20, 25


class Clock:
    """Adds up the time spent in one function; stands in for it."""

    def __init__(self, function: Any) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        start = time.process_time()
        result = self.function(*arguments, **options)
        self.seconds += time.process_time() - start
        return result


def molecule(preset: str) -> Atoms:
    """Aspirin with an untrained potential of hardly any force."""
    atoms = structures.aspirin()
    species = sorted(set(atoms.get_chemical_symbols()))
    atoms.calc = MLIPCalculator(Potential.from_config({"preset": preset}, species, Normalization(energy_scale=1e-3)))
    return atoms


def measure(preset: str) -> tuple[float, float, float]:
    """Median ms of a step, of its part outside ``evaluate``, and their median ratio."""
    atoms, rng = molecule(preset), structures.generator()
    start_positions = atoms.positions.copy()
    network = mlip.calculator.evaluate = Clock(evaluate)
    steps, outside = [], []
    for _ in range(BLOCKS):
        atoms.positions = start_positions
        thermalize_momenta(atoms, 300, rng=rng)
        dynamics = VelocityVerlet(atoms, timestep=0.5 * units.fs)
        dynamics.run(1)
        before, start = network.seconds, time.process_time()
        dynamics.run(STEPS)
        elapsed = time.process_time() - start
        steps.append(1e3 * elapsed / STEPS)
        outside.append(1e3 * (elapsed - network.seconds + before) / STEPS)
    share = statistics.median(b / a for a, b in zip(steps, outside, strict=True))
    return statistics.median(steps), statistics.median(outside), share


def main() -> None:
    torch.set_num_threads(1)
    lines = [machine(), "", "| preset | step, CPU ms | outside the network, CPU ms | share |", "|---|---|---|---|"]
    for preset in ("fast", "small", "medium"):
        step, outside, share = measure(preset)
        lines.append(f"| {preset} | {step:.2f} | {outside:.2f} | {share:.1%} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
