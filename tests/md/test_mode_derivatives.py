"""Group velocities and Grüneisen parameters: exact ones against differences, and the routes against each other."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.spacegroup import crystal

from mlip import InputError, MLIPCalculator, Potential
from mlip.md import phonons
from mlip.md.bands import band_path
from mlip.md.dynamical import BlochMatrices, fill_from_matrices, frequencies_at, phonopy_for, supercell_matrix
from mlip.md.group_velocity import exact_velocities, group_velocities, interpolated_velocities, path_directions
from mlip.md.gruneisen import VOLUME, atomic_motion, checked_strain, exact_gruneisen, three_volumes
from mlip.md.mode_derivatives import hermitian, probes
from mlip.md.phonon_analyses import Analyses
from mlip.md.structure import primitive_cell
from mlip.potential import Normalization
from mlip.testing import five_point, strained

SMALL = {"architecture": "nequip", "num_layers": 2, "num_channels": 4, "lmax": 2, "num_radial": 5, "radial_width": 12}
UNIAXIAL = np.diag([0.0, 0.0, 1.0])


@pytest.fixture(scope="module")
def silicon_model():
    """Silicon with random weights whose sign makes diamond stable at Γ."""
    settings = SMALL | {"cutoff": 4.0, "num_channels": 8, "seed": 1}
    potential = Potential.from_config(settings, ["Si"], Normalization(energy_scale=-30.0)).double()
    return bulk("Si", a=5.43), MLIPCalculator(potential)


@pytest.fixture(scope="module")
def rutile_model():
    """Rutile with random weights, atoms at rest to rounding: one free coordinate u."""
    atoms = crystal(
        ["Sn", "O"], [(0, 0, 0), (0.306, 0.306, 0)], spacegroup=136, cellpar=[4.74, 4.74, 3.19, 90, 90, 90]
    )
    settings = SMALL | {"cutoff": 3.6, "seed": 5}
    potential = Potential.from_config(settings, ["Sn", "O"], Normalization(energy_scale=50.0)).double()
    calculator = MLIPCalculator(potential)
    return at_rest(atoms, calculator), calculator


def at_rest(atoms, calculator):
    """Newton's method on the positions; the mean stays in place."""
    moved = atoms.copy()
    shifts = np.kron(np.ones((len(atoms), 1)), np.eye(3))
    rest = np.linalg.qr(shifts, mode="complete")[0][:, 3:]
    for _ in range(12):
        forces = calculator.get_forces(moved).ravel()
        if np.abs(forces).max() < 1e-12:
            break
        hessian = rest.T @ calculator.get_hessian(moved) @ rest
        moved.positions += (rest @ np.linalg.solve(hessian, rest.T @ forces)).reshape(-1, 3)
    assert np.abs(calculator.get_forces(moved)).max() < 1e-11
    return moved


# -- group velocities --------------------------------------------------------------------------------------


def test_velocities_are_the_slopes_of_exact_frequencies(rutile_model):
    """1 THz Å = 0.1 km/s; at a point of no symmetry all levels are simple."""
    atoms, calculator = rutile_model
    matrices, q = BlochMatrices(atoms, calculator), np.array([0.13, 0.21, 0.34])
    _, found = exact_velocities(matrices, q[None], np.array([[1.0, 0, 0]]))
    there = np.isfinite(found[0, :, 0])
    assert there.sum() >= 12
    for axis in range(3):
        step = np.eye(3)[axis] @ atoms.cell.array.T  # q per 1/Å without 2π
        slope = five_point(lambda h, s=step: frequencies_at(matrices, (q + h * s)[None])[0], 1e-4)
        scale = np.abs(found[0, there]).max()
        assert 10 * found[0, there, axis] == pytest.approx(slope[there], rel=1e-6, abs=1e-6 * 10 * scale)


