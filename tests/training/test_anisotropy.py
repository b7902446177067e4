"""Training with a port: frames, the penalty, annealing, fields; and what a strict model becomes with one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from ase.io import read, write
from rich.console import Console

from mlip import InputError, MLIPError, Potential
from mlip.testing import random_rotation
from mlip.training import train
from mlip.training.anneal import Annealing, strict_part
from mlip.training.data import FrameSet
from mlip.training.loss import AnisotropyTerm, Loss
from mlip.training.muon import is_matrix
from mlip.training.optimizers import parameter_groups
from mlip.training.step import predict

QUIET = Console(quiet=True)


@pytest.fixture
def in_lab(settings, copper):
    """Settings with relaxed weights on copper in the laboratory's axes."""

    def build(anisotropy=None, **sections):
        model = {"anisotropy": anisotropy or {}}
        return settings(**{"model": model, "data": {"train": [{"path": str(copper), "frame": "lab"}]}, **sections})

    return build


def test_a_set_without_frames_is_refused_before_the_first_step(settings):
    with pytest.raises(InputError, match=r"copper.xyz, frame \d+: .*no frame.*'frame: lab'"):
        train(settings(model={"anisotropy": {}}), console=QUIET)


def test_frames_of_the_file_win_over_the_declaration(in_lab, copper, tmp_path):
    frames = read(copper, ":")
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    frames[0].info["frame"] = turn
    write(tmp_path / "turned.xyz", frames)
    from mlip.datasets import read_frames

    found = read_frames({"path": str(tmp_path / "turned.xyz"), "frame": "lab"})
    np.testing.assert_array_equal(found[0].atoms.info["frame"], turn)
    np.testing.assert_array_equal(found[1].atoms.info["frame"], np.eye(3))
    assert any("11 frames declared" in note for note in found.source.notes)


def test_a_frame_in_other_axes_is_the_same_frame(in_lab, copper):
    """All labels turn, and a model that knows the laboratory says the same."""
    from mlip.datasets import read_frames

    frame = read_frames({"path": str(copper), "frame": "lab"}, index=0)[0]
    extra = {"born_charges": np.arange(36.0).reshape(4, 3, 3), "dipole": np.arange(3.0), "theory": "EMT"}
    frame = dataclasses.replace(frame, info=extra, hessian=np.arange(144.0).reshape(12, 12))
    turn = -random_rotation(1)
    image = frame.turned(turn)
    np.testing.assert_allclose(image.atoms.info["frame"], turn)
    back = image.turned(turn.T)
    for name in ("forces", "stress", "hessian"):
        np.testing.assert_allclose(getattr(back, name), getattr(frame, name), atol=1e-10)
    np.testing.assert_allclose(image.response("born_charges")[1] @ turn, turn @ extra["born_charges"][1], atol=1e-10)
    model = Potential.from_config(in_lab().model, ["Cu"]).double()
    with torch.no_grad():
        model.network.port.theta.fill_(0.3)
    here, there = model.evaluate([frame.atoms, image.atoms])
    assert here["energy"] == pytest.approx(there["energy"], abs=1e-10)
    np.testing.assert_allclose(there["forces"], here["forces"] @ turn.T, atol=1e-10)


@pytest.fixture
def leaning(copper, tmp_path):
    """Copper whose energies have a hidden uniaxial term, Σ k z²/2 of the atoms about their sites."""
    frames = read(copper, ":")
    sites = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]) * 3.7
    for atoms in frames:
        z = (atoms.positions - sites)[:, 2]
        forces = atoms.calc.results["forces"].copy()
        forces[:, 2] -= 20.0 * (z - z.mean())
        atoms.calc.results["energy"] += 10.0 * ((z - z.mean()) ** 2).sum()
        atoms.calc.results["forces"] = forces
    write(tmp_path / "leaning.xyz", frames)
    return tmp_path / "leaning.xyz"


