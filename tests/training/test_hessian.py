"""Curvature as an auxiliary task: exact labels, right gradients, exact resumption, faults in one line."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read, write
from rich.console import Console
from torch.optim import SGD

import mlip.training.loop as loop_module
from mlip import MLIPCalculator, Potential
from mlip.__main__ import main
from mlip.datasets.commensurate import bloch_labels
from mlip.datasets.frame import LabelledFrame
from mlip.datasets.reading import read_frames
from mlip.derivatives import HessianOperator, evaluate
from mlip.errors import InputError
from mlip.graph import batch_graphs, build_graph
from mlip.training import train
from mlip.training.checkpoint import load_checkpoint
from mlip.training.curvature import DifferenceTarget, MatrixTarget, answer, answer_with
from mlip.training.curvature_data import _waves_of, _whole, load_curvature
from mlip.training.data import FrameSet
from mlip.training.distributed import OneProcess
from mlip.training.hessian import CurvatureLoss, frequencies, whole_matrix
from mlip.training.load import load_settings
from mlip.training.loss import Loss
from mlip.training.settings import LossTermSettings
from mlip.training.state import TrainingState
from mlip.training.step import Probing, Step
from mlip.training.task_settings import HessianSettings


class Silent:
    """An average that is not kept."""

    def update(self):
        pass


QUIET = Console(quiet=True)
MODEL = {"cutoff": 4.0, "num_layers": 2, "num_channels": 4, "lmax": 1, "num_radial": 4, "radial_width": 8, "seed": 3}


def numerical_hessian(atoms, step=1e-3):
    """(3N, 3N) by central differences of EMT's forces, symmetrised."""
    work = atoms.copy()
    work.calc = EMT()
    rows = []
    for k in range(3 * len(atoms)):
        forces = []
        for sign in (1, -1):
            moved = atoms.positions.copy()
            moved.flat[k] += sign * step
            work.positions[:] = moved
            forces.append(work.get_forces().ravel())
        rows.append((forces[1] - forces[0]) / (2 * step))
    return (np.array(rows) + np.array(rows).T) / 2


@pytest.fixture
def potential():
    return random_potential()


def random_potential():
    """Random weights off their start, float64."""
    made = Potential.from_config(MODEL, ["Cu", "O"]).double()
    rng = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=rng))
    return made


def build(atoms):
    return build_graph(atoms, MODEL["cutoff"], ["Cu", "O"])


@pytest.fixture(scope="module")
def targets():
    """Labels of every kind, from the potential itself: of a molecule, a crystal and a displaced supercell."""
    calculator, crystal = MLIPCalculator(random_potential()), bulk("CuO", "rocksalt", a=4.2)
    cluster = crystal.repeat((2, 1, 1))
    cluster.pbc, cluster.cell = False, None
    cluster.rattle(0.2, seed=1)
    supercell = crystal.repeat((4, 1, 1))
    moved = supercell.copy()
    moved.rattle(0.1, seed=2)
    forces = [calculator.get_property("forces", atoms).copy() for atoms in (moved, supercell)]
    frame = LabelledFrame(cluster, hessian=calculator.get_hessian(cluster))
    labels = bloch_labels(LabelledFrame(supercell, hessian=calculator.get_hessian(supercell)))
    length = float(np.linalg.norm(moved.positions - supercell.positions))
    difference = torch.as_tensor(forces[0] - forces[1])
    return [
        _whole(frame, build(cluster)),
        *_waves_of(labels, build(labels.primitive), 1.0),
        DifferenceTarget(build(moved), build(supercell), length, difference, 1.0, "moved"),
    ]


def curvature(targets, **settings):
    return CurvatureLoss(HessianSettings(data=[{"path": "none"}], **settings), targets, targets, seed=1)


