"""The commands elastic, eos and qha."""

from __future__ import annotations

import json

import ase.io
import pytest
from ase.build import bulk, fcc111

from mlip.__main__ import main

EMT = ["--calculator", "ase.calculators.emt:EMT"]


@pytest.fixture
def copper(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ase.io.write("copper.cif", bulk("Cu", a=3.6, cubic=True))
    return "copper.cif"


def test_elastic_prints_the_tensor_and_writes(copper, tmp_path, capsys):
    assert main(["elastic", copper, *EMT, "--json", "report.json"]) == 0
    out = capsys.readouterr().out
    assert "bulk modulus" in out
    assert "C (GPa) in standard axes" in out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["command"] == "elastic"
    assert report["results"]["method"] == "strain"
    assert report["results"]["C_GPa"][0][0] > report["results"]["C_GPa"][0][1]
    assert {path.name for path in (tmp_path / "copper-elastic").iterdir()} == {"elastic.json", "elastic.png"}


def test_a_committee_of_files(tmp_path, monkeypatch, capsys):
    from mlip import Potential

    monkeypatch.chdir(tmp_path)
    settings = {"architecture": "nequip", "cutoff": 4.0, "num_layers": 2, "num_channels": 4, "lmax": 2, "zbl": True}
    for name in ("a", "b"):
        Potential.from_config(settings | {"seed": 2}, ["O", "Si"]).double().save(f"{name}.mlip")
    ase.io.write("zb.cif", bulk("SiO", "zincblende", a=4.98))
    arguments = ["elastic", "a.mlip", "b.mlip", "zb.cif", "--no-check", "--json", "report.json"]
    assert main(arguments) == 0
    assert "±" in capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["results"]["method"] == "exact"
    assert abs(report["results"]["committee_std"]["bulk_GPa"]) < 1e-4


def test_eos_of_several_structures(copper, tmp_path, capsys):
    ase.io.write("silver.cif", bulk("Ag", a=4.1))
    arguments = ["eos", copper, "silver.cif", *EMT, "--points", "5", "--span", "0.02", "--out", "all"]
    assert main([*arguments, "--json", "report.json"]) == 0
    assert capsys.readouterr().out.count("B₀") >= 2
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report["results"]["structures"]) == {"copper.cif", "silver.cif"}
    assert (tmp_path / "all/silver-eos/eos.csv").is_file()


def test_qha(copper, tmp_path):
    arguments = ["qha", copper, *EMT, "--points", "5", "--mesh", "8", "--supercell", "2"]
    assert main([*arguments, "--thermal", "0", "400", "50", "--span", "-0.01", "0.05", "--json", "report.json"]) in (
        0,
        1,
    )
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["results"]["temperature_K"][-1] == 400
    assert (tmp_path / "copper-qha/qha.png").stat().st_size > 30_000


def test_a_slab_is_bad_input(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ase.io.write("slab.xyz", fcc111("Cu", (1, 1, 3), vacuum=6.0))
    for command in ("elastic", "eos", "qha"):
        assert main([command, "slab.xyz", *EMT]) == 2
        assert "periodic in all three directions" in capsys.readouterr().err


def test_qha_takes_one_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.mlip").write_bytes(b"")
    assert main(["qha", "a.mlip", "b.mlip", "x.cif"]) == 2
    assert "takes one" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["elastic", "eos", "qha"])
def test_help_names_the_options(command, capsys):
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert "--calculator" in out
    assert "--no-symmetrize" in out
