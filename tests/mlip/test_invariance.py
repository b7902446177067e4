"""What must not matter: numbering, origin, choice of images and cell, batching, precision, earlier calls."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import make_supercell

from mlip import MLIPCalculator
from mlip.derivatives import evaluate
from mlip.graph import batch_graphs
from mlip.testing import (
    check_periodicity,
    check_permutation,
    check_repeatability,
    check_supercell,
    check_translation,
    energy_of,
    forces_of,
    stress_of,
)


@pytest.mark.parametrize("structure", ["cluster", "triclinic"])
def test_numbering_and_origin(request, calculator_for, variant, tolerances, structure):
    atoms = request.getfixturevalue(structure)
    calculator = calculator_for(atoms, **variant)
    assert check_permutation(calculator, atoms, tolerances.symmetry).passed
    assert check_translation(calculator, atoms, tolerances.symmetry).passed


def test_choice_of_images(calculator_for, variant, triclinic, tolerances):
    assert check_periodicity(calculator_for(triclinic, **variant), triclinic, tolerances.symmetry).passed


@pytest.mark.parametrize("settings", [{"cutoff": 4.0}, {"cutoff": 5.5, "num_layers": 2, "zbl": True}])
def test_extensivity_with_cells_smaller_than_the_cutoff(calculator_for, variant, triclinic, tolerances, settings):
    calculator = calculator_for(triclinic, **variant, **settings)
    assert min(triclinic.cell.lengths()) < calculator.potential.cutoff
    assert check_supercell(calculator, triclinic, tolerances.symmetry).passed


def test_one_crystal_described_by_another_cell(calculator_for, variant, triclinic, tolerances):
    """A sheared choice of lattice vectors with the same volume, left-handed."""
    calculator = calculator_for(triclinic, **variant)
    other = make_supercell(triclinic, [[1, 1, 0], [0, 1, 0], [1, 0, -1]])
    assert np.linalg.det(other.cell.array) * np.linalg.det(triclinic.cell.array) < 0
    assert energy_of(calculator, other) == pytest.approx(energy_of(calculator, triclinic), rel=tolerances.exact)
    error = stress_of(calculator, other) - stress_of(calculator, triclinic)
    assert np.abs(error).max() < tolerances.symmetry * np.abs(stress_of(calculator, triclinic)).max()


def test_slab_and_wire_see_their_images_in_periodic_directions_alone(calculator_for, triclinic, tolerances):
    """A slab equals a crystal whose cell leaves more than the cutoff between the layers."""
    calculator = calculator_for(triclinic)
    slab = triclinic.copy()
    slab.cell[2] *= 4
    slab.pbc = (True, True, False)
    crystal = slab.copy()
    crystal.pbc = True
    difference = forces_of(calculator, slab) - forces_of(calculator, crystal)
    assert np.abs(difference).max() < tolerances.symmetry
    wire = slab.copy()
    wire.pbc = (True, False, False)
    assert abs(energy_of(calculator, wire) - energy_of(calculator, slab)) > 1e-3


def test_batch_equals_single(potential_for, variant, triclinic, cluster, star, tolerances):
    potential = potential_for(triclinic, **variant)
    structures = [cluster, triclinic, star, triclinic.repeat((1, 2, 1)), cluster[:1]]
    single = [evaluate(potential, potential.graph(atoms), stress=True) for atoms in structures]
    batch = evaluate(potential, batch_graphs([potential.graph(atoms) for atoms in structures]), stress=True)
    for name in ("energy", "atomic_energies", "forces", "stress"):
        apart = torch.cat([getattr(e, name) for e in single])
        assert (getattr(batch, name) - apart).abs().max() < tolerances.exact * apart.abs().max()


def test_evaluate_packs_batches_without_effect(potential_for, triclinic, cluster, star):
    potential = potential_for(triclinic)
    structures = [triclinic, cluster, star, triclinic]
    together = potential.evaluate(structures, ("energy", "energies", "forces", "stress"))
    apart = potential.evaluate(structures, ("energy", "energies", "forces", "stress"), max_edges=1)
    for one, other in zip(together, apart, strict=True):
        assert set(one) == set(other)
        for name in one:
            np.testing.assert_allclose(one[name], other[name], rtol=0, atol=1e-12)
    assert "stress" in together[0]
    assert "stress" not in together[1]  # a molecule has none


def test_two_evaluations_have_the_same_bits(potential_for, variant, triclinic):
    for dtype in (torch.float32, torch.float64):
        calculator = MLIPCalculator(potential_for(triclinic, dtype=dtype, **variant))
        assert check_repeatability(calculator, triclinic).value == 0.0


def test_the_same_seed_gives_the_same_potential(potential_for, variant, triclinic):
    first, second = (potential_for(triclinic, **variant).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = potential_for(triclinic, seed=2, **variant).state_dict()
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("norm", [False, True], ids=["", "norm"])
def test_single_against_double_precision(potential_for, variant, triclinic, tolerances, norm):
    double = potential_for(triclinic, norm=norm, **variant)
    exact = evaluate(double, double.graph(triclinic), stress=True)
    single = double.float()
    rough = evaluate(single, single.graph(triclinic), stress=True)
    assert rough.forces.dtype == torch.float32
    assert rough.energy.dtype == torch.float64
    assert (rough.forces.double() - exact.forces).abs().max() < tolerances.single * exact.forces.abs().max()
    assert (rough.stress.double() - exact.stress).abs().max() < tolerances.single * exact.stress.abs().max()
    assert (rough.energy - exact.energy).abs().max() < tolerances.single * exact.forces.abs().max()
