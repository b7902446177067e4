"""i-PI's driver protocol around our model, and its units (`pip install ipi`)."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.units import Bohr, Hartree

from mlip import MLIPCalculator, Potential

units = pytest.importorskip("ipi.utils.units", reason="i-PI is not installed (pip install ipi)")


def test_the_driver_gives_energies_forces_and_virials_in_atomic_units(tmp_path):
    from mlip.ipi import MLIPDriver

    settings = {"cutoff": 4.0, "num_layers": 2, "num_channels": 4, "lmax": 1, "seed": 1}
    Potential.from_config(settings, ["Si"]).double().save(tmp_path / "model.mlip")
    atoms = bulk("Si", a=5.43)
    atoms.positions[0] += 0.1
    ase.io.write(tmp_path / "start.xyz", atoms)
    driver = MLIPDriver(template=str(tmp_path / "start.xyz"), model=str(tmp_path / "model.mlip"))
    energy, forces, virial, _ = driver(atoms.cell.array.T / Bohr, atoms.positions / Bohr)
    atoms.calc = MLIPCalculator(tmp_path / "model.mlip")
    assert float(energy) == pytest.approx(atoms.get_potential_energy() / Hartree, rel=1e-6)
    np.testing.assert_allclose(forces, atoms.get_forces() * Bohr / Hartree, rtol=1e-5, atol=1e-9)
    expected = -atoms.get_stress(voigt=False) * atoms.get_volume() / Hartree
    np.testing.assert_allclose(np.reshape(virial, (3, 3)), expected, rtol=1e-5, atol=1e-9)
