"""What it saves to turn features on their way between nodes and edges (`mlip.turning`).

    python benchmarks/turning.py
    python benchmarks/turning.py --structure "aspirin 21"

The same model with the exchange that turns and with the one that copies and multiplies, in turn in one process:
energy, forces and stress as a calculator computes them, H·v, and loss, forward and backward of a training step.
float32, one thread, process-CPU time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from copy import deepcopy
from typing import Any
from unittest.mock import patch

import structures
import torch
import worker
from alternate import machine, quartiles
from peers import OURS

from mlip import Potential
from mlip.derivatives import HessianOperator, evaluate
from mlip.exchange import Exchange
from mlip.graph import AtomicGraph, batch_graphs
from mlip.inference import for_inference
from mlip.memory import keep_freed_memory
from mlip.turning import TurningExchange

MODELS: dict[str, dict[str, Any]] = {
    "preset fast": {"preset": "fast"},
    "preset small": {"preset": "small"},
    "preset medium": {"preset": "medium"},
    "linear, parity off": {**OURS, "parity": False},
    "linear, parity on": {**OURS, "parity": True},
    "depthwise, parity on": {**OURS, "parity": True, "mixing": "depthwise"},
}
KINDS: list[type[Exchange]] = [Exchange, TurningExchange]


def exchanging(kind: type[Exchange]) -> Any:
    """While it lasts, potentials take this exchange."""
    return patch("mlip.potential.exchange_within", lambda source, target, number, _: kind(source, target, number))


def evaluation(potential: Potential, graph: AtomicGraph) -> Callable[[], object]:
    """Energy, forces and stress."""
    fast = for_inference(potential)
    return lambda: evaluate(fast, graph, stress=True)


def product(potential: Potential, graph: AtomicGraph) -> Callable[[], object]:
    """H·v, the first derivative included."""
    frozen, vector = deepcopy(potential).requires_grad_(False), torch.ones_like(graph.positions)
    return lambda: HessianOperator(frozen, graph)(vector)


def step(potential: Potential, graph: AtomicGraph) -> Callable[[], object]:
    """Forward and backward of a loss on energies and forces."""

    def run() -> None:
        found = evaluate(potential, graph, create_graph=True)
        (found.energy.sum() + found.forces.square().sum()).backward()
        potential.zero_grad()

    return run


def row(name: str, what: str, call: Callable[[], object], rounds: int) -> str:
    """Times of both exchanges and their ratio."""
    times: list[list[float]] = []
    for turn in range(rounds + 1):
        found = []
        for kind in KINDS:
            with exchanging(kind):
                found.append(worker.timed(call)["cpu"])
        times += [found] if turn else []
    before, after = (statistics.median(column) for column in zip(*times, strict=True))
    low, middle, high = quartiles([a / b for a, b in times])
    return f"| {name} | {what} | {before:.0f} | {after:.0f} | {middle:.2f} ({low:.2f}–{high:.2f}) |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--structure", choices=list(structures.NAMED), default="Si 216")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    keep_freed_memory()  # as the command line does
    torch.set_num_threads(1)
    sys.stdout.write(f"{machine()}\n\n| model | what | copied, CPU ms | turned | copied / turned |\n{'|---' * 5}|\n")
    molecules, (atoms,) = structures.flexible_molecules(5), structures.NAMED[arguments.structure]()
    for name in arguments.models:
        potential = Potential.from_config(MODELS[name], sorted({s for a in molecules for s in a.symbols}))
        batch = batch_graphs([potential.graph(molecule) for molecule in molecules])
        single = Potential.from_config(MODELS[name], sorted(set(atoms.symbols)))
        graph = single.graph(atoms)
        for what, call in {
            f"E + F, {arguments.structure}": evaluation(single, graph),
            f"H·v, {arguments.structure}": product(single, graph),
            "training step, 3BPA, batch of 5": step(potential, batch),
        }.items():
            sys.stdout.write(row(name, what, call, arguments.rounds) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
