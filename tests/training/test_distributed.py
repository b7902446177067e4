"""Two processes are one process with the same global batch."""

import pytest
import torch
import yaml
from rich.console import Console

from mlip.training import train
from mlip.training.checkpoint import load_checkpoint
from mlip.training.load import load_settings

LOSS = [
    {"target": "energy", "weight": 1.0},
    {"target": "forces", "weight": 10.0},
    {"target": "stress", "weight": 5.0, "norm": "huber"},
]


@pytest.mark.parametrize(
    ("batch_size", "epochs", "sections"),
    [
        (4, 7, {}),  # 2 + 1 frames at a time, 21 steps
        (1, 3, {}),  # one frame at a time: the second process has none
        (4, 7, {"dens": {"probability": 0.5}, "model": {"architecture": "equiformer"}}),  # the same noise in both
    ],
    ids=["4", "1", "denoising"],
)
def test_two_processes_equal_one(settings_values, run_processes, tmp_path, batch_size, epochs, sections):
    options = {"max_epochs": epochs, "max_minutes": None, "batch_size": batch_size, "dtype": "float64"}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings_values(training=options, loss=LOSS, **sections)))
    run_processes(["train", str(config), "run.name=two"], 2)
    train(load_settings(config, ["run.name=one"]), console=Console(quiet=True))

    one, two = (load_checkpoint(tmp_path / "runs" / name / "last.ckpt") for name in ("one", "two"))
    assert one["position"]["step"] == two["position"]["step"] >= 20
    for key in ("model", "average", "task"):
        for name, value in one[key].items():
            torch.testing.assert_close(
                two[key][name], value, rtol=0, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
            )
    assert one["position"]["best_loss"] == pytest.approx(two["position"]["best_loss"], rel=1e-6)
    assert one["position"]["train_errors"] == pytest.approx(two["position"]["train_errors"], rel=1e-6)
