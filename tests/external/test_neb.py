"""ASE's nudged elastic band with our calculator: a hop into a vacancy, whose barrier is symmetric by inversion."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.mep import NEB
from ase.optimize import FIRE

from mlip import MLIPCalculator, Potential


def hop(size, calculator, images, fmax=None, a=5.43):
    """The band from a vacancy to its nearest neighbour's place; atom 0 is removed and atom 1 hops there.

    Both ends are relaxed where ``fmax`` is given. Positions are kept unwrapped, so that images can be compared.
    """
    crystal = bulk("Si", a=a, cubic=True).repeat(size)
    vectors = crystal.get_distances(1, range(len(crystal)), mic=True, vector=True)
    nearest = int(np.linalg.norm(vectors, axis=1).argsort()[1])
    start = crystal.copy()
    del start[nearest]
    end = start.copy()
    mover = 1 if nearest > 1 else 0
    end.positions[mover] += vectors[nearest]
    centre = start.positions[mover] + vectors[nearest] / 2
    for atoms in (start, end):
        atoms.calc = calculator()
        if fmax is not None:
            FIRE(atoms, logfile=None).run(fmax=fmax, steps=300)
    band = [start, *(start.copy() for _ in range(images - 2)), end]
    for image in band[1:-1]:
        image.calc = calculator()
    neb = NEB(band, climb=False, method="improvedtangent")
    neb.interpolate()
    return neb, centre


def energies(neb):
    return np.array([image.get_potential_energy() for image in neb.images])


def mirror_defect(neb, centre):
    """How far each image is from the inverted image of the opposite one, in Å, atom by atom up to a permutation."""
    worst = 0.0
    for one, other in zip(neb.images, reversed(neb.images), strict=True):
        inverted = 2 * centre - other.get_positions()
        gap = (one.get_positions()[:, None] - inverted[None]) @ np.linalg.inv(one.cell.array)
        distance = np.linalg.norm((gap - np.rint(gap)) @ one.cell.array, axis=-1)
        worst = max(worst, float(distance.min(axis=1).max()))
    return worst


def test_the_band_stays_symmetric(tolerances):
    """Random weights: inversion about the bond maps the band onto itself, and every step keeps it."""
    settings = {"architecture": "nequip", "cutoff": 4.0, "num_layers": 2, "num_channels": 4, "lmax": 1, "seed": 1}
    potential = Potential.from_config(settings, species=["Si"])
    neb, centre = hop((1, 1, 2), lambda: MLIPCalculator(potential, dtype="float64"), images=5)
    before = energies(neb)
    FIRE(neb, logfile=None).run(fmax=1e-6, steps=8)
    after = energies(neb)
    assert after == pytest.approx(after[::-1], abs=tolerances.symmetry * np.abs(after).max())
    assert np.abs(after - before)[1:-1].max() > 1e-6
    assert mirror_defect(neb, centre) < 1e-8


@pytest.mark.slow
def test_a_vacancy_hop_in_silicon_has_a_symmetric_barrier(silicon_model):
    """Converged, with ends relaxed: forward and backward barriers are one."""
    neb, _ = hop((2, 2, 2), lambda: MLIPCalculator(silicon_model, dtype="float64"), images=7, fmax=0.01)
    optimiser = FIRE(neb, logfile=None)
    converged = optimiser.run(fmax=0.05, steps=300)
    profile = energies(neb)
    barrier = profile.max() - profile[0]
    print(f"vacancy hop: {barrier:.4f} eV forward, {profile.max() - profile[-1]:.4f} eV backward, "
          f"{optimiser.nsteps} steps")  # fmt: skip
    assert converged
    assert barrier > 0.01
    assert profile == pytest.approx(profile[::-1], abs=2e-3)
