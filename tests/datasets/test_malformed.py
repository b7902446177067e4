"""Bad input gives one line that names the file, exit code 2, and no traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from mlip.__main__ import main

GOOD = (
    "2\nLattice=\"9 0 0 0 9 0 0 0 9\" Properties=species:S:1:pos:R:3:forces:R:3 energy=-1 pbc=\"T T T\"\n"
    "H 0 0 0 0.1 0 0\nH 0 0 0.7 -0.1 0 0\n"
)  # fmt: skip
WATER = {
    "R": np.zeros((2, 3, 3)),
    "z": np.array([8, 1, 1]),
    "E": np.array([-47942.0, -47942.0]),
    "F": np.zeros((2, 3, 3)),
}


def text(content: str, name: str = "bad.xyz") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    return make


def binary(content: bytes, name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def npz(**changes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        arrays = {name: array for name, array in {**WATER, **changes}.items() if array is not None}
        np.savez(folder / "bad.npz", **arrays)
        return folder / "bad.npz"

    return make


def deepmd(**changes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        system = folder / "system"
        (system / "set.000").mkdir(parents=True)
        arrays = {"coord": np.zeros((2, 9)), "box": np.tile(np.eye(3).ravel() * 9, (2, 1)), "energy": np.zeros(2)}
        texts = {"type": "0 1 1", "type_map": "O H"}
        for name, value in ({**texts, **arrays} | changes).items():
            if isinstance(value, str):
                (system / f"{name}.raw").write_text(value)
            elif value is not None:
                np.save(system / "set.000" / f"{name}.npy", value, allow_pickle=True)
        return system

    return make


def hdf5(spoil: Callable[[Path], None]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        from mlip.datasets import read_frames, write_cache

        text(GOOD * 20, "good.xyz")(folder)
        write_cache(read_frames(folder / "good.xyz"), folder / "bad.h5")
        spoil(folder / "bad.h5")
        return folder / "bad.h5"

    return make


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def other_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = [1, 2]


def shortened(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["energy"].resize(3, axis=0)


def future(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["schema"] = 99


def swap(old: str, new: str) -> Callable[[Path], Path]:
    assert old in GOOD
    return text(GOOD.replace(old, new))


def force_sets(content: str, beside: str | None = None) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        if beside is not None:
            (folder / "phonopy_disp.yaml").write_text(beside)
        return text(content, "FORCE_SETS")(folder)

    return make


PHONOPY = (
    "phonopy: {version: '4.0.0'}\nsupercell:\n  lattice: [[3.0, 0, 0], [0, 3.0, 0], [0, 0, 3.0]]\n  points:\n"
    "  - {symbol: Po, coordinates: [0, 0, 0], mass: 209.0}\n"
    "displacements:\n- atom: 1\n  displacement: [0.01, 0.0, 0.0]\n"
)

# what is wrong → (how to make the file, further arguments, words that the line must hold)
MALFORMED: dict[str, tuple[Callable[[Path], Path], list[str], str]] = {
    "no such file": (lambda folder: folder / "none.xyz", [], "no such file"),
    "empty file": (text(""), [], "empty"),
    "only blanks": (text("\n\n\n"), [], "bad.xyz"),
    "a folder of nothing": (lambda folder: folder, [], "folder"),
    "truncated xyz": (text(GOOD + GOOD[:-24]), [], "frame 1"),
    "no comment line": (text("2\n"), [], "0 of 2 atoms"),
    "count too small": (swap("2\nLattice", "1\nLattice"), [], "count of frame 0 is wrong"),
    "count too large": (text(GOOD.replace("2\nL", "3\nL") + GOOD), [], "frame 1"),
    "count of zero": (swap("2\nLattice", "0\nLattice"), [], "0 atoms"),
    "negative count": (swap("2\nLattice", "-2\nLattice"), [], "-2 atoms"),
    "letters for a count": (swap("2\nLattice", "two\nLattice"), [], "expected a number of atoms"),
    "a blank line between frames": (text(GOOD + "\n" + GOOD), [], "blank line"),
    "letters in a position": (swap("0 0 0.7", "0 O 0.7"), [], "frame 0"),
    "a missing column": (swap("0 0 0.7 -0.1 0 0", "0 0 0.7 -0.1 0"), [], "frame 0"),
    "NaN position": (swap("0 0 0.7", "0 nan 0.7"), [], "NaN or Inf"),
    "infinite position": (swap("0 0 0.7", "0 inf 0.7"), [], "NaN or Inf"),
    "NaN in the cell": (swap("9 0 0 0 9", "9 0 nan 0 9"), [], "NaN or Inf"),
    "unknown element": (swap("H 0 0 0.7", "Qq 0 0 0.7"), [], "frame 0"),
    "placeholder element": (swap("H 0 0 0.7", "X 0 0 0.7"), [], "not an element"),
    "cell of eight numbers": (swap("9 0 0 0 9 0 0 0 9", "9 0 0 0 9 0 0 0"), [], "frame 0"),
    "flat cell": (swap("9 0 0 0 9 0 0 0 9", "9 0 0 9 0 0 0 0 9"), [], "no volume"),
    "no cell vector": (swap("9 0 0 0 9 0 0 0 9", "9 0 0 0 0 0 0 0 9"), [], "without a cell vector"),
    "periodic without a cell": (swap('Lattice="9 0 0 0 9 0 0 0 9" ', ""), [], "--no-pbc"),
    "energy in letters": (swap("energy=-1", "energy=low"), [], "key 'energy'"),
    "energy of three numbers": (swap("energy=-1", 'energy="1 2 3"'), [], "key 'energy'"),
    "stress of five numbers": (swap("energy=-1", 'energy=-1 stress="1 2 3 4 5"'), [], "key 'stress'"),
    "frame of eight numbers": (swap("energy=-1", 'energy=-1 frame="1 2 3 4 5 6 7 8"'), [], "key 'frame'"),
    "forces of two columns": (swap("forces:R:3", "forces:R:2:x:R:1"), [], "forces"),
    "the same key twice": (swap("energy=-1", "energy=-1 energy=-2"), [], "'energy' is there twice"),
    "negative weight": (swap("energy=-1", "energy=-1 weight=-1"), [], "not a weight"),
    "broken Properties": (swap("forces:R:3", "forces:R"), [], "bad.xyz"),
    "unknown type in Properties": (swap("forces:R:3", "forces:Z:3"), [], "frame 0"),
    "missing key": (text(GOOD), ["--key", "energy=E_dft"], "'E_dft'"),
    "several energies": (swap("energy=-1", "energy=-1 dft_energy=-2"), [], "--key energy="),
    "key of an unknown label": (text(GOOD), ["--key", "colour=energy"], "colour"),
    "key without a value": (text(GOOD), ["--key", "energy"], "NAME=VALUE"),
    "key given twice": (text(GOOD), ["--key", "energy=energy", "--key", "energy=x"], "twice"),
    "unknown unit": (text(GOOD), ["--unit", "energy=furlong"], "furlong"),
    "unit of the wrong kind": (text(GOOD), ["--unit", "forces=eV"], "eV/Ang"),
    "unit of an unknown quantity": (text(GOOD), ["--unit", "mass=kg"], "mass"),
    "unknown stress sign": (text(GOOD), ["--stress-sign", "up"], "stress_sign"),
    "index of letters": (text(GOOD), ["--index", "first"], "'first' is not an index"),
    "index with a step of zero": (text(GOOD), ["--index", "::0"], "not an index"),
    "index of four parts": (text(GOOD), ["--index", "1:2:3:4"], "not an index"),
    "index beyond the end": (text(GOOD), ["--index", "7"], "none of its 1 frames"),
    "index of no frames": (text(GOOD), ["--index", "5:9"], "none of its 1 frames"),
    "missing required label": (swap("energy=-1", ""), ["--require", "energy"], "no frame has energy"),
    "required label unknown": (text(GOOD), ["--require", "colour"], "not a label"),
    "binary junk as xyz": (binary(bytes(range(256)) * 20, "bad.xyz"), [], "bad.xyz"),
    "binary junk without a name": (binary(bytes(range(128, 256)) * 20, "junk"), [], "not recognised"),
    "binary junk as npz": (binary(b"\x00\x01" * 500, "bad.npz"), [], "npz"),
    "binary junk as traj": (binary(b"\x00\x01" * 500, "bad.traj"), [], "bad.traj"),
    "binary junk as database": (binary(b"\x00\x01" * 500, "bad.db"), [], "bad.db"),
    "binary junk as gzip": (binary(b"\x00\x01" * 500, "bad.xyz.gz"), [], "bad.xyz.gz"),
    "binary junk as HDF5": (binary(b"\x00\x01" * 500, "bad.h5"), [], "HDF5"),
    "text as vasprun": (text("<modeling><x></modeling>", "vasprun.xml"), [], "vasprun.xml"),
    "truncated vasprun": (text('<?xml version="1.0"?>\n<modeling>\n<atominfo>', "vasprun.xml"), [], "vasprun.xml"),
    "nonsense OUTCAR": (text("nothing here\n" * 9, "OUTCAR"), [], "OUTCAR"),
    "pickle": (binary(b"\x80\x04N.", "bad.pkl"), [], "not read"),
    "pickled npz": (npz(E=np.array([{"a": 1}, None], dtype=object)), [], "pickled"),
    "npz without positions": (npz(R=None), [], "no positions"),
    "npz without elements": (npz(z=None), [], "no atomic numbers"),
    "npz with two sets of positions": (npz(coords=np.zeros((2, 3, 3))), [], "several names"),
    "npz of flat positions": (npz(R=np.zeros((2, 9))), [], "shape"),
    "npz of unequal lengths": (npz(E=np.zeros(3)), [], "3 entries for 2 frames"),
    "npz of other forces": (npz(F=np.zeros((2, 4, 3))), [], "key 'F'"),
    "npz of unknown unit": (npz(E=np.array([-1.0, -1.1])), [], "--unit energy"),
    "npz of forces alone": (npz(E=None), [], "--unit forces"),
    "npz of NaN positions": (npz(R=np.full((2, 3, 3), np.nan)), [], "NaN or Inf"),
    "deepmd without elements": (deepmd(type_map=None), [], "type_map.raw"),
    "deepmd with an unknown element": (deepmd(type_map="O Qq"), [], "'Qq'"),
    "deepmd with a type too many": (deepmd(type="0 1 2"), [], "types"),
    "deepmd with letters for types": (deepmd(type="0 H H"), [], "type.raw"),
    "deepmd without coordinates": (deepmd(coord=None), [], "coord.npy"),
    "deepmd of unequal lengths": (deepmd(energy=np.zeros(5)), [], "energy.npy"),
    "deepmd with pickled energies": (deepmd(energy=np.array([None, None])), [], "pickled"),
    "deepmd with flat forces": (deepmd(force=np.zeros((2, 8))), [], "force.npy"),
    "HDF5 of something else": (hdf5(other_hdf5), [], "not a cache"),
    "HDF5 truncated": (hdf5(cut), [], "HDF5"),
    "HDF5 of unequal lengths": (hdf5(shortened), [], "agree"),
    "HDF5 of a later version": (hdf5(future), [], "version"),
    "YAML of something else": (text("a: 1\n", "bad.yaml"), [], "not a phonopy"),
    "YAML that is none": (text("a: [1, 2\nb: }", "bad.yaml"), [], "YAML"),
    "YAML that runs code": (text("!!python/object/apply:os.system ['exit 0']", "bad.yaml"), [], "python/object"),
    "YAML without forces": (text(PHONOPY, "bad.yaml"), [], "neither forces"),
    "YAML of other units": (text(PHONOPY + "physical_unit: {length: furlong}\n", "bad.yaml"), [], "furlong"),
    "FORCE_SETS alone": (force_sets("1\n1\n\n1\n0.01 0 0\n-0.1 0 0\n"), [], "phonopy_disp.yaml"),
    "FORCE_SETS truncated": (force_sets("1\n1\n\n1\n0.01 0 0\n", PHONOPY), [], "FORCE_SETS"),
    "FORCE_SETS of another cell": (force_sets("2\n1\n\n1\n0.01 0 0\n-0.1 0 0\n0 0 0\n", PHONOPY), [], "FORCE_SETS"),
    "FORCE_SETS of other displacements": (
        force_sets("1\n1\n\n1\n0 0.02 0\n0 -0.1 0\n", PHONOPY),
        [],
        "displacements",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_bad_input_is_one_line(name, tmp_path, capsys, recwarn):
    make, arguments, words = MALFORMED[name]
    path = make(tmp_path)
    assert main(["data", "inspect", str(path), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: ")
    assert "Traceback" not in error
    assert words in error
    assert len(error) < 500
    assert not [warning for warning in recwarn if warning.category is not ResourceWarning]  # printed as more lines


@pytest.mark.parametrize(
    "arguments", [["inspect"], ["convert", "only.xyz"], ["split", "none.xyz"], ["no-such-command"]]
)
def test_wrong_usage_exits_with_two(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["data", *arguments]) == 2
    assert "Traceback" not in capsys.readouterr().err


# --- the commands on good input ---


def test_inspect_writes_the_promised_json(tmp_path, capsys):
    first, second = text(GOOD * 3, "a.xyz")(tmp_path), text(GOOD, "b.xyz")(tmp_path)
    assert main(["data", "inspect", str(first), str(second), "--json", str(tmp_path / "o.json")]) == 0
    entries = json.loads((tmp_path / "o.json").read_text())
    assert [entry["file"] for entry in entries] == [str(first), str(second)]
    entry = entries[0]
    assert (entry["frames"], entry["periodic"], entry["species"]) == (3, True, ["H"])
    assert (entry["atoms_min"], entry["atoms_max"]) == (2, 2)
    assert entry["labels"] == {"energy": 3, "forces": 3, "stress": 0, "hessian": 0}
    assert entry["force_rms"] == pytest.approx(0.1)
    assert entry["force_max"] == pytest.approx(0.1)
    printed = capsys.readouterr().out
    assert "energy ← 'energy' [eV]" in printed
    assert "LEAK: 1 frames" in printed


def test_real_files_are_inspected_with_their_overrides(data_file, tmp_path):
    path = data_file("rmd17/ethanol_train_01.xyz")
    arguments = ["--key", "energy=Energy", "--no-pbc", "--index", "0:100", "--require", "energy,forces"]
    assert main(["data", "inspect", str(path), *arguments, "--json", str(tmp_path / "o.json")]) == 0
    (entry,) = json.loads((tmp_path / "o.json").read_text())
    assert (entry["frames"], entry["periodic"], entry["labels"]["forces"]) == (100, False, 100)


@pytest.mark.parametrize("name", ["out.extxyz", "out.h5"])
def test_convert_refuses_to_overwrite(name, tmp_path, capsys):
    source = text(GOOD * 3, "a.xyz")(tmp_path)
    target = tmp_path / name
    assert main(["data", "convert", str(source), str(target), "--unit", "energy=kcal/mol"]) == 0
    before = target.read_bytes()
    assert main(["data", "convert", str(source), str(target)]) == 2
    assert "--force" in capsys.readouterr().err
    assert target.read_bytes() == before
    assert main(["data", "convert", str(source), str(target), "--force"]) == 0
    assert main(["data", "inspect", str(target)]) == 0


def test_convert_does_not_write_over_its_input(tmp_path, capsys):
    source = text(GOOD, "a.xyz")(tmp_path)
    assert main(["data", "convert", str(source), str(source), "--force"]) == 2
    assert source.read_text() == GOOD


def test_split_writes_parts_and_their_record(tmp_path):
    frames = "".join(GOOD.replace("0 0 0.7", f"0 0 {0.7 + 0.01 * n:.2f}") for n in range(20))
    source = text(frames, "a.xyz")(tmp_path)
    out = tmp_path / "parts"
    assert main(["data", "split", str(source), "--validation", "0.2", "--test", "3", "--out", str(out)]) == 0
    counts = {path.name: path.read_text().count("Lattice") for path in out.glob("*.extxyz")}
    assert counts == {"train.extxyz": 13, "validation.extxyz": 4, "test.extxyz": 3}
    record = json.loads((out / "split.json").read_text())
    assert sorted(i for part in ("train", "validation", "test") for _, i in record[part]) == list(range(20))
    assert main(["data", "split", str(source), "--out", str(out)]) == 2


def test_the_room_needs_no_torch():
    import subprocess
    import sys

    names = "d.read_frames, d.inspect, d.split, d.CachedFrames, d.print_summaries"
    code = f"import sys, mlip.datasets.cli, mlip.datasets as d; {names}; print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "False"
    )
