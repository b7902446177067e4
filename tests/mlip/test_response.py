"""Derivatives by an electric field equal differences, turn as tensors do, and leave the strict model as it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.units import Bohr, Hartree

from mlip import InputError, MLIPCalculator, Potential
from mlip.response import VACUUM_PERMITTIVITY, dielectric_tensor, field_response, modulo_quantum
from mlip.surroundings import turned
from mlip.testing import check_forces, check_hessian, check_operation, check_stress, five_point, random_rotation

ARCHITECTURES = {
    "nequip-parity": {"architecture": "nequip", "parity": True},
    "equiformer": {"architecture": "equiformer", "num_layers": 2},
}
FIELD = np.array([0.11, -0.23, 0.17])  # V/Å


@pytest.fixture(params=ARCHITECTURES.values(), ids=ARCHITECTURES)
def felt_by(request, potential_for):
    """A calculator that feels a field, every weight off its start value."""

    def make(atoms: Atoms, **settings) -> MLIPCalculator:
        small = {"num_layers": 3, "cutoff": 3.6, **request.param, **settings}
        return MLIPCalculator(potential_for(atoms, **small, anisotropy={"source": "field"}))

    return make


def in_field(atoms: Atoms, field) -> Atoms:
    copy = atoms.copy()
    copy.info["electric_field"] = np.asarray(field)
    return copy


@pytest.mark.parametrize("structure", ["cluster", "triclinic"])
def test_derivatives_by_the_field_are_differences(felt_by, structure, request, tolerances):
    """Along a general direction n: −dE/dt = μ·n, dF/dt = Z·n, dμ/dt = α·n."""
    atoms = request.getfixturevalue(structure)
    calculator, n = felt_by(atoms), np.array([0.6, -0.48, 0.64])
    for field in (np.zeros(3), FIELD):
        found = calculator.get_field_response(in_field(atoms, field))

        def along(h: float, field: np.ndarray = field) -> np.ndarray:
            image = in_field(atoms, field + h * n)
            dipole = calculator.get_field_response(image)["dipole"]
            return np.concatenate(
                [[calculator.get_potential_energy(image)], calculator.get_forces(image).ravel(), dipole]
            )

        slope = five_point(along, 1e-3)
        forces = np.einsum("iab,a->ib", found["born_charges"], n).ravel()
        expected = np.concatenate([[-found["dipole"] @ n], forces, found["polarizability"] @ n])
        np.testing.assert_allclose(slope, expected, atol=1e-6 * max(1.0, np.abs(expected).max()))
        assert np.abs(found["born_charges"]).max() > 1e-3
        alpha = found["polarizability"]
        np.testing.assert_allclose(alpha, alpha.T, atol=tolerances.symmetry * np.abs(alpha).max())
        total = found["born_charges"].sum(0)
        assert np.abs(total).max() < tolerances.symmetry * np.abs(found["born_charges"]).max()


def test_a_structure_in_a_field_obeys_physics(felt_by, triclinic, tolerances):
    calculator, atoms = felt_by(triclinic), in_field(triclinic, FIELD)
    checks = [
        check(calculator, atoms, tolerances.derivative) for check in (check_forces, check_stress, check_hessian)
    ]
    checks += [check_operation(calculator, atoms, g, tolerances.symmetry) for g in (random_rotation(5), -np.eye(3))]
    assert [c for c in checks if not c.passed] == []
    assert not calculator.is_invariant(atoms)
    assert calculator.is_invariant(triclinic)


def test_tensors_turn_with_the_structure(felt_by, cluster):
    calculator, turn = felt_by(cluster), -random_rotation(3)
    atoms = in_field(cluster, FIELD)
    here, there = (calculator.get_field_response(a) for a in (atoms, turned(atoms, turn)))
    np.testing.assert_allclose(there["dipole"], turn @ here["dipole"], atol=1e-10)
    np.testing.assert_allclose(there["polarizability"], turn @ here["polarizability"] @ turn.T, atol=1e-10)
    np.testing.assert_allclose(there["born_charges"], turn @ here["born_charges"] @ turn.T, atol=1e-10)


def test_symmetry_forbids_what_it_must(felt_by, symmetric_crystal):
    """No dipole in a cubic crystal with inversion, an isotropic polarizability, and isotropic charges of cations."""
    shaken = symmetric_crystal.copy()
    shaken.rattle(0.1, seed=1)  # forces of the usual size set the scale
    calculator = felt_by(shaken)
    found = calculator.get_field_response(symmetric_crystal)
    alpha = found["polarizability"]
    assert np.abs(alpha - alpha[0, 0] * np.eye(3)).max() < 1e-9 * max(1.0, np.abs(alpha).max())
    assert np.abs(found["dipole"]).max() < 1e-10
    first = found["born_charges"][0]
    assert np.abs(first - first[0, 0] * np.eye(3)).max() < 1e-9


def test_a_lone_atom_has_its_energy_in_any_field_and_pairs_end_smoothly(felt_by, cluster):
    calculator = felt_by(cluster)
    e0 = calculator.get_potential_energy(Atoms("Si"))
    assert calculator.get_potential_energy(in_field(Atoms("Si"), 3 * FIELD)) == e0
    cutoff = calculator.potential.cutoff
    pair = [in_field(Atoms("Si2", [(0, 0, 0), (0, 0, (1 - t) * cutoff)]), FIELD) for t in (2e-3, 1e-3, -1e-3)]
    far, near, beyond = (abs(calculator.get_potential_energy(p) - 2 * e0) for p in pair)
    assert beyond == 0
    assert near < far / 4


def test_structures_in_several_fields_in_one_batch(felt_by, triclinic, cluster):
    potential = felt_by(triclinic).potential
    structures = [in_field(cluster, FIELD), cluster, in_field(triclinic, -FIELD), in_field(cluster, 2 * FIELD)]
    for a, b in zip(potential.evaluate(structures), structures, strict=True):
        alone = potential.evaluate([b])[0]
        assert a["energy"] == pytest.approx(alone["energy"], abs=1e-11)
        np.testing.assert_allclose(a["forces"], alone["forces"], atol=1e-11)


def test_units_of_the_dielectric_tensor():
    """Polarizability volumes: 1 e Å²/V is e²/4πε₀ = 14.4 eV Å of them, and ε∞ − 1 = 4π · volume / V."""
    coulomb = Hartree * Bohr
    assert pytest.approx(1 / (4 * np.pi * coulomb), rel=1e-6) == VACUUM_PERMITTIVITY
    alpha = np.diag([1.0, 2.0, 3.0])
    expected = np.eye(3) + 4 * np.pi * coulomb * alpha / 100.0
    np.testing.assert_allclose(dielectric_tensor(alpha, 100.0), expected, rtol=1e-6)


def test_dipoles_of_cells_are_compared_up_to_the_quantum(triclinic):
    cell = torch.tensor(triclinic.cell.array)[None]
    small = torch.tensor([[0.2, -0.3, 0.1]], dtype=torch.float64, requires_grad=True)
    shifted = small + torch.tensor([[2.0, -1.0, 3.0]], dtype=torch.float64) @ cell[0]
    torch.testing.assert_close(modulo_quantum(shifted, cell), small)
    (slope,) = torch.autograd.grad(modulo_quantum(shifted, cell).sum(), small)
    assert torch.equal(slope, torch.ones_like(slope))
    torch.testing.assert_close(modulo_quantum(shifted, torch.zeros_like(cell)), shifted)


def test_a_strict_model_and_a_charged_structure_are_refused(felt_by, cluster):
    strict = Potential.from_config({"cutoff": 3.6, "num_layers": 2, "num_channels": 4}, ["Si", "O"])
    with pytest.raises(InputError, match="feels no electric field"):
        field_response(strict, strict.graph(cluster))
    charged = in_field(cluster, FIELD)
    charged.info["charge"] = 1
    with pytest.raises(InputError, match="charge 1 would be accelerated"):
        felt_by(cluster).get_potential_energy(charged)
