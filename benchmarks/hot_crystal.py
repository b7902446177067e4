"""How many trajectories of silicon at atomic collisions' temperatures live, with and without a closest approach.

    mlip train silicon training.max_minutes=3 run.name=hot
    python benchmarks/hot_crystal.py runs/hot/best.mlip

64 atoms, Langevin dynamics, 0.5 ps of 0.5 fs steps, the same weights twice. With a closest approach, as in any model
trained with ``zbl``, the network sees no atoms much closer than its training data, and the repulsion is whole below.
Without, the network sees all, and the repulsion is switched off at the sum of covalent radii. A trajectory has died
when its kinetic temperature is three times what the thermostat asks for.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
from alternate import machine
from ase import units
from ase.build import bulk
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta

from mlip import MLIPCalculator, Potential
from mlip.md.probes import pair_curve, repulsion_hole

STEP, FRICTION, BLOCK, BLOCKS = 0.5 * units.fs, 0.02 / units.fs, 10, 100


def without_known_distances(potential: Potential) -> Potential:
    """The same weights in a potential that does not know what distances they were trained on."""
    normalization = replace(potential.normalization, min_distance={})
    other = Potential(potential.settings, potential.species, normalization).to(potential.dtype)
    other.load_state_dict(potential.state_dict())
    return other


def run(potential: Potential, temperature: float, seed: int) -> tuple[float | None, float]:
    """When it died, ps, or None; and the smallest distance, Å, it came to."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Si", cubic=True, a=5.47).repeat(2)
    atoms.calc = MLIPCalculator(potential)
    thermalize_momenta(atoms, temperature_K=2 * temperature, rng=rng)
    dynamics = Langevin(atoms, STEP, temperature_K=temperature, friction=FRICTION, rng=rng)
    shortest = np.inf
    for block in range(1, BLOCKS + 1):
        dynamics.run(BLOCK)
        distances = atoms.get_all_distances(mic=True)
        shortest = min(shortest, float(distances[distances > 0].min()))
        if not atoms.get_temperature() < 3 * temperature:
            return block * BLOCK * STEP / units.fs / 1000, shortest
    return None, shortest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model file, trained with zbl: true")
    parser.add_argument("--temperatures", type=float, nargs="*", default=[8000.0, 16000.0], help="K")
    parser.add_argument("--seeds", type=int, default=8, help="trajectories of each kind")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    potential = Potential.load(arguments.model)
    kinds = {"network sees all": without_known_distances(potential), "closest approach": potential}
    print(f"smallest training distances, Å: {potential.normalization.min_distance}", flush=True)
    for kind, model in kinds.items():
        curve = pair_curve((14, 14), MLIPCalculator(model, dtype="float64"), 6.0)
        print(f"{kind}: hole in the wall of an isolated pair {repulsion_hole((14, 14), *curve):.0f} eV", flush=True)
    for temperature in arguments.temperatures:
        for kind, model in kinds.items():
            found = [run(model, temperature, seed) for seed in range(arguments.seeds)]
            died = [time for time, _ in found if time is not None]
            when = f", after {', '.join(f'{t:.2f}' for t in died)} ps" if died else ""
            print(
                f"{temperature:6.0f} K, {kind}: {len(found) - len(died)} of {len(found)} live{when}; "
                f"smallest distance {min(shortest for _, shortest in found):.2f} Å",
                flush=True,
            )


if __name__ == "__main__":
    main()
