"""Domain variants: a network that is handed a tensor chooses one, and knows the others from one."""

from __future__ import annotations

import numpy as np
import pytest
import spglib
from ase import Atoms

from mlip.datasets import perovskite
from mlip.errors import InputError
from mlip.surroundings import turned
from mlip.testing import random_rotation
from mlip.training.variants import train_variants

# of the tetragonal phase along z, in fractions of its period: Ba, Ti, the apical and the basal oxygens
SHIFTS = np.array([0.0, 0.022, -0.024, -0.011, -0.011])


def batio3() -> tuple[Atoms, Atoms]:
    """The cubic and the tetragonal crystal."""
    scaled = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    cubic = Atoms("BaTiO3", scaled_positions=scaled, cell=4.0 * np.eye(3), pbc=True)
    child = cubic.copy()
    child.positions[:, 2] += 4.0 * SHIFTS
    child.set_cell(np.diag([3.99, 3.99, 4.04]), scale_atoms=True)
    return cubic, child


def lead_titanate() -> tuple[Atoms, Atoms]:
    phases = perovskite.phases()
    return phases["cubic"].atoms, phases["tetragonal"].atoms


@pytest.fixture(scope="module", params=[batio3, lead_titanate])
def learned(request):
    return train_variants(*request.param(), steps=100)


def test_one_child_is_learned_and_six_are_known(learned):
    assert learned.losses[-1] < 0.05 * learned.undistorted
    structures = learned.structures()
    assert len(structures) == 6
    base, moves = learned.parent.positions, [s.positions - learned.parent.positions for s in structures]
    for k, structure in enumerate(structures):
        crystal = (structure.cell.array, structure.get_scaled_positions(), structure.numbers)
        assert spglib.get_spacegroup(crystal, symprec=1e-4) == "P4mm (99)"
        assert all(np.abs(moves[k] - other).max() > 0.05 for other in moves[:k])
    # the operation that turns the first variant into another carries its displacements along, site by site
    for operation, move in zip(learned.variants.orientations, moves, strict=True):
        image = base @ operation.T
        gaps = (image[:, None] - base[None]) @ np.linalg.inv(learned.parent.cell.array)
        gaps = np.linalg.norm((gaps - np.rint(gaps)) @ learned.parent.cell.array, axis=-1)
        site = gaps.argmin(1)
        assert gaps.min(1).max() < 1e-6
        np.testing.assert_allclose(move[site], moves[0] @ operation.T, atol=1e-6)


def test_without_a_tensor_a_symmetric_crystal_stays(learned):
    moves = learned.model.displacements(learned.parent, np.zeros(3))
    assert np.abs(moves).max() < 1e-12


def test_turned_with_its_tensor(learned):
    turn = -random_rotation(2)
    atoms = learned.parent.copy()
    atoms.rattle(0.1, seed=0)
    b = np.array([0.3, -0.5, 0.8])
    moves = learned.model.displacements(atoms, b)
    image = learned.model.displacements(turned(atoms, turn), turn @ b)
    np.testing.assert_allclose(image, moves @ turn.T, atol=1e-6 * np.abs(moves).max())
    assert np.abs(learned.model.displacements(atoms, -b) - moves).max() > 1e-3


def test_without_a_tensor_nothing_is_learned():
    stuck = train_variants(*batio3(), steps=5, breaking=False)
    np.testing.assert_allclose(stuck.losses, stuck.undistorted, rtol=1e-10)


def test_antiphase_domains_are_refused():
    cubic, _ = batio3()
    child = cubic.repeat((2, 1, 1))
    titanium = [k for k, symbol in enumerate(child.get_chemical_symbols()) if symbol == "Ti"]
    child.positions[titanium] += [(0, 0, 0.1), (0, 0, -0.1)]
    with pytest.raises(InputError, match="lattice translations"):
        train_variants(cubic, child, steps=1)
