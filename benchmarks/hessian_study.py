"""What curvature in the loss does to frequencies: the runs of a study, seed by seed, and their means.

    python benchmarks/curvature_labels.py --out study-hessian/labels
    for plan in benchmarks/studies/hessian-*.yaml; do python benchmarks/study.py $plan --out study-hessian; done
    python benchmarks/hessian_study.py study-hessian --figure docs/figures/curvature.png

Molecules: each relaxed by the model, harmonic wavenumbers against the reference's, cm⁻¹; methyl hydroperoxide was in
no training set. Silicon (embedded): D(q) of two atoms at the wavevectors of the DFPT mesh, THz. Other crystals: at
the wavevectors of the frames' cell, against force constants fitted to all frames of the set (the labels: to the
training frames alone), THz. ``hessian_molecules``: eigenvalues of the mass-weighted Hessians of test frames, THz.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from curvature_labels import SOURCES
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from phonopy.harmonic.dynmat_to_fc import get_commensurate_points
from real_phonons import harmonic
from silicon_phonons import exact
from structures import DATA

from mlip import MLIPCalculator
from mlip.datasets import molecules, read_frames, silicon
from mlip.md import vibrations
from mlip.md.dynamical import frequencies_thz, from_phonopy

UNITS = ("(THz)", "(cm⁻¹)")
HELD_OUT = "methyl_hydroperoxide"
Errors = dict[str, float]


def of_molecules(calculator: MLIPCalculator) -> Errors:
    """Mean absolute error of the wavenumbers of each, cm⁻¹."""
    errors: Errors = {}
    for name, minimum in molecules.minima().items():
        found = vibrations(minimum.atoms, calculator, fmax=1e-4).frequencies
        difference = np.abs(found - minimum.wavenumbers)
        errors[f"{name} (cm⁻¹)"] = float(difference.mean())
    test = list(read_frames(str(molecules.path("test"))))
    for name in ("trained", "held-out"):
        frames = [f for f in test if (f.atoms.info["molecule"] == HELD_OUT) == (name == "held-out")]
        parts = [np.abs(calculator.get_forces(f.atoms) - f.forces).ravel() for f in frames]
        errors[f"F MAE, {name} (meV/Å)"] = 1000 * float(np.concatenate(parts).mean())
    return errors


def of_silicon(calculator: MLIPCalculator) -> Errors:
    """Mean absolute error over the DFPT mesh, THz."""
    reference = silicon.dfpt_reference()
    difference = np.abs(exact(calculator, reference.q_points) - reference.frequencies)
    return {"silicon (THz)": float(difference.mean()), "largest (THz)": float(difference.max())}


def of_frames(calculator: MLIPCalculator) -> Errors:
    """Mean absolute error over the four test frames, THz; imaginary ones count as negative."""
    errors = []
    for name, index in {"H10C5N2O": "7:9", "H8C4N2O": "9:11"}.items():
        for frame in read_frames(str(DATA / "hessian_molecules" / name), index=index, pbc=False):
            root = np.repeat(np.sqrt(frame.atoms.get_masses()), 3)
            ours, theirs = (
                np.linalg.eigvalsh(matrix / np.outer(root, root))
                for matrix in (calculator.get_hessian(frame.atoms), np.asarray(frame.hessian))
            )
            errors.append(np.abs(frequencies_thz(ours) - frequencies_thz(theirs)).mean())
    return {"test frames (THz)": float(np.mean(errors))}


@cache
def fitted(name: str) -> tuple[Atoms, NDArray[np.float64], NDArray[np.float64]]:
    """Primitive cell, wavevectors of the frames' cell, (nq, 3n) frequencies of the fit to all frames."""
    source = SOURCES[name]
    phonon = harmonic(source.unit, source.repeat, source.frames(":"))
    matrix = np.rint(phonon.supercell.cell @ np.linalg.inv(phonon.primitive.cell)).astype(int)
    q = np.asarray(get_commensurate_points(matrix.T))
    return from_phonopy(phonon.primitive), q, np.array(phonon.run_qpoints(q).frequencies)


