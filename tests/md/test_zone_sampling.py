"""Densities of states and displacements on a mesh: exact or interpolated, with symmetry or without."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import all_changes
from ase.calculators.emt import EMT
from ase.spacegroup import crystal
from scipy.integrate import cumulative_trapezoid

from mlip import InputError, MLIPCalculator, Potential
from mlip.md import phonons
from mlip.md.dynamical import (
    BlochMatrices,
    FourierMatrices,
    fill_from_displacements,
    fill_from_matrices,
    frequencies_at,
    phonopy_for,
)
from mlip.md.mesh import interpolation_error, points_between, sample_zone
from mlip.md.phonon_analyses import Analyses
from mlip.md.structure import primitive_cell
from mlip.md.thermal import density_of_states, thermal_table
from mlip.md.thermal_displacements import thermal_displacements
from mlip.potential import Normalization

QUICK = {"points": 10, "supercell": 2}


@pytest.fixture(scope="module")
def rutile():
    """The primitive cell, exact D(q), and a phonopy object with force constants."""
    settings = {"architecture": "nequip", "cutoff": 3.6, "num_layers": 2, "num_channels": 4, "lmax": 2, "seed": 5}
    potential = Potential.from_config(settings, ["Sn", "O"], Normalization(energy_scale=50.0)).double()
    cell = primitive_cell(
        crystal(["Sn", "O"], [(0, 0, 0), (0.306, 0.306, 0)], spacegroup=136, cellpar=[4.74, 4.74, 3.19, 90, 90, 90])
    )
    exact = BlochMatrices(cell.atoms, MLIPCalculator(potential))
    phonon = phonopy_for(cell.atoms, np.diag([2, 2, 2]), symmetric=True)
    fill_from_matrices(phonon, exact)
    return cell, exact, phonon


def sampled(phonon, exact=None, **settings):
    options = {"symmetric": True, "sampling": "auto", "affordable": 1000} | settings
    return sample_zone(phonon, exact, [3, 3, 4], **options)


# -- the sampled zone ---------------------------------------------------------------------------------------


def test_irreducible_points_stand_for_the_whole_mesh(rutile):
    """Total and atom-resolved densities, displacements and thermal properties are those without symmetry."""
    cell, _, phonon = rutile
    few, all_of_it = sampled(phonon).mesh, sampled(phonon, symmetric=False).mesh
    assert len(few.qpoints) < len(all_of_it.qpoints) / 3
    first, second = density_of_states(few, cell), density_of_states(all_of_it, cell)
    counts = [cumulative_trapezoid(dos.by_atom, dos.frequency) for dos in (first, second)]
    assert counts[0] == pytest.approx(counts[1], abs=0.06)  # of 3 modes: tetrahedra favour one diagonal
    temperatures = [0.0, 300.0]
    u, v = (
        thermal_displacements(mesh, cell, temperatures, symmetric=s) for mesh, s in ((few, True), (all_of_it, False))
    )
    assert u.cartesian == pytest.approx(v.cartesian, abs=1e-8 * np.abs(v.cartesian).max())
    assert thermal_table(few).free_energy == pytest.approx(thermal_table(all_of_it).free_energy, rel=1e-8)


def test_densities_and_displacements_are_phonopys(rutile):
    cell, _, phonon = rutile
    mesh = sampled(phonon).mesh
    ours = density_of_states(mesh, cell)
    phonon.run_mesh([3, 3, 4], is_gamma_center=True)
    low, high, pitch = ours.frequency[0], ours.frequency[-1], ours.frequency[1] - ours.frequency[0]
    total = phonon.run_total_dos(freq_min=low, freq_max=high, freq_pitch=pitch)
    assert np.interp(ours.frequency, total.frequency_points, total.dos) == pytest.approx(
        ours.total, abs=1e-6 * ours.total.max()
    )
    phonon.run_mesh([3, 3, 4], with_eigenvectors=True, is_mesh_symmetry=False, is_gamma_center=True)
    theirs = phonon.run_thermal_displacement_matrices(temperatures=[0, 300, 900], exclude_gamma_acoustic=True)
    found = thermal_displacements(mesh, cell, [0, 300, 900], symmetric=True)
    assert found.cartesian == pytest.approx(np.array(theirs.thermal_displacement_matrices), rel=1e-6, abs=1e-9)
    assert found.cif == pytest.approx(np.array(theirs.thermal_displacement_matrices_cif), rel=1e-6, abs=1e-9)


def test_displacements_have_the_symmetry_of_their_sites_and_the_classical_limit(rutile):
    """Tin on mmm: U has mirror axes along [110], [1-10], [001]; at high temperature U grows like T."""
    cell, _, phonon = rutile
    found = thermal_displacements(sampled(phonon).mesh, cell, [0.0, 2000.0, 4000.0], symmetric=True)
    tin = found.cartesian[1, 0]
    assert tin[0, 0] == pytest.approx(tin[1, 1])
    assert np.abs(tin[2, :2]).max() < 1e-12
    assert found.isotropic[2] / found.isotropic[1] == pytest.approx(2, rel=1e-2)
    assert (found.isotropic[0] > 0).all()  # zero-point motion


def test_parts_add_up_and_count_modes(rutile):
    cell, _, phonon = rutile
    dos = density_of_states(sampled(phonon).mesh, cell)
    assert np.abs(dos.by_atom.sum(axis=0) - dos.total).max() < 1e-10
    assert np.trapezoid(dos.by_atom, dos.frequency) == pytest.approx(3, rel=0.03)
    assert dos.by_element()["O"] == pytest.approx(dos.by_atom[2:].sum(axis=0))
    assert dos.by_atom[0] == pytest.approx(dos.by_atom[1])


# -- exact or interpolated ------------------------------------------------------------------------------------


def test_the_mesh_is_exact_where_it_costs_no_more_than_the_rest(rutile):
    _, exact, phonon = rutile
    direct, rough = sampled(phonon, exact), sampled(phonon, exact, affordable=3)
    assert (direct.source, rough.source) == ("exact", "interpolated")
    assert "3 D(q)" in rough.reason
    assert direct.mesh.frequencies == pytest.approx(frequencies_at(exact, direct.mesh.qpoints), abs=1e-6)
    assert rough.mesh.frequencies == pytest.approx(
        frequencies_at(FourierMatrices(phonon), rough.mesh.qpoints), abs=1e-6
    )
    assert np.abs(direct.mesh.frequencies - rough.mesh.frequencies).max() > 1e-3
    assert sampled(phonon, exact, affordable=3, sampling="exact").source == "exact"
    assert sampled(phonon, exact, sampling="interpolated").source == "interpolated"


def test_exact_sampling_needs_an_exact_matrix(rutile):
    with pytest.raises(InputError, match="no exact D"):
        sampled(rutile[2], None, sampling="exact")


def test_the_interpolation_error_is_measured_off_the_commensurate_points(rutile):
    _, exact, phonon = rutile
    matrix = np.array([[2, 0, 0], [1, 3, 0], [0, 0, 2]])
    off = points_between(matrix) @ matrix.T
    assert (np.abs(off - np.rint(off)).max(axis=1) > 0.25).all()
    error = interpolation_error(exact, phonon, np.diag([2, 2, 2]))
    commensurate = np.array([[0.5, 0, 0.5], [0, 0.5, 0]])
    at_points = np.abs(frequencies_at(exact, commensurate) - frequencies_at(FourierMatrices(phonon), commensurate))
    assert error > 1e-3
    assert at_points.max() < 1e-6


def test_the_error_stands_beside_the_interpolated_density(silicon, small_calculator):
    """A mesh beyond what path and supercell cost falls back, and says by how much it is off."""
    result = phonons(silicon, small_calculator, **QUICK, dos_mesh=[9, 9, 9])
    assert result.zone.source == "interpolated"
    assert f"±{result.interpolation_error:.2g} THz" in result.dos_source
    assert any(result.dos_source in line for line in result.lines)
    assert result.to_dict()["dos_sampling"]["source"] == "interpolated"
    exact = phonons(silicon, small_calculator, **QUICK, dos_mesh=[3, 3, 3])
    assert exact.dos_source == "exact"


@pytest.mark.parametrize("analyses", [Analyses(dos_sampling="dense"), Analyses(gruneisen=[1, 2])])
def test_wrong_requests_are_refused_before_anything_runs(silicon, analyses):
    with pytest.raises(InputError):
        phonons(silicon, None, method="displacement", analyses=analyses)


# -- calculators without the crystal's symmetry -----------------------------------------------------------------


class Squeezed(EMT):
    """A medium in which z counts 3 % more: extensive and invariant to translations, but only tetragonal."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        scale = np.diag([1, 1, 1.03])
        changed = atoms.copy()
        changed.set_cell(atoms.cell.array @ scale, scale_atoms=True)
        super().calculate(changed, properties, system_changes)
        self.results["forces"] = self.results["forces"] @ scale
        self.results.pop("stress", None)
        self.atoms = atoms.copy()

    def __init__(self):
        super().__init__()
        self.implemented_properties = ["energy", "forces"]


