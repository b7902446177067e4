"""--frame: how a structure lies in the laboratory, for commands that use a model with relaxed weights."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk

from mlip import MLIPCalculator, Potential
from mlip.__main__ import main
from mlip.errors import InputError
from mlip.md.calculators import calculator_from
from mlip.md.options import frame_from

pytestmark = pytest.mark.filterwarnings("ignore:relaxed weights")
TURNED = "0 0 1 1 0 0 0 1 0"  # the laboratory's z is the structure's x
CONFIG = {"cutoff": 3.2, "num_layers": 2, "num_channels": 4, "lmax": 2, "num_radial": 4, "radial_width": 8}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A model that knows a direction, and a strained crystal for which directions differ."""
    monkeypatch.chdir(tmp_path)
    model = Potential.from_config({**CONFIG, "anisotropy": {"source": "learned", "irreps": "2e"}}, ["Si"]).double()
    with torch.no_grad():
        model.network.port.theta.copy_(torch.tensor([0.3, -0.5, 0.2, 0.4, 0.1]))
    model.save("model.mlip")
    atoms = bulk("Si", a=5.43)
    atoms.set_cell(atoms.cell.array @ np.diag([1.03, 1.0, 0.98]), scale_atoms=True)
    atoms.rattle(0.02, seed=1)
    ase.io.write("silicon.xyz", atoms)
    return ["model.mlip", "silicon.xyz"]


def energy(command, capsys, *options):
    assert main([*command, *options, "--force", "--json", "report.json"]) in (0, 1), capsys.readouterr().err
    return json.loads(Path("report.json").read_text())["results"]["energy"]


def test_the_frame_reaches_the_model(files, capsys):
    """As if the frame stood in the structure, and not as if the structure lay in the laboratory's axes."""
    relax = ["relax", *files, "--steps", "0"]
    wanted = {}
    for name, frame in (("identity", np.eye(3)), (TURNED, np.array(TURNED.split(), float).reshape(3, 3))):
        atoms = ase.io.read(files[1])
        atoms.info["frame"] = frame
        wanted[name] = MLIPCalculator(files[0]).get_potential_energy(atoms)
        assert energy(relax, capsys, "--frame", name) == pytest.approx(wanted[name], abs=1e-9)
    assert abs(wanted["identity"] - wanted[TURNED]) > 1e-4


def test_without_a_frame_the_error_names_the_option(files, capsys):
    assert main(["relax", *files]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "--frame identity" in error
    assert "\n" not in error


@pytest.mark.parametrize(
    "command",
    [
        ["md", "--steps", "2", "--timestep", "1"],
        ["phonons", "--no-relax", "--points", "4", "--dos", "2"],
        ["eos", "--points", "5"],
        ["elastic"],
        ["vibrations"],
        ["symmetry", "distortions"],
    ],
    ids=lambda command: command[-1] if command[0] == "symmetry" else command[0],
)
def test_every_command_takes_it(files, command, capsys):
    """What they then say of this model is another matter (no minimum, a space that must be isotropic)."""
    words, options = (command, []) if command[0] == "symmetry" else (command[:1], command[1:])
    main([*words, *files, *options, "--frame", "identity", "--out", "out"])
    error = capsys.readouterr().err
    assert "no frame" not in error
    assert "--frame" not in error


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a b", "is not numbers"),
        ("1 0 0", "is 3 numbers, not nine"),
        ("1 1 0 0 1 0 0 0 1", "not orthogonal"),
        ("nan " * 9, "not a 3×3 matrix"),
    ],
)
def test_what_is_no_frame_is_refused(text, what):
    with pytest.raises(InputError, match=what):
        frame_from(text)


def test_other_calculators_have_no_frame():
    with pytest.raises(InputError, match="our own models"):
        calculator_from(factory="ase.calculators.emt:EMT", frame=np.eye(3))
