"""How long molecular dynamics above the training temperatures lives, with and without curvature in the loss.

    python benchmarks/stability.py forces=runs/a/best.mlip hessian=runs/b/best.mlip --out stability
    python benchmarks/stability.py forces=a1.mlip,a2.mlip hessian=b1.mlip,b2.mlip --out stability

Of several models of one name, as of several seeds, each runs all trajectories, and their lives are counted together.

Trajectories of molecules of the embedded set from their minima, Langevin dynamics (BAOAB, Leimkuhler and Matthews,
Appl. Math. Res. Express 2013, 34), all in one batch. One ends where a bond of the minimum is longer than 1.5 of its
length, or the potential energy is as improbable as five standard deviations of a normal distribution: that of a
harmonic molecule is a gamma distribution of shape (3N − 6) / 2 and scale kT. At those temperatures real molecules
hardly dissociate in such a time (bonds of two to four eV): what ends early, the potential ended.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.neighborlist import natural_cutoffs, neighbor_list
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import gamma, norm

from mlip import Potential
from mlip.datasets import molecules
from mlip.derivatives import evaluate
from mlip.files import write_bytes
from mlip.graph import AtomicGraph
from mlip.inference import for_inference

Array = NDArray[np.float64]
STEP, FRICTION = 0.5 * units.fs, 0.01 / units.fs
STRETCHED, EXCURSION = 1.5, 5.0
EDGES = np.linspace(0.7, 5.0, 87)


@dataclass
class Trajectory:
    """One molecule, and when and why its motion ended."""

    name: str
    minimum: Atoms
    highest: float  # eV, of the potential energy
    ended: float | None = None  # ps
    reason: str = ""


def highest_energy(energy: float, atoms: int, temperature: float) -> float:
    """What a harmonic molecule with this energy at its minimum exceeds as rarely as five standard deviations."""
    return energy + units.kB * temperature * float(gamma.isf(norm.sf(EXCURSION), (3 * atoms - 6) / 2))


class Batch:
    """Several molecules as one set of atoms; all pairs within a molecule are known, and no others matter."""

    def __init__(self, potential: Potential, alive: list[Trajectory]) -> None:
        self.potential, self.alive = potential, alive
        starts = np.cumsum([0] + [len(t.minimum) for t in alive])[:-1]
        sizes = [len(t.minimum) for t in alive]
        places = [np.array(list(permutations(range(size), 2))) + a for a, size in zip(starts, sizes, strict=True)]
        self.target, self.source = np.concatenate(places).T
        self.structure = np.repeat(np.arange(len(alive)), sizes)
        self.masses = np.concatenate([t.minimum.get_masses() for t in alive])
        index = [potential.species.index(s) for t in alive for s in t.minimum.get_chemical_symbols()]
        self.species = torch.as_tensor(index)
        found = [neighbor_list("ijd", t.minimum, natural_cutoffs(t.minimum, mult=1.15)) for t in alive]
        self.bonds = np.concatenate([np.stack(f[:2]) + a for f, a in zip(found, starts, strict=True)], axis=1)
        self.longest = STRETCHED * np.concatenate([f[2] for f in found])

    def evaluate(self, positions: Array) -> tuple[Array, Array]:
        """Forces (N, 3) and energies of the molecules."""
        gaps = np.linalg.norm(positions[self.source] - positions[self.target], axis=1)
        near = gaps < self.potential.settings.cutoff
        graph = AtomicGraph(
            positions=torch.as_tensor(positions, dtype=self.potential.dtype),
            species=self.species,
            source=torch.as_tensor(self.source[near]),
            target=torch.as_tensor(self.target[near]),
            shifts=torch.zeros(int(near.sum()), 3, dtype=self.potential.dtype),
            cells=torch.zeros(len(self.alive), 3, 3, dtype=self.potential.dtype),
            structure=torch.as_tensor(self.structure),
        )
        found = evaluate(self.potential, graph)
        return found.forces.detach().double().numpy(), found.energy.double().numpy()

    def check(self, positions: Array, energies: Array, time: float) -> NDArray[np.bool_]:
        """(N,) atoms of the molecules that live on."""
        lengths = np.linalg.norm(positions[self.bonds[0]] - positions[self.bonds[1]], axis=1)
        broken = np.unique(self.structure[self.bonds[0][lengths > self.longest]])
        limits = np.array([t.highest for t in self.alive])
        for k in np.flatnonzero(~(energies <= limits)):
            self.alive[k].ended, self.alive[k].reason = time, "energy"
        for k in broken:
            if self.alive[k].ended is None:
                self.alive[k].ended, self.alive[k].reason = time, "bond"
        return np.array([t.ended is None for t in self.alive])[self.structure]


class Langevin:
    """BAOAB for all molecules that still live, with one evaluation of the batch in each step."""

    def __init__(self, potential: Potential, alive: list[Trajectory], temperature: float, seed: int) -> None:
        self.batch, self.heat, self.rng = Batch(potential, alive), units.kB * temperature, np.random.default_rng(seed)
        self.positions = np.concatenate([t.minimum.positions for t in alive])
        self.velocities = self._thermal()
        self.forces, _ = self.batch.evaluate(self.positions)

    def _thermal(self) -> Array:
        return np.sqrt(self.heat / self.batch.masses)[:, None] * self.rng.normal(size=(len(self.batch.masses), 3))

    def _kick(self) -> None:
        self.velocities = self.velocities + 0.5 * STEP * self.forces / self.batch.masses[:, None]

    def _drift(self) -> None:
        self.positions = self.positions + 0.5 * STEP * self.velocities

    def step(self, time: float) -> None:
        """Kick, drift, heat bath, drift, kick; then those that ended are left behind."""
        keep = np.exp(-FRICTION * STEP)
        self._kick()
        self._drift()
        self.velocities = keep * self.velocities + np.sqrt(1 - keep**2) * self._thermal()
        self._drift()
        self.forces, energies = self.batch.evaluate(self.positions)
        self._kick()
        living = self.batch.check(self.positions, energies, time)
        if not living.all():
            self.positions, self.velocities = self.positions[living], self.velocities[living]
            self.forces = self.forces[living]
            alive = [t for t in self.batch.alive if t.ended is None]
            if alive:
                self.batch = Batch(self.batch.potential, alive)
            else:
                self.batch.alive = []

    def distances(self) -> list[tuple[str, Array]]:
        """Name and distances of all pairs, molecule by molecule."""
        batch = self.batch
        gaps = np.linalg.norm(self.positions[batch.source] - self.positions[batch.target], axis=1)
        owner = batch.structure[batch.source]
        return [(t.name, gaps[owner == k]) for k, t in enumerate(batch.alive)]


@dataclass(frozen=True)
class Plan:
    """What is run with each model at each temperature."""

    names: tuple[str, ...]
    copies: int
    picoseconds: float
    seed: int = 1


def run(potential: Potential, temperature: float, plan: Plan) -> dict[str, Any]:
    """Lifetimes (ps; None: lived to the end) and pair distances (a histogram) of each molecule."""
    minima = {name: molecules.minima()[name] for name in plan.names}
    energies = potential.evaluate([m.atoms for m in minima.values()], ("energy",))
    everything = [
        Trajectory(name, one.atoms, highest_energy(float(found["energy"]), len(one.atoms), temperature))
        for (name, one), found in zip(minima.items(), energies, strict=True)
        for _ in range(plan.copies)
    ]
    dynamics = Langevin(potential, list(everything), temperature, plan.seed)
    counts = {name: np.zeros(len(EDGES) - 1) for name in minima}
    for number in range(1, round(plan.picoseconds * 1000 * units.fs / STEP) + 1):
        dynamics.step(number * STEP / (1000 * units.fs))
        if not dynamics.batch.alive:
            break
        if number % 50 == 0:
            for name, gaps in dynamics.distances():
                counts[name] += np.histogram(gaps, EDGES)[0]
    return {
        "lifetimes": {name: [t.ended for t in everything if t.name == name] for name in minima},
        "reasons": {name: [t.reason for t in everything if t.name == name] for name in minima},
        "pairs": {name: (c / max(1.0, c.sum())).tolist() for name, c in counts.items()},
    }


def pooled(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Lives of all, and the mean of their pair distances."""
    names = list(rows[0]["lifetimes"])
    joined = {key: {n: [x for row in rows for x in row[key][n]] for n in names} for key in ("lifetimes", "reasons")}
    return {**joined, "pairs": {n: np.mean([row["pairs"][n] for row in rows], axis=0).tolist() for n in names}}