def test_without_the_crystals_symmetry_nothing_is_reduced_and_the_user_is_told():
    atoms = bulk("NiAl", "cesiumchloride", a=2.88)
    result = phonons(atoms, Squeezed(), **QUICK, dos_mesh=[4, 4, 4], method="displacement", relax_first=None)
    assert result.symmetry_defect > 1e-6
    told = [line for line in result.lines if "breaks the space group" in line]
    assert len(told) == 1
    assert "no irreps" in told[0]
    assert not {check.name: check for check in result.checks}["space-group defect"].passed
    assert result.analyses.irreps is None
    assert len(result.zone.mesh.qpoints) == 64
    assert (result.phonon.symmetry.symmetry_operations["rotations"] == np.eye(3)).all()
    assert all(mode.irrep is None for mode in result.imaginary)


def test_its_numbers_are_those_with_symmetry_off():
    """Force constants and thermal properties equal a calculation in which nobody mentions symmetry."""
    atoms = bulk("NiAl", "cesiumchloride", a=2.88)
    calculator = Squeezed()
    result = phonons(
        atoms, calculator, **QUICK, dos_mesh=[4, 4, 4], method="displacement", displacement=1e-3, relax_first=None
    )
    plain = phonopy_for(result.cell.atoms, np.diag([2, 2, 2]), symmetric=False)
    fill_from_displacements(plain, calculator, 1e-3)
    q = np.array([[0.5, 0, 0], [0, 0, 0.5], [0.1, 0.2, 0.3]])
    theirs, ours = FourierMatrices(plain).at(q), result.matrices.at(q)
    assert np.abs(ours - theirs).max() < 1e-9 * np.abs(theirs).max()
    plain.run_mesh([4, 4, 4], is_mesh_symmetry=False, is_gamma_center=True)
    thermal = plain.run_thermal_properties(temperatures=[300], exclude_gamma_acoustic=True)
    assert result.thermal.at(300)["free_energy"] == pytest.approx(float(thermal.free_energy[0]), abs=1e-6)
    x, z = frequencies_at(result.matrices, q[:2])
    assert np.abs(x - z).max() > 0.05  # what the cube would have made equal


def test_relaxation_does_not_hold_a_symmetry_that_the_calculator_lacks(sw, altered):
    """A force along [111] between the atoms of silicon pulls them apart, though the group forbids it."""

    def pulled(atoms, results):
        sign = np.where(np.arange(len(atoms)) % 2, 1.0, -1.0)
        results["energy"] -= 0.05 * float((sign * atoms.get_positions().sum(axis=1)).sum())
        results["forces"] = results["forces"] + 0.05 * sign[:, None]
        return results

    result = phonons(bulk("Si", a=5.43095), altered(sw, pulled), **QUICK, dos_mesh=[2, 2, 2], method="displacement")
    assert result.relaxation.steps > 0
    assert result.cell.space_group != "Fd-3m (227)"
    final = result.cell.atoms.copy()
    final.calc = altered(sw, pulled)
    assert np.abs(final.get_forces()).max() < 1e-4
