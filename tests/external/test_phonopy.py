"""phonopy drives our calculator as it drives any other: its own finite displacements against our exact D(q)."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms

from mlip import MLIPCalculator, Potential
from mlip.md import Analyses, phonons

COMMENSURATE = np.array([[0.5, 0, 0], [0.5, 0.5, 0], [0, 0, 0]])


@pytest.fixture(scope="module")
def calculator():
    settings = {"architecture": "nequip", "cutoff": 4.0, "num_layers": 2, "num_channels": 4, "lmax": 1, "seed": 1}
    return MLIPCalculator(Potential.from_config(settings, species=["Si"]), dtype="float64")


def finite_displacements(calculator, distance):
    """As in phonopy's own tutorials; with ASE's masses, as phonopy's own differ by 2e-5 for silicon."""
    silicon = bulk("Si", a=5.43)
    cell = PhonopyAtoms(
        symbols=silicon.symbols,
        cell=silicon.cell.array,
        scaled_positions=silicon.get_scaled_positions(),
        masses=silicon.get_masses(),
    )
    phonon = Phonopy(cell, supercell_matrix=[2, 2, 2], primitive_matrix="P")
    phonon.generate_displacements(distance=distance, is_plusminus=True)
    forces = []
    for supercell in phonon.supercells_with_displacements:
        atoms = Atoms(supercell.symbols, supercell.positions, cell=supercell.cell, pbc=True, calculator=calculator)
        forces.append(atoms.get_forces())
    phonon.forces = forces
    phonon.produce_force_constants()
    return phonon


def test_its_matrices_tend_to_ours_where_the_supercell_is_exact(calculator):
    """Central differences are off by the square of the displacement, until rounding."""
    ours = calculator.get_dynamical_matrix(bulk("Si", a=5.43), COMMENSURATE)

    def error(distance):
        phonon = finite_displacements(calculator, distance)
        theirs = phonon.run_qpoints(COMMENSURATE, with_dynamical_matrices=True).dynamical_matrices
        return np.abs(ours - theirs).max() / np.abs(ours).max()

    coarse, fine = error(1e-3), error(5e-4)
    assert fine < 1e-5
    assert coarse / fine == pytest.approx(4, rel=0.02)


def test_its_thermal_numbers_are_ours(calculator):
    """From the same supercell on the same mesh; modes that random weights leave imaginary are left out by both."""
    settings = {"relax_first": None, "supercell": 2, "points": 10, "dos_mesh": [7, 7, 7]}
    result = phonons(bulk("Si", a=5.43), calculator, analyses=Analyses(dos_sampling="interpolated"), **settings)
    phonon = finite_displacements(calculator, 5e-4)
    phonon.run_mesh([7, 7, 7], is_gamma_center=True)
    phonon.run_thermal_properties(temperatures=[300.0], cutoff_frequency=1e-3)
    theirs = phonon.thermal_properties
    ours = result.thermal.at(300.0)
    assert ours["free_energy"] == pytest.approx(theirs.free_energy[0], abs=2e-3)
    assert ours["entropy"] == pytest.approx(theirs.entropy[0], abs=2e-2)
    assert ours["heat_capacity"] == pytest.approx(theirs.heat_capacity[0], abs=2e-2)
