"""`mlip init`: what it writes can be trained, says what was seen, and forecasts what was measured."""

import json
import math
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from mlip import configs
from mlip.__main__ import COMMANDS, main
from mlip.datasets.entry import make_entry
from mlip.training import load_settings, proposal
from mlip.training.forecast import Forecast, forecast
from mlip.training.load import validate
from mlip.training.proposal import mean_neighbors, propose
from mlip.training.schema import FILE, json_schema


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Commands run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_written_can_be_trained(copper, here, capsys):
    assert main(["init", str(copper), "--minutes", "0.05"]) == 0
    settings = load_settings(here / "copper.yaml")
    assert settings.data.train[0].path == str(copper)
    assert {term.target for term in settings.loss} == {"energy", "forces", "stress"}
    assert settings.training.max_minutes == 0.05
    assert main(["train", "copper.yaml", "training.max_epochs=1"]) == 0
    assert (here / "runs" / "copper" / "best.mlip").is_file()


def test_nothing_is_overwritten(copper, here, capsys):
    (here / "copper.yaml").write_text("mine")
    assert main(["init", str(copper)]) == 2
    assert "not overwritten" in capsys.readouterr().err
    assert (here / "copper.yaml").read_text() == "mine"


def test_names_of_labels_are_written_out(copper, here):
    frames = read(copper, ":")
    for atoms in frames:
        atoms.arrays["force"] = atoms.get_forces()
        atoms.info["Energy"] = atoms.get_potential_energy()
        atoms.calc = None
    write(here / "named.xyz", frames)
    found = propose([make_entry(str(here / "named.xyz"))], minutes=0.01)
    assert found.settings.data.train[0].keys == {"energy": "Energy", "forces": "force"}
    assert [term.target for term in found.settings.loss] == ["energy", "forces"]


def test_isolated_atoms_set_the_reference(copper, label, here):
    atom = Atoms("Cu")
    atom.calc = SinglePointCalculator(atom, energy=3.5, forces=np.zeros((1, 3)))
    write(here / "with-atom.xyz", [*read(copper, ":"), atom])
    found = propose([make_entry(str(here / "with-atom.xyz"))], minutes=0.01)
    assert found.settings.data.e0.method == "isolated"
    assert propose([make_entry(str(copper))], minutes=0.01).settings.data.e0.method == "fit"


def test_a_molecule_in_an_empty_box_loses_the_box(label, here):
    frames = [
        label(Atoms("Cu2", [[0, 0, 0], [length, 0, 0]], cell=[30, 30, 30], pbc=True))
        for length in np.linspace(2.2, 2.5, 9)
    ]
    write(here / "boxed.xyz", frames)
    found = propose([make_entry(str(here / "boxed.xyz"))], minutes=0.01)
    assert found.settings.data.train[0].pbc is False


@pytest.mark.parametrize(("repeat", "frames", "batch"), [((1, 1, 1), 60, 5), ((4, 4, 4), 30, 2), ((6, 6, 5), 12, 1)])
def test_large_frames_come_few_at_a_time(label, here, repeat, frames, batch):
    crystal = bulk("Cu", a=3.7) * repeat
    rng = np.random.default_rng(3)
    moved = [crystal.copy() for _ in range(frames)]
    for atoms in moved:
        atoms.positions += rng.normal(0, 0.05, atoms.positions.shape)
    write(here / "sized.xyz", [label(atoms) for atoms in moved])
    found = propose([make_entry(str(here / "sized.xyz"))], minutes=0.01)
    assert found.settings.training.batch_size == batch


@pytest.mark.parametrize(("minutes", "preset"), [(1, "fast"), (5, "small"), (15, "medium")])
def test_the_preset_grows_with_the_steps(copper, monkeypatch, minutes, preset):
    """600 steps a minute: below 2000 the smallest, above 5000 the third."""
    cost = Forecast(0.1, 10, 1, 5, math.inf, minutes, memory=0, parameters=1, neighbors=12)
    monkeypatch.setattr(proposal, "forecast", lambda *_: cost)
    assert proposal.propose([make_entry(str(copper))], minutes=minutes).settings.model.preset == preset


def test_neighbours_are_counted(copper):
    """Twelve nearest neighbours in fcc: 4 Å reaches the second shell (6 more) of a = 3.7 Å within the noise."""
    from mlip.datasets import read_frames

    frames = list(read_frames(copper))
    assert mean_neighbors(frames, 3.1) == pytest.approx(12, abs=0.5)


