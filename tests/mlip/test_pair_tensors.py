"""Anisotropic pairs: exact forces, and labels that are such a sum are found again."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from mlip.errors import InputError
from mlip.symmetry.pair_tensors import PairTensors


def crystals(number: int) -> list[Atoms]:
    found = []
    for k in range(number):
        atoms = bulk("Si", "diamond", a=5.4, cubic=True)
        atoms.rattle(0.15, seed=k)
        found.append(atoms)
    return found


def planted() -> PairTensors:
    rng = np.random.default_rng(0)
    return PairTensors((0, 2), 4.5, 3, 0.02 * rng.normal(size=1 + 3 * 6))


def test_forces_are_derivatives():
    atoms, model, step = crystals(1)[0], planted(), 1e-4
    forces = model.evaluate([atoms])[0]["forces"]
    for index, axis in ((0, 0), (3, 1), (6, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[index, axis] += sign * step
            energies.append(model.evaluate([moved])[0]["energy"])
        assert forces[index, axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=1e-7)


def test_a_sum_of_pairs_is_found_again():
    structures, truth = crystals(8), planted()
    for atoms in structures:
        atoms.calc = SinglePointCalculator(atoms, **truth.evaluate([atoms])[0])
    fitted = PairTensors.fit(structures, degrees=(0, 2), cutoff=4.5, num_radial=3, ridge=1e-14)
    unseen = crystals(9)[-1:]
    np.testing.assert_allclose(fitted.evaluate(unseen)[0]["forces"], truth.evaluate(unseen)[0]["forces"], atol=1e-6)


def test_what_pairs_cannot_have_is_refused():
    with pytest.raises(InputError, match="odd degree"):
        PairTensors.fit([], degrees=(1,))
    with pytest.raises(InputError, match="no energy"):
        PairTensors.fit(crystals(1))