def report(label: str, lifetimes: dict[str, list[float | None]], picoseconds: float) -> str:
    """How many live to the end, and their mean life."""
    cells = []
    for molecule, ends in lifetimes.items():
        mean = np.mean([picoseconds if t is None else t for t in ends])
        cells.append(f"{molecule}: {sum(t is None for t in ends)} of {len(ends)}, {mean:.1f} ps")
    return f"| {label} | " + " | ".join(cells) + " |\n"


def survival(lifetimes: Sequence[float | None], times: Array) -> Array:
    """Share that still lives."""
    ends = np.array([np.inf if t is None else t for t in lifetimes])
    return np.asarray((ends[None] > times[:, None]).mean(axis=1))


def figure(found: dict[str, dict[str, Any]], picoseconds: float) -> Figure:
    """Survival above, pair distances below, one column per molecule."""
    names = list(next(iter(found.values()))["lifetimes"])
    drawn = Figure(figsize=(4 * len(names), 6), layout="constrained")
    axes = drawn.subplots(2, len(names), squeeze=False)
    times, middle = np.linspace(0, picoseconds, 400), (EDGES[1:] + EDGES[:-1]) / 2
    for column, name in enumerate(names):
        for label, row in found.items():
            axes[0, column].step(times, survival(row["lifetimes"][name], times), where="post", label=label)
            axes[1, column].plot(middle, row["pairs"][name], label=label)
        axes[0, column].set(title=name.replace("_", " "), ylim=(-0.03, 1.03), xlabel="time (ps)", ylabel="alive")
        axes[1, column].set(xlabel="distance (Å)", ylabel="pairs")
    axes[0, 0].legend(frameon=False, fontsize=8)
    return drawn