def test_degenerate_modes_are_those_that_continue_along_the_path(silicon_model):
    """Just beyond a point where levels meet, branches go on with the slopes that were found in it."""
    atoms, calculator = silicon_model
    cell = primitive_cell(atoms)
    matrices = BlochMatrices(cell.atoms, calculator)
    path = band_path(cell, "X U | L GAMMA", 8)
    directions = path_directions(path, cell)
    for i in (0, path.segments[1][0]):
        frequencies, found = exact_velocities(matrices, path.q[i][None], directions[i][None])
        step = directions[i] @ cell.atoms.cell.array.T
        ahead = frequencies_at(matrices, (path.q[i] + 1e-5 * step)[None])[0]
        predicted = frequencies[0] + 1e-5 * found[0] @ directions[i] * 10
        predicted = np.sort(predicted[np.isfinite(predicted)])  # imaginary modes, the lowest, have no velocity
        assert len(predicted) >= 2
        assert predicted == pytest.approx(ahead[-len(predicted) :], abs=1e-7)


def test_force_constants_beyond_the_models_reach_give_the_same_velocities(silicon_model):
    atoms, calculator = silicon_model
    matrices = BlochMatrices(atoms, calculator)
    phonon = phonopy_for(atoms, supercell_matrix(5, atoms), symmetric=True)
    fill_from_matrices(phonon, matrices)
    q, directions = np.array([[0.13, 0.21, 0.34], [0.3, 0.0, 0.3]]), np.array([[1.0, 0, 0], [0, 1.0, 0]])
    _, exact = exact_velocities(matrices, q, directions)
    _, rough = interpolated_velocities(phonon, q, directions)
    assert np.isfinite(exact).any()
    assert np.sort(np.linalg.norm(rough, axis=2)) == pytest.approx(
        np.sort(np.linalg.norm(exact, axis=2)), abs=2e-3 * np.nanmax(np.abs(exact)), nan_ok=True
    )


def test_sound_in_silicon_of_stillinger_and_weber(silicon_phonons):
    """Longitudinal along [100] near Γ: √(C11/ρ) with C11 = 151.4 GPa and ρ = 2329 kg/m³ is 8.06 km/s."""
    path = band_path(silicon_phonons.cell, "GAMMA X", 30)
    found = group_velocities(silicon_phonons.matrices, silicon_phonons.phonon, silicon_phonons.cell, path)
    assert found.method == "force constants"
    assert np.isnan(found.velocities[0, :3]).all()
    assert found.speeds[1, 2] == pytest.approx(8.06, abs=0.1)


def test_a_hermitian_matrix_from_the_curvatures_of_probes():
    rng = np.random.default_rng(0)
    h = rng.normal(size=(12, 12)) + 1j * rng.normal(size=(12, 12))
    h += h.conj().T
    v = rng.normal(size=(3, 4, 3)) + 1j * rng.normal(size=(3, 4, 3))
    flat = probes(v).reshape(-1, 12)
    curvatures = np.einsum("ma,ab,mb->m", flat.conj(), h, flat).real
    expected = v.reshape(3, 12).conj() @ h @ v.reshape(3, 12).T
    assert hermitian(curvatures, 3) == pytest.approx(expected, abs=1e-10)


# -- Grüneisen parameters ----------------------------------------------------------------------------------


def gruneisen_by_differences(atoms, calculator, q, strain, relaxed):
    """−(1/2ω²) dω²/dη from strained crystals whose atoms are put to rest again; levels followed by their order."""

    def squares(eta):
        crystal = strained(atoms, eta * strain)
        d = BlochMatrices(at_rest(crystal, calculator) if relaxed else crystal, calculator).at(q)
        return np.linalg.eigvalsh(d)

    return -five_point(squares, 1e-4) / (2 * squares(0.0))


@pytest.mark.parametrize("strain", [VOLUME, UNIAXIAL], ids=["volume", "uniaxial"])
def test_rutile_against_finite_strain_with_atoms_relaxed(rutile_model, strain):
    atoms, calculator = rutile_model
    q = np.array([[0.13, 0.21, 0.34]])
    _, found = exact_gruneisen(atoms, calculator, q, strain)
    expected = gruneisen_by_differences(atoms, calculator, q, strain, relaxed=True)
    assert np.isfinite(found).all()
    assert found == pytest.approx(expected, abs=1e-5 * np.abs(found).max())
    # The defect to be caught: without the motion of the atoms the answer is another.
    clamped = gruneisen_by_differences(atoms, calculator, q, strain, relaxed=False)
    assert np.abs(clamped - expected).max() > 1e-2 * np.abs(expected).max()


