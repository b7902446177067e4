"""What an anisotropic potential does to observables, and what averaging over rotations mends.

    python benchmarks/rotation_average.py

Liquid-like argon: Lennard-Jones, and the same with a spurious dependence on the laboratory's axes, as a potential
without exact rotational symmetry has (each pair's well deeper or shallower by up to a tenth, with the l = 2 and
l = 6 harmonics of its direction). Printed: rotational spread, forces, radial distribution functions of NVE runs from
the same start, and the drift of the energy; for the potential as it is, and averaged over 12 and 60 fixed rotations.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.neighborlist import neighbor_list
from numpy.polynomial import Legendre

from mlip.md import MDResult, RotationAveragedCalculator, rotational_spread, run_md

EPSILON, SIGMA, CUTOFF = 0.0104, 3.4, 8.5


class Argon(Calculator):
    """Lennard-Jones, smoothly cut, each pair weighted by 1 + Σ_l a_l P_l(z/r)."""

    implemented_properties = ("energy", "free_energy", "forces")

    def __init__(self, coefficients: dict[int, float]) -> None:
        super().__init__()
        self.series = Legendre([1.0, *(coefficients.get(l, 0.0) for l in range(1, 9))])

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        i, r, d = neighbor_list("idD", self.atoms, CUTOFF)
        n, c = d / r[:, None], d[:, 2] / r
        x6 = (SIGMA / r) ** 6
        fade = (1 - (r / CUTOFF) ** 2) ** 2
        plain = 4 * EPSILON * (x6**2 - x6)
        w = plain * fade
        slope_w = 4 * EPSILON * (-12 * x6**2 + 6 * x6) / r * fade - plain * 4 * r / CUTOFF**2 * (
            1 - (r / CUTOFF) ** 2
        )
        energy = 0.5 * float((w * self.series(c)).sum())
        slope = (slope_w * self.series(c))[:, None] * n
        slope += (w * self.series.deriv()(c) / r)[:, None] * (np.eye(3)[2] - c[:, None] * n)
        forces = np.zeros((len(self.atoms), 3))
        np.add.at(forces, i, slope)  # each pair is met from both ends
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}


def liquid() -> Atoms:
    """32 atoms at the density of liquid argon, shaken."""
    atoms = bulk("Ar", "fcc", a=5.6, cubic=True) * (2, 2, 2)
    atoms.rattle(0.25, seed=0)
    return atoms


def main() -> None:
    """Print one row for each potential."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--anisotropy", type=float, default=0.1)
    arguments = parser.parse_args()
    leaning = Argon({2: arguments.anisotropy, 6: arguments.anisotropy})
    subjects = {
        "isotropic": Argon({}),
        "isotropic, other velocities": Argon({}),  # how much of the RDF error is mere statistics
        "anisotropic": leaning,
        "averaged, 12 rotations × 2": RotationAveragedCalculator(leaning, "tetrahedral", 2, inversion=False),
        "averaged, 60 rotations × 2": RotationAveragedCalculator(leaning, "icosahedral", 2, inversion=False),
    }
    reference = None
    sys.stdout.write(
        f"{'':28s}{'spread':>12s}{'force error':>14s}{'RDF error':>12s}{'drift':>22s}{'fluctuation':>14s}\n"
        f"{'':28s}{'meV/atom':>12s}{'meV/Å':>14s}{'rms':>12s}{'meV/atom/ps':>22s}{'meV/atom':>14s}\n"
    )
    exact = forces(liquid(), Argon({}))
    for name, calculator in subjects.items():
        spread, _ = rotational_spread(liquid(), calculator)
        error = np.sqrt(((forces(liquid(), calculator) - exact) ** 2).sum(axis=1).mean())
        run = run_md(
            liquid(),
            calculator,
            ensemble="nve",
            temperature=90.0,
            timestep=4.0,
            steps=arguments.steps,
            seed=1,
            every=5,
        )
        g = distribution(run)
        reference = g if reference is None else reference
        gap = float(np.sqrt(((g - reference) ** 2).mean()))
        sys.stdout.write(
            f"{name:28s}{1000 * spread:12.4f}{1000 * error:14.3f}{gap:12.4f}"
            f"{run.drift:+13.4f} ± {run.drift_error:.4f}{run.fluctuation:14.4f}\n"
        )
        sys.stdout.flush()


def forces(atoms: Atoms, calculator: Calculator) -> np.ndarray:
    atoms.calc = calculator
    return atoms.get_forces()


def distribution(run: MDResult) -> np.ndarray:
    """g(r) of the second half, 60 bins from 2.5 to 8 Å."""
    edges = np.linspace(2.5, 8.0, 61)
    counts = np.zeros(60)
    chosen = range(len(run.positions) // 2, len(run.positions))
    frame = run.to_atoms()
    for k in chosen:
        frame.set_positions(run.positions[k])
        counts += np.histogram(neighbor_list("d", frame, 8.0), edges)[0]
    shell = 4 / 3 * np.pi * np.diff(edges**3)
    return counts / len(chosen) / len(frame) / (len(frame) / frame.get_volume()) / shell


if __name__ == "__main__":
    main()
