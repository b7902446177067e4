"""The ASE calculator: what it computes, refuses and leaves alone."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from mlip import InputError, MLIPCalculator
from mlip.derivatives import evaluate
from mlip.testing import energy_of, forces_of, stress_of


def test_results_are_those_of_the_potential(potential_for, variant, triclinic, tolerances):
    potential = potential_for(triclinic, **variant)
    triclinic.calc = MLIPCalculator(potential)
    expected = evaluate(potential, potential.graph(triclinic), stress=True)
    close = {"rtol": 0, "atol": tolerances.exact}
    np.testing.assert_allclose(triclinic.get_potential_energy(), float(expected.energy), **close)
    np.testing.assert_allclose(triclinic.get_potential_energies(), expected.atomic_energies, **close)
    np.testing.assert_allclose(triclinic.get_forces(), expected.forces.detach(), **close)
    np.testing.assert_allclose(triclinic.get_stress(voigt=False), expected.stress[0].detach(), **close)
    assert triclinic.get_potential_energy(force_consistent=True) == triclinic.get_potential_energy()
    full, voigt = expected.stress[0].detach(), triclinic.get_stress()
    np.testing.assert_allclose(voigt, full[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], **close)
    assert all(isinstance(v, float) or v.dtype == np.float64 for v in triclinic.calc.results.values())


def test_pressure_rises_when_a_crystal_is_squeezed():
    """ASE's sign: stress is negative under compression. The nuclear repulsion decides it for random weights."""
    from mlip import Potential

    settings = {"num_layers": 2, "num_channels": 2, "cutoff": 3.0, "zbl": True}
    calculator = MLIPCalculator(Potential.from_config(settings, ["Si"]), dtype="float64")
    traces = [np.trace(stress_of(calculator, bulk("Si", a=a))) / 3 for a in (3.2, 3.6, 4.0)]
    assert traces[0] < traces[1] < traces[2] < 0
    assert traces[0] < -10 * units.GPa


def test_energy_grows_when_forces_are_opposed(calculator_for, variant, triclinic):
    calculator = calculator_for(triclinic, **variant)
    forces = forces_of(calculator, triclinic)
    downhill = triclinic.copy()
    downhill.positions += 1e-3 * forces
    gain = energy_of(calculator, triclinic) - energy_of(calculator, downhill)
    assert gain == pytest.approx(1e-3 * np.sum(forces**2), rel=0.05)


def test_it_can_be_pickled_and_copied(calculator_for, triclinic):
    calculator = calculator_for(triclinic)
    forces = forces_of(calculator, triclinic)
    for twin in (pickle.loads(pickle.dumps(calculator)), copy.deepcopy(calculator)):
        np.testing.assert_array_equal(forces_of(twin, triclinic), forces)
        np.testing.assert_array_equal(twin.get_hessian(triclinic), calculator.get_hessian(triclinic))


def test_it_changes_neither_atoms_nor_model(potential_for, triclinic):
    potential = potential_for(triclinic).float()
    potential.train()
    calculator = MLIPCalculator(potential, dtype="float64")
    triclinic.positions += 7 * triclinic.cell.array[1]  # unwrapped on purpose
    triclinic.info["name"] = "kept"
    before = triclinic.copy()
    forces_of(calculator, triclinic)
    calculator.get_hessian(triclinic)
    calculator.get_dynamical_matrix(triclinic, (0.1, 0, 0))
    calculator.get_hessian_vector_product(triclinic, np.ones((3, 3)))
    assert triclinic == before
    assert triclinic.info == before.info
    assert set(triclinic.arrays) == set(before.arrays)
    assert potential.dtype == torch.float32
    assert potential.training
    assert all(p.requires_grad and p.grad is None for p in potential.parameters())


def test_a_later_change_of_the_model_does_not_reach_the_calculator(potential_for, triclinic):
    potential = potential_for(triclinic)
    calculator = MLIPCalculator(potential)
    before = energy_of(calculator, triclinic)
    with torch.no_grad():
        next(potential.network.parameters()).add_(1.0)
    triclinic.positions += 0.0
    calculator.reset()
    assert energy_of(calculator, triclinic) == before