def test_relaxed_weights_learn_what_a_strict_model_cannot(settings, leaning):
    data = {"train": [{"path": str(leaning), "frame": "lab"}], "validation": 0.25}
    common = {"data": data, "training": {"max_epochs": 60, "learning_rate": 0.02}}
    relaxed = train(settings(model={"anisotropy": {}}, run={"name": "relaxed"}, **common), console=QUIET)
    strict = train(settings(run={"name": "strict"}, **common), console=QUIET)
    assert relaxed.rows[-1]["train_loss"] < 0.8 * strict.rows[-1]["train_loss"]
    theta = relaxed.model.network.port.theta
    assert float(theta.detach().abs().max()) > 0.01
    assert relaxed.model.settings.needs_frame


def test_the_penalty_is_the_sum_of_the_sizes_and_holds_theta_down(in_lab, copper):
    settings = in_lab({"penalty": 0.5})
    loss = Loss.from_settings(settings.loss, anisotropy=settings.model.anisotropy)
    term = loss.terms[-1]
    assert isinstance(term, AnisotropyTerm)
    model = Potential.from_config(settings.model, ["Cu"]).double()
    with torch.no_grad():
        model.network.port.theta[:3] = torch.tensor([0.3, 0.0, 0.4])
    from mlip.datasets import read_frames

    frames = FrameSet(
        "train", read_frames({"path": str(copper), "frame": "lab"}), cutoff=4.0, species=["Cu"], dtype=torch.float64
    )
    batch = frames.batch([0, 1], torch.device("cpu"))
    trained, validated = (predict(model, batch, create_graph=keep) for keep in (True, False))
    assert float(term.sum(trained, batch)) == pytest.approx(0.5, abs=2e-3)
    assert float(term.sum(validated, batch)) == 0
    term.sum(trained, batch).backward()
    gradient = model.network.port.theta.grad
    torch.testing.assert_close(gradient[:3], torch.tensor([0.6, 0.0, 0.8]).double(), atol=1e-4, rtol=0)
    assert not gradient[3:].any()
    without = in_lab({"penalty": 0.0})
    assert len(Loss.from_settings(without.loss, anisotropy=without.model.anisotropy).terms) == len(loss.terms) - 1


def test_theta_is_neither_decayed_nor_orthogonalised(in_lab):
    model = Potential.from_config(in_lab().model, ["Cu"])
    theta = model.network.port.theta
    assert not is_matrix(theta)
    groups = parameter_groups(model, 0.1)
    assert [g["weight_decay"] for g in groups if any(p is theta for p in g["params"])] == [0.0]


def test_annealed_weights_end_strict(in_lab, copper):
    result = train(in_lab({"anneal": True}, training={"max_epochs": 6}), console=QUIET)
    model = result.model
    assert model.network.port is None
    assert not model.settings.needs_frame
    assert model.evaluate(read(copper, ":1"))  # no frame, no refusal
    rates = [Annealing.strength(t) for t in (0.0, 0.35, 0.7, 1.0)]
    assert rates == [1.0, pytest.approx(0.5), 0.0, 0.0]


def test_what_annealing_leaves_is_noticed(in_lab, tmp_path):
    model = Potential.from_config(in_lab({"anneal": True}).model, ["Cu"])
    annealing = Annealing.of(model.settings)
    annealing.require_strict(model, tmp_path / "none.mlip")
    model.save(tmp_path / "best.mlip")
    with pytest.raises(MLIPError, match="still has relaxed weights"):
        annealing.require_strict(model, tmp_path / "best.mlip")
    with torch.no_grad():
        model.network.port.theta[1] = 0.1
    with pytest.raises(MLIPError, match=r"left .* = 0\.1"):
        annealing.require_strict(model, tmp_path / "none.mlip")


def test_the_strict_part_is_the_model_at_zero(in_lab, copper):
    model = Potential.from_config(in_lab().model, ["Cu"]).double()
    (atoms,) = read(copper, ":1")
    part = strict_part(model).evaluate([atoms])[0]
    atoms.info["frame"] = np.eye(3)
    assert part["energy"] == model.evaluate([atoms])[0]["energy"]
    with torch.no_grad():
        model.network.port.theta.fill_(0.3)
    assert abs(part["energy"] - model.evaluate([atoms])[0]["energy"]) > 1e-6


