"""The pages' code runs, the pages name only what exists, and the examples run."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk

from mlip import MLIPCalculator, Potential
from mlip.__main__ import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
FAST = {"phonons_any_calculator.py", "elastic_and_eos.py", "vibrations_of_water.py"}
SHORT = {"train_silicon.py": ["0.02"], "committee.py": ["0.02"]}  # minutes of training


def blocks(page: Path) -> list[tuple[str, str]]:
    """Fenced blocks: language and text."""
    return re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def run(script: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=900
    )


def test_the_first_hour_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    done = 0
    for language, text in blocks(ROOT / "docs" / "first-hour.md"):
        if language == "python":
            exec(compile(text, "first-hour.md", "exec"), names)
        elif language == "console":
            for line in text.strip().splitlines():
                program, *arguments = shlex.split(line)
                assert program == "mlip"
                assert main(arguments) == 0, line
        done += language in {"python", "console"}
    assert done >= 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_on_the_pages_exist(page):
    shown = re.findall(r"^mlip (\w+)", "\n".join(text for _, text in blocks(page)), re.MULTILINE)
    assert set(shown) <= set(COMMANDS)


def shown_commands(page: Path) -> list[list[str]]:
    """Command lines of a page as lists of words, comments and continuations taken care of."""
    text = "\n".join(text for _, text in blocks(page)).replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in text.splitlines() if line.startswith("mlip ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_on_the_pages_exist(page, capsys):
    """Every `--option` that a page shows is one of its command."""
    for _, command, *words in shown_commands(page):
        groups = [words[0]] if command in {"data", "symmetry", "convert"} else []
        options = {word.split("=")[0] for word in words if word.startswith("--") and word != "--"}
        if not options:
            continue
        main([command, *groups, "--help"])
        known = set(re.findall(r"--[a-z][\w-]*", capsys.readouterr().out))
        assert options <= known, f"mlip {command} {' '.join(words)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_imports_on_the_pages_work(page):
    code = "\n".join(text for language, text in blocks(page) if language == "python")
    for line in re.findall(r"^(?:from|import) mlip.*$", code, re.MULTILINE):
        exec(compile(line, page.name, "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert not [target for target in targets if not (page.parent / target).exists()]


def test_every_page_is_in_the_site():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert sorted(name for item in site["nav"] for name in item.values()) == [page.name for page in PAGES]


def test_every_example_is_listed():
    listed = re.findall(r"`(\w+\.py)`", (ROOT / "docs" / "examples.md").read_text())
    assert sorted(listed) == [example.name for example in EXAMPLES]
    assert len(EXAMPLES) >= 6


@pytest.mark.parametrize("name", sorted(FAST))
def test_fast_examples(name, tmp_path):
    result = run(ROOT / "examples" / name, tmp_path)
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.glob("*.png"))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SHORT))
def test_examples_that_train(name, tmp_path):
    result = run(ROOT / "examples" / name, tmp_path, *SHORT[name])
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.glob("*.png"))


def test_a_task_of_the_parsl_example_is_a_command_that_runs(tmp_path, monkeypatch):
    """Without Parsl: what the example hands to a worker, given to a shell."""
    missing = ("parsl", "parsl.app", "parsl.app.app", "parsl.config", "parsl.executors", "parsl.providers")
    if find_spec("parsl") is None:
        for name in missing:
            monkeypatch.setitem(sys.modules, name, MagicMock())
    example = runpy.run_path(str(ROOT / "examples" / "many_structures_parsl.py"), run_name="example")
    names = ["Cu.cif", "Ag.cif"]
    for name in names:
        bulk(name.removesuffix(".cif")).write(tmp_path / name)
    options = ["--calculator", "ase.calculators.emt:EMT", "--supercell", "2", "--dos", "4 4 4", "--points", "5"]
    program = f"{shlex.quote(sys.executable)} -m mlip"
    line = example["command"](program, shlex.join([*options, *names]), "all of them", 2, 1)
    done = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    text = "".join(file.read_text() for file in (tmp_path / "all of them").glob("*.jsonl"))
    assert "Ag" in text
    assert "Cu" not in text  # that is the other shard's
    refused = example["command"](program, shlex.join([*options, "missing.cif"]), "none", 1, 0)
    done = subprocess.run(["bash", "-c", refused], cwd=tmp_path, capture_output=True, check=False, timeout=300)
    assert done.returncode != 0


@pytest.mark.slow
def test_the_parsl_example(tmp_path):
    if find_spec("parsl") is None:
        pytest.skip("parsl is not installed: pip install parsl")
    from ase.build import bulk

    names = []
    for symbol in ("Cu", "Ag", "Au"):
        bulk(symbol).write(tmp_path / f"{symbol}.cif")
        names.append(f"{symbol}.cif")
    options = ["--calculator", "ase.calculators.emt:EMT", "--supercell", "2", "--dos", "6 6 6", "--points", "20"]
    result = run(
        ROOT / "examples" / "many_structures_parsl.py", tmp_path, "laptop", "all", "2", "--", *options, *names
    )
    assert result.returncode == 0, result.stderr
    assert len((tmp_path / "all" / "results.jsonl").read_text().splitlines()) == 3


@pytest.mark.slow
def test_the_site_builds(tmp_path):
    if find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed: pip install .[docs]")
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "first-hour" / "index.html").is_file()


PEROVSKITE = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
SETTINGS = {"cutoff": 3.5, "num_layers": 1, "num_channels": 4, "lmax": 1, "num_radial": 4, "radial_width": 8}


def prepared(folder: Path) -> dict[str, object]:
    """What the pages take for granted: models, a crystal, frames, a trajectory."""
    atoms = bulk("Cu", cubic=True, a=3.65)
    atoms.rattle(0.05, seed=1)
    relaxed = {**SETTINGS, "num_layers": 2, "anisotropy": {"source": "learned", "irreps": "2e"}}
    Potential.from_config(relaxed, ["Cu"]).double().save(folder / "model.mlip")
    for place in ("best.mlip", "runs/my-committee/1/best.mlip", "runs/my-committee/2/best.mlip"):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        Potential.from_config({**SETTINGS, "seed": len(place)}, ["Cu"]).save(folder / place)
    frames = [atoms.copy() for _ in range(4)]
    for seed, frame in enumerate(frames):
        frame.rattle(0.1, seed=seed)
        frame.info["frame"] = np.eye(3)
    names = {"atoms": atoms, "crystal": bulk("Cu", a=3.65), "frames": frames, "MLIPCalculator": MLIPCalculator}
    return {**names, "calculator": MLIPCalculator(folder / "best.mlip", dtype="float64")}


@pytest.mark.parametrize("name", ["anisotropy", "committees", "dtypes", "active-learning"])
def test_python_on_the_pages_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = [text for language, text in blocks(ROOT / "docs" / f"{name}.md") if language == "python"]
    names = prepared(tmp_path)
    for text in code:
        exec(compile(text, name, "exec"), names)
    assert code


def test_rotations_and_order_parameters_on_the_symmetry_page(tmp_path, monkeypatch):
    """All but the search for distortions, which takes a trained model and minutes."""
    monkeypatch.chdir(tmp_path)
    cubic = Atoms("CaTiO3", scaled_positions=PEROVSKITE, cell=3.9 * np.eye(3), pbc=True)
    child = cubic.repeat((2, 2, 2))
    child.positions[child.symbols == "O"] += np.random.default_rng(0).normal(scale=0.05, size=(24, 3))
    trajectory = [child.copy() for _ in range(3)]
    names = {
        **prepared(tmp_path),
        "cubic": cubic,
        "orthorhombic": child,
        "trajectory": trajectory,
        "times": [0, 1, 2],
    }
    code = [text for language, text in blocks(ROOT / "docs" / "symmetry-distortions.md") if language == "python"]
    assert len(code) == 3
    for text in code[1:]:
        exec(compile(text, "symmetry-distortions.md", "exec"), names)
    assert (tmp_path / "order.png").is_file()
