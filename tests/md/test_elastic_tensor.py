"""The algebra of elastic tensors: isotropic and cubic limits, invariances, known values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mlip.md.elastic_tensor import (
    born_eigenvalues,
    compliance,
    debye_temperature,
    directional_young,
    from_voigt,
    group_average,
    isotropic_velocities,
    mean_velocity,
    moduli,
    rotated,
    sound_velocities,
    sphere_rule,
    to_voigt,
)

TURN = Rotation.from_euler("xyz", [0.3, -0.7, 1.9]).as_matrix()


def cubic(c11, c12, c44):
    matrix = np.diag([c11 - c12] * 3 + [c44] * 3).astype(float)
    matrix[:3, :3] += c12
    return matrix


@pytest.fixture
def silicon_matrix():
    """Measured: McSkimin and Andreatch, J. Appl. Phys. 35, 2161 (1964)."""
    return cubic(165.7, 63.9, 79.6)


@pytest.fixture
def triclinic_matrix():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(6, 6))
    return 100 * np.eye(6) + 10 * (a + a.T)


def test_voigt_there_and_back(triclinic_matrix):
    assert np.allclose(to_voigt(from_voigt(triclinic_matrix)), triclinic_matrix, atol=1e-12)


def test_compliance_undoes_stiffness(triclinic_matrix):
    assert np.allclose(compliance(triclinic_matrix) @ triclinic_matrix, np.eye(6), atol=1e-12)


def test_an_isotropic_solid():
    """λ = 60, μ = 40: every formula has its textbook value."""
    lam, mu = 60.0, 40.0
    matrix = cubic(lam + 2 * mu, lam, mu)
    m = moduli(matrix)
    young = mu * (3 * lam + 2 * mu) / (lam + mu)
    assert m.bulk == pytest.approx([lam + 2 * mu / 3] * 3)
    assert m.shear == pytest.approx([mu] * 3)
    assert m.young == pytest.approx(young)
    assert m.poisson == pytest.approx(lam / (2 * (lam + mu)))
    assert m.anisotropy == pytest.approx(0, abs=1e-12)
    directions, _ = sphere_rule(6)
    assert directional_young(matrix, directions) == pytest.approx(young)
    assert np.allclose(rotated(from_voigt(matrix), TURN), from_voigt(matrix), atol=1e-12)
    _, _, mean = isotropic_velocities(m.bulk[2], m.shear[2], 3000.0)
    assert mean_velocity(from_voigt(matrix), 3000.0) == pytest.approx(mean, rel=1e-10)


def test_a_cubic_crystal(silicon_matrix):
    c11, c12, c44 = 165.7, 63.9, 79.6
    assert born_eigenvalues(silicon_matrix) == pytest.approx(
        sorted([c11 - c12] * 2 + [2 * c44] * 3 + [c11 + 2 * c12])
    )
    m = moduli(silicon_matrix)
    assert m.bulk == pytest.approx([(c11 + 2 * c12) / 3] * 3)
    assert m.shear[0] == pytest.approx((c11 - c12 + 3 * c44) / 5)
    assert m.shear[1] == pytest.approx(5 * (c11 - c12) * c44 / (4 * c44 + 3 * (c11 - c12)))
    zener = 2 * c44 / (c11 - c12)
    assert m.anisotropy == pytest.approx(6 / 5 * (np.sqrt(zener) - 1 / np.sqrt(zener)) ** 2)
    young = directional_young(silicon_matrix, np.array([[1, 0, 0], np.array([1, 1, 1]) / np.sqrt(3)]))
    assert young == pytest.approx([130.1, 187.7], abs=0.5)  # Wortman and Evans, J. Appl. Phys. 36, 153 (1965)


def test_sound_in_a_cubic_crystal(silicon_matrix):
    directions = np.array([[1, 0, 0], [1, 1, 0] / np.sqrt(2), [1, 1, 1] / np.sqrt(3)])
    c11, c12, c44 = 165.7, 63.9, 79.6
    expected = [
        [c44, c44, c11],
        sorted([(c11 - c12) / 2, c44, (c11 + c12 + 2 * c44) / 2]),
        [(c11 - c12 + c44) / 3] * 2 + [(c11 + 2 * c12 + 4 * c44) / 3],
    ]
    found = sound_velocities(from_voigt(silicon_matrix), 2329.0, directions)
    assert found == pytest.approx(np.sqrt(np.array(expected) * 1e9 / 2329.0) / 1000)


def test_debye_temperature_of_silicon(silicon_matrix):
    """645 K from these constants (Keesom and Seidel, Phys. Rev. 113, 33 (1959), calorimetric)."""
    density, per_volume = 2329.0, 8 / 5.431**3
    assert debye_temperature(mean_velocity(from_voigt(silicon_matrix), density), per_volume) == pytest.approx(
        645, abs=5
    )


def test_nothing_depends_on_the_axes(triclinic_matrix):
    turned = to_voigt(rotated(from_voigt(triclinic_matrix), TURN))
    assert born_eigenvalues(turned) == pytest.approx(born_eigenvalues(triclinic_matrix))
    a, b = moduli(triclinic_matrix), moduli(turned)
    assert a.bulk == pytest.approx(b.bulk)
    assert a.shear == pytest.approx(b.shear)
    assert mean_velocity(from_voigt(turned), 3000.0) == pytest.approx(
        mean_velocity(from_voigt(triclinic_matrix), 3000.0), rel=1e-8
    )
    n = sphere_rule(4)[0]
    assert directional_young(turned, n @ TURN.T) == pytest.approx(directional_young(triclinic_matrix, n))


def test_the_sphere_rule_integrates_polynomials():
    n, w = sphere_rule(8)
    assert w.sum() == pytest.approx(1)
    assert np.einsum("m,mi,mj->ij", w, n, n) == pytest.approx(np.eye(3) / 3, abs=1e-14)
    assert w @ n[:, 0] ** 4 == pytest.approx(1 / 5)


def test_the_average_over_a_group_has_its_symmetry(triclinic_matrix):
    group = Rotation.create_group("O").as_matrix()
    average = group_average(from_voigt(triclinic_matrix), group)
    matrix = to_voigt(average)
    assert matrix == pytest.approx(cubic(matrix[0, 0], matrix[0, 1], matrix[3, 3]), abs=1e-10)
    assert np.allclose(rotated(average, group[5]), average, atol=1e-10)


def test_an_unstable_crystal_has_no_mean_velocity(silicon_matrix):
    soft = silicon_matrix.copy()
    soft[3, 3] = -5.0
    assert born_eigenvalues(soft)[0] == pytest.approx(-10)
    assert np.isnan(mean_velocity(from_voigt(soft), 2329.0))
