"""Committees: members differ in their seeds alone, and a calibrated spread covers what it says."""

import json

import numpy as np
import pytest
import torch
import yaml
from ase.build import bulk
from matplotlib.figure import Figure
from rich.console import Console

from mlip import MLIPCalculator, Potential
from mlip.__main__ import main
from mlip.calibration import Calibration, expand
from mlip.datasets import read_frames
from mlip.errors import InputError
from mlip.training import evaluate_committee, train, train_committee
from mlip.training.committee import member_settings
from mlip.training.uncertainty import ONE_SIGMA, Spread

QUIET = Console(quiet=True)
MODEL = {"cutoff": 4.0, "preset": "fast", "num_channels": 4, "lmax": 1, "num_radial": 4, "radial_width": 8}


@pytest.fixture
def models(tmp_path):
    """Three random models in a folder."""
    for seed in (1, 2, 3):
        potential = Potential.from_config({**MODEL, "seed": seed}, ["Cu", "Ag"]).to(torch.float64)
        potential.save(tmp_path / "members" / f"seed-{seed}" / "best.mlip")
    return sorted((tmp_path / "members").glob("*/best.mlip"))


def normal_spread(factor, size=40_000):
    """Errors drawn from normal distributions whose σ are the stated ones times a factor."""
    rng = np.random.default_rng(0)
    std = rng.uniform(0.1, 2.0, size)
    return Spread(rng.normal(scale=factor * std), std)


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_the_factor_is_found(factor):
    """Within four standard deviations of a quantile of 40 000 numbers."""
    spread = normal_spread(factor)
    assert spread.scale == pytest.approx(factor, rel=0.02)
    assert spread.coverage(spread.scale) == pytest.approx(ONE_SIGMA, abs=1e-4)
    assert spread.coverage(spread.scale, 2.0) == pytest.approx(0.9545, abs=0.005)


def test_an_overconfident_committee_is_seen():
    assert normal_spread(4.0).coverage(1.0) < 0.25
    assert normal_spread(0.3).coverage(1.0) > 0.99


def test_rank_correlation_says_whether_it_knows_where_it_is_wrong():
    honest = normal_spread(1.0, 2000)
    blind = Spread(honest.error, np.roll(honest.std, 7))
    assert honest.correlation > 0.3
    assert abs(blind.correlation) < 0.1


def test_spread_and_mean_are_their_definitions(models, alloy):
    frames = list(read_frames(alloy))
    found = evaluate_committee(models, str(alloy))
    forces = np.array([[MLIPCalculator(m).get_forces(f.atoms) for f in frames] for m in models])
    labels = np.array([f.forces for f in frames])
    np.testing.assert_allclose(found.spreads["forces"].error, (forces.mean(axis=0) - labels).ravel(), atol=1e-9)
    rms = np.sqrt(forces.var(axis=0, ddof=1).mean(axis=-1))
    np.testing.assert_allclose(found.spreads["forces"].std, np.repeat(rms.ravel(), 3), atol=1e-9)
    energies = np.array([[MLIPCalculator(m).get_potential_energy(f.atoms) / 4 for f in frames] for m in models])
    np.testing.assert_allclose(found.spreads["energy"].std, energies.std(axis=0, ddof=1), atol=1e-9)
    assert found.mean.rows[0]["forces_mae_meV_per_A"] == pytest.approx(
        1e3 * np.abs(found.spreads["forces"].error).mean()
    )
    assert set(found.spreads) == {"energy", "forces", "stress"}


def test_the_spread_of_forces_does_not_turn_with_the_crystal(models, alloy, tolerances):
    from dataclasses import replace

    frame = read_frames(alloy)[0]
    turned = frame.atoms.copy()
    turned.rotate(40, (1, 2, 3), rotate_cell=True)
    spreads = [
        evaluate_committee(models, [replace(frame, atoms=atoms)]).spreads["forces"].std
        for atoms in (frame.atoms, turned)
    ]
    np.testing.assert_allclose(spreads[0], spreads[1], rtol=tolerances.symmetry)


def test_the_next_evaluation_uses_what_was_calibrated(models, alloy, tmp_path, capsys):
    arguments = ["evaluate", *map(str, models), str(alloy)]
    report = tmp_path / "report.json"
    assert main([*arguments, "--calibrate"]) == 0
    assert main([*arguments, "--json", str(report), "--plot", "--out", str(tmp_path / "figures")]) == 0
    results = json.loads(report.read_text())["results"]
    for row in results["spread"]:
        assert row["coverage_1"] == pytest.approx(ONE_SIGMA, abs=0.05)
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"parity.png", "calibration.png"}
    assert "calibrated on" in capsys.readouterr().out


