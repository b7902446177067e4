"""Errors of dipoles, Born charges and polarizabilities where frames carry the labels and the model has them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import bulk

from mlip import MLIPCalculator, Potential
from mlip.__main__ import main
from mlip.datasets import molecules, read_frames
from mlip.datasets.frame import LabelledFrame
from mlip.training import evaluate

MODEL = {"cutoff": 4.0, "preset": "fast", "num_channels": 4, "lmax": 1, "num_radial": 4, "radial_width": 8}
FIELD = {**MODEL, "anisotropy": {"source": "field", "irreps": "0e + 1o"}}
KEYS = ("polarization_rmse_me_A", "born_charges_rmse_me", "polarizability_rmse_me_A2_per_V")


def moved(potential: Potential) -> Potential:
    """Every weight off its start value: the port's begin at zero."""
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in potential.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=rng))
    return potential


@pytest.fixture
def of_molecules():
    return moved(Potential.from_config(FIELD, ["H", "C", "O"]).double())


@pytest.fixture
def crystal():
    """A frame of the model's own answers, each displaced by a known error; the dipole on another branch."""
    potential = moved(Potential.from_config(FIELD, ["Cu", "O"]).double())
    atoms = bulk("CuO", "rocksalt", a=4.3)
    atoms.rattle(0.05, seed=2)
    found = MLIPCalculator(potential).get_field_response(atoms)
    info = {
        "polarization": found["dipole"] - [0.1, -0.2, 0.2] + atoms.cell.array.T @ [2, -1, 5],
        "born_charges": found["born_charges"] + np.array([0.3, -0.1])[:, None, None],
        "polarizability": found["polarizability"] - 0.05,
    }
    return potential, LabelledFrame(atoms, energy=0.0, info=info)


def test_molecules_have_errors_of_dipole_and_polarizability(of_molecules):
    frames = list(read_frames(molecules.path("validation")))
    row = evaluate(of_molecules, frames).rows[0]
    found = [MLIPCalculator(of_molecules).get_field_response(frame.atoms) for frame in frames]
    errors = np.array([r["dipole"] - f.info["dipole"] for r, f in zip(found, frames, strict=True)])
    tensors = np.array([r["polarizability"] - f.info["polarizability"] for r, f in zip(found, frames, strict=True)])
    assert row["polarization_rmse_me_A"] == pytest.approx(1e3 * np.sqrt((errors**2).mean()), rel=1e-9)
    assert row["polarization_mae_me_A"] == pytest.approx(1e3 * np.abs(errors).mean(), rel=1e-9)
    assert row["polarizability_rmse_me_A2_per_V"] == pytest.approx(1e3 * np.sqrt((tensors**2).mean()), rel=1e-9)
    assert "born_charges_rmse_me" not in row
    assert row["energy_mae_meV_per_atom"] == evaluate(of_molecules, frames).rows[0]["energy_mae_meV_per_atom"]


def test_errors_of_a_crystal_are_those_of_the_nearest_branch(crystal):
    potential, frame = crystal
    rows = {row["group"]: row for row in evaluate(potential, [frame]).rows}
    assert [rows["all"][key] for key in KEYS] == pytest.approx([1e3 * 0.3 / np.sqrt(3), 1e3 * np.sqrt(0.05), 50.0])
    assert rows["on Cu"]["born_charges_rmse_me"] == pytest.approx(300.0)
    assert rows["on O"]["born_charges_mae_me"] == pytest.approx(100.0)
    assert "polarization_rmse_me_A" not in rows["on Cu"]


def test_a_molecule_has_one_branch(crystal):
    """The same label on an open structure is off by whole vectors, and stays so."""
    potential, frame = crystal
    atoms = frame.atoms.copy()
    atoms.pbc, atoms.cell = False, None
    label = MLIPCalculator(potential).get_field_response(atoms)["dipole"] + [4.3, 0, 0]
    row = evaluate(potential, [replace(frame, atoms=atoms, info={"polarization": label})]).rows[0]
    assert row["polarization_mae_me_A"] == pytest.approx(4300 / 3)


def test_frames_with_nothing_but_charges_can_be_compared(crystal):
    potential, frame = crystal
    result = evaluate(potential, [replace(frame, energy=None)])
    assert "energy_mae_meV_per_atom" not in result.rows[0]
    assert result.rows[0]["born_charges_rmse_me"] == pytest.approx(1e3 * np.sqrt(0.05))


def test_a_model_that_feels_no_field_is_not_asked(crystal):
    strict = Potential.from_config(MODEL, ["Cu", "O"])
    result = evaluate(strict, [crystal[1]])
    assert not set(KEYS) & result.rows[0].keys()
    assert len(result.tables) == 1


def test_the_command_prints_and_writes_them(of_molecules, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    of_molecules.save("model.mlip")
    assert main(["evaluate", "model.mlip", "molecules:validation", "--plot", "--json", "report.json"]) == 0
    printed = capsys.readouterr().out
    assert "dipole MAE" in printed
    assert "RMSE (me Å²/V)" in printed
    assert "Z*" not in printed
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["results"]["groups"][0]["polarization_rmse_me_A"] > 0
    assert (tmp_path / "molecules-validation-evaluate" / "parity.png").is_file()
