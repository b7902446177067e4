"""Vibrations of molecules: known frequencies, symmetry, thermochemistry against tables, modes and files."""

from __future__ import annotations

import json

import ase.io
import ase.units
import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, fcc111, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential
from ase.constraints import FixAtoms, FixBondLength
from ase.thermochemistry import IdealGasThermo

from mlip.__main__ import main
from mlip.errors import InputError
from mlip.md import find_point_group, vibrations
from mlip.md.normal_modes import CM_PER_SQRT_EV_A2_AMU
from mlip.md.thermochemistry import free_rotor_entropy, ideal_gas, low_mode_correction, oscillator_entropy

# Frequencies


def test_a_diatomic_vibrates_with_its_morse_curvature():
    """ω² = 2 D a² / μ with V = D [1 − exp(−a(r − r₀))]², here a = ρ/r₀."""
    depth, rho, r0 = 4.0, 5.0, 1.1
    atoms = Atoms("NO", positions=[[0, 0, 0], [0.5, 0.6, 0.9]])
    calculator = MorsePotential(epsilon=depth, rho0=rho, r0=r0, rcut1=8.0, rcut2=9.0)
    result = vibrations(atoms, calculator)
    m1, m2 = atoms.get_masses()
    expected = np.sqrt(2 * depth * (rho / r0) ** 2 * (m1 + m2) / (m1 * m2)) * CM_PER_SQRT_EV_A2_AMU
    assert len(result.frequencies) == 1
    assert result.rigid == 5
    assert result.frequencies[0] == pytest.approx(expected, rel=1e-3)
    assert result.verdict == "minimum"
    assert result.symmetries[0].label == "Σ⁺"
    assert result.reduced_masses[0] == pytest.approx(1 / (result.displacements[0] ** 2).sum())
    assert all(check.passed for check in result.checks), result.checks


def test_a_linear_triatomic_has_the_textbook_frequencies(new_molecule, network):
    """CO2 with springs k: ω₁² = k/m_O, ω₃² = k (1/m_O + 2/m_C) (Landau and Lifshitz, Mechanics, § 24)."""
    atoms = new_molecule("CO2")
    result = vibrations(atoms, network(atoms, stiffness=(90.0, 0.0)), relax_first=False)
    carbon, oxygen = atoms.get_masses()[0], atoms.get_masses()[1]
    expected = np.sqrt([90 / oxygen, 90 * (1 / oxygen + 2 / carbon)]) * CM_PER_SQRT_EV_A2_AMU
    assert result.group.symbol == "D∞h"
    assert len(result.frequencies) == 4
    np.testing.assert_allclose(result.frequencies[2:], expected, rtol=1e-4)
    assert [s.label for s in result.symmetries[2:]] == ["Σg⁺", "Σu⁺"]
    assert (result.symmetries[2].raman, result.symmetries[2].infrared) == (True, False)
    assert (result.symmetries[3].raman, result.symmetries[3].infrared) == (False, True)


def test_isotopes_change_masses_and_symmetry(new_molecule, network):
    atoms = new_molecule("H2O")
    calculator = network(atoms)
    light = vibrations(atoms, calculator, relax_first=False)
    heavy = atoms.copy()
    heavy.set_masses(4 * atoms.get_masses())
    np.testing.assert_allclose(
        vibrations(heavy, calculator, relax_first=False).frequencies, light.frequencies / 2, rtol=1e-6
    )
    hdo = atoms.copy()
    hdo.set_masses([atoms.get_masses()[0], 1.008, 2.014])
    assert vibrations(hdo, calculator, relax_first=False).group.symbol == "Cs"


def test_analytic_and_numerical_hessians_agree(small_calculator_hco, methanol):
    """Our potential's Hessian; the same through differences of forces."""

    class Plain(Calculator):
        implemented_properties = ("energy", "forces")

        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            copy = self.atoms.copy()
            copy.calc = small_calculator_hco
            self.results = {"energy": copy.get_potential_energy(), "forces": copy.get_forces()}

    exact = vibrations(methanol, small_calculator_hco, relax_first=False)
    rough = vibrations(methanol, Plain(), relax_first=False, step=1e-3)
    assert exact.analytic
    assert not rough.analytic
    assert len(exact.frequencies) == 3 * len(methanol) - 6
    np.testing.assert_allclose(rough.frequencies, exact.frequencies, atol=1e-3 * np.abs(exact.frequencies).max())
    asymmetry = next(c for c in exact.checks if c.name == "Hessian asymmetry")
    assert asymmetry.passed


@pytest.fixture
def methanol():
    return molecule("CH3OH")


@pytest.fixture
def small_calculator_hco():
    from mlip import MLIPCalculator, Potential

    settings = {"cutoff": 3.0, "num_layers": 2, "num_channels": 4, "lmax": 1, "seed": 1}
    return MLIPCalculator(Potential.from_config(settings, ["H", "C", "O"]), dtype="float64")


