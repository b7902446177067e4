"""A hundred structures of twenty atoms: `Potential.evaluate` on all of them against one call for each.

    python benchmarks/batched.py

Both sides search the neighbours; energies, forces and stress; float32, one thread, process-CPU time.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch
import worker
from alternate import machine, quartiles
from ase import Atoms
from ase.build import bulk, molecule

from mlip import Potential
from mlip.inference import for_inference
from mlip.memory import keep_freed_memory

PROPERTIES = ("energy", "forces", "stress")


def crystals(count: int) -> list[Atoms]:
    """Twenty silicon atoms in a box of five by two by one primitive cells, each rattled in its own way."""
    cells = [bulk("Si", a=5.43) * (5, 2, 1) for _ in range(count)]
    for seed, atoms in enumerate(cells):
        atoms.rattle(0.1, seed=seed)
    return cells


def molecules(count: int) -> list[Atoms]:
    """Two benzene rings less four hydrogens, twenty atoms, each rattled in its own way."""
    ring = molecule("C6H6")
    pair = ring[:10] + ring[:10]
    pair.positions[10:, 2] += 3.5
    frames = [pair.copy() for _ in range(count)]
    for seed, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=seed)
    return frames


def row(name: str, potential: Potential, frames: list[Atoms], rounds: int) -> str:
    """Times of both ways and their ratio."""

    def together() -> Any:
        return potential.evaluate(frames, PROPERTIES)

    def one_by_one() -> Any:
        return [potential.evaluate([atoms], PROPERTIES) for atoms in frames]

    together(), one_by_one()
    pairs = [(worker.timed(one_by_one)["cpu"], worker.timed(together)["cpu"]) for _ in range(rounds)]
    single, batch = (sum(times) / rounds for times in zip(*pairs, strict=True))
    low, middle, high = quartiles([a / b for a, b in pairs])
    return f"| {name} | {single:.0f} | {batch:.0f} | {middle:.2f} ({low:.2f}–{high:.2f}) |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--presets", nargs="+", default=["fast", "small", "medium"])
    arguments = parser.parse_args()
    keep_freed_memory()  # as the command line does
    torch.set_num_threads(1)
    sys.stdout.write(
        f"{machine()}\n\n| preset, structures | one by one, CPU ms | one batch, CPU ms | ratio |\n{'|---' * 4}|\n"
    )
    for preset in arguments.presets:
        for name, make in {"molecules": molecules, "crystals": crystals}.items():
            frames = make(arguments.count)
            species = sorted(set(frames[0].get_chemical_symbols()))
            potential = for_inference(Potential.from_config({"preset": preset}, species))
            sys.stdout.write(row(f"{preset}, {name}", potential, frames, arguments.rounds) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