def of_crystal(name: str, calculator: MLIPCalculator) -> Errors:
    """Mean absolute error at the wavevectors of the frames' cell."""
    primitive, q, theirs = fitted(name)
    ours = frequencies_thz(np.linalg.eigvalsh(calculator.get_dynamical_matrix(primitive, q)))
    return {"crystal (THz)": float(np.abs(np.sort(ours, axis=1) - np.sort(theirs, axis=1)).mean())}


FREQUENCIES: dict[str, Callable[[MLIPCalculator], Errors]] = {
    "molecules": of_molecules,
    "silicon-dfpt": of_silicon,
    "hessian_molecules": of_frames,
    **{name: partial(of_crystal, name) for name in SOURCES},
}


def measured(row: dict[str, Any], folder: Path) -> Errors:
    """Frequencies, forces, time and steps of one run."""
    calculator = MLIPCalculator(folder / row["name"] / "best.mlip", dtype="float64")
    found = FREQUENCIES[Path(row["recipe"]).stem](calculator)
    (forces,) = [g["forces_mae_meV_per_A"] for g in row["test"]["groups"] if g["group"] == "all"]
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


def figure(runs: dict[tuple[str, str, str], list[Errors]]) -> Figure:
    """Frequency errors of each set in units of forces alone at equal steps: bars, and a dot for each seed."""
    recipes = sorted({key[0] for key in runs})
    drawn = Figure(figsize=(10, 3.1 * -(-len(recipes) // 3)), layout="constrained")
    for axes, recipe in zip(drawn.subplots(-(-len(recipes) // 3), 3, squeeze=False).flat, recipes, strict=False):
        _panel(axes, {key[1:]: found for key, found in runs.items() if key[0] == recipe})
        axes.set(title=recipe, ylabel="frequency error, relative")
    return drawn


def _panel(axes: Axes, own: dict[tuple[str, str], list[Errors]]) -> None:
    names = [name for name in next(iter(own.values()))[0] if name.endswith(UNITS) and name != "largest (THz)"]
    unit = np.mean([[errors[name] for name in names] for errors in next(iter(own.values()))], axis=0)
    width = 0.8 / len(own)
    for k, ((variant, budget), found) in enumerate(own.items()):
        places = np.arange(len(names)) + (k - (len(own) - 1) / 2) * width
        values = np.array([[errors[name] for name in names] for errors in found]) / unit
        axes.bar(places, values.mean(axis=0), 0.9 * width, label=f"{variant}, {budget}", color=f"C{k}", alpha=0.8)
        axes.plot(np.tile(places, (len(found), 1)), values, "k.", markersize=3)
    axes.axhline(1, color="0.6", linewidth=0.8, zorder=0)
    axes.set_xticks(np.arange(len(names)), [name.split(" (")[0].replace("_", "\n") for name in names], fontsize=8)
    axes.set_ylim(0, (1.1 + 0.12 * len(own)) * axes.get_ylim()[1])
    axes.legend(frameon=False, fontsize=7, loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Measure what is new, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    folder = arguments.study
    cache = folder / "frequencies.jsonl"
    done = known(cache)
    runs: dict[tuple[str, str, str], list[Errors]] = defaultdict(list)
    for row in map(json.loads, (folder / "results.jsonl").read_text().splitlines()):
        if row["name"] not in done:
            done[row["name"]] = measured(row, folder)
            with cache.open("a") as file:
                file.write(json.dumps({"name": row["name"], "errors": done[row["name"]]}) + "\n")
        budget = f"{row['min']:g} min" if "min" in row else f"{row['epochs']:g} epochs"
        runs[Path(row["recipe"]).stem, row["variant"], budget].append(done[row["name"]])
    sys.stdout.write(table(runs) + "\n")
    if arguments.figure is not None:
        figure(runs).savefig(arguments.figure, dpi=160)


if __name__ == "__main__":
    main()
