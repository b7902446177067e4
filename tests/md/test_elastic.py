"""Elastic constants: known potentials, exact against finite strain, long waves, and what must be refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.spacegroup import crystal
from scipy.spatial.transform import Rotation

from mlip import MLIPCalculator, Potential
from mlip.errors import InputError
from mlip.md import elastic
from mlip.md.calculators import attached
from mlip.md.elastic_tensor import to_voigt
from mlip.md.elasticity import exact_tensors, finite_strain
from mlip.md.equilibrium import widest_gap
from mlip.md.units import GPA_PER_EV_A3


def potential(species, seed):
    settings = {"architecture": "nequip", "cutoff": 4.0, "num_layers": 2, "num_channels": 4, "lmax": 2, "seed": seed}
    return Potential.from_config(settings | {"zbl": True}, species=species).double()


@pytest.fixture(scope="module")
def zincblende():
    """A crystal that random weights hold stable, with an internal coordinate under shear."""
    return bulk("SiO", "zincblende", a=4.98)


@pytest.fixture(scope="module")
def calculator():
    return MLIPCalculator(potential(["O", "Si"], 2))


@pytest.fixture(scope="module")
def result(zincblende, calculator):
    return elastic(zincblende, calculator)


@pytest.fixture(scope="module")
def trigonal():
    """Quartz's space group: C14, no inversion, internal coordinates under every strain; stable with seed 1."""
    return crystal(
        ["Si", "O"],
        [(0.575907, 0, 1 / 6), (0.142461, 0, 1 / 6)],
        spacegroup=154,
        cellpar=[3.80580727, 3.80580727, 2.13030804, 90, 90, 120],
    )


def values(checks):
    return {check.name: check.value for check in checks}


def test_stillinger_weber_silicon(silicon, sw):
    """Cowley, Phys. Rev. Lett. 60, 2379 (1988): 151.4, 76.4, 56.4 and unrelaxed C44 117.2 by his definition."""
    found = elastic(silicon, sw)
    assert found.method == "strain"
    assert found.matrix[[0, 0, 3], [0, 1, 3]] == pytest.approx([151.4, 76.4, 56.4], abs=0.06)
    analytic = to_voigt(attached(silicon, sw).calc.get_property("elastic_constants", attached(silicon, sw)))
    assert np.abs(found.matrix - analytic * GPA_PER_EV_A3).max() < 1e-5 * found.matrix.max()
    assert all(check.passed for check in found.checks)


def test_cauchy_relation_of_a_pair_potential():
    """Pair forces, every atom a centre of inversion, no stress: C12 = C44."""
    argon = elastic(bulk("Ar", a=5.2), LennardJones(sigma=3.4, epsilon=0.0104, rc=9.0, smooth=True)).matrix
    assert argon[3, 3] == pytest.approx(argon[0, 1], rel=1e-6)
    assert argon[0, 0] > argon[0, 1] > 2


def test_exact_equals_finite_strain(result):
    """With atoms relaxed at each strain; the internal part is most of C44 here, so nothing hides."""
    relaxed, clamped = result.standard_matrix[3, 3], result.standard_clamped[3, 3]
    assert clamped > 5 * relaxed
    found = values(result.checks)
    assert found["exact C against finite strains"] < 1e-5
    assert found["sound against slopes of D(q)"] < 1e-5
    assert all(check.passed for check in result.checks)


def test_without_the_internal_part_the_checks_fail(zincblende, calculator):
    """The defect that all checks exist for: ions held to the strain."""

    class Clamped(MLIPCalculator):
        def get_strain_derivatives(self, atoms):
            mixed, second = super().get_strain_derivatives(atoms)
            return np.zeros_like(mixed), second

    wrong = elastic(zincblende, Clamped(potential(["O", "Si"], 2)))
    failed = {check.name for check in wrong.checks if not check.passed}
    assert failed == {"exact C against finite strains", "sound against slopes of D(q)"}


def test_silicon_needs_its_internal_coordinate(silicon, sw):
    """Kleinman's internal strain: half of the clamped C44 goes."""
    clamped = finite_strain(silicon, sw, relaxed=False)
    relaxed = finite_strain(silicon, sw)
    assert clamped[3, 3] - relaxed[3, 3] == pytest.approx(109.756 - 56.449, abs=0.01)
    assert clamped[:3, :3] == pytest.approx(relaxed[:3, :3], abs=1e-3)


def test_a_trigonal_crystal_with_internal_coordinates(trigonal):
    """Its C14 and the long waves of exact phonons, which know nothing of Φ⁺."""
    found = elastic(trigonal, MLIPCalculator(potential(["O", "Si"], 1)), check=False)
    c = found.standard_matrix
    assert abs(c[0, 3]) > 1
    assert c[0, 3] == pytest.approx(-c[1, 3], abs=1e-8)
    assert abs(c[4, 5]) == pytest.approx(abs(c[0, 3]), abs=1e-8)
    assert c[5, 5] == pytest.approx((c[0, 0] - c[0, 1]) / 2, abs=1e-8)
    assert np.abs(found.standard_clamped - c).max() > 1
    assert values(found.checks)["sound against slopes of D(q)"] < 1e-5


@pytest.mark.slow
def test_a_trigonal_crystal_against_finite_strain(trigonal):
    found = elastic(trigonal, MLIPCalculator(potential(["O", "Si"], 1)), check=True)
    assert values(found.checks)["exact C against finite strains"] < 1e-5


