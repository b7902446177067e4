"""PbTiO3 from the cubic cell alone: phases with error bars beside DFT, and order against temperature.

    for s in 1 2 3 4 5; do mlip train pbtio3 seed=$s run.name=pbtio3-$s; done
    python benchmarks/lead_titanate.py phases runs/pbtio3-*/best.mlip --supercell 1 --dft DIR --out phases
    python benchmarks/lead_titanate.py bands runs/pbtio3-1/best.mlip runs/pbtio3-2/best.mlip --out bands
    python benchmarks/lead_titanate.py temperature runs/pbtio3-1/best.mlip --out temperature

`phases` searches with the committee's mean, from a cubic cell of a = 3.9 Å that is relaxed first, and prints each
phase with ΔE ± σ; ``--dft`` adds a single point of DFT (pw.x, the settings of the training set) on each structure
found, up to so many atoms. `temperature` runs NPT dynamics from the tetragonal phase and prints the order parameter
(the polar pattern of that phase, 1 at its amplitude) along the three axes, and the axes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from matplotlib.figure import Figure

from mlip import MLIPCalculator
from mlip.datasets import perovskite
from mlip.datasets.perovskite.recipe.calculation import SETTINGS, basis_correction, single_point
from mlip.md import DistortionResult, MDResult, SearchSettings, find_distortions, phonons, run_md
from mlip.md.distortion_result import Distortion
from mlip.md.distortions import formula_units
from mlip.md.phonon_analyses import Analyses
from mlip.symmetry import OrderParameter


def cubic(a: float = 3.9) -> Atoms:
    """The ideal crystal, not at the lattice constant of model or DFT."""
    sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Atoms("PbTiO3", scaled_positions=sites, cell=[a, a, a], pbc=True)


def bands(arguments: argparse.Namespace) -> None:
    """Exact phonons of the cubic phase with the committee's spread."""
    calculator = MLIPCalculator(arguments.models, dtype="float64")
    options = {"relax_first": "cell", "points": 40, "dos_mesh": (2, 2, 2), "supercell": 1}
    analyses = Analyses(irreps=False, displacements=False)
    result = phonons(cubic(), calculator, analyses=analyses, **options)
    arguments.out.mkdir(parents=True, exist_ok=True)
    result.plot().savefig(arguments.out / "bands.png", dpi=200)
    for line in result.lines:
        say(line)


def dft_energy(atoms: Atoms, folder: Path) -> float:
    """EV per formula unit, with the correction that the training labels carry."""
    supercell = np.rint(atoms.cell.array / 3.9).astype(np.int64)
    run = single_point(atoms, supercell, SETTINGS, folder)
    return (float(run.get_potential_energy()) + basis_correction(run)) / formula_units(atoms)