def test_labels_of_a_potential_are_its_own_answers(potential, targets, tolerances):
    """H·v of a molecule, D(q)·v from the primitive cell against the supercell's Hessian, F(u) − F(0)."""
    assert len(targets) == 1 + 4 + 1
    assert sum(t.matrix.is_complex() for t in targets[:-1]) == 2
    for target in targets:
        for probes in ("gaussian", "columns"):
            question = target.draw(np.random.default_rng(1), probes)
            assert float(question.label.abs().max()) > 1e-3
            (error,) = answer(potential, [question]).errors
            assert tuple(error.shape) == question.rows
            assert float(error.detach().abs().max()) < tolerances.exact * float(question.label.abs().max())


def test_all_questions_at_once_are_each_by_itself(potential, targets, tolerances):
    questions = [t.draw(np.random.default_rng(k), "gaussian") for k, t in enumerate(targets)]
    questions = [type(q)(**{**q.__dict__, "label": 0.3 * q.label}) for q in questions]
    together = answer(potential, questions)
    for question, error in zip(together.questions, together.errors, strict=True):
        (alone,) = answer(potential, [question]).errors
        assert (alone - error).abs().max() < tolerances.symmetry * alone.abs().max()


def test_products_beside_forces_are_products_alone(potential, targets, tolerances):
    """Where every frame of a batch is probed, forces and products share the first derivative."""
    target = targets[0]
    waves = [target.draw(np.random.default_rng(k), "gaussian") for k in range(2)]
    graph = batch_graphs([wave.graph for wave in waves])
    operator = HessianOperator(potential, graph, create_graph=True)
    for ours, theirs in zip(answer_with(operator, waves).errors, answer(potential, waves).errors, strict=True):
        assert (ours - theirs).abs().max() < tolerances.exact * waves[0].label.abs().max()
    alone = evaluate(potential, graph, stress=True, create_graph=True)
    beside = operator.evaluation(stress=True)
    for name in ("energy", "forces", "stress"):
        assert torch.equal(getattr(alone, name), getattr(beside, name))


def test_a_wrong_label_is_seen(potential, targets):
    target = next(t for t in targets if t.matrix.is_complex())
    wrong = MatrixTarget(**{**target.__dict__, "matrix": target.matrix.conj()})  # the other sign of q
    question = wrong.draw(np.random.default_rng(1), "gaussian")
    (error,) = answer(potential, [question]).errors
    assert error.abs().max() > 1e-2 * question.label.abs().max()


def test_probes_are_isotropic_or_single_columns(targets):
    rng = np.random.default_rng(0)
    for target in (targets[0], next(t for t in targets if t.matrix.is_complex())):
        drawn = torch.stack([target.draw(rng, "gaussian").vector.flatten() for _ in range(4000)])
        parts = torch.view_as_real(drawn).flatten(1) if drawn.is_complex() else drawn
        second = parts.T @ parts / len(parts)
        assert (second - torch.eye(len(second))).abs().max() < 0.12
        column = target.draw(rng, "columns")
        assert int((column.vector != 0).sum()) == 1


@pytest.mark.parametrize("norm", ["mse", "mae", pytest.param("l2mae", marks=pytest.mark.slow)])
def test_gradient_by_the_parameters(potential, targets, tolerances, norm):
    """The loss on H·v, D(q)·v and F(u) − F(0) together, against five-point differences."""
    loss = curvature(targets, norm=norm, per_step=len(targets))
    questions = [type(q)(**{**q.__dict__, "label": 0.3 * q.label}) for q in loss.draw(0)]
    count = loss.count(questions)

    def value():
        return loss.value(potential, questions, count)

    value().backward()
    rng = torch.Generator().manual_seed(3)
    parameters = list(potential.parameters())
    directions = [torch.randn(p.shape, generator=rng, dtype=torch.float64) for p in parameters]
    expected = sum(
        float((p.grad * d).sum()) for p, d in zip(parameters, directions, strict=True) if p.grad is not None
    )

    def moved(step):
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.add_(step * d)
        found = float(value().detach())
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.sub_(step * d)
        return found

    h = 1e-4
    slope = (8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * h)
    assert slope == pytest.approx(expected, rel=tolerances.derivative)
    assert abs(expected) > 1e-3