def test_no_label_is_one_line(copper, here, capsys):
    frames = read(copper, ":")
    for atoms in frames:
        atoms.calc = None
    write(here / "bare.xyz", frames)
    assert main(["init", "bare.xyz"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--key" in error


@pytest.mark.slow
def test_the_forecast_is_what_a_run_takes(data_root, tmp_path):
    """Seconds per epoch within a factor of two on a machine that others use."""
    from rich.console import Console

    from mlip.datasets import read_frames
    from mlip.training import train

    settings = validate(
        {
            "model": {"preset": "fast", "cutoff": 4.0},
            "data": {"train": {"path": str(data_root / "3bpa/train_300K.xyz"), "index": "0:60"}, "validation": 0.1},
            "training": {"max_epochs": 3, "max_minutes": None},
            "run": {"folder": str(tmp_path), "name": "timed"},
        }
    )
    frames = list(read_frames(settings.data.train[0]))
    expected = forecast(settings, frames[:54], 6).epoch
    start = time.monotonic()
    train(settings, console=Console(quiet=True))
    assert expected < (time.monotonic() - start) / 3 * 2
    times = np.loadtxt(tmp_path / "timed" / "timing.csv", delimiter=",", skiprows=1)
    measured = 60 * times[-1, 2] / 3
    assert measured / 2 < expected < measured * 2


def matches(value, schema, root):
    """Whether a value is what a JSON schema allows: the keywords that ours uses."""
    if "$ref" in schema:
        return matches(value, root["$defs"][schema["$ref"].rsplit("/", 1)[-1]], root)
    if "anyOf" in schema:
        return any(matches(value, option, root) for option in schema["anyOf"])
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "null": type(None)}
    kinds["number"] = (int, float)
    kind = schema.get("type")
    if kind is not None and (not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if isinstance(value, dict):
        known, other = schema.get("properties", {}), schema.get("additionalProperties", True)
        for name, item in value.items():
            inner = known.get(name, other)
            if inner is False or (inner is not True and not matches(item, inner, root)):
                return False
        return set(schema.get("required", [])) <= set(value)
    if isinstance(value, list) and "items" in schema:
        return all(matches(item, schema["items"], root) for item in value)
    return True


@pytest.mark.parametrize("name", configs.names())
def test_recipes_fit_the_schema(name):
    schema = json_schema()
    assert matches(yaml.safe_load(configs.find(name).read_text()), schema, schema)


def test_what_is_no_setting_does_not_fit_the_schema():
    schema = json_schema()
    good = {"model": {"cutoff": 5.0}, "data": {"train": "a.xyz"}}
    assert matches(good, schema, schema)
    assert not matches({**good, "trainings": {}}, schema, schema)
    assert not matches({**good, "model": {"cutof": 5.0}}, schema, schema)
    assert not matches({**good, "training": {"optimizer": "sgdd"}}, schema, schema)
    assert not matches({"model": {}}, schema, schema)


def test_every_setting_is_explained():
    schema = json_schema()
    sections = [schema, *schema["$defs"].values()]
    fields = [(s.get("title"), n, f) for s in sections for n, f in s.get("properties", {}).items()]
    assert len(fields) > 60
    assert not [(title, name) for title, name, field in fields if not {"description", "$ref"} & set(field)]


def test_the_schema_is_written_where_the_configuration_looks(copper, here, capsys):
    assert main(["init", str(copper), "--minutes", "0.01"]) == 0
    assert (here / "copper.yaml").read_text().splitlines()[0] == f"# yaml-language-server: $schema={FILE}"
    assert json.loads((here / FILE).read_text()) == json_schema()
    capsys.readouterr()
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json_schema()


def complete(words):
    """What the shell would offer."""
    env = {**os.environ, "_MLIP_COMPLETE": "complete_bash", "COMP_WORDS": words}
    env["COMP_CWORD"] = str(len(words.split(" ")) - 1)
    result = subprocess.run(
        [sys.executable, "-m", "mlip"], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    return result.stdout.split()


def test_the_shell_completes_commands_and_options():
    assert complete("mlip ") == list(COMMANDS)
    assert complete("mlip ph") == ["phonons"]
    assert "--cutoff" in complete("mlip init --cu")
