"""The commands: what they write, what they print, how they end."""

from __future__ import annotations

import json

import ase.io
import pytest
from ase.build import bulk

from mlip.__main__ import main

EMT = ["--calculator", "ase.calculators.emt:EMT"]


@pytest.fixture
def copper(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.02, seed=1)
    ase.io.write("copper.xyz", atoms)
    return "copper.xyz"


@pytest.fixture
def model(small_potential, tmp_path):
    path = tmp_path / "model.mlip"
    small_potential.save(path)
    return str(path)


def one_line(capsys):
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    return error


def test_relax_writes_its_folder_and_report(copper, tmp_path):
    assert main(["relax", copper, *EMT, "--cell", "free", "--json", "report.json"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["command"] == "relax"
    assert report["results"]["converged"] is True
    assert report["results"]["space_group_after"] == "Fm-3m (225)"
    assert report["checks"][0]["passed"] is True
    assert all((tmp_path / file).is_file() for file in report["files"])
    assert ase.io.read("copper-relax/relaxed.xyz").get_potential_energy() == pytest.approx(
        report["results"]["energy"]
    )


def test_a_failed_check_ends_with_1(copper, tmp_path):
    assert main(["relax", copper, *EMT, "--steps", "1", "--json", "report.json"]) == 1
    assert json.loads((tmp_path / "report.json").read_text())["checks"][0]["passed"] is False


def test_results_are_kept_unless_forced(copper, capsys):
    assert main(["relax", copper, *EMT]) == 0
    capsys.readouterr()
    assert main(["relax", copper, *EMT]) == 2
    assert "copper-relax" in one_line(capsys)
    assert main(["relax", copper, *EMT, "--force"]) == 0


def test_several_structures_have_a_folder_each(copper, tmp_path):
    ase.io.write("silver.xyz", bulk("Ag"))
    assert main(["relax", copper, "silver.xyz", *EMT, "--out", "all", "--json", "report.json"]) == 0
    assert {path.name for path in (tmp_path / "all").iterdir()} == {"copper-relax", "silver-relax", "results.jsonl"}
    assert set(json.loads((tmp_path / "report.json").read_text())["results"]["structures"]) == {copper, "silver.xyz"}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["relax", "absent.xyz", *EMT], "absent.xyz"),
        (["relax", "model.mlip"], "STRUCTURE"),
        (["relax", "absent.mlip", "copper.xyz"], "absent.mlip"),
        (["relax", "copper.xyz", "--calculator", "nowhere:Nothing"], "nowhere"),
        (["relax", "copper.xyz", "--calculator", "EMT"], "module:factory"),
        (["relax", "broken.xyz", *EMT], "broken.xyz"),
        (["relax", "iron.xyz", *EMT], "iron.xyz"),
        (["md", "copper.xyz", *EMT], "steps"),
        (["md", "copper.xyz", *EMT, "--ensemble", "nvt", "--steps", "2"], "nvt"),
        (["md", "copper.xyz", *EMT, "--steps", "2", "--resume"], "restart"),
        (["phonons", "copper.xyz", *EMT, "--path", "GAMMA Q", "--supercell", "2"], "Q"),
        (["phonons", "copper.xyz", *EMT, "--supercell", "two"], "two"),
        (["phonons", "copper.xyz", *EMT, "--reference", "absent.yaml"], "absent.yaml"),
        (["phonons", "copper.xyz", *EMT, "--gruneisen", "lots"], "lots"),
        (["phonons", "copper.xyz", *EMT, "--dos-sampling", "exact", "--supercell", "2"], "exact"),
        (["check", *EMT], "structure"),
    ],
)
def test_bad_input_ends_with_2_and_one_line(copper, capsys, arguments, word, tmp_path):
    (tmp_path / "broken.xyz").write_text("not a structure\n")
    ase.io.write("iron.xyz", bulk("Fe"))
    assert main(arguments) == 2
    assert word in one_line(capsys)