def distorted(arguments: argparse.Namespace) -> None:
    """Search, compare with DFT, write the figures."""
    calculator = MLIPCalculator(arguments.models, dtype="float64")
    settings = SearchSettings(max_candidates=arguments.max_candidates)
    result = find_distortions(cubic(), calculator, supercell=arguments.supercell, settings=settings)
    result.write(arguments.out)
    for line in result.lines:
        say(line)
    single = {} if arguments.dft is None else dict(dft_energies(result, arguments.dft, arguments.largest))
    head = f"{'phase':10s}{'atoms':>6s}{'ΔE ± σ':>16s}{'DFT':>9s}{'error/σ':>9s}{'axes (Å)':>24s}{'variants':>10s}"
    say(f"{head}  modes left (meV per formula unit)")
    rows = [row(d, single) for d in result.phases]
    for d, r in zip(result.phases, rows, strict=True):
        sigma, dft, ratio = (f"{r[k]:.2f}" if r[k] is not None else "" for k in ("sigma", "dft", "in_sigma"))
        axes = " ".join(f"{x:.3f}" for x in d.axes)
        left = ", ".join(mode.line for mode in d.imaginary[:3]) or "none"
        say(
            f"{d.label:10s}{len(d.atoms):6d}{r['model']:9.2f} ± {sigma:4s}{dft:>9s}{ratio:>9s}{axes:>24s}"
            f"{d.variants:>10d}  {left}"
        )
    (arguments.out / "phases.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


def dft_energies(result: DistortionResult, folder: Path, largest: int) -> Iterator[tuple[int, float]]:
    """Number of the phase and meV per formula unit against the parent as the model relaxed it."""
    parent = dft_energy(result.parent.atoms, folder / "parent")
    for d in result.phases:
        if d.number and len(d.atoms) <= largest:
            yield d.number, 1000 * (dft_energy(d.atoms, folder / f"{d.number:02d}") - parent)


def row(d: Distortion, single: dict[int, float]) -> dict[str, Any]:
    """Plain values of one phase, energies in meV per formula unit."""
    sigma = None if d.sigma is None else 1000 * d.sigma
    dft = single.get(d.number)
    known = dft is not None and bool(sigma)
    return {
        "phase": d.label, "atoms": len(d.atoms), "model": 1000 * d.relative, "sigma": sigma, "dft": dft,
        "in_sigma": (1000 * d.relative - dft) / sigma if known else None,
        "axes": d.axes.tolist(), "variants": d.variants, "amplitudes": d.amplitudes,
        "left": [mode.line for mode in d.imaginary],
    }  # fmt: skip


@dataclass(frozen=True)
class PolarPattern:
    """The polar pattern of the tetragonal phase along x, y and z.

    Attributes:
        order: Projects structures onto the polar modes.
        images: (3, d) the pattern along each axis, in their coordinates, squared length that of the phase.
    """

    order: OrderParameter
    images: np.ndarray

    @classmethod
    def of(cls, start: Atoms) -> PolarPattern:
        """From a supercell of the phase, polar along z."""
        order = OrderParameter.from_structures(cubic(), start)
        group, component = order.group, order.components[0]
        along_z = order.vector(start)[0]
        images = group.matrices(component.basis) @ along_z
        turned = group.turns @ np.array([0.0, 0.0, 1.0])
        return cls(order, np.array([images[np.argmax(turned @ axis)] for axis in np.eye(3)]))

    def along(self, frames: list[Atoms]) -> np.ndarray:
        """(frames, 3), 1 at the phase's own amplitude."""
        vectors = np.array([self.order.vector(frame)[0] for frame in frames])
        return vectors @ self.images.T / (self.images[2] @ self.images[2])


def temperature(arguments: argparse.Namespace) -> None:
    """NPT dynamics at each temperature, from the tetragonal phase."""
    calculator = MLIPCalculator(arguments.models[0], dtype="float32")
    start = perovskite.phases()["tetragonal"].atoms.repeat(arguments.repeat)
    pattern = PolarPattern.of(start)
    arguments.out.mkdir(parents=True, exist_ok=True)
    say(f"{len(start)} atoms, {arguments.time:g} ps of NPT, second half; order parameter 1: the relaxed phase of DFT")
    say(f"{'K':>6s}{'mean of |order|':>18s}{'|mean order|':>15s}   {'axes (Å)':24s}{'longest/shortest':>18s}")
    for kelvin in arguments.temperatures:
        options = {"ensemble": "npt", "temperature": kelvin, "timestep": 2.0, "every": 10, "seed": 1}
        run = run_md(start, calculator, time=arguments.time, **options)
        series = pattern.along(frames_of(run))
        np.savez(arguments.out / f"{kelvin:g}K.npz", times=run.times, order=series, cells=run.cells)
        half = len(series) // 2
        size, mean = np.linalg.norm(series[half:], axis=1).mean(), np.linalg.norm(series[half:].mean(axis=0))
        lengths = np.linalg.norm(run.cells[half:].mean(axis=0), axis=1) / arguments.repeat
        axes = " ".join(f"{x:.3f}" for x in lengths)
        ratio = lengths.max() / lengths.min()
        say(f"{kelvin:6g}{size:18.3f}{mean:15.3f}   {axes:24s}{ratio:18.4f}")
    draw(arguments.out)


def frames_of(run: MDResult) -> list[Atoms]:
    """The frames of a run, in their own cells."""
    frames = []
    for positions, cell in zip(run.positions, run.cells, strict=True):
        frame = run.to_atoms()
        frame.set_cell(cell)
        frame.set_positions(positions)
        frames.append(frame)
    return frames


def draw(folder: Path) -> Path:
    """Order parameters along time at each temperature, and their means against temperature."""
    runs = sorted(((float(f.stem[:-1]), np.load(f)) for f in folder.glob("*K.npz")), key=lambda item: item[0])
    figure = Figure(figsize=(8.0, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    shown = runs[:: -(-len(runs) // 3)]
    for number, (kelvin, data) in enumerate(shown):
        size = np.linalg.norm(data["order"], axis=1)
        left.plot(data["times"] / 1000, size, lw=0.9, color=f"C{number}", label=f"{kelvin:g} K")
    left.set(xlabel="time (ps)", ylabel="|polar order|", ylim=(0, None))
    left.legend(frameon=False, ncols=len(shown), loc="upper center", bbox_to_anchor=(0.5, 1.14))
    kelvins = [kelvin for kelvin, _ in runs]
    halves = [data["order"][len(data["order"]) // 2 :] for _, data in runs]
    right.plot(
        kelvins, [np.linalg.norm(h, axis=1).mean() for h in halves], "o-", ms=4, lw=1.2, label="mean of |order|"
    )
    right.plot(kelvins, [np.linalg.norm(h.mean(axis=0)) for h in halves], "s--", ms=4, lw=1.2, label="|mean order|")
    right.set(xlabel="temperature (K)", ylabel="second half", ylim=(0, None))
    right.legend(frameon=False, loc="lower left")
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(folder / "order.png", dpi=200)
    return folder / "order.png"


def say(text: str) -> None:
    """A line, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    search = commands.add_parser("phases")
    search.add_argument("models", nargs="+", type=Path)
    search.add_argument("--supercell", type=int, default=1)
    search.add_argument("--max-candidates", type=int, default=40)
    search.add_argument("--dft", type=Path)
    search.add_argument("--largest", type=int, default=10)
    search.add_argument("--out", type=Path, default=Path("phases"))
    search.set_defaults(run=distorted)
    spectrum = commands.add_parser("bands")
    spectrum.add_argument("models", nargs="+", type=Path)
    spectrum.add_argument("--out", type=Path, default=Path("bands"))
    spectrum.set_defaults(run=bands)
    dynamics = commands.add_parser("temperature")
    dynamics.add_argument("models", nargs=1, type=Path)
    dynamics.add_argument("--temperatures", nargs="+", type=float, default=[100, 150, 200, 300, 400])
    dynamics.add_argument("--time", type=float, default=8.0)
    dynamics.add_argument("--repeat", type=int, default=2)
    dynamics.add_argument("--out", type=Path, default=Path("temperature"))
    dynamics.set_defaults(run=temperature)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
