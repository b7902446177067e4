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
from ase.constraints import FixAtoms
from ase.thermochemistry import IdealGasThermo

from mlip.__main__ import main
from mlip.errors import InputError
from mlip.md import find_point_group, vibrations
from mlip.md.normal_modes import CM_PER_SQRT_EV_A2_AMU
from mlip.md.thermochemistry import free_rotor_entropy, ideal_gas, low_mode_correction, oscillator_entropy


class Network(Calculator):
    """Springs along bonds and between second neighbours, at rest in the structure it is made of; eV/Å²."""

    implemented_properties = ("energy", "forces")

    def __init__(self, atoms, stiffness=(25.0, 3.0), reach=(1.3, 2.0)):
        super().__init__()
        distances = atoms.get_all_distances()
        radii = np.array([{"H": 0.31, "C": 0.76, "N": 0.71, "O": 0.66}[s] for s in atoms.symbols])
        sums = radii[:, None] + radii[None]
        bonds = np.triu(distances < reach[0] * sums, 1)
        near = (bonds | bonds.T).astype(int)
        second = np.triu((near @ near > 0) & ~(bonds | bonds.T), 1)
        self.springs = [(i, j, distances[i, j], k) for m, k in zip((bonds, second), stiffness, strict=True)
                        for i, j in np.argwhere(m)]  # fmt: skip

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        energy, forces = 0.0, np.zeros((len(self.atoms), 3))
        for i, j, rest, k in self.springs:
            d = self.atoms.positions[j] - self.atoms.positions[i]
            r = np.linalg.norm(d)
            energy += k * (r - rest) ** 2 / 2
            forces[i] += k * (r - rest) * d / r
            forces[j] -= k * (r - rest) * d / r
        self.results = {"energy": energy, "forces": forces}


class Field(Calculator):
    """E = ½ u·H·u about a structure, with an analytic Hessian."""

    implemented_properties = ("energy", "forces")

    def __init__(self, atoms, hessian):
        super().__init__()
        self.rest, self.matrix = atoms.get_positions(), hessian

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        u = (self.atoms.get_positions() - self.rest).ravel()
        self.results = {"energy": float(u @ self.matrix @ u / 2), "forces": -(self.matrix @ u).reshape(-1, 3)}

    def get_hessian(self, atoms):
        return self.matrix


def symmetric_field(atoms, seed=0):
    """A random Hessian with the full symmetry of the molecule, translations and rotations at no cost."""
    from mlip.md.curvature import rigid_motions
    from mlip.md.irreps import _displacements

    rng = np.random.default_rng(seed)
    n = 3 * len(atoms)
    matrix = rng.normal(size=(n, n))
    matrix = matrix @ matrix.T + 10 * np.eye(n)
    group = find_point_group(atoms)
    turns = [_displacements(op) for op in group.operations]
    if group.linear:  # any rotation about the axis: average over many
        turns = [
            t @ np.kron(np.eye(len(atoms)), _turn(group.axis, a)) for t in turns for a in np.arange(8) * np.pi / 4
        ]
    matrix = sum(t @ matrix @ t.T for t in turns) / len(turns)
    rigid = rigid_motions(atoms)
    free = np.eye(n) - rigid.T @ rigid
    return free @ matrix @ free


def _turn(axis, angle):
    k = np.cross(np.eye(3), axis)
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def turned(name):
    atoms = molecule(name)
    atoms.rotate(37, (1, 2, 3))
    atoms.translate((0.3, -2.0, 1.0))
    return atoms


