"""What compiling costs and gives: the training step (``training.compile``), and energy and forces in dynamics.

    python benchmarks/compiled.py step --models "preset fast" "preset small"
    python benchmarks/compiled.py evaluate --models "preset fast" --structures "aspirin 21" "Si 216"

Process-CPU time of one thread, the compiler's processes included, from an empty cache; eager and compiled in turn in
one process. ``evaluate`` is what a compiled calculator would do, for any number of edges; beside it stands what the
calculator does now, with tables for the radial networks. It repays itself when its set-up is less than what it saves
in the thousand steps of a short run of molecular dynamics.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import structures
import torch
from alternate import machine, quartiles
from compiled_evaluation import CompiledEvaluation
from peers import OURS
from torch._inductor import config

from mlip import Potential
from mlip.datasets.frame import LabelledFrame
from mlip.derivatives import evaluate
from mlip.inference import for_inference
from mlip.training.compiled import CompiledGradients, StepFunction
from mlip.training.data import collate, sample
from mlip.training.loss import Loss
from mlip.training.settings import LossTermSettings

MODELS: dict[str, dict[str, Any]] = {
    "preset fast": {"preset": "fast"},
    "preset small": {"preset": "small"},
    "linear, parity off": {**OURS, "parity": False},
    "linear, parity on": {**OURS, "parity": True},
}
ROUNDS, CALLS = 5, 5
LOSS = [LossTermSettings(target="energy"), LossTermSettings(target="forces", weight=100.0)]


def cpu_seconds() -> float:
    """Of this process and of the compilers it has waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def timed(call: Callable[[], object], calls: int = 1) -> float:
    """CPU seconds of one call."""
    start = cpu_seconds()
    for _ in range(calls):
        call()
    return (cpu_seconds() - start) / calls


def compare(setup: float, eager: Callable[[], object], fast: Callable[[], object]) -> list[str]:
    """Cells of a row: both times, their ratio, the set-up, and after how many calls it is repaid."""
    times = [(timed(eager, CALLS), timed(fast, CALLS)) for _ in range(ROUNDS)]
    before, after = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
    low, middle, high = quartiles([a / b for a, b in times])
    repaid = f"{1e3 * setup / (before - after):.0f}" if before > after else "never"
    return [f"{before:.1f}", f"{after:.1f}", f"{middle:.2f} ({low:.2f}–{high:.2f})", f"{setup:.0f}", repaid]


def training_row(name: str) -> list[str]:
    """Loss, predictions and gradients of five frames of 3BPA; checked against the eager step at two sizes."""
    frames = [
        LabelledFrame(atoms, energy=atoms.get_potential_energy(), forces=atoms.get_forces())
        for atoms in structures.flexible_molecules(9)
    ]
    species = sorted({symbol for frame in frames for symbol in frame.atoms.symbols})
    model = Potential.from_config(MODELS[name], species)
    samples = [sample(frame, model.graph(frame.atoms), k) for k, frame in enumerate(frames)]
    batch, other = collate(samples[:5]), collate(samples[5:])
    loss = Loss.from_settings(LOSS)
    gradients, factors = CompiledGradients(loss), loss.factors(loss.counts(batch))
    setup = timed(lambda: (gradients(model, batch, factors), gradients(model, other, factors)))
    function = StepFunction(model, loss, batch)
    arguments = function.arguments(batch, torch.tensor(factors, dtype=torch.float64))
    return [
        name,
        "3BPA, batch of 5",
        *compare(setup, lambda: function(*arguments), lambda: gradients(model, batch, factors)),
    ]


def evaluation_row(name: str, structure: str) -> list[str]:
    """Energy, forces and stress of one structure."""
    (atoms,) = structures.NAMED[structure]()
    species = sorted(set(atoms.get_chemical_symbols()))
    potential = Potential.from_config(MODELS[name], species).requires_grad_(False)
    graph = potential.graph(atoms)
    fast, tables = CompiledEvaluation(potential, graph), for_inference(potential)
    setup = timed(fast)
    error = (fast()[1] - evaluate(potential, graph).forces).abs().max()
    cells = compare(setup, lambda: evaluate(tables, graph, stress=True), fast)
    print(f"{name}, {structure}: largest |ΔF| {float(error):.1e} eV/Å", file=sys.stderr)
    return [name, structure, *cells]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("step", "evaluate"))
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=["preset fast", "preset small"])
    parser.add_argument("--structures", nargs="+", choices=sorted(structures.NAMED), default=["aspirin 21", "Si 216"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    heads = ["model", "structure", "eager, CPU ms", "compiled", "eager / compiled", "set-up, CPU s", "repaid after"]
    lines = [machine(), "", "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    sys.stdout.write("\n".join(lines) + "\n")
    # One compiler at a time, a child of this process: else its time is another process tree's.
    with tempfile.TemporaryDirectory() as cache, config.patch(compile_threads=1):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        for name in arguments.models:
            for structure in arguments.structures if arguments.what == "evaluate" else [None]:
                row = training_row(name) if structure is None else evaluation_row(name, structure)
                sys.stdout.write("| " + " | ".join(row) + " |\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