def test_every_label_is_asked_equally_often_and_nothing_depends_on_the_past(targets):
    loss = curvature(targets, per_step=3)
    names = [q.name for step in range(len(targets)) for q in loss.draw(step)]
    assert sorted(names) == sorted(3 * [t.name for t in targets])
    again = curvature(targets, per_step=3)
    for first, second in zip(loss.draw(5), again.draw(5), strict=True):
        assert first.name == second.name
        assert torch.equal(first.label, second.label)


def test_validation_of_a_perfect_model_finds_nothing_and_of_another_something(potential, targets):
    loss = curvature(targets)
    value, errors = loss.validate(potential)
    assert value < 1e-10
    assert errors["hessian_mae_meV_per_A2"] < 1e-9
    with torch.no_grad():
        for parameter in potential.parameters():
            parameter.mul_(1.1)
    value, errors = loss.validate(potential)
    expected = torch.cat([(whole_matrix(potential, t) - t.matrix).abs().flatten() for t in targets[:-1]]).mean()
    assert errors["hessian_mae_meV_per_A2"] == pytest.approx(1000 * float(expected))
    assert errors["frequency_mae_THz"] > 1e-2
    assert value > 1e-3


def test_frequencies_of_a_dimer():
    """Two masses m on a spring k along x vibrate with √(2k/m)."""
    spring, mass = 5.0, 16.0
    matrix = torch.zeros(6, 6, dtype=torch.float64)
    matrix[0, 0] = matrix[3, 3] = spring
    matrix[0, 3] = matrix[3, 0] = -spring
    found = frequencies(matrix, torch.tensor([mass, mass], dtype=torch.float64))
    expected = np.sqrt(2 * spring * 1.602176634e-19 / (mass * 1.66053906660e-27)) * 1e10 / (2 * np.pi) / 1e12
    assert float(found[-1]) == pytest.approx(expected, rel=1e-8)
    assert float(found[:-1].abs().max()) < 1e-6


# Whole runs


@pytest.fixture
def labelled(copper, tmp_path):
    """The copper frames, every other one with its Hessian; and the Hessian of a supercell of copper at rest."""
    frames = read(copper, ":")
    for number, frame in enumerate(frames):
        if number % 2 == 0:
            frame.info["hessian"] = numerical_hessian(frame)
    write(copper, frames)
    supercell = bulk("Cu", a=3.61).repeat((2, 2, 1))
    supercell.info["hessian"] = numerical_hessian(supercell)
    path = tmp_path / "supercell.xyz"
    write(path, supercell)
    return str(path)


def both(path, **more):
    """H·v on the frames and D(q) of the crystal."""
    data = [{"path": path.replace("supercell", "copper")}, {"path": path, "target": "dynamical_matrix"}]
    return {"data": data, "weight": 1.0, "per_step": 2, "start": 0.4, "validation_size": 2, **more}


def _stop_after(monkeypatch, steps):
    original = loop_module.Loop._advance

    def advance(self, progress):
        original(self, progress)
        if self.state.position.step == steps:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop_module.Loop, "_advance", advance)


@pytest.mark.parametrize(
    ("steps", "source"), [(4, "files"), (11, "files"), (11, "frames")]
)  # within the first stage, within the second
def test_resumed_run_equals_uninterrupted_run(settings, labelled, monkeypatch, tmp_path, steps, source):
    options = {"max_epochs": 6, "max_minutes": None, "batch_size": 3, "dtype": "float64"}
    hessian = both(labelled) if source == "files" else {"start": 0.4, "validation_size": 1}
    whole, parts = (
        settings(training=options, hessian=hessian, run={"name": name, "folder": str(tmp_path)})
        for name in ("whole", "parts")
    )
    train(whole, console=QUIET)
    with monkeypatch.context() as patch:
        _stop_after(patch, steps)
        assert train(parts, console=QUIET).signal == signal.SIGTERM
    assert train(parts, resume=True, console=QUIET).signal is None
    one, two = (load_checkpoint(tmp_path / name / "last.ckpt") for name in ("whole", "parts"))
    for key in ("model", "average"):
        for name, value in one[key].items():
            assert torch.equal(two[key][name], value), name
    metrics = [(tmp_path / name / "metrics.csv").read_text() for name in ("whole", "parts")]
    assert metrics[0] == metrics[1]