def test_constraints_touch_neither_hessian_nor_dynamical_matrix(calculator_for, triclinic):
    calculator = calculator_for(triclinic)
    free = calculator.get_hessian(triclinic), calculator.get_dynamical_matrix(triclinic, (0.2, 0, 0))
    fixed = triclinic.copy()
    fixed.set_constraint(FixAtoms([0]))
    np.testing.assert_array_equal(calculator.get_hessian(fixed), free[0])
    np.testing.assert_array_equal(calculator.get_dynamical_matrix(fixed, (0.2, 0, 0)), free[1])


def test_what_is_known_is_not_computed_again(monkeypatch, calculator_for, triclinic):
    calculator = calculator_for(triclinic)
    triclinic.calc = calculator
    triclinic.get_forces()
    monkeypatch.setattr(calculator, "calculate", None)
    triclinic.get_potential_energy()
    triclinic.get_stress()


def test_every_change_of_the_structure_is_noticed(calculator_for, triclinic):
    calculator = calculator_for(triclinic)
    seen = [energy_of(calculator, triclinic)]
    for change in ("positions", "cell", "numbers", "pbc"):
        atoms = triclinic.copy()
        if change == "positions":
            atoms.positions[0, 0] += 1e-4
        elif change == "cell":
            atoms.set_cell(atoms.cell.array * 1.0001)
        elif change == "numbers":
            atoms.numbers[0] = 8
        else:
            atoms.pbc = (True, True, False)
        seen.append(energy_of(calculator, atoms))
    assert len(set(seen)) == 5


@pytest.mark.parametrize("pbc", [False, (True, False, False), (True, True, False)], ids=str)
def test_stress_needs_all_three_directions(calculator_for, triclinic, pbc):
    triclinic.pbc = pbc
    triclinic.calc = calculator_for(triclinic)
    assert np.isfinite(triclinic.get_forces()).all()
    with pytest.raises(PropertyNotImplementedError):
        triclinic.get_stress()
    assert "stress" not in triclinic.calc.results


def test_structures_without_a_cell_in_a_row(calculator_for, cluster, triclinic):
    """One calculator serves molecules and crystals of any size, in any order."""
    calculator = calculator_for(cluster)
    for atoms in (cluster, triclinic, cluster[:1], cluster[:3], triclinic.repeat(2), cluster):
        fresh = calculator_for(cluster)
        np.testing.assert_array_equal(forces_of(calculator, atoms), forces_of(fresh, atoms))


@pytest.mark.parametrize(("change", "message"), [
    (lambda a: a.set_chemical_symbols(["Si", "O", "Cu"]), "does not know Cu; it knows O, Si"),
    (lambda a: a.positions.__setitem__((0, 0), np.nan), "not finite"),
    (lambda a: a.positions.__setitem__(1, a.positions[0]), "same spot"),
    (lambda a: a.set_cell(np.zeros((3, 3))), "no lattice vector"),
    (lambda a: a.set_cell([[3, 0, 0], [3, 0, 0], [0, 0, 3]]), "no volume"),
], ids=["element", "nan", "same spot", "no cell", "no volume"])  # fmt: skip
def test_impossible_structures_say_why(calculator_for, triclinic, change, message):
    calculator = calculator_for(triclinic)
    change(triclinic)
    with pytest.raises(InputError, match=message):
        forces_of(calculator, triclinic)
    with pytest.raises(InputError, match=message):
        calculator.get_hessian(triclinic)


def test_no_atoms(calculator_for, triclinic):
    with pytest.raises(InputError, match="no atoms"):
        energy_of(calculator_for(triclinic), Atoms())


