"""The figures of docs/anisotropy.md: what a k mesh that is not cubic does to the labels of silicon.

python docs/make_anisotropy_figures.py [MODEL] [--control MODEL …] [--out docs/figures]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read
from matplotlib.figure import Figure

from mlip.datasets import silicon
from mlip.symmetry import anisotropy_report

GPA = 160.21766208  # of 1 eV/Å³


def differences() -> list[Atoms]:
    """Frames that carry broken minus honest labels."""
    found = []
    for honest, broken in silicon.honest_and_broken():
        atoms = broken.copy()
        labels = {
            "energy": broken.get_potential_energy() - honest.get_potential_energy(),
            "forces": broken.get_forces() - honest.get_forces(),
            "stress": broken.get_stress() - honest.get_stress(),
        }
        atoms.calc = SinglePointCalculator(atoms, **labels)
        found.append(atoms)
    return found


def print_stress(frames: list[Atoms]) -> None:
    """The mean difference of stress, GPa: a tensor that a cubic crystal cannot have."""
    tensors = GPA * np.array([a.get_stress(voigt=False) for a in frames])
    mean, error = tensors.mean(axis=0), tensors.std(axis=0, ddof=1) / np.sqrt(len(frames))
    values, vectors = np.linalg.eigh(mean - np.trace(mean) / 3 * np.eye(3))
    axis = vectors[:, np.abs(values).argmax()]
    print("mean difference of stress, GPa:", np.round(np.diag(mean), 4), "±", np.round(np.diag(error), 4))
    print("principal axis of its traceless part:", np.round(axis * np.sign(axis[np.abs(axis).argmax()]), 3))


def stress_figure(frames: list[Atoms]) -> Figure:
    """Differences of the diagonal stress, frame by frame: along z they are others than along x and y."""
    tensors = GPA * np.array([np.diag(a.get_stress(voigt=False)) for a in frames])
    figure = Figure(figsize=(6.4, 2.9), layout="constrained")
    axis = figure.subplots()
    bins = np.linspace(tensors.min(), tensors.max(), 28)
    for k, (name, colour) in enumerate(zip("xyz", ("#0072B2", "#56B4E9", "#D55E00"), strict=True)):
        axis.hist(tensors[:, k], bins, histtype="step", lw=1.5, color=colour, label=f"$\\sigma_{{{2 * name}}}$")
        axis.axvline(tensors[:, k].mean(), color=colour, lw=0.9, ls="--")
    axis.set(xlabel="stress, broken minus honest labels (GPa)", ylabel="frames")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    return figure


def main() -> None:
    """Look at the difference of the labels; report on a model, where one is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--control", action="append", default=[], type=Path)
    parser.add_argument("--index", default="3::4", help="Frames of silicon:broken, best held out of training.")
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    arguments = parser.parse_args()
    frames = differences()
    print_stress(frames)
    stress_figure(frames).savefig(arguments.out / "anisotropy-labels.png", dpi=200)
    if arguments.model is None:
        return
    held = read(silicon.path("broken"), index=arguments.index)
    parent = silicon.primitive_cell()
    report = anisotropy_report(arguments.model, held, parent=parent, controls=arguments.control)
    for line in report.lines:
        print(line)
    for row in report.table():
        print("  ".join(f"{k}: {v}" for k, v in row.items()))
    report.plot().savefig(arguments.out / "anisotropy-model.png", dpi=200)


if __name__ == "__main__":
    main()
