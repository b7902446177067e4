"""Shards divide a list without overlap, go on where they were cut off, and merge into what one call gives."""

import json
import shutil
from pathlib import Path

import ase.io
import pytest
from ase.build import bulk

from mlip.__main__ import main
from mlip.errors import InputError
from mlip.md.shards import Shard, merged, shard_from

METALS = ("Cu", "Ag", "Au", "Ni", "Pd")
EMT = ["--calculator", "ase.calculators.emt:EMT", "--steps", "3", "--fmax", "10"]


def structures():
    """Five metals in the present folder."""
    for i, symbol in enumerate(METALS):
        atoms = bulk(symbol, cubic=True)
        atoms.rattle(0.02, seed=i)
        ase.io.write(f"{symbol}.xyz", atoms)
    return [f"{symbol}.xyz" for symbol in METALS]


@pytest.fixture
def metals(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return structures()


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A folder in which both shards have run."""
    folder = tmp_path_factory.mktemp("shards")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        files = structures()
        for index in (0, 1):
            assert shard(files, index) == 0
    return folder


@pytest.fixture
def finished(template, tmp_path, monkeypatch):
    """A copy of it."""
    shutil.copytree(template, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return [f"{symbol}.xyz" for symbol in METALS]


def relax(files, *options, out="all"):
    return main(["relax", *files, *EMT, "--out", out, *options])


def shard(files, index, count=2, *options):
    return relax(files, "--shards", str(count), "--shard-index", str(index), *options)


def lines(file):
    return [json.loads(line) for line in Path(file).read_text().splitlines()]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_structure_belongs_to_one_shard(count):
    structures = [Path(f"{i}.cif") for i in range(5)]
    parts = [Shard(index, count).part(structures) for index in range(count)]
    assert sorted(path for part in parts for path in part) == structures
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_shards_and_merge_are_one_call(finished):
    assert main(["merge", "all"]) == 0
    assert relax(finished, out="once") == 0
    together, once = lines("all/results.jsonl"), lines("once/results.jsonl")
    assert [r["structure"] for r in together] == finished
    for one, other in zip(together, once, strict=True):
        assert one["results"] == other["results"]
        assert Path(one["folder"]).name == Path(other["folder"]).name
    assert Path("all/Cu-relax/relaxed.xyz").is_file()


def test_a_merge_is_not_overwritten(finished, capsys):
    assert main(["merge", "all"]) == 0
    assert main(["merge", "all"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["merge", "all", "--force"]) == 0


def test_a_shard_goes_on(finished):
    ledger = Path("all/results-0-of-2.jsonl")
    whole = ledger.read_text().splitlines(keepends=True)
    ledger.write_text(whole[0] + whole[1][:40])  # cut off while the second line was being written
    with pytest.raises(InputError, match="cut off"):
        merged(Path("all"))
    assert shard(finished, 0, 2, "--resume") == 0
    assert len(merged(Path("all"))) == 5
    assert ledger.read_text().splitlines(keepends=True)[0] == whole[0]


def spoil_hole():
    path = Path("all/results-1-of-2.jsonl")
    path.write_text(path.read_text().splitlines(keepends=True)[0])


def spoil_twice():
    path = Path("all/results-0-of-2.jsonl")
    path.write_text(path.read_text() + path.read_text().splitlines(keepends=True)[0])


def spoil_other_shard():
    path = Path("all/results-0-of-2.jsonl")
    path.write_text(path.read_text() + Path("all/results-1-of-2.jsonl").read_text())


def change(**values):
    def spoil():
        path = Path("all/results-1-of-2.jsonl")
        path.write_text("".join(json.dumps({**record, **values}) + "\n" for record in lines(path)))

    return spoil


SPOILT = {
    "a hole": (spoil_hole, "1 structures are missing, the first Ni.xyz"),
    "twice": (spoil_twice, "is there twice"),
    "another shard's": (spoil_other_shard, "does not belong to this shard"),
    "no ledger": (lambda: Path("all/results-1-of-2.jsonl").unlink(), "has not run"),
    "not JSON": (lambda: Path("all/results-1-of-2.jsonl").write_text("{\n"), "a damaged line"),
    "a list": (lambda: Path("all/results-1-of-2.jsonl").write_text("[1]\n"), "a damaged line"),
    "other settings": (change(settings={"fmax": 1}), "another settings"),
    "another model": (change(models={"a": "b"}), "another model"),
    "another command": (change(command="phonons"), "another command"),
    "an error": (change(status="error", error="?"), "ended with an error"),
    "another count": (lambda: Path("all/results-0-of-3.jsonl").write_text(""), "another number of shards"),
    "no plan": (lambda: Path("all/shards.json").unlink(), "nothing was run with --shards"),
    "a bad plan": (lambda: Path("all/shards.json").write_text("{}"), "is damaged"),
}


@pytest.mark.parametrize(("spoil", "message"), SPOILT.values(), ids=SPOILT)
def test_merging_is_strict(finished, capsys, spoil, message):
    spoil()
    capsys.readouterr()
    assert main(["merge", "all"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not Path("all/results.jsonl").exists()


def test_errors_can_be_kept(metals):
    Path("Ni.xyz").write_text("nonsense")
    assert shard(metals, 0) == 0
    assert shard(metals, 1) == 2
    with pytest.raises(InputError, match="ended with an error"):
        merged(Path("all"))
    assert [r["status"] == "error" for r in merged(Path("all"), keep_errors=True)].count(True) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shards", "2"], "go together"),
        (["--shard-index", "0"], "go together"),
        (["--shards", "2", "--shard-index", "2"], "is not one of 0 … 1"),
        (["--shards", "3", "--shard-index", "0"], "started with 2 shards"),
    ],
)
def test_wrong_shards_are_one_line(finished, capsys, options, message):
    assert relax(finished, *options) == 2
    assert message in capsys.readouterr().err


def test_shards_of_another_list_are_refused(finished, capsys):
    assert shard(finished[::-1], 1) == 2
    assert "other structures, or in another order" in capsys.readouterr().err
    assert shard_from(None, None) is None


def test_shards_need_a_folder(metals, capsys):
    assert main(["relax", *metals, *EMT, "--shards", "2", "--shard-index", "0"]) == 2
    assert "--out" in capsys.readouterr().err