def test_shapes_of_second_derivatives(calculator_for, triclinic, cluster):
    calculator = calculator_for(triclinic)
    assert calculator.get_hessian(triclinic).shape == (9, 9)
    assert calculator.get_dynamical_matrix(triclinic, (0, 0.5, 0)).shape == (1, 9, 9)
    matrices = calculator.get_dynamical_matrix(triclinic, np.zeros((4, 3)))
    assert matrices.shape == (4, 9, 9)
    assert np.iscomplexobj(matrices)
    assert calculator.get_hessian_vector_product(triclinic, np.eye(3)).shape == (3, 3)
    with pytest.raises(InputError, match=r"\(3, 3\)"):
        calculator.get_hessian_vector_product(triclinic, np.ones(9))
    for wrong in (np.zeros(2), np.zeros((2, 2, 3)), (0, 0, np.nan)):
        with pytest.raises(InputError, match="q must have shape"):
            calculator.get_dynamical_matrix(triclinic, wrong)
    with pytest.raises(InputError, match="periodic in all three"):
        calculator.get_dynamical_matrix(cluster, (0, 0, 0))


def test_second_derivatives_are_float64_whatever_the_model(potential_for, variant, triclinic, tolerances):
    """A model stored in float32 gives Hessians symmetric to 1e-10, which float32 could not."""
    calculator = MLIPCalculator(potential_for(triclinic, **variant).float())
    matrix = calculator.get_hessian(triclinic)
    assert matrix.dtype == np.float64
    assert np.abs(matrix - matrix.T).max() < tolerances.symmetry * np.abs(matrix).max()


def test_precision_on_request(potential_for, triclinic):
    potential = potential_for(triclinic)
    assert MLIPCalculator(potential).potential.dtype == torch.float64
    assert MLIPCalculator(potential, dtype="float32").potential.dtype == torch.float32
    with pytest.raises(InputError, match="unknown dtype 'half'"):
        MLIPCalculator(potential, dtype="half")


def test_committee(potential_for, triclinic, tmp_path):
    """Means of energy, forces, stress and Hessian; sample standard deviations beside them."""
    members = [potential_for(triclinic, seed=seed) for seed in (1, 2, 3)]
    members[1].save(tmp_path / "second.mlip")
    committee = MLIPCalculator([members[0], tmp_path / "second.mlip", members[2]])
    triclinic.calc = committee
    alone = [MLIPCalculator(member) for member in members]
    forces = np.stack([forces_of(calculator, triclinic) for calculator in alone])
    np.testing.assert_allclose(triclinic.get_forces(), forces.mean(0), rtol=0, atol=1e-14)
    np.testing.assert_allclose(committee.results["forces_std"], forces.std(0, ddof=1), rtol=0, atol=1e-14)
    energies = [energy_of(calculator, triclinic) for calculator in alone]
    assert committee.results["energy_std"] == pytest.approx(np.std(energies, ddof=1))
    assert triclinic.get_potential_energy() == pytest.approx(np.mean(energies))
    assert committee.results["stress_std"].shape == (6,)
    assert committee.get_property("energy_std", triclinic) == committee.results["energy_std"]
    hessians = [calculator.get_hessian(triclinic) for calculator in alone]
    np.testing.assert_allclose(committee.get_hessian(triclinic), np.mean(hessians, 0), rtol=0, atol=1e-12)
    assert "forces_std" not in alone[0].implemented_properties


def test_committees_must_agree_on_species_and_cutoff(potential_for, triclinic, tmp_path):
    first = potential_for(triclinic)
    for other in (potential_for(triclinic, cutoff=4.5), potential_for(triclinic[:1])):
        with pytest.raises(InputError, match="must share"):
            MLIPCalculator([first, other])
    with pytest.raises(InputError, match="no model"):
        MLIPCalculator([])
    with pytest.raises(InputError, match="no such model file"):
        MLIPCalculator(tmp_path / "missing.mlip")


def test_results_survive_in_files(calculator_for, triclinic, tmp_path):
    """ASE can store what was computed, and read it back."""
    from ase.io import read, write

    triclinic.calc = calculator_for(triclinic)
    forces = triclinic.get_forces()
    write(tmp_path / "a.traj", triclinic)
    again = read(tmp_path / "a.traj")
    assert isinstance(again.calc, SinglePointCalculator)
    np.testing.assert_array_equal(again.get_forces(), forces)
