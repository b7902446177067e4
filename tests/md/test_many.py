"""Many structures in one call: a line for each, no failure stops the others, and a killed run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import ase.io
import pytest
from ase.build import bulk

from mlip.__main__ import main
from mlip.md.many import folder_names

EMT = ["--calculator", "ase.calculators.emt:EMT"]
METALS = ("Cu", "Ag", "Au", "Ni")
# An EMT that ends its own process, as a full disk or a batch system would, on meeting gold.
DEADLY = """
import os, signal
from ase.calculators.emt import EMT

class Deadly(EMT):
    def calculate(self, atoms=None, *arguments, **more):
        if os.environ.get("DEADLY") and "Au" in atoms.get_chemical_symbols() and len(atoms) == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        super().calculate(atoms, *arguments, **more)

def make():
    return Deadly()
"""


@pytest.fixture
def metals(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i, symbol in enumerate(METALS):
        atoms = bulk(symbol, cubic=True)
        atoms.rattle(0.02, seed=i)
        ase.io.write(f"{symbol}.xyz", atoms)
    return [f"{symbol}.xyz" for symbol in METALS]


def lines(folder="all"):
    return [json.loads(line) for line in Path(folder, "results.jsonl").read_text().splitlines()]


def run(*arguments, **environment):
    code = "import sys; sys.path.insert(0, '.'); from mlip.__main__ import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_killed_run_goes_on_and_nothing_is_lost_or_done_twice(metals, tmp_path, monkeypatch):
    (tmp_path / "deadly.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(tmp_path)
    base = ["relax", *metals, "--calculator", "deadly:make", "--out", "all"]
    killed = run(*base, DEADLY="1")
    assert killed.returncode == -signal.SIGKILL
    before = (tmp_path / "all/results.jsonl").read_bytes()
    assert [line["structure"] for line in lines()] == ["Cu.xyz", "Ag.xyz"]
    assert (tmp_path / "all/Au-relax").is_dir()  # half done: replaced
    marks = {name: (tmp_path / f"all/{name}-relax/relaxed.xyz").stat().st_mtime_ns for name in ("Cu", "Ag")}

    assert main([*base, "--resume", "--json", "report.json"]) == 0
    assert (tmp_path / "all/results.jsonl").read_bytes().startswith(before)
    assert [line["structure"] for line in lines()] == metals
    assert {line["status"] for line in lines()} == {"passed"}
    for name, mark in marks.items():
        assert (tmp_path / f"all/{name}-relax/relaxed.xyz").stat().st_mtime_ns == mark

    assert main([*base[:-1], "once", "--json", "once.json"]) == 0
    resumed, whole = (json.loads((tmp_path / name).read_text()) for name in ("report.json", "once.json"))
    assert resumed["results"] == whole["results"]
    assert resumed["checks"] == whole["checks"]
    assert [file.replace("once/", "all/") for file in whole["files"]] == resumed["files"]


def test_a_line_that_was_being_written_is_done_again(metals, tmp_path):
    base = ["relax", *metals[:2], *EMT, "--out", "all"]
    assert main(base) == 0
    ledger = tmp_path / "all/results.jsonl"
    ledger.write_bytes(ledger.read_bytes()[:-200])
    assert main([*base, "--resume"]) == 0
    assert [line["structure"] for line in lines()] == metals[:2]
    ledger.write_bytes(ledger.read_bytes()[:50])  # not even the first one whole
    assert main([*base, "--resume"]) == 0
    assert [line["structure"] for line in lines()] == metals[:2]


def test_a_damaged_line_in_the_middle_is_an_error(metals, tmp_path, capsys):
    assert main(["relax", *metals[:2], *EMT, "--out", "all"]) == 0
    ledger = tmp_path / "all/results.jsonl"
    ledger.write_text("{half a line\n" + ledger.read_text())
    assert main(["relax", *metals[:2], *EMT, "--out", "all", "--resume"]) == 2
    assert "damaged" in capsys.readouterr().err


def test_one_bad_structure_does_not_stop_the_others(metals, tmp_path, capsys):
    (tmp_path / "bad.xyz").write_text("not a structure\n")
    ase.io.write("Fe.xyz", bulk("Fe"))  # EMT has no iron
    files = [metals[0], "bad.xyz", "Fe.xyz", "absent.xyz", metals[1]]
    assert main(["relax", *files, *EMT, "--out", "all", "--json", "report.json"]) == 2
    captured = capsys.readouterr()
    assert "5 structures: 2 passed, 3 error" in captured.out
    assert all(line.startswith("error: ") for line in captured.err.strip().splitlines())
    assert [line["status"] for line in lines()] == ["passed", "error", "error", "error", "passed"]
    assert "ASE cannot read" in lines()[1]["error"]
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report["results"]["structures"]) == {metals[0], metals[1]}
    assert set(report["results"]["errors"]) == {"bad.xyz", "Fe.xyz", "absent.xyz"}
    assert {p.name for p in (tmp_path / "all").iterdir()} == {"Cu-relax", "Ag-relax", "results.jsonl"}

    ase.io.write("bad.xyz", bulk("Pt"))  # mended: the next run takes it up
    assert main(["relax", *files, *EMT, "--out", "all", "--resume"]) == 2
    assert "2 done before" in capsys.readouterr().out
    assert sorted(line["structure"] for line in lines()) == sorted(files)
    assert [line["status"] for line in lines() if line["structure"] == "bad.xyz"] == ["passed"]


def test_an_unforeseen_exception_is_recorded_with_its_trace(metals, tmp_path):
    (tmp_path / "odd.py").write_text(DEADLY.replace("os.kill(os.getpid(), signal.SIGKILL)", "1 / 0"))
    base = ["relax", "Cu.xyz", "Au.xyz", "Ni.xyz", "--calculator", "odd:make", "--out", "all"]
    assert run(*base, DEADLY="1").returncode == 2
    assert [line["status"] for line in lines()] == ["passed", "error", "passed"]
    assert "ZeroDivisionError" in lines()[1]["error"]


def test_a_failed_check_of_one_ends_with_1(metals):
    assert main(["relax", *metals[:2], *EMT, "--out", "all", "--steps", "1"]) == 1
    assert [line["status"] for line in lines()] == ["failed a check"] * 2
    assert main(["relax", *metals[:2], *EMT, "--out", "all", "--steps", "1", "--resume"]) == 1


@pytest.mark.parametrize(
    ("change", "word"), [(["--fmax", "0.01"], "fmax"), (["--cell", "free"], "cell"), (["--index", "0"], "index")]
)
def test_changed_settings_are_refused(metals, capsys, change, word):
    assert main(["relax", *metals[:2], *EMT, "--out", "all"]) == 0
    before = lines()
    capsys.readouterr()
    assert main(["relax", *metals, *EMT, "--out", "all", "--resume", *change]) == 2
    error = capsys.readouterr().err.strip()
    assert word in error
    assert "\n" not in error
    assert lines() == before


def test_another_model_or_another_structure_is_noticed(small_potential, tmp_path, monkeypatch, capsys):
    from mlip import Potential

    monkeypatch.chdir(tmp_path)
    small_potential.save("model.mlip")
    for name, a in (("a", 5.43), ("b", 5.5)):
        ase.io.write(f"{name}.cif", bulk("Si", a=a))
    base = ["relax", "model.mlip", "a.cif", "b.cif", "--out", "all", "--resume", "--steps", "5"]
    main(base)
    first = lines()
    capsys.readouterr()
    ase.io.write("b.cif", bulk("Si", a=5.6))
    main(base)
    assert "1 done before" in capsys.readouterr().out
    assert lines()[0] == first[0]
    assert lines()[1]["digest"] != first[1]["digest"]
    assert len(lines()) == 2
    settings = small_potential.settings.model_dump() | {"seed": 2}
    Potential.from_config(settings, species=["Si"]).save("model.mlip")
    assert main(base) == 2
    assert "another model" in capsys.readouterr().err


def test_results_in_the_way_are_kept_unless_forced(metals, capsys):
    assert main(["relax", *metals[:2], *EMT, "--out", "all"]) == 0
    assert main(["relax", *metals[:2], *EMT, "--out", "all"]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["relax", *metals[:2], *EMT, "--out", "all", "--force"]) == 0
    assert len(lines()) == 2
    assert main(["relax", *metals[:2], *EMT, "--resume"]) == 2
    assert "--out" in capsys.readouterr().err


def test_equal_stems_get_folders_of_their_own(metals, tmp_path):
    """Two files of one name in two folders: neither may overwrite the other, on resuming too."""
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        ase.io.write(f"{folder}/x.xyz", bulk("Cu"))
    assert main(["relax", "first/x.xyz", "second/x.xyz", *EMT, "--out", "all"]) == 0
    assert {line["folder"] for line in lines()} == {"all/first-x-relax", "all/second-x-relax"}
    assert main(["relax", "first/x.xyz", *EMT, "--out", "one", "--resume"]) == 0
    assert main(["relax", "second/x.xyz", *EMT, "--out", "one", "--resume"]) == 0
    assert {line["folder"] for line in lines("one")} == {"one/x-relax", "one/x-2-relax"}


def test_folder_names_are_all_different(tmp_path):
    paths = [tmp_path / name for name in ("a/x.cif", "b/a/x.cif", "x.xyz", "a-x.cif")]
    names = folder_names(paths, "relax", taken={})
    assert len(set(names.values())) == 4


def test_the_same_file_twice_is_refused(metals, capsys):
    assert main(["relax", "Cu.xyz", "./Cu.xyz", *EMT, "--out", "all"]) == 2
    assert "twice" in capsys.readouterr().err


def test_phonons_of_many_structures_resume_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for symbol in ("Cu", "Ag"):
        ase.io.write(f"{symbol}.cif", bulk(symbol))
    base = ["phonons", *EMT, "--out", "all", "--points", "10", "--dos", "4", "--supercell", "2"]
    main([*base, "Cu.cif", "--resume"])
    first = lines()
    capsys.readouterr()
    main([*base, "Cu.cif", "Ag.cif", "--resume"])
    assert "1 done before" in capsys.readouterr().out
    assert lines()[0] == first[0]
    assert [line["structure"] for line in lines()] == ["Cu.cif", "Ag.cif"]
    assert lines()[1]["results"]["space_group"] == "Fm-3m (225)"
    assert main([*base, "Cu.cif", "Ag.cif", "--resume", "--displacement", "0.02"]) == 2