def test_a_saddle_is_called_one_and_an_unrelaxed_structure_fails_its_check(network):
    """Ammonia's plane is a transition state of springs that want the pyramid."""
    pyramid = molecule("NH3")
    calculator = network(pyramid, stiffness=(40.0, 5.0))
    flat = pyramid.copy()
    flat.positions[:, 2] = 0.0
    result = vibrations(flat, calculator, relax_first=False)
    assert result.group.symbol == "D3h"
    assert result.verdict.startswith("transition state")
    assert result.symmetries[0].label == "A2″"
    assert not result.checks[0].passed
    assert vibrations(pyramid, calculator).verdict == "minimum"


def test_a_lone_atom_has_no_vibrations():
    result = vibrations(Atoms("Ar"), Nothing())
    assert len(result.frequencies) == 0
    assert result.group.shape == "monatomic"
    thermo = result.thermochemistry(298.15)
    assert thermo.entropy_j_per_mol == pytest.approx(154.85, abs=0.02)  # NIST: 154.8


class Nothing(Calculator):
    """No interaction at all."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((len(self.atoms), 3))}


# Thermochemistry


def test_it_is_ases_ideal_gas(network):
    atoms = molecule("CH3OH")
    result = vibrations(atoms, network(atoms, stiffness=(30.0, 4.0)))
    ours = result.thermochemistry(350.0, pressure=2e5, low_modes="harmonic", multiplicity=2)
    real = result.frequencies[result.frequencies > 0] * ase.units.invcm
    theirs = IdealGasThermo(
        real, "nonlinear", result.energy, result.atoms, symmetrynumber=1, spin=0.5, vib_selection="all"
    )
    assert ours.enthalpy == pytest.approx(theirs.get_enthalpy(350.0, verbose=False), abs=1e-10)
    assert ours.entropy == pytest.approx(theirs.get_entropy(350.0, 2e5, verbose=False), abs=1e-12)
    assert ours.free_energy == pytest.approx(theirs.get_gibbs_energy(350.0, 2e5, verbose=False), abs=1e-10)


TABLES = {  # experimental geometry and frequencies; S° at 298.15 K and 1 bar from the NIST-JANAF tables, J/K/mol
    "N2": ([2330.0], 191.609),
    "H2O": ([1594.7, 3657.1, 3755.9], 188.834),
    "CO2": ([667.4, 667.4, 1333.0, 2349.1], 213.795),
    "CH4": ([1306.0] * 3 + [1534.0] * 2 + [2917.0] + [3019.0] * 3, 186.251),
    "NH3": ([950.0, 1627.0, 1627.0, 3337.0, 3444.0, 3444.0], 192.774),
}


@pytest.mark.parametrize("name", TABLES)
def test_standard_entropies(name):
    frequencies, expected = TABLES[name]
    atoms = molecule(name)
    found = ideal_gas(atoms, 0.0, np.array(frequencies), find_point_group(atoms), low_modes="harmonic")
    assert found.entropy_j_per_mol == pytest.approx(expected, abs=0.5)


def test_low_modes():
    """Grimme's entropy: that of a rotor far below the cut-off, of an oscillator far above; Truhlar's never lower."""
    inertia = 200.0
    assert low_mode_correction(np.array([2000.0]), inertia, 300.0, 100.0) == pytest.approx(0.0, abs=1e-9)
    low = np.array([2.0])
    rotor = free_rotor_entropy(low, inertia, 300.0) - oscillator_entropy(low, 300.0)
    assert low_mode_correction(low, inertia, 300.0, 100.0) == pytest.approx(float(rotor[0]), rel=1e-5)
    rrho = ase.thermochemistry
    if hasattr(rrho, "RRHOMode"):
        mode = rrho.RRHOMode(30.0 * ase.units.invcm, inertia, tau=100.0)
        ours = low_mode_correction(np.array([30.0]), inertia, 300.0, 100.0) + oscillator_entropy(
            np.array([30.0]), 300.0
        )
        assert float(ours[0]) == pytest.approx(mode.get_entropy(300.0, False), rel=1e-6)
    atoms = molecule("CH3OH")
    group, modes = find_point_group(atoms), np.array([20.0, *np.linspace(300, 3000, 11)])
    harmonic, quasi, raised = (
        ideal_gas(atoms, 0.0, modes, group, low_modes=kind) for kind in ("harmonic", "quasi-rrho", "truhlar")
    )
    at_cutoff = ideal_gas(atoms, 0.0, np.maximum(modes, 100.0), group, low_modes="harmonic")
    assert raised.entropy == pytest.approx(at_cutoff.entropy)
    assert raised.entropy < quasi.entropy < harmonic.entropy
    assert raised.zero_point_energy == harmonic.zero_point_energy


def test_imaginary_modes_are_left_out_and_counted():
    atoms = molecule("H2O")
    group = find_point_group(atoms)
    saddle = ideal_gas(atoms, 0.0, np.array([-500.0, 1600.0, 3600.0]), group)
    assert saddle.left_out == 1
    assert saddle.zero_point_energy == pytest.approx(2600 * ase.units.invcm)


# Parts of a structure


def test_an_adsorbate_on_fixed_atoms_vibrates_in_all_its_coordinates():
    """FixAtoms and indices say the same; the block of the whole Hessian is what is diagonalised."""
    slab = fcc111("Cu", (2, 2, 2), vacuum=8.0)
    add_adsorbate(slab, "O", 1.2, "fcc")
    fixed = slab.copy()
    fixed.set_constraint(FixAtoms(range(8)))
    calculator = EMT()
    result = vibrations(fixed, calculator)
    assert result.held
    assert result.rigid == 0
    assert len(result.frequencies) == 3
    assert result.frequencies[0] > 0
    assert np.abs(result.modes[:, :8]).max() == 0
    chosen = vibrations(result.atoms, calculator, indices=[-1], relax_first=False)
    np.testing.assert_allclose(chosen.frequencies, result.frequencies, rtol=1e-4)
    thermo = result.thermochemistry(300.0)
    energies = result.frequencies * ase.units.invcm
    x = energies / (ase.units.kB * 300)
    assert thermo.zero_point_energy == pytest.approx(energies.sum() / 2)
    assert thermo.entropy == pytest.approx(ase.units.kB * (x / np.expm1(x) - np.log(-np.expm1(-x))).sum())
    assert thermo.pressure is None


def test_a_crystal_keeps_three_rigid_motions(silicon8, sw):
    result = vibrations(silicon8, sw)
    assert result.rigid == 3
    assert result.group is None
    assert len(result.frequencies) == 21
    assert result.frequencies[0] > 50


@pytest.mark.parametrize("indices", [[7], [-9]])
def test_atoms_that_do_not_exist(indices):
    with pytest.raises(InputError, match="does not exist"):
        vibrations(molecule("H2O"), EMT(), indices=indices)


def test_constraints_that_are_not_understood():
    atoms = molecule("H2O")
    atoms.set_constraint(FixBondLength(0, 1))
    with pytest.raises(InputError, match=r"FixBondLengths? cannot be kept"):
        vibrations(atoms, EMT())


def test_nothing_left_to_vibrate():
    atoms = molecule("H2O")
    atoms.set_constraint(FixAtoms([0, 1, 2]))
    with pytest.raises(InputError, match="no atom is left"):
        vibrations(atoms, EMT())


# Files and the command


def test_animations_move_along_the_mode(new_molecule, network):
    atoms = new_molecule("H2O")
    result = vibrations(atoms, network(atoms), relax_first=False)
    images = result.animation(1, frames=8, amplitude=0.3)
    assert len(images) == 8
    moves = np.array([image.positions - atoms.positions for image in images])
    assert np.linalg.norm(moves, axis=2).max() == pytest.approx(0.3)
    assert np.abs(moves.sum(axis=0)).max() < 1e-12
    assert np.abs((atoms.get_masses()[:, None] * moves[2]).sum(axis=0)).max() < 1e-6
    with pytest.raises(InputError, match="there is no mode 3"):
        result.animation(3)


def test_the_command_writes_everything(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ase.io.write("water.xyz", molecule("H2O"))
    ase.io.write("nitrogen.xyz", molecule("N2"))
    emt = ["--calculator", "ase.calculators.emt:EMT"]
    assert main(["vibrations", "water.xyz", "nitrogen.xyz", *emt, "--json", "report.json"]) in (0, 1)
    report = json.loads((tmp_path / "report.json").read_text())
    found = report["results"]["structures"]["nitrogen.xyz"]
    assert found["point_group"] == "D∞h"
    assert found["modes"][0]["symmetry"] == "Σg⁺"
    assert found["thermochemistry"]["entropy_J_per_K_mol"] == pytest.approx(191, abs=3)
    assert all((tmp_path / file).is_file() for file in report["files"])
    modes = ase.io.read("nitrogen-vibrations/modes.xyz", ":")
    assert modes[0].info["frequency_cm"] == pytest.approx(found["modes"][0]["frequency_cm"])
    assert modes[0].arrays["displacement"].shape == (2, 3)
    assert len(ase.io.read("nitrogen-vibrations/mode-001.xyz", ":")) == 24
    capsys.readouterr()
    assert main(["vibrations", "water.xyz", *emt, "--indices", "x"]) == 2
    assert "no list of atoms" in capsys.readouterr().err
    assert main(["vibrations", "water.xyz", *emt, "--low-modes", "x", "--force"]) == 2
    assert "none of harmonic" in capsys.readouterr().err