def test_a_turned_crystal_has_the_same_constants(zincblende, calculator, result):
    turn = Rotation.from_euler("xyz", [0.4, 1.1, -0.6]).as_matrix()
    turned = zincblende.copy()
    turned.set_cell(zincblende.cell.array @ turn.T, scale_atoms=True)
    found = elastic(turned, calculator, check=False)
    largest = result.matrix.max()
    assert np.abs(found.standard_matrix - result.standard_matrix).max() < 1e-5 * largest
    assert np.abs(found.matrix - result.matrix).max() > 1e-2 * largest


def test_supercells_and_cells_have_the_same_tensor(result, calculator):
    cell = result.solution.cell.atoms
    one, _, _ = exact_tensors(cell, calculator)
    two, _, _ = exact_tensors(cell.repeat((2, 1, 1)), calculator)
    assert np.abs(one - two).max() < 1e-8 * np.abs(one).max()


def test_a_lattice_without_internal_coordinates(result):
    """Its tensor is the clamped one; a lone atom cannot follow."""
    one = MLIPCalculator(potential(["Si"], 1))
    tensor, clamped, lowest = exact_tensors(bulk("Si", "fcc", a=3.9), one)
    assert np.array_equal(tensor, clamped)
    assert lowest == np.inf


def test_a_committee_has_a_spread(zincblende, calculator, result):
    twins = MLIPCalculator([potential(["O", "Si"], 2)] * 2)
    same = elastic(zincblende, twins, check=False)
    assert np.abs(same.spread()["C_GPa"]).max() < 1e-6 * result.matrix.max()
    assert np.abs(same.matrix - result.matrix).max() < 1e-6 * result.matrix.max()
    assert "±" in "".join(same.lines)


def test_members_differ_by_their_own_constants(zincblende, result):
    """One member with all energies doubled: C and 2C, the mean 1.5 C, the deviation C/√2."""
    double = potential(["O", "Si"], 2)
    normalization = type(double.normalization)(
        avg_num_neighbors=double.normalization.avg_num_neighbors,
        energy_scale=2 * double.normalization.energy_scale,
        e0=double.normalization.e0,
    )
    plain = {"architecture": "nequip", "cutoff": 4.0, "num_layers": 2, "num_channels": 4, "lmax": 2, "seed": 2}
    members = [
        Potential.from_config(plain | {"zbl": False}, ["O", "Si"], n).double()
        for n in (double.normalization, normalization)
    ]
    tensors = [exact_tensors(zincblende, MLIPCalculator(m))[0] for m in members]
    mean, _, _ = exact_tensors(zincblende, MLIPCalculator(members))
    assert np.abs(tensors[1] - 2 * tensors[0]).max() < 1e-10 * np.abs(mean).max()
    assert np.abs(mean - 1.5 * tensors[0]).max() < 1e-10 * np.abs(mean).max()


def test_an_unstable_crystal_is_said_to_be():
    """Body-centred copper gives way along Bain's path: C11 < C12."""
    found = elastic(bulk("Cu", "bcc", a=2.85), EMT())
    assert not found.stable
    assert {check.name for check in found.checks if not check.passed} == {"elastic instability (Born)"}
    assert "not stable" in found.lines[-1]
    found.plot()


@pytest.mark.parametrize(
    ("atoms", "word"),
    [
        (molecule("H2O"), "periodic in all three"),
        (fcc111("Cu", (1, 1, 3), vacuum=6.0), "periodic in all three"),
        (fcc111("Cu", (1, 1, 3), vacuum=6.0, periodic=True), "vacuum"),
    ],
    ids=["molecule", "slab", "slab in a box"],
)
def test_what_has_no_elastic_constants_is_refused(atoms, word):
    with pytest.raises(InputError, match=word):
        elastic(atoms, EMT())


def test_width_of_the_vacuum():
    slab = fcc111("Cu", (1, 1, 3), vacuum=6.0, periodic=True)
    assert widest_gap(slab) == pytest.approx(12.0)
    assert widest_gap(bulk("Cu", a=3.6)) < 4


def test_stress_is_refused_and_so_are_unknown_methods(silicon, sw, new_springs):
    pressed = silicon.copy()
    pressed.set_cell(0.97 * silicon.cell.array, scale_atoms=True)
    with pytest.raises(InputError, match="GPa of stress"):
        elastic(pressed, sw, relax_first=False)
    with pytest.raises(InputError, match="none of auto"):
        elastic(silicon, sw, method="guess")
    with pytest.raises(InputError, match="no exact derivatives"):
        elastic(silicon, sw, method="exact")
    with pytest.raises(InputError, match="need stress"):
        elastic(silicon, new_springs(1.0))


def test_files_and_values(result, tmp_path):
    files = result.write(tmp_path)
    assert {file.name for file in files} == {"elastic.json", "elastic.png"}
    written = json.loads((tmp_path / "elastic.json").read_text())
    c, s = np.array(written["C_GPa"]), np.array(written["compliance_per_GPa"])
    assert c @ s == pytest.approx(np.eye(6), abs=1e-10)
    assert written["moduli"]["bulk"][2] == pytest.approx((c[0, 0] + 2 * c[0, 1]) / 3)
    assert written["debye_K"]["christoffel"] == pytest.approx(written["debye_K"]["hill"], rel=0.05)
    assert (tmp_path / "elastic.png").stat().st_size > 20_000


def test_the_input_is_left_alone(zincblende, calculator):
    before = zincblende.copy()
    elastic(zincblende, calculator, check=False)
    assert isinstance(zincblende, Atoms)
    assert np.array_equal(zincblende.positions, before.positions)
    assert zincblende.calc is None
