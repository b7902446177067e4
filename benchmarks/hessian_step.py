"""What a training step costs with a probe of the curvature, in units of a step on energies and forces alone.

    python benchmarks/hessian_step.py

A step is forward, backward to the forces, backward to the parameters, float32. A probe is the product H·v of the same
structure, which shares forward and first backward pass, or D(q)·v of its primitive cell, which does not. One thread,
process-CPU time; the two kinds of step take turns.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

import structures
import torch
import worker
from alternate import machine, quartiles
from ase import Atoms
from torch import Tensor

from mlip import Potential
from mlip.derivatives import HessianOperator, evaluate
from mlip.memory import keep_freed_memory
from mlip.training.curvature import Question, Wave, answer, answer_with

Q = torch.tensor([0.25, 0.5, 0.0], dtype=torch.float64)


def wave(potential: Potential, atoms: Atoms, q: Tensor) -> Wave:
    """A probe whose label does not matter."""
    rng = torch.Generator().manual_seed(1)
    parts = torch.randn(2, len(atoms), 3, generator=rng, dtype=torch.float64)
    vector = torch.complex(parts[0], parts[1]) if bool(q.any()) else parts[0]
    return Wave(potential.graph(atoms).to(dtype=torch.float64), q, vector, torch.zeros_like(vector), 1.0, "")


def force_step(potential: Potential, atoms: Atoms) -> Callable[[], object]:
    """Forward and backward of a loss on energy and forces."""
    graph = potential.graph(atoms)

    def step() -> None:
        out = evaluate(potential, graph, create_graph=True)
        (out.energy.sum() + out.forces.square().sum()).backward()

    return step


def shared_step(potential: Potential, atoms: Atoms) -> Callable[[], object]:
    """The same with H·v of the same structure."""
    graph, question = potential.graph(atoms), wave(potential, atoms, torch.zeros(3, dtype=torch.float64))

    def step() -> None:
        operator = HessianOperator(potential, graph, create_graph=True)
        out = operator.evaluation()
        (error,) = answer_with(operator, [question]).errors
        (out.energy.sum() + out.forces.square().sum() + error.square().sum()).backward()

    return step


def probe_step(potential: Potential, questions: Sequence[Question]) -> Callable[[], object]:
    """Forward and backward of a loss on the curvature."""

    def step() -> None:
        torch.stack(
            [error.square().sum() for error in answer(potential, questions, create_graph=True).errors]
        ).sum().backward()

    return step


def ratio(force: Callable[[], object], probed: Callable[[], object], rounds: int, *, extra: bool) -> str:
    """(Step with probe) / force step: median and quartiles; ``extra``: ``probed`` is the probe alone."""
    found = []
    force(), probed()
    for _ in range(rounds):
        unit, other = worker.timed(force)["cpu"], worker.timed(probed)["cpu"]
        found.append((unit + other if extra else other) / unit)
    low, middle, high = quartiles(found)
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def main() -> None:
    """One row per structure."""
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--preset", default="small")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sys.stdout.write(f"{machine()}\n\n| step on | H·v | H·v of another batch | D(q)·v of Si 2 |\n|---|---|---|---|\n")
    for name, atoms in (("aspirin 21", structures.aspirin()), ("Si 64", structures.silicon(2))):
        species = sorted({*atoms.get_chemical_symbols(), "Si"})
        potential = Potential.from_config({"preset": options.preset}, species)
        force, rounds = force_step(potential, atoms), options.rounds
        apart = probe_step(potential, [wave(potential, atoms, torch.zeros(3, dtype=torch.float64))])
        bloch = probe_step(potential, [wave(potential, structures.silicon_primitive(), Q)])
        cells = [
            ratio(force, shared_step(potential, atoms), rounds, extra=False),
            ratio(force, apart, rounds, extra=True),
            ratio(force, bloch, rounds, extra=True),
        ]
        sys.stdout.write(f"| {name} | {' | '.join(cells)} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
