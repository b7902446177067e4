"""How long molecular dynamics above the training temperatures lives, with and without curvature in the loss.

    python benchmarks/stability.py forces=runs/a/best.mlip hessian=runs/b/best.mlip --out stability

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.neighborlist import natural_cutoffs, neighbor_list
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import gamma, norm

from mlip import Potential
from mlip.datasets import molecules
from mlip.files import write_bytes
from mlip.inference import for_inference

Array = NDArray[np.float64]
STEP, FRICTION = 0.5 * units.fs, 0.01 / units.fs
STRETCHED, EXCURSION = 1.5, 5.0
EDGES = np.linspace(0.7, 5.0, 87)


@dataclass
class Trajectory:
    """One molecule in motion."""

    name: str
    atoms: Atoms
    bonds: tuple[NDArray[np.int64], NDArray[np.int64]]
    longest: Array
    highest: float  # eV, of the potential energy
    ended: float | None = None  # ps
    reason: str = ""

    @classmethod
    def of(cls, name: str, atoms: Atoms, energy: float, temperature: float) -> Trajectory:
        """At the minimum, whose energy by the model is given."""
        i, j, lengths = neighbor_list("ijd", atoms, natural_cutoffs(atoms, mult=1.15))
        freedom, heat = 3 * len(atoms) - 6, units.kB * temperature
        highest = energy + heat * float(gamma.isf(norm.sf(EXCURSION), freedom / 2))
        return cls(name, atoms, (i, j), STRETCHED * lengths, highest)

    def check(self, energy: float, time: float) -> None:
        """Whether it ends here."""
        i, j = self.bonds
        lengths = np.linalg.norm(self.atoms.positions[i] - self.atoms.positions[j], axis=1)
        if not np.isfinite(energy) or energy > self.highest:
            self.ended, self.reason = time, "energy"
        elif (lengths > self.longest).any():
            self.ended, self.reason = time, "bond"


class Langevin:
    """BAOAB for all trajectories that still live, with one evaluation of the batch in each step."""

    def __init__(self, potential: Potential, alive: list[Trajectory], temperature: float, seed: int) -> None:
        self.potential, self.alive, self.heat = potential, alive, units.kB * temperature
        self.rng = np.random.default_rng(seed)
        self.keep = np.exp(-FRICTION * STEP)
        self.velocities = [s[:, None] * self.rng.normal(size=(len(s), 3)) for s in self._spreads()]
        self.forces, _ = self._evaluate()

    def _spreads(self) -> list[Array]:
        """Standard deviation of a velocity's components, atom by atom."""
        return [np.sqrt(self.heat / t.atoms.get_masses()) for t in self.alive]

    def _kick(self) -> None:
        """Half a step of the forces."""
        moved = zip(self.alive, self.velocities, self.forces, strict=True)
        self.velocities = [v + 0.5 * STEP * f / t.atoms.get_masses()[:, None] for t, v, f in moved]

    def _drift(self) -> None:
        """Half a step of the velocities."""
        for trajectory, velocity in zip(self.alive, self.velocities, strict=True):
            trajectory.atoms.positions += 0.5 * STEP * velocity

    def _evaluate(self) -> tuple[list[Array], list[float]]:
        found = self.potential.evaluate([t.atoms for t in self.alive], ("energy", "forces"))
        return [np.asarray(r["forces"], dtype=np.float64) for r in found], [float(r["energy"]) for r in found]

    def step(self, time: float) -> None:
        """Kick, drift, heat bath, drift, kick; then those that ended are left behind."""
        self._kick()
        self._drift()
        self.velocities = [
            self.keep * velocity + np.sqrt(1 - self.keep**2) * spread[:, None] * self.rng.normal(size=velocity.shape)
            for velocity, spread in zip(self.velocities, self._spreads(), strict=True)
        ]
        self._drift()
        self.forces, energies = self._evaluate()
        self._kick()
        for trajectory, energy in zip(self.alive, energies, strict=True):
            trajectory.check(energy, time)
        living = [k for k, trajectory in enumerate(self.alive) if trajectory.ended is None]
        self.alive = [self.alive[k] for k in living]
        self.velocities = [self.velocities[k] for k in living]
        self.forces = [self.forces[k] for k in living]


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
        Trajectory.of(name, minimum.atoms.copy(), float(result["energy"]), temperature)
        for (name, minimum), result in zip(minima.items(), energies, strict=True)
        for _ in range(plan.copies)
    ]
    dynamics = Langevin(potential, list(everything), temperature, plan.seed)
    counts = {name: np.zeros(len(EDGES) - 1) for name in minima}
    for number in range(1, round(plan.picoseconds * 1000 * units.fs / STEP) + 1):
        if not dynamics.alive:
            break
        dynamics.step(number * STEP / (1000 * units.fs))
        if number % 50 == 0:
            for trajectory in dynamics.alive:
                pairs = trajectory.atoms.get_all_distances()[np.triu_indices(len(trajectory.atoms), 1)]
                counts[trajectory.name] += np.histogram(pairs, EDGES)[0]
    return {
        "lifetimes": {name: [t.ended for t in everything if t.name == name] for name in minima},
        "reasons": {name: [t.reason for t in everything if t.name == name] for name in minima},
        "pairs": {name: (c / max(1.0, c.sum())).tolist() for name, c in counts.items()},
    }


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
    found = {}
    for word in arguments.models:
        name, _, model = word.partition("=")
        potential = for_inference(Potential.load(model))
        for temperature in arguments.temperatures:
            label = f"{name}, {temperature:g} K"
            file = arguments.out / f"{name}-{temperature:g}K.json"
            if not file.is_file():
                row = run(potential, temperature, plan)
                write_bytes(file, json.dumps(row).encode())
            found[label] = json.loads(file.read_text())
            alive = {m: sum(t is None for t in ends) for m, ends in found[label]["lifetimes"].items()}
            sys.stdout.write(f"| {label} | " + " | ".join(f"{m}: {n}" for m, n in alive.items()) + " |\n")
            sys.stdout.flush()
    figure(found, arguments.picoseconds).savefig(arguments.out / "stability.png", dpi=160)


if __name__ == "__main__":
    main()