@pytest.mark.parametrize("source", ["files", pytest.param("frames", marks=pytest.mark.slow)])
def test_two_processes_equal_one(settings_values, labelled, run_processes, tmp_path, source):
    options = {"max_epochs": 7, "max_minutes": None, "batch_size": 3, "dtype": "float64"}
    hessian = both(labelled, per_step=3, start=0.3) if source == "files" else {"start": 0.3, "validation_size": 1}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings_values(training=options, hessian=hessian)))
    run_processes(["train", str(config), "run.name=two"], 2)
    train(load_settings(config, ["run.name=one"]), console=QUIET)
    one, two = (load_checkpoint(tmp_path / "runs" / name / "last.ckpt") for name in ("one", "two"))
    assert one["position"]["step"] == two["position"]["step"] >= 20
    for key in ("model", "average"):
        for name, value in one[key].items():
            assert (two[key][name] - value).abs().max() < 1e-6, name
    assert one["position"]["best_loss"] == pytest.approx(two["position"]["best_loss"], rel=1e-6)


def test_the_gradient_of_a_step_is_that_of_its_loss(settings, labelled, copper, potential):
    """Probed together with the forces or apart from them, frame by frame or at once: one gradient."""
    frames = FrameSet("train", read_frames(copper), cutoff=4.0, species=["Cu", "O"], dtype=torch.float64)
    section = HessianSettings(norm="mse")
    data = load_curvature(section, frames, frames, cutoff=4.0, species=["Cu", "O"], seed=1)
    curvature = CurvatureLoss(section, data.train, data.validation, 1, data.of_frames)
    loss = Loss.from_settings([LossTermSettings(target="energy"), LossTermSettings(target="forces", weight=10.0)])
    step = Step(loss, OneProcess(), 1e9, 1, curvature)
    whole = frames.batch([0, 1, 2], potential.device)
    counts, asked = loss.counts(whole), curvature.count(curvature.draw_for(0, whole.frames))

    def gradient(*parts):
        state = TrainingState(potential, Silent(), SGD(potential.parameters(), 0.0), schedule=None)
        total = 0.0
        for part in parts:
            batch = frames.batch(part, potential.device)
            questions = curvature.draw_for(0, batch.frames)
            probing = Probing(questions, asked, of_batch=len(questions) == len(part))
            step(state, batch, counts, 0.0, 0.0, probing)
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in potential.parameters()]
            total = total + torch.cat([g.flatten() for g in grads])
        return total

    expected = gradient([0], [1], [2])  # shared, without a probe, shared
    for parts in ([[0, 1, 2]], [[0, 2], [1]], [[0, 1], [2]]):
        assert (gradient(*parts) - expected).abs().max() < 1e-12 * expected.abs().max()


def test_the_first_stage_is_energies_and_forces_alone(settings, labelled, tmp_path):
    options = {"max_epochs": 8, "batch_size": 3, "schedule": "constant", "validate_every": 1}
    plain = train(settings(training=options, run={"name": "plain"}), console=QUIET).rows
    staged = train(settings(training=options, hessian=both(labelled, start=0.5)), console=QUIET).rows
    for first, second in zip(plain[:4], staged[:4], strict=True):
        assert first["train_loss"] == second["train_loss"]
        assert first["val_forces_mae_meV_per_A"] == second["val_forces_mae_meV_per_A"]
        assert second["val_loss"] == pytest.approx(first["val_loss"] + second["val_hessian_loss"])
    assert plain[4]["train_loss"] < 0.9 * staged[4]["train_loss"]