def main() -> None:
    """Run what is missing, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL")
    parser.add_argument("--temperatures", type=float, nargs="+", default=[1750.0, 2000.0])
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--picoseconds", type=float, default=20.0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--molecules", nargs="+", default=["hydrogen_peroxide", "methanol"])
    arguments = parser.parse_args()
    plan = Plan(tuple(arguments.molecules), arguments.copies, arguments.picoseconds)
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    found = {}
    for word in arguments.models:
        name, _, models = word.partition("=")
        for temperature in arguments.temperatures:
            label = f"{name}, {temperature:g} K"
            files = [
                arguments.out / f"{name}-{k}-{temperature:g}K.json" for k in range(1, len(models.split(",")) + 1)
            ]
            for seed, (model, file) in enumerate(zip(models.split(","), files, strict=True), 1):
                if not file.is_file():
                    row = run(for_inference(Potential.load(model)), temperature, replace(plan, seed=seed))
                    write_bytes(file, json.dumps(row).encode())
            found[label] = pooled([json.loads(file.read_text()) for file in files])
            sys.stdout.write(report(label, found[label]["lifetimes"], plan.picoseconds))
            sys.stdout.flush()
    figure(found, arguments.picoseconds).savefig(arguments.out / "stability.png", dpi=160)


if __name__ == "__main__":
    main()
