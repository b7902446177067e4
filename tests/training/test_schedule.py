"""Learning rates over a run."""

import math
from itertools import pairwise

import numpy as np
import pytest
from rich.console import Console

from mlip.training import train
from mlip.training.card import data_digest
from mlip.training.schedule import Budget, Cosine, Plateau, warmup
from mlip.training.state import Clock


def test_cosine_falls_from_one_to_zero():
    factors = [Cosine().factor(t) for t in np.linspace(0, 1, 101)]
    assert factors[0] == 1.0
    assert factors[-1] == pytest.approx(0.0, abs=1e-15)
    assert all(b < a for a, b in pairwise(factors))


def test_progress_is_the_faster_of_steps_and_minutes():
    budget = Budget(max_steps=100, max_minutes=10.0)
    assert budget.progress(50, 1.0) == 0.5
    assert budget.progress(10, 9.0) == 0.9
    assert budget.progress(10, 11.0) == 1.0
    assert Budget(math.inf, 10.0).progress(10**9, 1.0) == 0.1


def test_plateau_waits_for_its_patience():
    plateau = Plateau(0.5, patience=1)
    factors = []
    for loss in (1.0, 0.9, 0.95, 0.92, 0.8, 0.8, 0.8):
        plateau.validated(loss)
        factors.append(plateau.factor(0.3))
    assert factors == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25]


def test_warmup_rises_linearly_to_one():
    assert [warmup(step, 4) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert warmup(0, 0) == 1.0


def test_budget_in_minutes_lands_at_zero(settings):
    limits = {"max_epochs": None, "max_minutes": 0.05, "batch_size": 3, "learning_rate": 0.01}
    rates = [row["lr"] for row in train(settings(training=limits), console=Console(quiet=True)).rows]
    assert rates[0] > 0.0099
    assert rates[-1] < 1e-2 * rates[0]


def test_what_came_before_the_first_step_is_not_training(settings):
    """Reading the data took an hour: the budget of three seconds is still whole."""
    clock = Clock()
    clock.start(60.0)
    limits = {"max_epochs": None, "max_minutes": 0.05, "batch_size": 3, "learning_rate": 0.01}
    rates = [row["lr"] for row in train(settings(training=limits), console=Console(quiet=True), clock=clock).rows]
    assert rates[0] > 0.0099
    assert clock.minutes < 30


def test_budget_in_epochs_lands_at_zero(settings):
    limits = {"max_epochs": 50, "max_minutes": 100, "batch_size": 3, "learning_rate": 0.01}
    rows = train(settings(training=limits), console=Console(quiet=True)).rows
    assert len(rows) == 50
    steps = np.array([row["step"] for row in rows])
    expected = 0.01 * 0.5 * (1 + np.cos(np.pi * (steps - 1) / steps[-1]))
    np.testing.assert_allclose([row["lr"] for row in rows], expected, rtol=1e-8)


def test_reading_the_frames_for_their_digest_is_not_training(settings, monkeypatch):
    """It takes minutes for a large set, and once left none of the budget to train in."""
    hours = [0.0]

    def slowly(frames):
        hours[0] += 1.0
        return data_digest(frames)

    monkeypatch.setattr("mlip.training.run.data_digest", slowly)
    clock = Clock(lambda: 3600 * hours[0])
    limits = {"max_minutes": 30, "max_epochs": 1}
    assert train(settings(training=limits), console=Console(quiet=True), clock=clock).rows
    assert hours[0] >= 1.0
    assert clock.minutes < 30
