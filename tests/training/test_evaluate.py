"""Errors of a model on labelled frames are what their definitions say."""

import json

import numpy as np
import pytest
import torch
from ase.io import read, write

from mlip import Potential
from mlip.__main__ import main
from mlip.datasets import read_frames
from mlip.errors import InputError
from mlip.training import evaluate

MODEL = {"cutoff": 4.0, "preset": "fast", "num_channels": 4, "lmax": 1, "num_radial": 4, "radial_width": 8}


@pytest.fixture
def model():
    """A random model of copper and silver."""
    return Potential.from_config(MODEL, ["Cu", "Ag"]).to(dtype=torch.float64)


@pytest.fixture
def model_file(model, tmp_path):
    """The same, in a file."""
    path = tmp_path / "model.mlip"
    model.save(path)
    return path


def test_errors_are_their_definitions(model, alloy):
    frames = read(alloy, ":")
    found = model.evaluate(frames, ("energy", "forces", "stress"))
    energy = np.array([(r["energy"] - a.get_potential_energy()) / len(a) for a, r in zip(frames, found, strict=True)])
    force = np.concatenate([r["forces"] - a.get_forces() for a, r in zip(frames, found, strict=True)])
    stress = np.array([r["stress"] - a.get_stress(voigt=False) for a, r in zip(frames, found, strict=True)])
    labels = np.concatenate([a.get_forces() for a in frames])
    row = evaluate(model, str(alloy)).rows[0]
    assert row["group"] == "all"
    assert row["energy_mae_meV_per_atom"] == pytest.approx(1000 * np.abs(energy).mean(), rel=1e-10)
    assert row["energy_rmse_meV_per_atom"] == pytest.approx(1000 * np.sqrt((energy**2).mean()), rel=1e-10)
    assert row["forces_mae_meV_per_A"] == pytest.approx(1000 * np.abs(force).mean(), rel=1e-10)
    assert row["forces_rmse_percent"] == pytest.approx(
        100 * np.sqrt((force**2).mean() / (labels**2).mean()), rel=1e-10
    )
    assert row["stress_mae_GPa"] == pytest.approx(160.21766 * np.abs(stress).mean(), rel=1e-6)


def test_species_and_types_are_told_apart(model, alloy):
    frames = read(alloy, ":")
    for k, frame in enumerate(frames):
        frame.info["config_type"] = "first" if k < 5 else "second"
    write(alloy, frames)
    result = evaluate(model, str(alloy))
    rows = {row["group"]: row for row in result.rows}
    assert set(rows) == {"all", "type first", "type second", "on Cu", "on Ag"}
    assert (rows["type first"]["frames"], rows["type second"]["frames"]) == (5, 7)
    silver = [
        np.abs(r["forces"][0] - a.get_forces()[0]).mean()
        for a, r in zip(frames, model.evaluate(frames), strict=True)
        if a.symbols[0] == "Ag"
    ]
    assert rows["on Ag"]["forces_mae_meV_per_A"] == pytest.approx(1000 * np.mean(silver), rel=1e-10)
    weights = np.array([5, 7])
    parts = np.array([rows[f"type {k}"]["energy_mae_meV_per_atom"] for k in ("first", "second")])
    assert rows["all"]["energy_mae_meV_per_atom"] == pytest.approx(parts @ weights / 12, rel=1e-10)


def test_files_are_told_apart(model, alloy, tmp_path):
    """A test at the training's temperature and one above it are two numbers."""
    frames = read(alloy, ":")
    (tmp_path / "again").mkdir()
    parts = {"cold.xyz": frames[:5], "hot.xyz": frames[5:], "again/hot.xyz": frames[5:]}
    for name, part in parts.items():
        write(tmp_path / name, part)
    read_all = [f for name in parts for f in read_frames(tmp_path / name)]
    two = {row["group"]: row for row in evaluate(model, read_all[:12]).rows}
    assert [two[f"file {name}.xyz"]["frames"] for name in ("cold", "hot")] == [5, 7]
    alone = evaluate(model, str(tmp_path / "cold.xyz")).rows
    assert not any(row["group"].startswith("file") for row in alone)
    assert two["file cold.xyz"]["forces_mae_meV_per_A"] == alone[0]["forces_mae_meV_per_A"]
    three = {row["group"] for row in evaluate(model, read_all).rows}
    assert {f"file {tmp_path / 'hot.xyz'}", f"file {tmp_path / 'again/hot.xyz'}"} <= three


def test_frames_without_labels_are_left_out(model, alloy):
    frames = list(read_frames(alloy))
    bare = [f if k else type(f)(f.atoms) for k, f in enumerate(frames)]
    assert evaluate(model, bare).rows[0]["energy_mae_meV_per_atom"] == pytest.approx(
        evaluate(model, frames[1:]).rows[0]["energy_mae_meV_per_atom"], rel=1e-12
    )
    with pytest.raises(InputError, match="no frame has a label"):
        evaluate(model, bare[:1])


def test_molecules_have_no_stress(model, copper):
    frames = read(copper, ":3")
    for frame in frames:
        frame.pbc = False
    write(copper, frames)
    assert "forces_mae_meV_per_A" in evaluate(model, str(copper)).rows[0]


def test_command_line(model_file, alloy, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--plot", "--out", "figures", "--json", "report.json", "--index", "0:4"]
    assert main(["evaluate", str(model_file), str(alloy), *options]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["command"] == "evaluate"
    assert report["results"]["groups"][0]["frames"] == 4
    assert (tmp_path / "figures/parity.png").stat().st_size > 5000
    assert main(["evaluate", str(model_file), str(alloy), "--plot", "--out", "figures"]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["evaluate", str(model_file), str(alloy)]) == 0
    assert "on Ag" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--key", "energy"],
        ["--key", "energie=E"],
        ["--index", "99:100"],
        ["--unit", "energy=stone"],
        ["--key", "energy=no"],
    ],
)
def test_bad_options_are_one_line(model_file, alloy, capsys, arguments):
    assert main(["evaluate", str(model_file), str(alloy), *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_missing_files_are_one_line(model_file, alloy, tmp_path, capsys):
    assert main(["evaluate", str(tmp_path / "no.mlip"), str(alloy)]) == 2
    assert main(["evaluate", str(model_file), str(tmp_path / "no.xyz")]) == 2
    assert main(["evaluate", str(model_file), "copper:test"]) == 2
    assert capsys.readouterr().err.count("\n") == 3
