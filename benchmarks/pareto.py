"""Force error against time per atom of the models of a study: which preset is worth its milliseconds.

    python benchmarks/study.py benchmarks/studies/presets.yaml --out study
    python benchmarks/pareto.py study --out pareto
    python benchmarks/pareto.py study --peers benchmarks/studies/peers.jsonl --out pareto

Reads ``study/results.jsonl`` and the models beside it, times energy, forces and stress of each variant as the
calculator computes them (float32, one thread, process-CPU time, variants in turn), and writes a table and a figure:
a point for each seed, the front through the medians. ``--peers`` adds rows of other packages, one JSON object a line
with ``recipe``, ``variant``, ``forces_rmse_meV_per_A``, and how often a variant of ours (``beside``) fits into it:
``ratio``, as `energy_forces.py` measures it, both in turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structures
import torch
import worker
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from mlip import Potential
from mlip.derivatives import evaluate
from mlip.inference import for_inference
from mlip.md.figures import BLUE, GREY, VERMILION, house_style
from mlip.memory import keep_freed_memory

# What is timed stands for what the recipe trains on.
TIMED = {"3bpa": "3BPA, batch of 5", "zuo-si": "Si 64"}
ERROR = "forces_rmse_meV_per_A"


@dataclass(frozen=True)
class Point:
    """One variant on one recipe.

    Attributes:
        recipe: Name of the data.
        variant: Name of the model.
        errors: RMSE of the forces of each seed, meV/Å.
        time: µs of CPU per atom.
        peer: Whether it is another package's.
    """

    recipe: str
    variant: str
    errors: tuple[float, ...]
    time: float
    peer: bool = False

    @property
    def error(self) -> float:
        """Median over the seeds."""
        return statistics.median(self.errors)


def lines(path: Path) -> list[dict[str, Any]]:
    """JSON objects, one a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def front(points: Sequence[Point]) -> list[Point]:
    """Those that no other beats in both error and time, fastest first."""
    chosen: list[Point] = []
    for point in sorted(points, key=lambda p: (p.time, p.error)):
        if not chosen or point.error < chosen[-1].error:
            chosen.append(point)
    return chosen


def study_points(folder: Path, rounds: int) -> list[Point]:
    """Errors as the study found them, times as they are measured now."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in lines(folder / "results.jsonl"):
        groups.setdefault((Path(row["recipe"]).stem, row["variant"]), []).append(row)
    points = []
    for recipe in sorted({recipe for recipe, _ in groups}):
        variants = {variant: rows for (name, variant), rows in groups.items() if name == recipe}
        calls = {v: prepared(recipe, folder / rows[0]["name"] / "best.mlip") for v, rows in variants.items()}
        times = in_turn(calls, rounds)
        points += [Point(recipe, v, tuple(test_error(r) for r in rows), times[v]) for v, rows in variants.items()]
    return points


def test_error(row: dict[str, Any]) -> float:
    """RMSE of the forces on all test frames of a run."""
    return next(group[ERROR] for group in row["test"]["groups"] if group["group"] == "all")


def prepared(recipe: str, path: Path) -> tuple[Callable[[], object], int]:
    """An evaluation to be timed, and the atoms in it."""
    potential = for_inference(Potential.load(path, dtype="float32"))
    frames = structures.NAMED[TIMED[recipe]]()
    graphs = [potential.graph(atoms) for atoms in frames]

    def call() -> object:
        return [evaluate(potential, graph, stress=True) for graph in graphs]

    return call, sum(len(atoms) for atoms in frames)


def in_turn(calls: dict[str, tuple[Callable[[], object], int]], rounds: int) -> dict[str, float]:
    """Median time of each per atom, µs."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 2):
        for name, (call, atoms) in calls.items():
            time = worker.timed(call)["cpu"]
            if number >= 2:  # the first two warm up
                found[name].append(1e3 * time / atoms)
    return {name: statistics.median(times) for name, times in found.items()}


def figure(points: Sequence[Point]) -> Figure:
    """A panel for each recipe; ours with their front, peers in another colour."""
    recipes = sorted({point.recipe for point in points})
    with house_style():
        found = Figure(figsize=(4.2 * len(recipes), 3.4), layout="constrained")
        for recipe, axes in zip(recipes, found.subplots(1, len(recipes), squeeze=False)[0], strict=True):
            mine = [p for p in points if p.recipe == recipe]
            for point in mine:
                color = VERMILION if point.peer else BLUE
                axes.plot([point.time] * len(point.errors), point.errors, ".", color=color, ms=5)
                side: dict[str, Any] = {"xytext": (-4, 3), "ha": "right"} if point.peer else {"xytext": (4, 3)}
                place = (point.time, point.error)
                axes.annotate(point.variant, place, textcoords="offset points", fontsize=7.5, **side)
            best = front([p for p in mine if not p.peer])
            axes.plot([p.time for p in best], [p.error for p in best], color=GREY, lw=0.8, zorder=0)
            axes.set(xscale="log", yscale="log", xlabel="CPU time (µs per atom)", title=recipe)
            axes.set(ylabel="force RMSE (meV/Å)", xmargin=0.15)
            for axis, marks in ((axes.xaxis, (1, 2, 5)), (axes.yaxis, (1, 1.5, 2, 3, 5, 7))):
                axis.set_major_locator(LogLocator(subs=marks))
                axis.set_major_formatter(StrMethodFormatter("{x:g}"))
                axis.set_minor_locator(NullLocator())
    return found


def table(points: Sequence[Point]) -> str:
    """A row for each point; those on the front are marked."""
    text = "| recipe | model | force RMSE, meV/Å | seeds | CPU µs/atom | on the front |\n|---|---|---|---|---|---|\n"
    for recipe in sorted({p.recipe for p in points}):
        mine = [p for p in points if p.recipe == recipe]
        best = front(mine)
        for p in sorted(mine, key=lambda p: p.time):
            spread = f"{p.error:.1f} ({min(p.errors):.1f}–{max(p.errors):.1f})"
            mark = "yes" if p in best else ""
            text += f"| {recipe} | {p.variant} | {spread} | {len(p.errors)} | {p.time:.0f} | {mark} |\n"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--peers", type=Path, help="JSON lines of other packages")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    keep_freed_memory()  # as the command line does
    torch.set_num_threads(1)
    points = study_points(arguments.study, arguments.rounds)
    times = {(point.recipe, point.variant): point.time for point in points}
    for row in lines(arguments.peers) if arguments.peers else []:
        time = row["ratio"] * times[row["recipe"], row["beside"]]
        points.append(Point(row["recipe"], row["variant"], (row[ERROR],), time, peer=True))
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = table(points)
    (arguments.out / "pareto.md").write_text(text, encoding="utf-8")
    figure(points).savefig(arguments.out / "pareto.png", dpi=160)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