def test_other_members_are_not_given_the_factors(models, alloy):
    calibration = evaluate_committee(models, str(alloy)).calibrate(models, "these")
    calibration.save(models)
    assert Calibration.find(models[::-1]) == calibration
    assert Calibration.find(models[:2]) is None
    Potential.from_config({**MODEL, "seed": 9}, ["Cu", "Ag"]).save(models[0])
    assert Calibration.find(models) is None


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "other"}', '{"format": "curie-mlip-committee", "scales": 3}']
)
def test_a_damaged_calibration_is_one_line(models, text):
    (models[0].parents[1] / "committee.json").write_text(text)
    with pytest.raises(InputError, match="calibration"):
        Calibration.find(models)


def test_a_pattern_names_a_committee(models, tmp_path):
    crystal = bulk("Cu", cubic=True)
    crystal.rattle(0.1, seed=1)
    pattern = str(tmp_path / "members" / "*" / "best.mlip")
    one, other = MLIPCalculator(pattern), MLIPCalculator(models)
    np.testing.assert_array_equal(one.get_forces(crystal), other.get_forces(crystal))
    np.testing.assert_array_equal(one.get_property("forces_std", crystal), other.get_property("forces_std", crystal))
    assert expand("one.mlip")[0].name == "one.mlip"
    with pytest.raises(InputError, match="no model file matches"):
        MLIPCalculator(str(tmp_path / "nothing-*.mlip"))


def test_factors_stretch_the_calculators_spread_and_nothing_else(models, alloy):
    calibration = Calibration({"forces": 3.0}, [], {}, "none")
    crystal = bulk("Cu", cubic=True)
    crystal.rattle(0.1, seed=1)
    raw, stretched = MLIPCalculator(models), MLIPCalculator(models, calibration=calibration)
    ratio = stretched.get_property("forces_std", crystal) / raw.get_property("forces_std", crystal)
    np.testing.assert_allclose(ratio, 3.0)
    np.testing.assert_array_equal(stretched.get_forces(crystal), raw.get_forces(crystal))
    assert stretched.get_property("energy_std", crystal) == raw.get_property("energy_std", crystal)


def test_members_share_the_split_and_nothing_random_else(settings):
    base = settings(seed=5)
    members = [member_settings(base, k, base.run.folder) for k in range(3)]
    assert [m.seed for m in members] == [5, 6, 7]
    assert [m.model.seed for m in members] == [5, 6, 7]
    assert [m.data.split_seed for m in members] == [5, 5, 5]
    assert len({m.folder for m in members}) == 3


def test_a_committee_is_trained_and_gone_on_with(settings_values, tmp_path, capsys):
    config = tmp_path / "copper.yaml"
    config.write_text(yaml.safe_dump(settings_values(training={"max_epochs": 2})))
    arguments = ["train", str(config), "--seeds", "2"]
    assert main(arguments) == 0
    folder = tmp_path / "runs" / "test-committee"
    models = sorted(folder.glob("*/best.mlip"))
    assert len(models) == 2
    assert Calibration.find(models).frames["forces"] == 3 * 4 * 3  # a quarter of twelve frames of four atoms
    first = models[0].read_bytes()
    assert main(arguments) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["train", str(config), "--seeds", "3", "--resume"]) == 0
    models = sorted(folder.glob("*/best.mlip"))
    assert len(models) == 3
    assert models[0].read_bytes() == first
    assert len(Calibration.find(models).members) == 3


def test_the_first_member_is_the_single_run(settings):
    single = train(settings(), console=QUIET)
    committee = train_committee(settings(run={"name": "other"}), 2, console=QUIET)
    one, first = single.model.state_dict(), committee.members[0].model.state_dict()
    assert all(torch.equal(one[name], first[name]) for name in one)
    second = committee.members[1].model.state_dict()
    assert not all(torch.equal(first[name], second[name]) for name in first)


def test_the_plot_has_a_column_for_each_label(models, alloy):
    figure = evaluate_committee(models, str(alloy)).plot()
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 6


@pytest.mark.parametrize(
    ("extra", "word"),
    [(["--calibrate"], "one model has no spread"), ([], None)],
)
def test_one_model_is_no_committee(models, alloy, capsys, extra, word):
    code = main(["evaluate", str(models[0]), str(alloy), *extra])
    assert code == (2 if word else 0)
    assert word is None or word in capsys.readouterr().err
