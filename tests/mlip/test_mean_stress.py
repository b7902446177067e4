"""The mean stress of labels that a crystal's group forbids: a test at its level, in the right irrep."""

from __future__ import annotations

import numpy as np
import pytest

from mlip.symmetry import point_group
from mlip.symmetry.evidence import either
from mlip.symmetry.finite_harmonics import finite_irreps, subgroup_average
from mlip.symmetry.mean_stress import MeanStressTest

CUBE = point_group("Oh")
ROWS = {irrep.name: irrep.projector[0] for irrep in finite_irreps(CUBE)}
EVERYWHERE = range(len(CUBE))


def symmetric(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    shake = rng.normal(size=(*shape, 3, 3))
    return shake + np.swapaxes(shake, -1, -2)


def along(direction: list[int]) -> np.ndarray:
    axis = np.array(direction) / np.linalg.norm(direction)
    return np.outer(axis, axis) - np.eye(3) / 3


def of(stresses: np.ndarray, weights: np.ndarray | None = None) -> MeanStressTest:
    flat = stresses.reshape(-1, 9)
    return MeanStressTest.of(flat, CUBE, np.ones(len(flat)) if weights is None else weights)


def draws(number: int, size: int, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, size, size=(number, 25))


def test_only_even_parts_of_a_symmetric_tensor_are_seen():
    test = of(symmetric((3,), np.random.default_rng(0)))
    assert {name for name, row in ROWS.items() if test.sees(row)} == {"A1g", "Eg", "T2g"}


@pytest.mark.parametrize(("direction", "named"), [([0, 0, 1], "Eg"), ([1, 1, 1], "T2g")])
def test_a_mean_along_an_axis_is_in_its_irrep(direction, named):
    rng = np.random.default_rng(1)
    test = of(symmetric((25,), rng) + 6.0 * along(direction))
    found = {name: test.p(ROWS[name], EVERYWHERE, draws(999, 48, rng)) for name in ("Eg", "T2g")}
    assert found.pop(named) == pytest.approx(0.001)
    assert min(found.values()) > 0.02


def test_a_subgroup_that_keeps_the_axis_is_not_spoken_against():
    rng = np.random.default_rng(2)
    test = of(symmetric((25,), rng) + 6.0 * along([0, 0, 1]))
    ps = {}
    for subgroup in CUBE.subgroups:
        if len(subgroup) == 16:
            kept = CUBE.elements[sorted(subgroup)]
            axis = next(k for k in range(3) if all(abs(abs(g[k, k]) - 1) < 1e-9 for g in kept))
            outside = (np.eye(48) - subgroup_average(CUBE, subgroup))[0]
            ps[axis] = test.p(outside, sorted(subgroup), draws(999, 16, rng))
    assert ps[2] > 0.05
    assert ps[0] == ps[1] == pytest.approx(0.001)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_test_rejects_at_its_level(weighted):
    """600 sets of one skewed distribution, each member turned by an operation at random: 5 ± 2 %."""
    rng = np.random.default_rng(3)
    rejected = 0
    for _ in range(600):
        raw = rng.exponential(size=(25, 1, 1)) * (symmetric((25,), rng) + 3 * along([1, 2, 3]))
        turns = CUBE.elements[rng.integers(0, 48, 25)]
        stresses = turns @ raw @ np.swapaxes(turns, 1, 2)
        sizes = np.linalg.norm(raw, axis=(1, 2))
        test = of(stresses, 1 / (1 + sizes) if weighted else None)
        rejected += test.p(ROWS["Eg"] + ROWS["T2g"], EVERYWHERE, draws(199, 48, rng)) <= 0.05
    assert 0.03 <= rejected / 600 <= 0.07


def test_no_stress_is_no_evidence():
    assert of(np.zeros((25, 3, 3))).p(ROWS["Eg"], EVERYWHERE, draws(99, 48, np.random.default_rng(4))) == 1.0


def test_pressure_is_no_evidence():
    rng = np.random.default_rng(5)
    pressures = rng.normal(size=(25, 1, 1)) * np.eye(3)
    assert of(pressures).p(ROWS["Eg"] + ROWS["T2g"], EVERYWHERE, draws(99, 48, rng)) == 1.0


def test_either_is_bonferroni():
    assert either(0.01, 0.4) == pytest.approx(0.02)
    assert either(0.7, 0.9) == 1.0


def test_a_frame_that_is_not_trusted_does_not_hide_the_mean():
    """One residual a hundred times the others: with its weight the mean speaks, without it nothing does."""
    rng = np.random.default_rng(6)
    stresses = symmetric((25,), rng) + 6.0 * along([0, 0, 1])
    stresses[0] = 300.0 * along([1, 0, 0])
    trusted = np.ones(25)
    trusted[0] = 0.01
    chosen = draws(999, 48, rng)
    assert of(stresses, trusted).p(ROWS["Eg"], EVERYWHERE, chosen) == pytest.approx(0.001)
    assert of(stresses).p(ROWS["Eg"], EVERYWHERE, chosen) > 0.05
