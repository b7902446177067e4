"""Settings: one strict schema whose errors a user can act on."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mlip import InputError, Potential
from mlip.settings import PRESETS, ModelSettings, model_settings


@pytest.mark.parametrize(("wrong", "near"), [
    ("cutof", "cutoff"), ("num_layer", "num_layers"), ("n_channels", "num_channels"), ("l_max", "lmax"),
    ("archtecture", "architecture"), ("mix", "mixing"),
])  # fmt: skip
def test_unknown_keys_name_the_nearest(wrong, near):
    with pytest.raises(InputError, match=f"key '{wrong}': unknown key .did you mean '{near}'"):
        model_settings({wrong: 1})


def test_a_key_like_no_other_lists_them_all():
    with pytest.raises(InputError, match="known keys: architecture, preset, cutoff"):
        model_settings({"zzz": 1})


@pytest.mark.parametrize("settings", [
    {"cutoff": 0.0}, {"cutoff": -3}, {"cutoff": 50}, {"cutoff": float("nan")}, {"cutoff": "wide"},
    {"num_layers": 0}, {"num_layers": 2.5}, {"lmax": -1}, {"lmax": 7}, {"num_channels": 0}, {"num_channels": [8]},
    {"num_channels": [8, 8, 8]}, {"num_channels": True}, {"num_channels": "many"}, {"num_radial": 0},
    {"mixing": "both"}, {"architecture": "mace"}, {"preset": "huge"}, {"preset": 3}, {"seed": -1},
    {"parity": "perhaps"}, {"radial_depth": 0}, {"max_filter_degree": -1},
], ids=str)  # fmt: skip
def test_values_out_of_range_are_named(settings):
    with pytest.raises(InputError) as caught:
        model_settings(settings)
    assert next(iter(settings)) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_number_sets_both_channels():
    assert model_settings({"num_channels": 16}).num_channels == (16, 16)
    assert model_settings({"num_channels": [16, 8]}).num_channels == (16, 8)


@pytest.mark.parametrize(("architecture", "name"), [(a, name) for a, presets in PRESETS.items() for name in presets])
def test_presets_are_defaults_that_can_be_overruled(architecture, name):
    settings = model_settings({"architecture": architecture, "preset": name})
    for key, value in PRESETS[architecture][name].items():
        assert getattr(settings, key) == value
    assert model_settings({"architecture": architecture, "preset": name, "num_layers": 7}).num_layers == 7


@pytest.mark.parametrize("architecture", PRESETS)
def test_settings_come_back_from_their_dump(architecture):
    settings = model_settings({"architecture": architecture, "preset": "large", "cutoff": 4.4})
    assert model_settings(settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize(("settings", "message"), [
    ({"num_heads": 8}, "'num_heads' belongs to architecture: equiformer, not to nequip"),
    ({"drop_path": 0.1}, "'drop_path' belongs to architecture: equiformer"),
    ({"architecture": "equiformer", "mixing": "depthwise"}, "'mixing' belongs to architecture: nequip"),
    ({"architecture": "equiformer", "max_filter_degree": 3}, "'max_filter_degree' belongs to architecture: nequip"),
    ({"architecture": "equiformer", "norm": False}, "norm: false would let"),
    ({"architecture": "equiformer", "norm": "separable"}, "ruins phonons: use norm: true, or forces: direct"),
    ({"norm": "separable", "forces": "direct"}, "belongs to architecture: equiformer"),
    ({"zbl": True, "forces": "direct"}, "zbl is an energy"),
], ids=str)  # fmt: skip
def test_keys_that_do_not_belong_together_say_why(settings, message):
    with pytest.raises(InputError, match=message) as caught:
        model_settings(settings)
    assert len(str(caught.value)) < 200


def test_an_equiformer_is_normalised_unless_told_how():
    assert model_settings({"architecture": "equiformer"}).norm is True
    assert model_settings({}).norm is False
    separable = {"architecture": "equiformer", "norm": "separable", "forces": "direct"}
    assert model_settings(separable).norm == "separable"


def test_settings_do_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        ModelSettings().cutoff = 3.0


@pytest.mark.parametrize(("species", "message"), [
    ("Si", "list of chemical symbols"), ([], "list of chemical symbols"), (["Si", "Xx"], "not a chemical symbol: Xx"),
    (["X"], "not a chemical symbol"), (["Si", "Si"], "listed twice"),
])  # fmt: skip
def test_species(species, message):
    with pytest.raises(InputError, match=message):
        Potential.from_config({"num_layers": 1, "num_channels": 1}, species)