def test_curvature_is_learnt_and_forces_are_kept(settings, labelled):
    """Frames far from rest say little about a crystal at rest; D(q) from its primitive cell does."""
    options = {"max_epochs": 30, "batch_size": 3, "validate_every": 30}
    model = {"num_channels": 8, "lmax": 2}
    loss = [{"target": "energy", "weight": 1.0}, {"target": "forces", "weight": 100.0}]  # beside a weight of 1
    rows = []
    for name, weight in (("without", 1e-9), ("with", 1.0)):
        hessian = {"data": {"path": labelled, "target": "dynamical_matrix"}, "weight": weight, "norm": "mae"}
        run = {"training": options, "model": model, "loss": loss, "hessian": hessian, "run": {"name": name}}
        result = train(settings(**run), console=QUIET)
        rows.append(result.rows[-1])
    assert rows[1]["val_hessian_mae_meV_per_A2"] < 0.25 * rows[0]["val_hessian_mae_meV_per_A2"]
    assert rows[1]["val_frequency_mae_THz"] < 0.25 * rows[0]["val_frequency_mae_THz"]
    assert rows[1]["val_forces_mae_meV_per_A"] < 1.5 * rows[0]["val_forces_mae_meV_per_A"]


def test_training_frames_with_and_without_hessians_need_no_file(settings, labelled):
    result = train(settings(hessian={"validation_size": 1}), console=QUIET)
    assert result.metrics["val_hessian_mae_meV_per_A2"] > 0
    assert "hessian" in result.model.metadata["config"]


def test_resume_refuses_other_curvature(settings, labelled):
    train(settings(hessian=both(labelled)), console=QUIET)
    with pytest.raises(InputError, match=r"hessian\.weight"):
        train(settings(hessian=both(labelled, weight=2.0)), resume=True, console=QUIET)
    supercell = read(labelled)
    supercell.info["hessian"] = 1.01 * supercell.info["hessian"].reshape(12, 12)
    write(labelled, supercell)
    with pytest.raises(InputError, match="training frames"):
        train(settings(hessian=both(labelled), training={"max_epochs": 9}), resume=True, console=QUIET)


FAULTS = {
    "no labels at all": (None, "no training frame carries a Hessian"),
    "a file without Hessians": ([{"path": "COPPER"}], "no frame has a Hessian"),
    "q that does not fit": (
        [{"path": "SUPERCELL", "target": "dynamical_matrix", "q_points": [[0.1, 0, 0]]}],
        "q = (0.1, 0, 0) is not commensurate with the label supercell (2 0 0; 0 2 0; 0 0 1)",
    ),
    "another primitive cell": (
        [{"path": "SUPERCELL", "target": "dynamical_matrix", "primitive": "COPPER"}],
        "is no supercell of the primitive cell Cu4",
    ),
    "no such primitive cell": (
        [{"path": "SUPERCELL", "target": "dynamical_matrix", "primitive": "none.cif"}],
        "none.cif, key 'hessian.data.0.primitive': no such file",
    ),
    "differences of what is no force set": ([{"path": "COPPER", "target": "force_differences"}], "no phonopy file"),
    "a molecule's D(q)": ([{"path": "MOLECULE", "target": "dynamical_matrix"}], "D(q) needs a crystal"),
    "an element that no training frame has": ([{"path": "GOLD"}], "does not know Au"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_one_line(settings_values, copper, tmp_path, capsys, name):
    data, says = FAULTS[name]
    supercell = bulk("Cu", a=3.61).repeat((2, 2, 1))
    supercell.info["hessian"] = np.eye(12)
    write(tmp_path / "SUPERCELL.xyz", supercell)
    supercell.symbols[0] = "Au"
    write(tmp_path / "GOLD.xyz", supercell)
    supercell.pbc, supercell.cell = False, None
    write(tmp_path / "MOLECULE.xyz", supercell)
    (tmp_path / "COPPER.xyz").write_text(Path(copper).read_text())
    values = settings_values(hessian={"data": data})
    text = yaml.safe_dump(values)
    for file in ("SUPERCELL", "GOLD", "MOLECULE", "COPPER"):
        text = text.replace(f": {file}\n", f": {tmp_path / file}.xyz\n")
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert main(["train", str(path)]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert says in line
