"""What a user sees of a run: files, errors, and a model that has learnt."""

import errno
import io
import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ase.io import read, write
from rich.console import Console

from mlip import Potential
from mlip.__main__ import main
from mlip.errors import InputError
from mlip.training import DivergenceError, evaluate, train
from mlip.training.checkpoint import load_checkpoint
from mlip.training.step import clip_gradients

QUIET = Console(quiet=True)


@pytest.fixture
def config(settings_values, tmp_path):
    """A function: write settings to a file."""

    def write_config(**sections):
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(settings_values(**sections)))
        return path

    return write_config


def test_a_few_frames_can_be_learnt_by_heart(settings, copper):
    options = {"max_epochs": 300, "batch_size": 3, "validate_every": 100}
    data = {"train": [{"path": str(copper), "index": "0:3"}], "validation": [{"path": str(copper), "index": "0:3"}]}
    model = {"num_channels": 16, "lmax": 2, "num_radial": 8, "radial_width": 16}
    result = train(settings(training=options, data=data, model=model), console=QUIET)
    errors = evaluate(result.model, str(copper), index="0:3").rows[0]
    assert errors["forces_rmse_percent"] < 3.0
    assert errors["energy_mae_meV_per_atom"] < 5.0


def test_files_of_a_run(settings, tmp_path):
    result = train(settings(), console=QUIET)
    names = {path.name for path in result.folder.iterdir()}
    assert names == {"config.yaml", "metrics.csv", "timing.csv", "best.mlip", "last.ckpt", "learning-curve.png"}
    header = (result.folder / "metrics.csv").read_text().splitlines()[0].split(",")
    assert header[:4] == ["epoch", "step", "lr", "train_loss"]
    for part in ("train", "val"):
        assert f"{part}_energy_mae_meV_per_atom" in header
        assert f"{part}_forces_rmse_meV_per_A" in header
    assert not any("minute" in name or "time" in name for name in header)
    assert [row["epoch"] for row in result.rows] == [1, 2, 3, 4]
    assert result.rows[-1]["step"] == 12


def test_same_seed_same_model_and_another_seed_another(settings, tmp_path):
    texts = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(len(texts))  # the state outside must not matter
        train(settings(run={"name": name}, seed=seed), console=QUIET)
        texts.append((tmp_path / "runs" / name / "metrics.csv").read_text())
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_training_leaves_the_state_of_torch_alone(settings):
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    train(settings(), console=QUIET)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert torch.get_default_dtype() == torch.float32


def test_model_file_describes_itself(settings, copper):
    result = train(settings(), console=QUIET)
    card = result.model.metadata
    assert card["config"]["model"]["cutoff"] == 4.0
    assert card["e0"].keys() == {"Cu"}
    assert card["e0_origin"]
    assert len(card["data_digest"]) == 64
    frames = read(copper, ":")
    shortest = min(a.get_all_distances(mic=True)[np.triu_indices(4, 1)].min() for a in frames)
    assert card["ranges"]["min_distance"]["Cu-Cu"] >= shortest - 1e-6
    assert card["ranges"]["volume_per_atom"] == pytest.approx([3.7**3 / 4] * 2)
    low, high = card["ranges"]["neighbors"]
    assert 12 <= low <= high
    assert card["metrics"]["val_loss"] == pytest.approx(min(row["val_loss"] for row in result.rows))
    assert card["versions"]["torch"] == str(torch.__version__)
    json.dumps(card, allow_nan=False)


def test_best_model_is_the_best_validation(settings):
    result = train(
        settings(training={"max_epochs": 12, "learning_rate": 0.05, "schedule": "constant"}), console=QUIET
    )
    best = min(result.rows, key=lambda row: row["val_loss"])
    assert result.metrics["epoch"] == best["epoch"]


