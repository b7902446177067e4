"""Models with relaxed weights or a field in this room: what is refused, what is handled, and their Born charges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from mlip import InputError, MLIPCalculator, Potential
from mlip.md import RotationAveragedCalculator, check, elastic, find_distortions, phonons, relax, vibrations
from mlip.md.calculators import members_of
from mlip.md.dynamical import frequencies_at
from mlip.md.polar import born_of_model
from mlip.md.solution import Recipe
from mlip.md.structure import primitive_cell
from mlip.surroundings import turned
from mlip.testing import random_rotation, transformed

SMALL = {"cutoff": 3.2, "num_layers": 2, "num_channels": 4, "lmax": 2, "num_radial": 4, "radial_width": 8, "seed": 5}


def potential(source: str, species: list[str]) -> Potential:
    """Random weights, every one moved off its start value."""
    model = Potential.from_config({**SMALL, "anisotropy": {"source": source}}, species).double()
    rng = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=rng))
    return model


@pytest.fixture
def relaxed() -> MLIPCalculator:
    """Relaxed weights on silicon, in a frame that is no lattice axis."""
    with pytest.warns(UserWarning, match="orientation"):
        return MLIPCalculator(potential("learned", ["Si"]), frame=random_rotation(1))


@pytest.fixture
def silicon() -> Atoms:
    return bulk("Si", a=5.43)


def test_workflows_that_take_space_to_be_isotropic_refuse(relaxed, silicon):
    molecule = Atoms("Si3", [(0, 0, 0), (2.3, 0, 0), (0.5, 2.1, 0)])
    for ask in (
        lambda: relax(silicon, relaxed, keep_symmetry=True),
        lambda: find_distortions(silicon, relaxed),
        lambda: elastic(silicon, relaxed),
        lambda: phonons(silicon, relaxed, symmetrize=True),
        lambda: vibrations(molecule, relaxed, relax_first=False),
    ):
        with pytest.raises(InputError, match=r"breaks the symmetry of space.*RotationAveragedCalculator"):
            ask()


def test_held_atoms_vibrate_as_nothing_is_projected_out(relaxed):
    molecule = Atoms("Si3", [(0, 0, 0), (2.3, 0, 0), (0.5, 2.1, 0)])
    found = vibrations(molecule, relaxed, indices=[2], relax_first=False)
    assert len(found.frequencies) == 3


def test_phonons_do_not_use_a_space_group_that_the_model_breaks(relaxed, silicon):
    cell = primitive_cell(silicon)
    solution = Recipe("exact", 2 * np.eye(3, dtype=np.int64)).solve(cell, relaxed)
    assert solution.defect > 1e-4
    assert not solution.symmetric
    q = np.array([[0.1, 0.2, 0.05]])
    exact = np.linalg.eigvalsh(relaxed.get_dynamical_matrix(cell.atoms, q)[0])
    assert frequencies_at(solution.matrices, q)[0] == pytest.approx(
        np.sign(exact) * np.sqrt(np.abs(exact)) * 15.633302, rel=1e-5
    )


def test_the_checks_turn_the_laboratory_along(relaxed, silicon):
    result = check(relaxed, silicon.repeat((2, 1, 1)), nve_steps=0)
    assert [c for c in result.checks if not c.passed] == []
    spread = next(c for c in result.warnings if c.name.startswith("rotational spread"))
    assert not spread.passed  # it is measured, and it is not zero


def test_the_average_over_rotations_is_the_part_that_keeps_every_symmetry(relaxed, silicon):
    """Rotations turn the structure against its frame. Degrees 1 … 4 of a linear θ average to zero exactly."""
    atoms = silicon.copy()
    atoms.rattle(0.1, seed=1)
    averaged = RotationAveragedCalculator(relaxed, replicas=2)
    image = transformed(atoms, random_rotation(3))
    plain = abs(relaxed.get_potential_energy(image) - relaxed.get_potential_energy(atoms))
    strict = abs(averaged.get_potential_energy(image) - averaged.get_potential_energy(atoms))
    assert strict < 0.1 * plain
    here = relaxed.get_potential_energy(turned(relaxed.placed(atoms), random_rotation(3)))
    assert here == pytest.approx(relaxed.get_potential_energy(atoms), abs=1e-10)


def test_members_of_a_committee_keep_the_frame(silicon):
    with pytest.warns(UserWarning, match="orientation"):
        both = MLIPCalculator([potential("learned", ["Si"])] * 2, frame=random_rotation(1))
    with pytest.warns(UserWarning, match="orientation"):
        members = members_of(both)
    energies = [member.get_potential_energy(silicon) for member in members]
    assert energies[0] == pytest.approx(both.get_potential_energy(silicon))
    assert "full_stress" in both.results


# -- Born charges ------------------------------------------------------------------------------------------


@pytest.fixture
def rock_salt() -> Atoms:
    return bulk("SiO", "rocksalt", a=4.6)


class Ionic(MLIPCalculator):
    """A model whose charges and polarizability are known."""

    def get_field_response(self, atoms: Atoms) -> dict[str, np.ndarray]:
        charges = np.array([1.4, -1.4])[:, None, None] * np.eye(3)
        return {"dipole": np.zeros(3), "polarizability": 0.3 * np.eye(3), "born_charges": charges}


def test_charges_of_the_model_are_its_derivatives(rock_salt):
    calculator = MLIPCalculator(potential("field", ["Si", "O"]))
    cell = primitive_cell(rock_salt)
    found, direct = born_of_model(calculator, cell), calculator.get_field_response(cell.atoms)
    np.testing.assert_allclose(found.charges, direct["born_charges"], atol=1e-10)
    epsilon = 1 + direct["polarizability"][0, 0] / (0.0055263494 * rock_salt.get_volume())
    assert found.dielectric[0, 0] == pytest.approx(epsilon, rel=1e-6)
    assert all(c.passed for c in found.checks)
    strict = MLIPCalculator(Potential.from_config(SMALL, ["Si", "O"]))
    with pytest.raises(InputError, match="feels no electric field"):
        born_of_model(strict, cell)


def test_charges_of_the_model_split_the_optical_modes(rock_salt):
    """ω²_LO − ω²_TO = Z² / (ε₀ ε∞ V μ) of a cubic crystal of two ions with reduced mass μ."""
    calculator = Ionic(potential("field", ["Si", "O"]))
    cell = primitive_cell(rock_salt)
    solution = Recipe("exact", 2 * np.eye(3, dtype=np.int64), born="model").solve(cell, calculator)
    gamma = np.linalg.eigvalsh(calculator.get_dynamical_matrix(cell.atoms, np.zeros(3))[0])
    matrix = solution.matrices.at(np.array([[1e-3, 1e-3, 0.0]]))[0]
    near = np.linalg.eigvalsh((matrix + matrix.conj().T) / 2)
    masses, volume = cell.atoms.get_masses(), cell.atoms.get_volume()
    dielectric = 1 + 0.3 / (0.0055263494 * volume)
    split = 1.4**2 / (0.0055263494 * dielectric * volume) * (1 / masses).sum()
    optical = gamma[np.argsort(np.abs(gamma))[3:]]
    expected = np.sort(np.concatenate([np.zeros(3), optical + np.array([0, 0, split])]))
    np.testing.assert_allclose(near, expected, atol=2e-3 * max(split, np.abs(optical).max()))
