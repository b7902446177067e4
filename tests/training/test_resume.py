"""A run that is interrupted and resumed is the run that was never interrupted."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

import mlip.training.loop as loop_module
from mlip import Potential
from mlip.training import train
from mlip.training.checkpoint import load_checkpoint

QUIET = Console(quiet=True)
SCHEDULES = {
    "cosine": {"schedule": "cosine"},
    "plateau": {"schedule": "plateau", "plateau_patience": 0, "plateau_factor": 0.5},
    "constant": {"schedule": "constant", "warmup_steps": 7, "optimizer": "adamw", "weight_decay": 1e-3},
    "no average": {"schedule": "cosine", "ema": None, "optimizer": "adam", "patience": 5},
}


def _stop_after(monkeypatch, steps):
    """Send ourselves SIGTERM when ``steps`` steps are done."""
    original = loop_module.Loop._advance

    def advance(self, progress):
        original(self, progress)
        if self.state.position.step == steps:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop_module.Loop, "_advance", advance)


def _tensors(value, path=""):
    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _tensors(item, f"{path}.{key}")
    elif isinstance(value, list):
        for key, item in enumerate(value):
            yield from _tensors(item, f"{path}.{key}")


def _whole_and_parts(settings, monkeypatch, folder, steps, options, **sections):
    """Checkpoints and metrics of a run, and of the same run stopped after some steps and resumed."""
    options = {"max_epochs": 8, "max_minutes": None, "batch_size": 3, "dtype": "float64", **options}
    whole = settings(training=options, run={"name": "whole", "folder": str(folder)}, **sections)
    parts = settings(training=options, run={"name": "parts", "folder": str(folder)}, **sections)
    train(whole, console=QUIET)
    with monkeypatch.context() as patch:
        _stop_after(patch, steps)
        assert train(parts, console=QUIET).signal == signal.SIGTERM
    assert train(parts, resume=True, console=QUIET).signal is None
    states = [load_checkpoint(folder / name / "last.ckpt") for name in ("whole", "parts")]
    return states, [(folder / name / "metrics.csv").read_text() for name in ("whole", "parts")]


def _assert_same(states, metrics):
    tensors = [dict(_tensors(state)) for state in states]
    assert tensors[0].keys() == tensors[1].keys()
    for name, value in tensors[0].items():
        torch.testing.assert_close(tensors[1][name], value, rtol=0, atol=1e-14, msg=name)
    assert states[0]["position"] == states[1]["position"]
    assert states[0]["schedule"] == states[1]["schedule"]
    assert metrics[0] == metrics[1]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [2, 6, 7])  # within an epoch, at the end of one (3 batches each), after it
def test_resumed_run_equals_uninterrupted_run(settings, monkeypatch, tmp_path, schedule, steps):
    _assert_same(*_whole_and_parts(settings, monkeypatch, tmp_path, steps, SCHEDULES[schedule]))


def test_dropout_and_denoising_go_on_with_the_same_noise(settings, monkeypatch, tmp_path):
    model = {"architecture": "equiformer", "num_layers": 2, "drop_path": 0.2, "dropout": 0.2}
    sections = {"model": model, "dens": {"probability": 0.5}}
    states, metrics = _whole_and_parts(settings, monkeypatch, tmp_path, 4, {"max_epochs": 3}, **sections)
    _assert_same(states, metrics)
    assert states[0]["task"]


def test_resume_continues_the_clock(settings, monkeypatch, tmp_path):
    run = {"name": "clock", "folder": str(tmp_path)}
    limits = {"max_epochs": None, "max_minutes": 3 / 60, "batch_size": 3}
    with monkeypatch.context() as patch:
        _stop_after(patch, 5)
        train(settings(training=limits, run=run), console=QUIET)
    used = load_checkpoint(tmp_path / "clock/last.ckpt")["minutes"]
    assert used > 0
    start = time.monotonic()
    train(settings(training=limits, run=run), resume=True, console=QUIET)
    assert load_checkpoint(tmp_path / "clock/last.ckpt")["minutes"] >= 3 / 60
    assert time.monotonic() - start < 60 * (3 / 60 - used) + 3


def _spawn(config):
    return subprocess.Popen(
        [sys.executable, "-m", "mlip", "train", str(config), "--resume"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(config).parent,
    )


def _wait_until_it_trains(metrics, started, process):
    limit = time.monotonic() + 60
    while time.monotonic() < limit and process.poll() is None:
        if metrics.exists() and metrics.stat().st_mtime > started and (metrics.parent / "last.ckpt").exists():
            return
        time.sleep(0.02)


def _kill_and_resume(settings_values, tmp_path, numbers, delays):
    """Kill a run at given times after its first files; each time whatever is there must load."""
    options = {"max_epochs": 100_000, "max_minutes": None, "batch_size": 3}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings_values(training=options, run={"name": "k", "folder": str(tmp_path)})))
    best, last = tmp_path / "k/best.mlip", tmp_path / "k/last.ckpt"
    step = 0
    for number, delay in zip(numbers, delays, strict=True):
        started = time.time()
        process = _spawn(config)
        _wait_until_it_trains(tmp_path / "k/metrics.csv", started, process)
        time.sleep(delay)
        assert process.poll() is None, process.stderr.read()
        process.send_signal(number)
        process.communicate(timeout=60)
        Potential.load(best)
        reached = load_checkpoint(last)["position"]["step"]
        assert reached >= step
        step = reached
        assert process.returncode == (128 + number if number == signal.SIGTERM else -number)
    return step


def test_killed_runs_lose_no_checkpoint(settings_values, tmp_path):
    numbers = [signal.SIGKILL, signal.SIGTERM, signal.SIGKILL]
    assert _kill_and_resume(settings_values, tmp_path, numbers, [0.1, 0.7, 0.4]) > 0


@pytest.mark.slow
def test_killed_runs_lose_no_checkpoint_at_many_moments(settings_values, tmp_path):
    rng = np.random.default_rng(5)
    numbers = rng.choice([signal.SIGKILL, signal.SIGTERM], size=20).tolist()
    delays = rng.uniform(0.0, 2.0, size=20)
    assert _kill_and_resume(settings_values, tmp_path, numbers, delays) > 0
