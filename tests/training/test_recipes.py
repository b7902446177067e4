"""The shipped recipes are valid, and train."""

import math

import pytest
from rich.console import Console

from mlip import configs
from mlip.training import load_settings, train

ISOLATED, FITTED = "isolated atoms", "least squares over compositions"
SHORT = ["training.max_epochs=1", "training.max_minutes=null", "model.preset=fast", "model.num_channels=8"]


@pytest.mark.parametrize("name", configs.names())
def test_recipe_is_valid_and_commented(name):
    settings = load_settings(name)
    assert settings.run.name == name
    assert settings.data.test
    assert configs.find(name).read_text().startswith("#")


def test_silicon_trains_without_any_file_of_the_user(tmp_path):
    result = train("silicon", [*SHORT, f"run.folder={tmp_path}"], console=Console(quiet=True))
    assert math.isfinite(result.metrics["val_loss"])
    assert result.test is not None
    assert {"energy_mae_meV_per_atom", "forces_rmse_percent", "stress_mae_GPa"} <= result.test.rows[0].keys()


@pytest.mark.parametrize(
    ("name", "frames", "origin"),
    [
        ("3bpa", "0:12", ISOLATED),
        ("acac", "0:12", ISOLATED),
        ("mgo", "0:4", FITTED),
        ("nacl", "0:4", FITTED),
        ("diamond", "0:10", FITTED),
        ("batio3", "0:4", FITTED),
        ("equiformer-3bpa", "0:12", ISOLATED),
        ("dens-ethanol", "0:12", FITTED),
    ],
)
def test_recipes_of_external_data_train(name, frames, origin, data_root, tmp_path, monkeypatch):
    monkeypatch.setenv("MLIP_DATA", str(data_root))
    few = [f"data.train.index='{frames}'", f"run.folder={tmp_path}"]
    result = train(name, [*SHORT, *few], console=Console(quiet=True))
    assert math.isfinite(result.metrics["val_loss"])
    assert result.model.metadata["e0_origin"] == origin
