"""Small copper sets, labelled by an empirical potential, and settings that train on them in a second."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mlip.training.load import validate

MODEL = {"cutoff": 4.0, "preset": "fast", "num_channels": 4, "lmax": 1, "num_radial": 4, "radial_width": 8}


def _label(atoms: Atoms) -> Atoms:
    """A copy that carries EMT's energy, forces and stress."""
    work = atoms.copy()
    work.calc = EMT()
    results = {"energy": work.get_potential_energy(), "forces": work.get_forces(), "stress": work.get_stress()}
    labelled = atoms.copy()
    labelled.calc = SinglePointCalculator(labelled, **results)
    return labelled


def _crystals(symbols: list[str], seed: int) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    frames = []
    for symbol in symbols:
        atoms = bulk("Cu", cubic=True, a=3.7)
        atoms.symbols[0] = symbol
        atoms.positions += rng.normal(scale=0.12, size=(4, 3))
        frames.append(_label(atoms))
    return frames


@pytest.fixture
def data_root():
    """The folder of external data."""
    folder = Path(os.environ.get("MLIP_DATA", Path(__file__).parents[2] / "../shared/data"))
    if not folder.is_dir():
        pytest.skip("external data not there")
    return folder


@pytest.fixture
def label():
    """Label atoms by EMT."""
    return _label


@pytest.fixture
def copper(tmp_path):
    """Twelve labelled copper cells in a file."""
    path = tmp_path / "copper.xyz"
    write(path, _crystals(["Cu"] * 12, seed=0))
    return path


@pytest.fixture
def alloy(tmp_path):
    """Twelve labelled cells of copper and of Cu₃Ag in a file."""
    path = tmp_path / "alloy.xyz"
    write(path, _crystals(["Cu", "Ag"] * 6, seed=1))
    return path


@pytest.fixture
def settings_values(copper, tmp_path):
    """A function: plain settings for copper, with sections updated."""

    def build(**sections):
        values = {
            "model": dict(MODEL),
            "data": {"train": [{"path": str(copper)}], "validation": 0.25},
            "training": {"max_epochs": 4, "max_minutes": None, "batch_size": 4, "dtype": "float64"},
            "run": {"folder": str(tmp_path / "runs"), "name": "test"},
        }
        for name, section in sections.items():
            both = isinstance(section, dict) and isinstance(values.get(name), dict)
            values[name] = {**values[name], **section} if both else section
        return values

    return build


@pytest.fixture
def settings(settings_values):
    """A function: validated settings for copper, with sections updated."""
    return lambda **sections: validate(settings_values(**sections))


def _free_port():
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return server.getsockname()[1]


def _run_processes(arguments, count):
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "localhost", "MASTER_PORT": str(_free_port())}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "mlip", *arguments],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    for process in processes:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error


@pytest.fixture
def run_processes():
    """A function: run the command line in several processes, as torchrun would."""
    return _run_processes