def test_md_runs_logs_and_goes_on(copper, tmp_path, capsys):
    base = ["md", copper, *EMT, "--ensemble", "bussi", "--timestep", "2"]
    assert main([*base, "--steps", "30", "--json", "report.json"]) == 0
    assert main([*base, "--steps", "60", "--resume"]) == 0
    assert "60 steps" in capsys.readouterr().out
    lines = (tmp_path / "copper-md/md.csv").read_text().splitlines()
    assert lines[0] == "step,time_fs,temperature_K,pressure_GPa,potential_eV,kinetic_eV,conserved_eV,volume_Å³"
    assert [float(line.split(",")[0]) for line in lines[1:]] == list(range(61))
    assert len(ase.io.read("copper-md/trajectory.xyz", ":")) == 13
    assert (tmp_path / "copper-md/md.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_phonons_of_a_model_file(model, tmp_path, monkeypatch):
    """Random weights are no crystal: the imaginary modes fail, everything else holds."""
    monkeypatch.chdir(tmp_path)
    ase.io.write("si.cif", bulk("Si", a=5.43))
    arguments = ["phonons", model, "si.cif", "--points", "20", "--dos", "4 4 4", "--supercell", "2"]
    assert main([*arguments, "--thermal", "0", "300", "100", "--json", "report.json"]) == 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["results"]["method"] == "exact"
    assert report["results"]["space_group"] == "Fd-3m (227)"
    assert {row["name"] for row in report["checks"] if not row["passed"]} == {"imaginary frequency"}
    assert report["results"]["thermal_per_mole_of_primitive_cells"]["temperature_K"] == [0, 100, 200, 300]
    assert report["results"]["irreps"]["modes"][0]["irrep"] == "T2g"
    assert all(mode["irrep"] for mode in report["results"]["imaginary_modes"])
    names = {path.name for path in (tmp_path / "si-phonons").iterdir()}
    tables = {"phonopy.yaml", "bands.yaml", "bands.json", "thermal.csv", "dos.csv", "thermal_displacements.csv"}
    figures = {"bands.png", "thermal.png", "thermal_displacements.png"}
    assert names == tables | figures | {"phonons.html", "phononwebsite.json"}


def test_phonons_with_everything_that_can_be_asked_for(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ase.io.write("si.cif", bulk("Si", a=5.43))
    arguments = ["phonons", model, "si.cif", "--points", "6", "--dos", "2 2 2", "--supercell", "2", "--no-relax"]
    extra = ["--group-velocities", "--gruneisen", "0 0 1", "--no-thermal-displacements", "--json", "report.json"]
    assert main([*arguments, *extra]) == 1
    out = capsys.readouterr().out
    assert "Optical modes at Γ, m-3m" in out
    assert "Imaginary modes" in out
    results = json.loads((tmp_path / "report.json").read_text())["results"]
    assert results["group_velocities"]["method"] == results["gruneisen"]["method"] == "exact"
    assert "displacements" not in results
    names = {path.name for path in (tmp_path / "si-phonons").iterdir()}
    assert {"group_velocities.csv", "group_velocities.png", "gruneisen.csv", "gruneisen.png"} < names


def test_finite_displacements_of_any_calculator(copper, capsys):
    arguments = ["phonons", copper, *EMT, "--no-symmetrize", "--finite-displacement", "2 2 2"]
    ase.io.write(copper, bulk("Cu", a=3.5915))
    assert main([*arguments, "--points", "20", "--dos", "6,6,6"]) == 0
    out = capsys.readouterr().out
    assert "finite displacements; force constants of the supercell (2 0 0; 0 2 0; 0 0 2)" in out
    assert "per mole of primitive cells" in out


def test_check_of_a_model_and_of_a_calculator(model, copper, tmp_path):
    ase.io.write("si.cif", bulk("Si", a=5.43, cubic=True))
    assert main(["check", model, "si.cif", "--nve-steps", "20", "--json", "report.json"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["results"]["precision"] == "float64"
    assert len(report["checks"]) == 21
    assert (tmp_path / "si-check/check.png").stat().st_size > 20_000
    assert main(["check", copper, *EMT, "--nve-steps", "20"]) == 0


@pytest.mark.parametrize("command", ["relax", "md", "phonons", "check"])
def test_help_names_the_options(command, capsys):
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert "--calculator" in out
    assert "--out" in out