def test_silicon_has_nothing_to_relax_under_pressure(silicon_model):
    atoms, calculator = silicon_model
    q = np.array([[0.13, 0.21, 0.34]])
    assert np.abs(atomic_motion(atoms, calculator, VOLUME)).max() < 1e-10
    _, found = exact_gruneisen(atoms, calculator, q)
    assert found == pytest.approx(
        gruneisen_by_differences(atoms, calculator, q, VOLUME, relaxed=False), abs=1e-5 * np.abs(found).max()
    )


def test_a_shear_moves_the_atoms_of_silicon(silicon_model):
    """Kleinman's internal strain: it must move them, and parameters must still equal differences."""
    atoms, calculator = silicon_model
    strain, q = checked_strain([0, 0, 0, 0, 0, 1]), np.array([[0.13, 0.21, 0.34]])
    assert np.abs(atomic_motion(atoms, calculator, strain)).max() > 1e-3
    _, found = exact_gruneisen(atoms, calculator, q, strain)
    expected = gruneisen_by_differences(atoms, calculator, q, strain, relaxed=True)
    assert found == pytest.approx(expected, abs=1e-5 * np.abs(found).max())


def test_strain_splits_degenerate_modes_by_its_own_diagonalisation(silicon_model):
    """Γ's optical triplet under uniaxial strain: two equal slopes and another; under pressure three equal ones."""
    atoms, calculator = silicon_model
    gamma = np.zeros((1, 3))
    _, volume = exact_gruneisen(atoms, calculator, gamma)
    _, uniaxial = exact_gruneisen(atoms, calculator, gamma, UNIAXIAL)
    assert np.ptp(volume[0, 3:]) < 1e-8 * np.abs(volume[0, 3:]).max()
    one = np.sort(uniaxial[0, 3:])
    assert min(one[1] - one[0], one[2] - one[1]) < 1e-8 * np.abs(one).max()
    assert np.ptp(one) > 1e-2 * np.abs(one).max()
    assert one.sum() == pytest.approx(volume[0, 3:].sum(), rel=1e-8)  # cubic: the mean is a third of the volume's
    assert np.isnan(volume[0, :3]).all()


def test_three_volumes_agree_with_one(silicon_model):
    atoms, calculator = silicon_model
    matrix = supercell_matrix(2, atoms)

    def solve(crystal):
        phonon = phonopy_for(crystal, matrix, symmetric=True)
        fill_from_matrices(phonon, BlochMatrices(crystal, calculator))
        return phonon

    q = np.array([[0.5, 0.0, 0.0], [0.5, 0.5, 0.0]])  # commensurate: force constants are exact there
    _, exact = exact_gruneisen(atoms, calculator, q)
    _, rough = three_volumes(atoms, calculator, solve, q)
    assert np.sort(rough) == pytest.approx(np.sort(exact), abs=2e-3 * np.abs(exact).max())


@pytest.mark.parametrize("strain", ["pressure", [1, 2], [0, 0, 0], [np.nan] * 6])
def test_what_is_no_strain_is_refused(strain):
    with pytest.raises(InputError, match="gruneisen"):
        checked_strain(strain)


# -- in the workflow ---------------------------------------------------------------------------------------


def test_phonons_gives_what_is_asked_for(silicon_model, tmp_path):
    atoms, calculator = silicon_model
    wanted = Analyses(group_velocities=True, gruneisen="volume")
    result = phonons(atoms, calculator, analyses=wanted, points=6, dos_mesh=[2, 2, 2], supercell=2)
    assert result.analyses.group_velocities.method == "exact"
    assert result.analyses.gruneisen.method == "exact"
    assert result.analyses.group_velocities.frequencies == pytest.approx(result.bands.frequencies, abs=1e-5)
    names = {file.name for file in result.write(tmp_path)}
    assert {"group_velocities.csv", "gruneisen.csv", "thermal_displacements.csv", "gruneisen.png"} <= names
    assert {"irreps", "group_velocities", "gruneisen", "displacements"} <= set(result.to_dict())


def test_other_calculators_take_three_volumes(silicon, sw):
    result = phonons(
        silicon,
        sw,
        method="hessian",
        points=8,
        dos_mesh=[4, 4, 4],
        supercell=2,
        analyses=Analyses(gruneisen="volume"),
    )
    assert result.analyses.gruneisen.method == "three volumes"
    optical = result.analyses.gruneisen.values[0, 3:]
    assert optical == pytest.approx(0.8, abs=0.3)
