"""matcalc accepts our calculator unchanged, and its numbers are ours.

matcalc brings many packages: it gets an environment of its own, kept in MLIP_EXTERNAL_ENV where that is set.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from mlip import MLIPCalculator
from mlip.md import elastic, phonons, relax

pytestmark = pytest.mark.slow
SOURCES = ("mlip", "datasets", "training", "md", "configs", "pyproject.toml", "README.md", "LICENSE")
KELVIN, SUPERCELL = 300.0, 4


def run(*command, timeout, **options):
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout, **options)


@pytest.fixture(scope="module")
def wheel(repository, tmp_path_factory) -> Path:
    """Our wheel, built outside the source tree."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source = repository / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    done = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", str(folder), timeout=300)
    assert done.returncode == 0, done.stderr
    return next((folder / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def python(repository, wheel, tmp_path_factory) -> Path:
    """The interpreter of an environment with matcalc, torch as this project pins it, and our wheel."""
    named = os.environ.get("MLIP_EXTERNAL_ENV")
    folder = Path(named) if named else tmp_path_factory.mktemp("matcalc")
    interpreter = folder / "bin" / "python"
    if not interpreter.exists():
        made = run(sys.executable, "-m", "venv", str(folder), timeout=300)
        assert made.returncode == 0, made.stderr
    pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--constraint", str(repository / "constraints.txt")]
    if run(str(interpreter), "-c", "import matcalc", timeout=300).returncode != 0:
        for package in ("torch", "matcalc"):  # torch first, so that the pinned build is there when matcalc asks
            done = run(*pip, package, timeout=1800)
            if done.returncode != 0:
                pytest.skip(f"{package} cannot be installed here: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    done = run(*pip, "--force-reinstall", "--no-deps", str(wheel), timeout=300)
    assert done.returncode == 0, done.stderr
    done = run(*pip, str(wheel), timeout=1800)  # what it depends on
    assert done.returncode == 0, done.stderr
    return interpreter


@pytest.fixture(scope="module")
def crystal(silicon_model):
    """Silicon at rest, in its primitive cell."""
    calculator = MLIPCalculator(silicon_model, dtype="float64")
    return relax(bulk("Si", a=5.45), calculator, cell="free", keep_symmetry=True, fmax=1e-6).to_atoms()


@pytest.fixture(scope="module")
def theirs(python, silicon_model, crystal, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    ase.io.write(folder / "cell.extxyz", crystal)
    worker = Path(__file__).with_name("matcalc_worker.py")
    arguments = [str(silicon_model), str(folder / "cell.extxyz"), str(SUPERCELL), str(KELVIN)]
    done = run(str(python), str(worker), *arguments, timeout=1200, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))[7:])


@pytest.fixture(scope="module")
def ours(silicon_model, crystal, theirs):
    calculator = MLIPCalculator(silicon_model, dtype="float64")
    return phonons(
        crystal, calculator, relax_first=None, supercell=SUPERCELL, dos_mesh=theirs["mesh"], temperatures=[KELVIN]
    )


def test_phonon_calc_has_our_frequencies(ours, theirs):
    """Finite displacements of 1e-3 Å in 128 atoms against exact D(q); all these q are commensurate."""
    mine = ours.frequencies(np.array(theirs["q"]))
    gap = np.abs(mine - theirs["frequencies"])
    print(f"PhononCalc: largest |Δν| {gap[:-1].max():.2e} THz, at Γ {gap[-1].max():.2e} THz")
    assert gap[:-1].max() < 1e-3
    assert gap[-1].max() < 2e-2  # acoustic modes at Γ: the root of the error in the sum rule


def test_phonon_calc_has_our_thermal_numbers(ours, theirs):
    mine = ours.thermal.at(KELVIN)
    for name, unit in (("free_energy", "kJ/mol"), ("entropy", "J/K/mol"), ("heat_capacity", "J/K/mol")):
        print(f"PhononCalc: {name} {theirs[name]:.5f} {unit}, ours {mine[name]:.5f}")
        assert mine[name] == pytest.approx(theirs[name], rel=1e-3)


def test_elasticity_calc_has_our_moduli(silicon_model, crystal, theirs):
    result = elastic(crystal, MLIPCalculator(silicon_model, dtype="float64"), relax_first=False)
    gap = np.abs(result.matrix - theirs["tensor"]).max()
    bulk_modulus, shear_modulus = result.moduli.bulk[2], result.moduli.shear[2]
    print(f"ElasticityCalc: K {theirs['bulk']:.3f}, G {theirs['shear']:.3f} GPa; ours K {bulk_modulus:.3f}, ", end="")
    print(f"G {shear_modulus:.3f}; largest |ΔC_IJ| {gap:.3f} GPa")
    assert gap < 0.01 * np.abs(result.matrix).max()
