"""What curvature in the loss does to frequencies: the runs of a study, seed by seed, and their means.

    python benchmarks/study.py benchmarks/studies/hessian-molecules.yaml --out study-hessian
    python benchmarks/study.py benchmarks/studies/hessian-silicon.yaml --out study-hessian
    python benchmarks/hessian_study.py study-hessian

Molecules: each relaxed by the model, harmonic wavenumbers against the reference's, cm⁻¹; methyl hydroperoxide was in
no training set. Silicon: D(q) of two atoms at the wavevectors of the DFPT mesh, THz.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from silicon_phonons import exact

from mlip import MLIPCalculator
from mlip.datasets import molecules, silicon
from mlip.md import vibrations

Errors = dict[str, float]


def of_molecules(calculator: MLIPCalculator) -> Errors:
    """Mean absolute error of the wavenumbers of each, cm⁻¹."""
    errors: Errors = {}
    for name, minimum in molecules.minima().items():
        found = vibrations(minimum.atoms, calculator, fmax=1e-4).frequencies
        difference = np.abs(found - minimum.wavenumbers)
        errors[f"{name} (cm⁻¹)"] = float(difference.mean())
    return errors


def of_silicon(calculator: MLIPCalculator) -> Errors:
    """Mean absolute error over the DFPT mesh, THz."""
    reference = silicon.dfpt_reference()
    difference = np.abs(exact(calculator, reference.q_points) - reference.frequencies)
    return {"silicon (THz)": float(difference.mean()), "largest (THz)": float(difference.max())}


FREQUENCIES: dict[str, Callable[[MLIPCalculator], Errors]] = {"molecules": of_molecules, "silicon-dfpt": of_silicon}


def measured(row: dict[str, Any], folder: Path) -> Errors:
    """Frequencies, forces, time and steps of one run."""
    calculator = MLIPCalculator(folder / row["name"] / "best.mlip", dtype="float64")
    found = FREQUENCIES[row["recipe"]](calculator)
    forces = row["test"]["all"]["forces_mae_meV_per_A"]
    return {**found, "F MAE (meV/Å)": forces, "CPU min": row["cpu_s"] / 60, "steps": row["steps"]}


def known(file: Path) -> dict[str, Errors]:
    """What was measured before."""
    lines = file.read_text().splitlines() if file.is_file() else []
    return {row["name"]: row["errors"] for row in map(json.loads, lines)}


def table(runs: dict[tuple[str, str, str], list[Errors]]) -> str:
    """Means and standard deviations over seeds."""
    lines = []
    for recipe in sorted({key[0] for key in runs}):
        own = {key: found for key, found in runs.items() if key[0] == recipe}
        columns = list(next(iter(own.values()))[0])
        lines += ["", f"### {recipe}", "| variant | budget | seeds | " + " | ".join(columns) + " |"]
        lines.append("|---" * (3 + len(columns)) + "|")
        for (_, variant, budget), found in own.items():
            cells = [_spread([errors[column] for errors in found]) for column in columns]
            lines.append(f"| {variant} | {budget} | {len(found)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    mean, spread = np.mean(values), np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{mean:.3g} ± {spread:.1g}"


def main() -> None:
    """Measure what is new, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    folder = parser.parse_args().study
    cache = folder / "frequencies.jsonl"
    done = known(cache)
    runs: dict[tuple[str, str, str], list[Errors]] = defaultdict(list)
    for row in map(json.loads, (folder / "results.jsonl").read_text().splitlines()):
        if row["name"] not in done:
            done[row["name"]] = measured(row, folder)
            with cache.open("a") as file:
                file.write(json.dumps({"name": row["name"], "errors": done[row["name"]]}) + "\n")
        budget = f"{row['min']:g} min" if "min" in row else f"{row['epochs']:g} epochs"
        runs[row["recipe"], row["variant"], budget].append(done[row["name"]])
    sys.stdout.write(table(runs) + "\n")


if __name__ == "__main__":
    main()
