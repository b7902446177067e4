"""NequIP itself beside what its checkpoints become here: needs its environment.

python benchmarks/environments.py nequip     # in benchmarks/.venvs, or MLIP_BENCHMARK_ENVIRONMENTS
"""

from __future__ import annotations

import json
import os
import subprocess

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from mlip import MLIPCalculator
from mlip.__main__ import main

pytestmark = pytest.mark.slow
SAME = 1e-10


@pytest.fixture(scope="module")
def nequip(repository):
    """Runs a script in NequIP's environment."""
    folder = os.environ.get("MLIP_BENCHMARK_ENVIRONMENTS", repository / "benchmarks" / ".venvs")
    python = f"{folder}/nequip/bin/python"
    if not os.access(python, os.X_OK):
        pytest.skip(f"NequIP's environment is not there: {python} (python benchmarks/environments.py nequip)")
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "LD_LIBRARY_PATH")}

    def run(*command):
        program = command[0] if str(command[0]).startswith("nequip-") else "python"
        rest = command[1:] if program != "python" else command
        full = [f"{folder}/nequip/bin/{program}", *map(str, rest)]
        done = subprocess.run(full, capture_output=True, text=True, check=False, env=environment, timeout=1200)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    return run


@pytest.fixture(scope="module")
def models(repository):
    return repository / "tests" / "mlip" / "nequip_models"


def frames():
    rng = np.random.default_rng(11)
    structures = [bulk("Si", a=5.3), bulk("Si", a=5.6, cubic=True)]
    for atoms in structures:
        atoms.positions += 0.1 * rng.standard_normal(atoms.positions.shape)
    return structures


def compare(nequip, repository, theirs, converted, folder):
    ase.io.write(folder / "frames.xyz", frames())
    worker = repository / "tests" / "external" / "nequip_worker.py"
    nequip(worker, "evaluate", theirs, folder / "frames.xyz", folder / "said.json")
    calculator = MLIPCalculator(converted)
    for atoms, said in zip(
        ase.io.read(folder / "frames.xyz", ":"), json.loads((folder / "said.json").read_text()), strict=True
    ):
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(said["energy"], abs=SAME)
        np.testing.assert_allclose(atoms.get_forces(), said["forces"], atol=SAME)
        np.testing.assert_allclose(atoms.get_stress(voigt=False), said["stress"], atol=SAME)


@pytest.mark.parametrize("name", ["silicon-lmax2-parity", "silicon-lmax1"])
def test_nequip_agrees_with_its_conversion(nequip, repository, models, tmp_path, name):
    assert main(["convert", "nequip", str(models / f"{name}.ckpt"), "--out", str(tmp_path / "model.mlip")]) == 0
    compare(nequip, repository, models / f"{name}.ckpt", tmp_path / "model.mlip", tmp_path)


@pytest.mark.parametrize("name", ["silicon-lmax2-parity", "silicon-lmax1", "oxide"])
def test_the_exporter_finds_the_hyper_parameters(nequip, repository, models, tmp_path, name):
    """What it reads off the model gives the same potential as the checkpoint's own hyper-parameters."""
    nequip(repository / "examples" / "export_nequip.py", models / f"{name}.ckpt", tmp_path / "plain.ckpt")
    for source, out in ((models / f"{name}.ckpt", "a.mlip"), (tmp_path / "plain.ckpt", "b.mlip")):
        assert main(["convert", "nequip", str(source), "--out", str(tmp_path / out)]) == 0
    first, second = (MLIPCalculator(tmp_path / out) for out in ("a.mlip", "b.mlip"))
    atoms = frames()[1]
    atoms.symbols[:] = first.potential.species[0]
    assert first.get_potential_energy(atoms) == pytest.approx(second.get_potential_energy(atoms), abs=1e-12)
    np.testing.assert_allclose(first.get_forces(atoms), second.get_forces(atoms), atol=1e-12)