def counted(result):
    """{symbol: how many levels}, by dividing by the degeneracy of the symbol."""
    labels = [s.label for s in result.symmetries]
    size = {"E": 2, "T": 3, "G": 4, "H": 5, "Π": 2}
    return {label: labels.count(label) // size.get(label[0], 1) for label in set(labels)}


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


def test_a_linear_triatomic_has_the_textbook_frequencies():
    """CO2 with springs k: ω₁² = k/m_O, ω₃² = k (1/m_O + 2/m_C) (Landau and Lifshitz, Mechanics, § 24)."""
    atoms = turned("CO2")
    result = vibrations(atoms, Network(atoms, stiffness=(90.0, 0.0)), relax_first=False)
    carbon, oxygen = atoms.get_masses()[0], atoms.get_masses()[1]
    expected = np.sqrt([90 / oxygen, 90 * (1 / oxygen + 2 / carbon)]) * CM_PER_SQRT_EV_A2_AMU
    assert result.group.symbol == "D∞h"
    assert len(result.frequencies) == 4
    np.testing.assert_allclose(result.frequencies[2:], expected, rtol=1e-4)
    assert [s.label for s in result.symmetries[2:]] == ["Σg⁺", "Σu⁺"]
    assert (result.symmetries[2].raman, result.symmetries[2].infrared) == (True, False)
    assert (result.symmetries[3].raman, result.symmetries[3].infrared) == (False, True)


def test_isotopes_change_masses_and_symmetry():
    atoms = turned("H2O")
    calculator = Network(atoms)
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


def test_a_saddle_is_called_one_and_an_unrelaxed_structure_fails_its_check():
    """Ammonia's plane is a transition state of springs that want the pyramid."""
    pyramid = molecule("NH3")
    calculator = Network(pyramid, stiffness=(40.0, 5.0))
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


# Symmetry

GROUPS = {
    "H2O": "C2v", "NH3": "C3v", "CH4": "Td", "C2H4": "D2h", "C6H6": "D6h", "CO2": "D∞h", "HCN": "C∞v", "C2H6": "D3d",
    "H2O2": "C2", "CH3Cl": "C3v", "C2H2": "D∞h", "C3H4_D2d": "D2d", "C3H6_D3h": "D3h", "BF3": "D3h", "HOCl": "Cs",
    "trans-butane": "C2h", "H": "Kh",
}  # fmt: skip


@pytest.mark.parametrize("name", GROUPS)
def test_point_groups(name):
    group = find_point_group(turned(name))
    assert group.symbol == GROUPS[name]
    rotations = {"H2O": 2, "NH3": 3, "CH4": 12, "C2H4": 4, "C6H6": 12, "CO2": 2, "HCN": 1, "C2H6": 6, "C3H6_D3h": 6}
    assert group.symmetry_number == rotations.get(name, group.symmetry_number)


def test_point_groups_of_high_and_of_no_symmetry():
    octahedron = np.concatenate([1.56 * np.eye(3), -1.56 * np.eye(3)])
    assert find_point_group(Atoms("SF6", positions=[[0, 0, 0], *octahedron])).symbol == "Oh"
    golden = (1 + np.sqrt(5)) / 2
    corners = np.array([[0, s, t * golden] for s in (1, -1) for t in (1, -1)])
    corners = np.concatenate([corners, corners[:, [1, 2, 0]], corners[:, [2, 0, 1]]])
    assert find_point_group(Atoms("B12", positions=1.5 * corners)).symbol == "Ih"
    four = np.array([[1, 1, 0.2], [-1, 1, -0.2], [-1, -1, 0.2], [1, -1, -0.2]])
    assert find_point_group(Atoms("B4", positions=four)).symbol == "D2d"
    assert find_point_group(Atoms("HClBrFC", positions=[[1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1], [0, 0, 0]])
                            ).symbol == "C1"  # fmt: skip
    star = [[np.cos(a), np.sin(a), 0] for a in np.arange(5) * 2 * np.pi / 5]
    assert find_point_group(Atoms("H5", positions=star)).symbol == "D5h"


def test_a_tolerance_decides_about_a_distorted_molecule():
    atoms = molecule("CH4")
    atoms.positions[1] *= 1.02
    assert find_point_group(atoms, 0.05).symbol == "Td"
    assert find_point_group(atoms, 0.002).symbol == "C3v"


def test_operations_form_a_group():
    for name in ("C2H6", "CH4", "C6H6"):
        matrices = np.array([op.matrix for op in find_point_group(turned(name)).operations])
        products = np.einsum("aij,bjk->abik", matrices, matrices).reshape(-1, 3, 3)
        gaps = np.abs(products[:, None] - matrices[None]).max(axis=(2, 3)).min(axis=1)
        assert gaps.max() < 1e-3


# Vibrations by symmetry, as textbooks list them (Herzberg, Infrared and Raman Spectra; Wilson, Decius and Cross).
SPECIES = {
    "H2O": {"A1": 2, "B2": 1},
    "NH3": {"A1": 2, "E": 2},
    "CH4": {"A1": 1, "E": 1, "T2": 2},
    "CO2": {"Σg⁺": 1, "Σu⁺": 1, "Πu": 1},
    "C2H2": {"Σg⁺": 2, "Σu⁺": 1, "Πg": 1, "Πu": 1},
    "HCN": {"Σ⁺": 2, "Π": 1},
    "BF3": {"A1′": 1, "A2″": 1, "E′": 2},
    "C2H4": {"Ag": 3, "Au": 1, "B1u": 2, "B2g": 1, "B2u": 2, "B3g": 2, "B3u": 1},  # z along C=C, x across the plane
    "C2H6": {"A1g": 3, "A1u": 1, "A2u": 2, "Eg": 3, "Eu": 3},
    "C3H4_D2d": {"A1": 3, "B1": 1, "B2": 3, "E": 4},
    "C6H6": {"A1g": 2, "A2g": 1, "A2u": 1, "B1u": 2, "B2g": 2, "B2u": 2, "E1g": 1, "E1u": 3, "E2g": 4, "E2u": 2},
}  # fmt: skip
ACTIVE = {  # infrared, Raman
    "CH4": ({"T2"}, {"A1", "E", "T2"}),
    "C2H2": ({"Σu⁺", "Πu"}, {"Σg⁺", "Πg"}),
    "C6H6": ({"A2u", "E1u"}, {"A1g", "E1g", "E2g"}),
    "BF3": ({"A2″", "E′"}, {"A1′", "E′"}),
    "C2H4": ({"B1u", "B2u", "B3u"}, {"Ag", "B2g", "B3g"}),
}


@pytest.mark.parametrize("name", SPECIES)
def test_irreducible_representations_and_activity(name):
    atoms = turned(name)
    result = vibrations(atoms, Field(atoms, symmetric_field(atoms)), relax_first=False)
    assert counted(result) == SPECIES[name]
    assert len(result.symmetries) == 3 * len(atoms) - 6 + result.group.linear
    for kind, expected in zip(("infrared", "raman"), ACTIVE.get(name, ()), strict=False):
        assert {s.label for s in result.symmetries if getattr(s, kind)} == expected
    assert all(check.passed for check in result.checks), result.checks


def test_accidental_degeneracy_is_split_by_symmetry():
    """All frequencies of methane equal: the sets are still told apart, by the operations alone."""
    from mlip.md.curvature import rigid_motions

    atoms = turned("CH4")
    weights = np.sqrt(np.repeat(atoms.get_masses(), 3))
    rigid = np.linalg.svd(rigid_motions(atoms) * weights, full_matrices=False)[2]
    matrix = weights[:, None] * (np.eye(15) - rigid.T @ rigid) * weights
    result = vibrations(atoms, Field(atoms, matrix), relax_first=False)
    assert np.ptp(result.frequencies) < 1e-3
    assert counted(result) == SPECIES["CH4"]


def test_a_hessian_that_breaks_the_symmetry_is_caught():
    atoms = turned("CH4")
    matrix = symmetric_field(atoms)
    noise = np.random.default_rng(0).normal(size=matrix.shape)
    result = vibrations(atoms, Field(atoms, matrix + 1.0 * (noise + noise.T)), relax_first=False)
    assert not next(c for c in result.checks if c.name == "symmetry defect of modes").passed
    assert not next(c for c in result.checks if c.name.startswith("rigid motions")).passed


# Thermochemistry


def test_it_is_ases_ideal_gas():
    atoms = molecule("CH3OH")
    result = vibrations(atoms, Network(atoms, stiffness=(30.0, 4.0)))
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
    rrho = pytest.importorskip("ase.thermochemistry")
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


def test_nothing_left_to_vibrate():
    atoms = molecule("H2O")
    atoms.set_constraint(FixAtoms([0, 1, 2]))
    with pytest.raises(InputError, match="no atom is left"):
        vibrations(atoms, EMT())


# Files and the command


def test_animations_move_along_the_mode():
    atoms = turned("H2O")
    result = vibrations(atoms, Network(atoms), relax_first=False)
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