def test_a_run_is_not_overwritten(config, capsys):
    path = config()
    assert main(["train", str(path)]) == 0
    capsys.readouterr()
    assert main(["train", str(path)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["train", str(path), "--resume"]) == 0
    assert "already ended" in capsys.readouterr().out
    assert main(["train", str(path), "--force"]) == 0


def test_resume_refuses_other_settings_but_takes_more_epochs(settings):
    train(settings(), console=QUIET)
    with pytest.raises(InputError, match=r"model\.num_layers"):
        train(settings(model={"num_layers": 3}), resume=True, console=QUIET)
    with pytest.raises(InputError, match=r"training\.learning_rate"):
        train(settings(training={"learning_rate": 0.5}), resume=True, console=QUIET)
    assert len(train(settings(training={"max_epochs": 6}), resume=True, console=QUIET).rows) == 6


def test_resume_refuses_other_data(settings, copper):
    train(settings(), console=QUIET)
    frames = read(copper, ":")
    for frame in frames:
        frame.positions[0, 0] += 0.01
    write(copper, frames)
    with pytest.raises(InputError, match="training frames"):
        train(settings(training={"max_epochs": 6}), resume=True, console=QUIET)


def test_a_label_that_no_frame_has_stops_before_the_first_step(settings, copper, tmp_path):
    frames = read(copper, ":")
    for frame in frames:
        frame.calc.results.pop("forces")
    write(copper, frames)
    with pytest.raises(InputError, match="the loss needs forces"):
        train(settings(), console=QUIET)
    assert not (tmp_path / "runs/test/metrics.csv").exists()


def test_diverging_step_names_frames_and_keeps_the_last_checkpoint(settings, monkeypatch):
    result = train(settings(training={"max_epochs": 2}), console=QUIET)
    before = {name: (result.folder / name).read_bytes() for name in ("last.ckpt", "best.mlip")}
    reached = load_checkpoint(result.folder / "last.ckpt")["position"]["step"]

    import mlip.training.step as step_module

    def broken(model, batch, *targets, **options):
        found = original(model, batch, *targets, **options)
        if options.get("create_graph") and 4 in batch.frames:
            position = batch.frames.index(4)
            found.energy[position] = found.energy[position] * math.nan
        return found

    original = step_module.predict
    monkeypatch.setattr(step_module, "predict", broken)
    with pytest.raises(DivergenceError, match=r"diverged: .* in training frames \[4\] \(.*copper.xyz, frame \d+\)"):
        train(settings(training={"max_epochs": 5}), resume=True, console=QUIET)
    assert {name: (result.folder / name).read_bytes() for name in before} == before
    assert load_checkpoint(result.folder / "last.ckpt")["position"]["step"] == reached


@pytest.mark.parametrize("victim", ["last.ckpt", "best.mlip"])
def test_full_disk_is_one_line_and_the_previous_file_is_intact(config, capsys, monkeypatch, tmp_path, victim):
    path = config(training={"max_epochs": 2})
    assert main(["train", str(path)]) == 0
    file = tmp_path / "runs/test" / victim
    before = file.read_bytes()

    def full(descriptor):
        if victim in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        synchronise(descriptor)

    synchronise = os.fsync
    monkeypatch.setattr(os, "fsync", full)
    capsys.readouterr()
    assert main(["train", str(path), "--resume", "training.max_epochs=9"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "No space left on device; the previous file is intact" in error
    assert victim in error
    assert file.read_bytes() == before
    monkeypatch.undo()
    assert main(["train", str(path), "--resume", "training.max_epochs=9"]) == 0


def test_early_stopping_waits_for_its_patience(settings):
    options = {"max_epochs": 400, "patience": 3, "learning_rate": 0.1, "schedule": "constant", "validate_every": 1}
    result = train(settings(training=options), console=QUIET)
    assert "no better validation loss for 3 epochs" in result.reason
    assert len(result.rows) == result.metrics["epoch"] + 3


def test_isolated_atoms_set_e0_and_are_not_trained_on(settings, copper, label, tmp_path):
    from ase import Atoms

    atom = Atoms("Cu", positions=[[0, 0, 0]])
    atom.info["energy"] = -1.25
    path = tmp_path / "atom.xyz"
    write(path, [atom])
    result = train(settings(data={"train": [{"path": str(copper)}, {"path": str(path)}]}), console=QUIET)
    assert result.model.metadata["e0"] == {"Cu": -1.25}
    assert "isolated" in result.model.metadata["e0_origin"]
    assert result.model.evaluate([Atoms("Cu")], ("energy",))[0]["energy"] == -1.25


def test_stress_can_be_learnt(settings):
    loss = [{"target": "forces", "weight": 1.0}, {"target": "stress", "weight": 100.0}]
    rows = train(settings(loss=loss, training={"max_epochs": 15}), console=QUIET).rows
    assert rows[-1]["val_stress_mae_meV_per_A3"] < 0.7 * rows[0]["val_stress_mae_meV_per_A3"]
    assert math.isfinite(rows[-1]["train_stress_rmse_meV_per_A3"])


def test_wandb_works_offline(config, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    path = config(run={"wandb": {"project": "test"}, "folder": str(tmp_path / "runs"), "name": "test"})
    assert main(["train", str(path)]) == 0
    assert list((tmp_path / "runs/test/wandb").glob("offline-run-*/*.wandb"))


def test_wandb_is_not_imported_unless_asked_for(settings):
    monkey = sys.modules.pop("wandb", None)
    try:
        train(settings(), console=QUIET)
        assert "wandb" not in sys.modules
    finally:
        if monkey is not None:
            sys.modules["wandb"] = monkey


def test_the_terms_of_the_loss_and_the_frames_are_printed_first(settings):
    text = io.StringIO()
    train(settings(), console=Console(file=text, width=160))
    said = text.getvalue()
    assert said.index("train") < said.index("E0 (") < said.index("forces (eV/Å)") < said.index("epoch 1: E ")
    assert "copper.xyz" in said


def test_a_model_can_be_loaded_while_training_goes_on(settings, monkeypatch):
    import mlip.training.loop as loop_module

    seen = []
    original = loop_module.Loop._save_best

    def save(self, result):
        original(self, result)
        seen.append(Potential.load(self.folder / "best.mlip").metadata["metrics"]["epoch"])

    monkeypatch.setattr(loop_module.Loop, "_save_best", save)
    train(settings(), console=QUIET)
    assert seen[0] == 1


def test_a_gradient_that_two_parameters_share_is_clipped_once():
    gradient = torch.full((3,), 2.0, dtype=torch.float64)
    parameters = [torch.nn.Parameter(torch.zeros(3, dtype=torch.float64)) for _ in range(2)]
    for parameter in parameters:
        parameter.grad = gradient
    norm = clip_gradients(parameters, 1.0)
    assert norm.item() == pytest.approx(24**0.5)
    for parameter in parameters:
        torch.testing.assert_close(parameter.grad, gradient / 24**0.5)
