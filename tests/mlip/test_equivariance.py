"""Energy is invariant and forces, stress and Hessian turn with the structure, under every operation of O(3)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms

from mlip import MLIPCalculator
from mlip.derivatives import evaluate
from mlip.testing import check_net_force, check_operation, check_torque, forces_of, random_rotation, transformed

OPERATIONS = {
    "rotation": random_rotation(1),
    "quarter turn": np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]),
    "inversion": -np.eye(3),
    "mirror": np.diag([1.0, 1.0, -1.0]),
    "improper": -random_rotation(2),
}


@pytest.fixture(params=OPERATIONS)
def operation(request) -> np.ndarray:
    return OPERATIONS[request.param]


@pytest.mark.parametrize("structure", ["cluster", "triclinic"])
def test_energy_forces_and_stress(request, calculator_for, variant, lmax, tolerances, structure):
    atoms = request.getfixturevalue(structure)
    calculator = calculator_for(atoms, lmax=lmax, **variant)
    for name, operation in OPERATIONS.items():
        check = check_operation(calculator, atoms, operation, tolerances.symmetry, name)
        assert check.passed, check


@pytest.mark.parametrize("layers", [4, 5])
def test_parity_features_reach_the_energy(potential_for, variant, cluster, layers):
    """What the inversion tests above rest on: with parity on, pseudo features do change the energy."""
    potential = potential_for(cluster, num_layers=layers, **variant)
    before = evaluate(potential, potential.graph(cluster)).forces
    pseudo = [p for name, p in potential.named_parameters() if "pseudo" in name]
    assert bool(pseudo) == variant["parity"]
    with torch.no_grad():
        for parameter in pseudo:
            parameter.mul_(1.5)
    after = evaluate(potential, potential.graph(cluster)).forces
    assert bool((after - before).abs().max() > 1e-4) == variant["parity"]


def test_five_layers_with_pseudo_features_between_pseudo_features(calculator_for, variant, cluster, tolerances):
    calculator = calculator_for(cluster, num_layers=5, **variant)
    for name, operation in OPERATIONS.items():
        assert check_operation(calculator, cluster, operation, tolerances.symmetry, name).passed


@pytest.mark.parametrize("norm", [False, True], ids=["", "norm"])
def test_hessian(calculator_for, variant, cluster, operation, tolerances, norm):
    """H(R·x) = R·H(x)·Rᵀ."""
    calculator = calculator_for(cluster, norm=norm, **variant)
    matrix = calculator.get_hessian(cluster)
    turn = np.kron(np.eye(len(cluster)), operation)
    error = calculator.get_hessian(transformed(cluster, operation)) - turn @ matrix @ turn.T
    assert np.abs(error).max() < tolerances.symmetry * np.abs(matrix).max()


def test_bonds_along_axes_and_in_planes(calculator_for, variant, star, tolerances):
    """Where frames switch charts or charts have poles: forces and Hessian against those of a turned copy."""
    calculator = calculator_for(star, **variant)
    turn = random_rotation(5)
    check = check_operation(calculator, star, turn, tolerances.symmetry)
    assert check.passed, check
    matrix = calculator.get_hessian(star)
    big = np.kron(np.eye(len(star)), turn)
    error = calculator.get_hessian(transformed(star, turn)) - big @ matrix @ big.T
    assert np.abs(error).max() < tolerances.symmetry * np.abs(matrix).max()


def test_the_frame_is_smooth_across_the_seam(calculator_for, variant, star):
    """Forces of bonds in the plane y = 0 are the limit of those a hair above and below it."""
    calculator = calculator_for(star, **variant)
    tilt = 1e-9
    forces = forces_of(calculator, star)
    for sign in (1, -1):
        shear = np.eye(3)
        shear[1, 0] = shear[1, 2] = sign * tilt
        assert np.abs(forces_of(calculator, transformed(star, shear)) - forces).max() < 1e-6


def test_net_force_and_torque_vanish(calculator_for, variant, cluster, triclinic, tolerances):
    molecule = calculator_for(cluster, **variant)
    assert check_net_force(molecule, cluster, tolerances.symmetry).passed
    assert check_torque(molecule, cluster, tolerances.symmetry).passed
    assert check_net_force(calculator_for(triclinic, **variant), triclinic, tolerances.symmetry).passed


def test_a_centre_of_inversion_feels_no_force(calculator_for, variant, tolerances):
    """Published SO(2) networks push an atom off an inversion centre by up to 3 % of the largest force."""
    arms = np.array([[1.5, 0.3, 0.6], [0.4, 1.6, -0.9], [-0.5, 0.8, 1.7], [1.1, -1.4, 0.9]])
    molecule = Atoms("SiOSiOOOSiOO", np.concatenate([np.zeros((1, 3)), arms, -arms]))
    forces = forces_of(calculator_for(molecule, **variant), molecule)
    assert np.abs(forces[0]).max() < tolerances.symmetry * np.abs(forces).max()


def test_a_float32_model_moved_to_float64_keeps_no_rounded_constants(potential_for, variant, cluster, tolerances):
    potential = potential_for(cluster, dtype=torch.float32, **variant).double()
    check = check_operation(MLIPCalculator(potential), cluster, random_rotation(1), tolerances.exact)
    assert check.passed, check