def test_a_strict_model_is_fine_tuned_with_a_port(settings_values, in_lab, copper):
    from mlip.training.load import validate

    strict = train(validate(settings_values(run={"name": "strict"})), console=QUIET)
    values = settings_values(
        data={"train": [{"path": str(copper), "frame": "lab"}]},
        training={"max_epochs": 1, "learning_rate": 1e-12, "ema": None},
        init_from=str(strict.best_path),
    )
    values["model"] = {"anisotropy": {"irreps": "2e"}}
    tuned = train(validate(values), console=QUIET).model
    assert tuned.settings.num_channels == strict.model.settings.num_channels
    atoms = read(copper, ":2")
    for image in atoms:
        image.info["frame"] = np.eye(3)
    for a, b in zip(strict.model.evaluate(atoms), tuned.evaluate(atoms), strict=True):
        np.testing.assert_allclose(a["forces"], b["forces"], atol=1e-8)


# -- fields ------------------------------------------------------------------------------------------------


@pytest.fixture
def charged_copper(copper, tmp_path):
    """Frames with the dipole, charges and polarizability of a rigid assignment: ±0.2 e, and 0.3 e Å²/V."""
    frames = read(copper, ":")
    charges = np.array([0.2, -0.2, 0.2, -0.2])
    for k, atoms in enumerate(frames):
        atoms.info["polarization"] = charges @ atoms.positions + atoms.cell.array[k % 3]  # another branch
        atoms.info["polarizability"] = (0.3 * np.eye(3)).ravel()
        atoms.set_array("born_charge", charges[:, None] * np.eye(3).ravel())
    write(tmp_path / "charged.xyz", frames)
    return tmp_path / "charged.xyz"


def test_a_loss_on_derivatives_by_the_field_falls(settings, charged_copper):
    terms = [{"target": t} for t in ("polarization", "born_charges", "polarizability")]
    run = train(
        settings(
            model={"anisotropy": {"source": "field"}},
            data={"train": [{"path": str(charged_copper)}]},
            loss=[{"target": "energy"}, {"target": "forces"}, *terms],
            training={"max_epochs": 12, "learning_rate": 0.02},
        ),
        console=QUIET,
    )
    first, last = run.rows[0], run.rows[-1]
    names = ("polarization_mae_me_A", "born_charges_mae_me", "polarizability_mae_me_A2_per_V")
    assert first["train_polarization_mae_me_A"] < 1000  # one period would be 3700 m e Å off
    assert last[f"train_{names[2]}"] < first[f"train_{names[2]}"]
    assert all(np.isfinite(last[f"val_{name}"]) for name in names)
    assert all(np.isfinite(run.metrics[f"val_{name}"]) for name in names)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"anisotropy": {}}}, "feels a field"),
        ({}, "feels a field"),
        ({"model": {"anisotropy": {"source": "field"}}, "dens": {}}, "dens"),
    ],
)
def test_losses_that_the_model_cannot_have(settings, sections, message):
    with pytest.raises(InputError, match=message):
        settings(loss=[{"target": "polarizability"}], **sections)


def test_barium_titanate_with_its_polarization(settings_values, data_root):
    """The file's own names, charges row by row: ∂P_a/∂x_b, so that ΔP = Σ Z Δx to first order."""
    from mlip.datasets import read_frames

    frames = read_frames(str(data_root / "batio3_field" / "BaTiO3_59.xyz"))
    assert all(f.response_labels == ("polarization", "born_charges", "polarizability") for f in frames)
    cell = frames[0].atoms.cell.array
    gaps = []
    for k, first in enumerate(frames):
        for second in frames[:k]:
            shift = first.atoms.get_scaled_positions() - second.atoms.get_scaled_positions()
            shift = (shift - np.rint(shift)) @ cell
            if np.sqrt((shift**2).mean()) > 0.1:
                continue
            charges = (first.response("born_charges") + second.response("born_charges")) / 2
            change = first.response("polarization") - second.response("polarization")
            errors = [change - np.einsum(rule, charges, shift) for rule in ("nab,nb->a", "nba,nb->a")]
            gaps.append(
                [np.linalg.norm((e @ np.linalg.inv(cell) + 0.5) % 1 @ cell - 0.5 * cell.sum(0)) for e in errors]
            )
    assert len(gaps) > 3
    assert np.median(gaps, axis=0)[0] < 0.5 * np.median(gaps, axis=0)[1]
