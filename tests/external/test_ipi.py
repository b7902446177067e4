"""i-PI's driver protocol around our model, and its units (`pip install ipi`)."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.md.verlet import VelocityVerlet
from ase.units import Bohr, Hartree, fs

from mlip import MLIPCalculator, Potential
from mlip.potential import Normalization

units = pytest.importorskip("ipi.utils.units", reason="i-PI is not installed (pip install ipi)")
import mlip.ipi  # noqa: E402


def test_the_driver_gives_energies_forces_and_virials_in_atomic_units(tmp_path):
    settings = {"cutoff": 4.0, "num_layers": 2, "num_channels": 4, "lmax": 1, "seed": 1}
    Potential.from_config(settings, ["Si"]).double().save(tmp_path / "model.mlip")
    atoms = bulk("Si", a=5.43)
    atoms.positions[0] += 0.1
    ase.io.write(tmp_path / "start.xyz", atoms)
    driver = mlip.ipi.MLIPDriver(template=str(tmp_path / "start.xyz"), model=str(tmp_path / "model.mlip"))
    energy, forces, virial, _ = driver(atoms.cell.array.T / Bohr, atoms.positions / Bohr)
    atoms.calc = MLIPCalculator(tmp_path / "model.mlip")
    assert float(energy) == pytest.approx(atoms.get_potential_energy() / Hartree, rel=1e-6)
    np.testing.assert_allclose(forces, atoms.get_forces() * Bohr / Hartree, rtol=1e-5, atol=1e-9)
    expected = -atoms.get_stress(voigt=False) * atoms.get_volume() / Hartree
    np.testing.assert_allclose(np.reshape(virial, (3, 3)), expected, rtol=1e-5, atol=1e-9)


INPUT = """<simulation verbosity='low'>
  <output prefix='run'>
    <properties stride='1' filename='log' flush='1'>
      [step, potential{{electronvolt}}, conserved{{electronvolt}},
       atom_x{{angstrom}}(atom=3), atom_f{{ev/ang}}(atom=3)]
    </properties>
  </output>
  <total_steps>{steps}</total_steps>
  <ffsocket name='mlip' mode='unix' pbc='False'><address>silicon</address></ffsocket>
  <system>
    <initialize nbeads='1'><file mode='ase' units='angstrom'>start.xyz</file></initialize>
    <forces><force forcefield='mlip'/></forces>
    <ensemble><temperature units='kelvin'>300</temperature></ensemble>
    <motion mode='dynamics'>
      <dynamics mode='nve'><timestep units='femtosecond'>{timestep}</timestep></dynamics>
    </motion>
  </system>
</simulation>
"""


def installed_script(name: str) -> Path:
    """A script that i-PI's package installed."""
    return Path(str(distribution("ipi").locate_file(f"../../../bin/{name}"))).resolve()


def dynamics_of_ipi(folder: Path, steps: int, timestep: float) -> np.ndarray:
    """Columns of i-PI's log: step, potential and conserved energy, eV, position and force of atom 3, Å and eV/Å."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    (folder / "input.xml").write_text(INPUT.format(steps=steps, timestep=timestep))
    prefix = f"{folder}/ipi_"
    model = ["-m", "custom", "-P", mlip.ipi.__file__, "-o", "template=start.xyz,model=model.mlip"]
    programs = [
        [str(installed_script("i-pi")), "-S", prefix, "input.xml"],
        [str(installed_script("i-pi-py_driver")), "-u", "-S", prefix, "-a", "silicon", *model],
    ]
    running: list[subprocess.Popen[bytes]] = []
    with (folder / "output").open("wb") as output:
        try:
            for program in programs:
                running.append(
                    subprocess.Popen(
                        [sys.executable, *program], cwd=folder, env=environment, stdout=output, stderr=output
                    )
                )
                wait_for(lambda: (folder / "ipi_silicon").exists() or running[0].poll() is not None)
            codes = [process.wait(timeout=300) for process in running]
        finally:
            for process in running:
                process.kill()
    assert codes == [0, 0], (folder / "output").read_text()[-2000:]
    return np.loadtxt(folder / "run.log")


def wait_for(condition: Callable[[], bool], patience: float = 120.0) -> None:
    until = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.05)


@pytest.mark.slow
def test_dynamics_over_a_socket_are_those_of_ase():
    """The same steps, to the digits of i-PI's log, and the energy is kept."""
    steps, timestep = 40, 1.0
    atoms = bulk("Si", a=5.43, cubic=True)
    atoms.positions += np.random.default_rng(0).normal(0.0, 0.1, (8, 3))
    atoms.set_masses(np.full(8, units.Elements.mass("Si") / units.unit_to_internal("mass", "dalton", 1.0)))
    settings = {"cutoff": 4.0, "num_layers": 2, "num_channels": 4, "lmax": 1, "seed": 1}
    # A path short enough for the address of a socket.
    with tempfile.TemporaryDirectory(prefix="ipi", dir="/tmp") as name:
        folder = Path(name)
        strong = Normalization(avg_num_neighbors=16.0, energy_scale=100.0)
        Potential.from_config(settings, ["Si"], strong).double().save(folder / "model.mlip")
        ase.io.write(folder / "start.xyz", atoms)
        atoms.positions = ase.io.read(folder / "start.xyz").positions
        found = dynamics_of_ipi(folder, steps, timestep)
        atoms.calc = MLIPCalculator(folder / "model.mlip")
    dynamics = VelocityVerlet(atoms, timestep * fs)
    expected = [here(atoms)]
    for _ in range(steps):
        dynamics.run(1)
        expected.append(here(atoms))
    expected = np.array(expected)
    moved, released = np.ptp(expected[:, 2:5], axis=0).max(), np.ptp(expected[:, 0])
    assert moved > 0.01
    np.testing.assert_allclose(found[:, 1], expected[:, 0], atol=1e-6 * released, rtol=1e-8)
    np.testing.assert_allclose(found[:, 3:6], expected[:, 2:5], atol=1e-6 * moved, rtol=1e-8)
    np.testing.assert_allclose(found[:, 6:9], expected[:, 5:8], atol=1e-5 * np.abs(expected[:, 5:8]).max())
    assert np.ptp(found[:, 2]) < 0.02 * released


def here(atoms: Atoms) -> list[float]:
    """Potential and total energy, position and force of atom 3."""
    potential = atoms.get_potential_energy()
    total = potential + atoms.get_kinetic_energy()
    return [potential, total, *atoms.positions[3], *atoms.get_forces()[3]]
