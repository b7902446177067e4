"""What exact second derivatives cost, in units of one force call on the same structure (float64).

    python benchmarks/hessian.py

H·v includes the forward and first backward pass; a column of the Hessian or of D(q) shares them with the others.
One thread, process-CPU time; force call and second derivative take turns.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import structures
import torch
import worker
from alternate import machine, quartiles
from ase import Atoms

from mlip import Potential
from mlip.bloch import dynamical_matrix
from mlip.derivatives import evaluate, hessian, hessian_vector_product
from mlip.memory import keep_freed_memory

MODELS: dict[str, dict[str, Any]] = {
    "preset small": {"preset": "small"},
    "4×32 linear, parity on": {"num_layers": 4, "num_channels": 32, "parity": True, "node_square": False},
    "4×32 depthwise": {"num_layers": 4, "num_channels": 32, "mixing": "depthwise", "node_square": False},
}
Q = torch.tensor([[0.11, 0.23, 0.37]], dtype=torch.float64)


def relative(force: Callable[[], object], other: Callable[[], object], share: int, rounds: int) -> str:
    """Cost of ``other``, divided by ``share``, over that of ``force``: median and quartiles."""
    calls = max(1, round(100 / max(worker.timed(force)["cpu"], 1e-3)))
    other()

    def forces() -> None:
        for _ in range(calls):
            force()

    ratios = []
    for _ in range(rounds):
        unit = worker.timed(forces)["cpu"] / calls
        ratios.append(worker.timed(other)["cpu"] / share / unit)
    low, middle, high = quartiles(ratios)
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def row(name: str, settings: dict[str, Any], structure: str, atoms: Atoms, rounds: int) -> str:
    """One model on one structure. D(q) is for the two-atom cell."""
    species = sorted(set(atoms.get_chemical_symbols()))
    potential = Potential.from_config(settings, species).to(torch.float64).requires_grad_(False)
    graph = potential.graph(atoms)
    vector = torch.randn(graph.positions.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def force() -> object:
        return evaluate(potential, graph)

    def several_products() -> None:
        for _ in range(5):
            hessian_vector_product(potential, graph, vector)

    cells = [name, structure, f"{graph.num_edges}", relative(force, several_products, 5, rounds)]
    size = 3 * graph.num_atoms
    cells.append(relative(force, lambda: hessian(potential, graph), size, rounds) if size <= 200 else "")
    masses = torch.full((graph.num_atoms,), 28.0, dtype=torch.float64)
    column = ""
    if graph.num_atoms == 2:
        column = relative(force, lambda: dynamical_matrix(potential, graph, Q, masses), size, rounds)
    return "| " + " | ".join([*cells, column]) + " |"


def main() -> None:
    keep_freed_memory()  # as the command line does
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    sys.stdout.write(f"{machine()}\n\n| model | structure | edges | H·v | Hessian, per column | D(q), per column |\n")
    sys.stdout.write("|---|---|---|---|---|---|\n")
    cases = {
        "Si 2": structures.silicon_primitive(),
        "aspirin 21": structures.aspirin(),
        "Si 64": structures.silicon(2),
    }
    for name, settings in MODELS.items():
        for structure, atoms in cases.items():
            sys.stdout.write(row(name, settings, structure, atoms, 3 if len(atoms) > 50 else rounds) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
