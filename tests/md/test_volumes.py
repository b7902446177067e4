"""Equations of state and the quasi-harmonic approximation: analytic limits, known potentials, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from phonopy.phonon.thermal_properties import mode_cv
from scipy.constants import Boltzmann, Planck, elementary_charge

from mlip import MLIPCalculator, Potential
from mlip.errors import InputError
from mlip.md import elastic, eos, quasi_harmonic
from mlip.md.equation_of_state import birch_energy, birch_pressure, fit_energies, fit_pressures
from mlip.md.equilibrium import at_volume, bulk_cell, is_cubic
from mlip.md.harmonic import entropy, free_energy, heat_capacity, q_mesh
from mlip.md.structure import primitive_cell
from mlip.md.units import GPA_PER_EV_A3

GAS = 8.314462618


def values(checks):
    return {check.name: check.value for check in checks}


def lennard_jones():
    return LennardJones(sigma=3.4, epsilon=0.0104, rc=9.0, smooth=True)


class Birch(Calculator):
    """A crystal that obeys Birch and Murnaghan exactly: E and P depend on the volume alone."""

    implemented_properties = ("energy", "free_energy", "forces", "stress")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        v, n = self.atoms.get_volume(), len(self.atoms)
        pressure = float(birch_pressure(v / n, 16.0, 0.5, 4.7))
        self.results = {
            "energy": n * float(birch_energy(v / n, 16.0, -3.0, 0.5, 4.7)),
            "free_energy": n * float(birch_energy(v / n, 16.0, -3.0, 0.5, 4.7)),
            "forces": np.zeros((n, 3)),
            "stress": -pressure * np.array([1, 1, 1, 0, 0, 0.0]),
        }


# -- equation of state --------------------------------------------------------------------------------------


def test_pressure_is_minus_the_slope_of_the_energy():
    v, h = np.linspace(14, 18, 9), 1e-4
    slope = (birch_energy(v + h, 16, -3, 0.5, 4.7) - birch_energy(v - h, 16, -3, 0.5, 4.7)) / (2 * h)
    assert birch_pressure(v, 16, 0.5, 4.7) == pytest.approx(-slope, abs=1e-8)


def test_parameters_mean_what_they_say():
    """B₀ = −V dP/dV and B′ = dB/dP at V₀."""
    h = 1e-3

    def bulk_modulus(v):
        return -v * (birch_pressure(v + h, 16, 0.5, 4.7) - birch_pressure(v - h, 16, 0.5, 4.7)) / (2 * h)

    assert bulk_modulus(16.0) == pytest.approx(0.5, rel=1e-6)
    rise = (bulk_modulus(15.99) - bulk_modulus(16.01)) / np.subtract(
        *(birch_pressure(v, 16, 0.5, 4.7) for v in (15.99, 16.01))
    )
    assert rise == pytest.approx(4.7, rel=1e-3)


def test_a_crystal_of_birch_and_murnaghan():
    found = eos(bulk("Cu", a=(4 * 15.8) ** (1 / 3)), Birch(), relax_first=False)
    assert found.fit.volume == pytest.approx(16.0, rel=1e-8)
    assert found.fit.energy == pytest.approx(-3.0, abs=1e-10)
    assert found.fit.bulk == pytest.approx(0.5 * GPA_PER_EV_A3, rel=1e-7)
    assert found.fit.derivative == pytest.approx(4.7, rel=1e-6)
    assert found.pressure_fit.bulk == pytest.approx(found.fit.bulk, rel=1e-7)
    assert found.fit.errors["bulk"] < 1e-5
    assert found.elastic_bulk is None
    assert all(check.passed for check in found.checks)


def test_noise_shows_in_the_errors():
    v = np.linspace(15, 17, 13)
    noise = np.random.default_rng(0).normal(scale=1e-4, size=13)
    found = fit_energies(v, birch_energy(v, 16, -3, 0.5, 4.7) + noise)
    assert 0 < abs(found.bulk - 0.5 * GPA_PER_EV_A3) < 4 * found.errors["bulk"]
    assert found.errors["bulk"] > 0.1


def test_bulk_modulus_of_a_pair_potential_is_that_of_its_elastic_constants():
    argon = bulk("Ar", a=5.2)
    found = eos(argon, lennard_jones(), span=0.02, points=9)
    assert found.fit.bulk == pytest.approx(elastic(argon, lennard_jones()).moduli.bulk[2], rel=2e-3)
    assert found.pressure_fit.bulk == pytest.approx(found.fit.bulk, rel=2e-3)
    assert all(check.passed for check in found.checks)


def test_relaxed_shapes_give_reuss_and_held_shapes_voigt():
    """Hexagonal zinc-like Lennard-Jones: c/a follows the pressure or does not."""
    hexagonal = bulk("Cu", "hcp", a=2.6, c=4.5)
    relaxed = eos(hexagonal, EMT(), span=0.02, points=7, fmax=1e-6)
    held = eos(hexagonal, EMT(), span=0.02, points=7, fmax=1e-6, isotropic=True)
    m = elastic(hexagonal, EMT()).moduli
    assert relaxed.pressure_fit.bulk == pytest.approx(m.bulk[1], rel=5e-3)
    assert held.pressure_fit.bulk == pytest.approx(m.bulk[0], rel=5e-3)
    ratios = [a.cell.lengths()[2] / a.cell.lengths()[0] for a in held.structures]
    assert np.ptp(ratios) < 1e-9


def test_our_potential_agrees_with_its_exact_constants():
    """B₀ of the fit, of the stress and of second derivatives."""
    settings = {"architecture": "nequip", "cutoff": 4.0, "num_layers": 2, "num_channels": 4, "lmax": 2, "seed": 2}
    potential = Potential.from_config(settings | {"zbl": True}, ["O", "Si"]).double()
    found = eos(bulk("SiO", "zincblende", a=4.98), MLIPCalculator(potential), span=0.02, points=7)
    assert found.elastic_bulk == pytest.approx(found.pressure_fit.bulk, rel=1e-2)
    assert values(found.checks)["B₀ against elastic constants"] < 0.03


@pytest.mark.slow
def test_a_committee_of_twins_has_no_spread():
    potential = Potential.from_config(
        {
            "architecture": "nequip",
            "cutoff": 4.0,
            "num_layers": 2,
            "num_channels": 4,
            "lmax": 2,
            "seed": 2,
            "zbl": True,
        },
        ["O", "Si"],
    ).double()
    found = eos(bulk("SiO", "zincblende", a=4.98), MLIPCalculator([potential] * 2), span=0.02, points=5)
    assert found.spread()["bulk"] < 1e-4 * found.fit.bulk
    assert "committee of 2" in found.lines[-1]


@pytest.mark.parametrize(
    ("settings", "word"),
    [({"points": 4}, "too few"), ({"span": 0.0}, "span"), ({"span": 0.7}, "span")],
    ids=["points", "no span", "wide span"],
)
def test_scans_that_make_no_sense_are_refused(settings, word):
    with pytest.raises(InputError, match=word):
        eos(bulk("Cu", a=3.98), Birch(), relax_first=False, **settings)


def test_energies_without_a_minimum_are_refused():
    v = np.linspace(15, 17, 7)
    with pytest.raises(InputError, match="no minimum"):
        fit_energies(v, -((v - 16) ** 2))


def test_a_scan_beside_the_minimum_fails_its_check():
    found = eos(bulk("Cu", a=(4 * 15.2) ** (1 / 3)), Birch(), relax_first=False)
    assert {check.name for check in found.checks if not check.passed} == {"V₀ from the middle of the scan"}


def test_files_of_an_equation_of_state(tmp_path):
    found = eos(bulk("Cu", a=3.98), Birch())
    files = found.write(tmp_path)
    assert {file.name for file in files} == {"eos.json", "eos.csv", "volumes.xyz", "eos.png"}
    assert json.loads((tmp_path / "eos.json").read_text())["fit"]["volume"] == pytest.approx(16, rel=1e-6)
    assert len((tmp_path / "eos.csv").read_text().splitlines()) == 14
    assert (tmp_path / "eos.png").stat().st_size > 20_000


def test_pressures_alone_give_the_bulk_modulus():
    v = np.linspace(15, 17, 9)
    assert fit_pressures(v, birch_pressure(v, 16.0, 80.0, 4.0)).bulk == pytest.approx(80, rel=1e-8)


# -- at rest, at a volume -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("atoms", "expected"),
    [(bulk("Si", a=5.43), True), (bulk("NaCl", "rocksalt", a=5.6), True), (bulk("Cu", "hcp", a=2.6, c=4.2), False)],
    ids=["diamond", "rocksalt", "hcp"],
)
def test_cubic_crystals_are_known(atoms, expected):
    assert is_cubic(primitive_cell(atoms)) is expected


def test_a_shape_relaxes_at_its_volume():
    hexagonal = bulk_cell(bulk("Cu", "hcp", a=2.6, c=4.6), EMT(), "tests")
    done, relaxation = at_volume(hexagonal, 23.0, EMT(), fmax=1e-5)
    assert relaxation.converged
    assert done.atoms.get_volume() == pytest.approx(23.0, rel=1e-10)
    stress = done.atoms.copy()
    stress.calc = EMT()
    normal = stress.get_stress()[:3]
    assert np.ptp(normal) < 1e-5
    assert abs(normal.mean()) > 1e-4


# -- harmonic statistics ------------------------------------------------------------------------------------


def test_limits_of_an_oscillator():
    quantum = Planck * 1e12 / Boltzmann  # K per THz
    f = np.array([5.0])
    assert free_energy(f, 0.0)[0] == pytest.approx(Planck * 5e12 / 2 * 6.02214076e23 / 1000)
    assert entropy(f, 0.0)[0] == 0
    assert heat_capacity(f, 0.0)[0] == 0
    hot = 1000 * 5 * quantum
    assert heat_capacity(f, hot)[0] == pytest.approx(GAS, rel=1e-6)
    assert entropy(f, hot)[0] == pytest.approx(GAS * (1 + np.log(1000)), rel=1e-6)
    assert heat_capacity(np.array([100.0]), 5.0)[0] < 1e-100


def test_entropy_is_the_slope_of_the_free_energy():
    f, t, h = np.array([1.0, 5.0, 15.0]), 217.0, 0.01
    assert entropy(f, t) == pytest.approx(-(free_energy(f, t + h) - free_energy(f, t - h)) / (2 * h) * 1000, rel=1e-6)
    assert heat_capacity(f, t) == pytest.approx(t * (entropy(f, t + h) - entropy(f, t - h)) / (2 * h), rel=1e-6)


def test_heat_capacity_is_phonopys():
    f = np.array([1.0, 5.0, 15.0])
    theirs = mode_cv(217.0, f * Planck * 1e12 / elementary_charge) * elementary_charge * 6.02214076e23
    assert heat_capacity(f, 217.0) == pytest.approx(np.ravel(theirs), rel=1e-5)  # older constants


def test_the_mesh_keeps_its_weight(silicon):
    cell = primitive_cell(silicon)
    reduced, whole = q_mesh(cell, 12.0), q_mesh(cell, 12.0, symmetric=False)
    assert reduced.numbers == whole.numbers == (4, 4, 4)
    assert reduced.weights.sum() == pytest.approx(1)
    assert len(reduced.q) == 8
    assert len(whole.q) == 36
    with pytest.raises(InputError, match="no points"):
        q_mesh(cell, 0.0)


# -- quasi-harmonic approximation ---------------------------------------------------------------------------

QUICK = {"points": 7, "mesh": 12.0, "supercell": 2, "temperatures": np.arange(0.0, 60.1, 2.5)}


@pytest.fixture(scope="module")
def argon():
    return quasi_harmonic(bulk("Ar", a=5.2), lennard_jones(), span=(-0.02, 0.12), **QUICK | {"points": 9})


def test_a_lennard_jones_crystal_expands(argon):
    """Zero-point motion swells it; it expands and softens on heating; two roads to the expansion agree."""
    found = argon.expansion
    static = argon.cell.atoms.get_volume()
    assert found.volume[0] > 1.01 * static
    assert np.all(np.diff(found.volume[1:]) > 0)
    assert np.all(np.diff(found.bulk[1:]) < 0)
    assert found.expansion[-1] > 1e-3
    assert values(argon.checks)["expansion against γ C_v/(B V)"] < 0.01
    assert all(check.passed for check in argon.checks)


def test_heat_capacity_at_constant_pressure_exceeds_that_at_constant_volume(argon):
    """C_p − C_v = T V B β², at 40 K."""
    found = argon.expansion
    i = 16
    constant_volume = np.polyval(
        np.polyfit([v.volume for v in argon.volumes], found.constant_volume[i], 4), found.volume[i]
    )
    molar = 40.0 * found.volume[i] * found.bulk[i] * found.expansion[i] ** 2 * 1e9 * 1e-30 * 6.02214076e23
    assert found.heat_capacity[i] - constant_volume == pytest.approx(molar, rel=0.03)


@pytest.mark.slow
def test_pressure_squeezes(argon):
    squeezed = quasi_harmonic(
        bulk("Ar", a=5.2), lennard_jones(), span=(-0.10, 0.06), pressure=0.1, **QUICK | {"points": 9}
    )
    change = squeezed.expansion.volume[0] / argon.expansion.volume[0] - 1
    assert change == pytest.approx(-0.1 / argon.expansion.bulk[0], rel=0.25)


def test_imaginary_modes_are_refused():
    """Body-centred copper has no harmonic free energy."""
    with pytest.raises(InputError, match="imaginary mode"):
        quasi_harmonic(bulk("Cu", "bcc", a=2.85), EMT(), **QUICK)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"points": 4}, "too few"),
        ({"span": (0.1, -0.1)}, "span"),
        ({"temperatures": [0, 10, 30, 40, 50, 60]}, "equal steps"),
        ({"temperatures": [0, 10]}, "equal steps"),
    ],
    ids=["points", "span", "uneven", "few"],
)
def test_settings_that_make_no_sense_are_refused(settings, word):
    with pytest.raises(InputError, match=word):
        quasi_harmonic(bulk("Ar", a=5.2), lennard_jones(), **QUICK | settings)


def test_files_of_the_quasi_harmonic_approximation(argon, tmp_path):
    files = argon.write(tmp_path)
    assert {file.name for file in files} == {"qha.json", "qha.csv", "qha.png"}
    written = json.loads((tmp_path / "qha.json").read_text())
    assert written["temperature_K"] == list(np.arange(0, 60.1, 2.5))
    assert (tmp_path / "qha.png").stat().st_size > 30_000
