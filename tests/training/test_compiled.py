"""The compiled step is the eager step, for every size of batch; where it is not, it says so."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms

from mlip import Potential
from mlip.datasets.frame import LabelledFrame
from mlip.errors import InputError
from mlip.potential import Normalization
from mlip.training import compiled, train
from mlip.training.compiled import CompiledGradients, Outcome, StepFunction, check, traced
from mlip.training.data import collate, sample
from mlip.training.loss import Loss
from mlip.training.run import Console
from mlip.training.settings import LossTermSettings
from mlip.training.step import predict

MODEL = {"cutoff": 4.0, "preset": "fast", "num_channels": 4, "lmax": 2, "num_radial": 4, "radial_width": 8}
TERMS = [
    {"target": "energy", "norm": "huber"},
    {"target": "forces", "weight": 100.0, "norm": "l2mae"},
    {"target": "stress", "weight": 10.0},
]
MODELS = {
    "fast": {},
    "frames, norm": {"num_layers": 3, "norm": True},
    "parity, depthwise": {"num_layers": 4, "parity": True, "mixing": "depthwise", "node_square": False},
    "parity, linear": {"num_layers": 4, "parity": True, "mixing": "linear", "node_square": False},
    "scalars, ZBL": {"lmax": 0, "zbl": True},
    "direct forces": {"forces": "direct"},
}
QUICK = ("fast", "parity, linear", "scalars, ZBL")


def _frame(count, rng):
    atoms = Atoms("Cu" * (count - 1) + "Ag", rng.uniform(0, 7, (count, 3)), cell=[7.0] * 3, pbc=True)
    return LabelledFrame(
        atoms, energy=rng.normal(), forces=rng.normal(size=(count, 3)), stress=rng.normal(size=(3, 3))
    )


def _model(**changes):
    normalization = Normalization(min_distance={"Cu-Cu": 2.5, "Ag-Cu": 2.6})  # looked at with ZBL; some are closer
    return Potential.from_config({**MODEL, **changes}, ["Ag", "Cu"], normalization).double()


def _batch(model, counts, seed=0):
    rng = np.random.default_rng(seed)
    frames = [_frame(count, rng) for count in counts]
    return collate([sample(f, model.graph(f.atoms), k) for k, f in enumerate(frames)])


def _loss(terms=TERMS):
    return Loss.from_settings([LossTermSettings(**term) for term in terms])


def _eager(model, loss, batch, progress=0.0):
    """What an uncompiled step computes."""
    model.zero_grad(set_to_none=True)
    prediction = predict(model, batch, loss.targets, create_graph=True)
    value = loss.total(loss.sums(prediction, batch), loss.counts(batch), progress)
    value.backward(inputs=list(model.parameters()))
    return Outcome(value.detach(), prediction, [p.grad for p in model.parameters()])


def _arguments(function, loss, batch):
    return function.arguments(batch, torch.tensor(loss.factors(loss.counts(batch)), dtype=torch.float64))


def _assert_same(found, expected, tolerance):
    for a, b in zip(found.flat(), expected.flat(), strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b.detach(), rtol=tolerance, atol=tolerance * float(b.detach().abs().max()))


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in MODELS])
def test_one_trace_is_the_eager_step_for_batches_of_other_sizes(name):
    model, loss = _model(**MODELS[name]), _loss()
    first = _batch(model, [5, 4])
    function = StepFunction(model, loss, first)
    graph = traced(function, _arguments(function, loss, first))
    for batch in (first, _batch(model, [3, 6, 7], seed=1)):
        _assert_same(Outcome.of(graph(*_arguments(function, loss, batch))), _eager(model, loss, batch), 1e-12)


def test_the_trace_follows_the_weights():
    model, loss = _model(), _loss()
    batch = _batch(model, [5, 4])
    function = StepFunction(model, loss, batch)
    graph = traced(function, _arguments(function, loss, batch))
    before = Outcome.of(graph(*_arguments(function, loss, batch)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    after = Outcome.of(graph(*_arguments(function, loss, batch)))
    assert float((after.prediction.forces - before.prediction.forces).abs().max()) > 1e-3
    _assert_same(after, _eager(model, loss, batch), 1e-12)


def test_weights_that_are_frozen_get_no_gradient():
    model, loss = _model(), _loss(TERMS[:2])
    model.network.embedding.requires_grad_(False)
    batch = _batch(model, [5, 4])
    function = StepFunction(model, loss, batch)
    assert "model.network.embedding" not in function.trained
    assert (
        len(Outcome.of(function(*_arguments(function, loss, batch))).gradients) == len(list(model.parameters())) - 1
    )


def test_a_batch_with_a_size_of_one_or_two_equal_sizes_goes_the_eager_way():
    model = _model()
    assert CompiledGradients.serves(_batch(model, [5, 4]))
    assert not CompiledGradients.serves(_batch(model, [5]))
    batch = _batch(model, [5, 4])
    assert not CompiledGradients.serves(replace(batch, graph=replace(batch.graph, cells=torch.zeros(9, 3, 3))))


def _defects(outcome):
    p, gradients = outcome.prediction, outcome.gradients
    number = next(k for k, g in enumerate(gradients) if g is not None)
    wrong = [g * 1.001 if k == number else g for k, g in enumerate(gradients)]
    lost = [None if k == number else g for k, g in enumerate(gradients)]
    return {
        "energy": replace(outcome, prediction=replace(p, energy=p.energy + 1e-3)),
        "forces": replace(outcome, prediction=replace(p, forces=p.forces * 1.001)),
        "stress": replace(outcome, prediction=replace(p, stress=p.stress * 1.001)),
        "gradient": replace(outcome, gradients=wrong),
        "gradient, inf": replace(outcome, gradients=lost),
        "energy, nan": replace(outcome, prediction=replace(p, energy=p.energy * torch.nan)),
    }


def test_the_check_finds_what_differs_and_lets_rounding_pass():
    model, loss = _model(), _loss()
    batch = _batch(model, [5, 4])
    right = _eager(model, loss, batch)
    rounded = Outcome.of([None if x is None else x.float().to(x.dtype) for x in right.flat()])
    check(rounded, right, batch, scale=1.0)
    for name, wrong in _defects(right).items():
        with pytest.raises(InputError, match=f"differs from the eager one: {name}"):
            check(wrong, right, batch, scale=1.0)


def test_a_compiler_that_fails_is_one_line(settings, monkeypatch):
    def broken(*_):
        raise RuntimeError("no compiler\nand a page of text")

    monkeypatch.setattr(compiled, "traced", broken)
    with pytest.raises(InputError, match="RuntimeError: no compiler") as caught:
        train(settings(training={"compile": True, "batch_size": 3}), console=Console(quiet=True))
    assert "\n" not in str(caught.value)
    assert "training.compile: false" in str(caught.value)


@pytest.mark.slow
def test_a_compiled_run_is_the_eager_run(settings, tmp_path):
    """Nine training frames in batches of four: the last of each epoch has one frame."""
    rows = {}
    for compile_it in (False, True):
        options = {"compile": compile_it, "batch_size": 4, "max_epochs": 3, "dtype": "float64"}
        run = {"name": f"compiled-{compile_it}"}
        rows[compile_it] = train(settings(training=options, run=run), console=Console(quiet=True)).rows
    for eager, ours in zip(rows[False], rows[True], strict=True):
        assert ours["train_loss"] == pytest.approx(eager["train_loss"], rel=1e-9)
        assert ours["val_loss"] == pytest.approx(eager["val_loss"], rel=1e-9)
