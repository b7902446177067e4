"""The loss is what its formula says; missing labels do not count; nothing is re-weighted."""

import numpy as np
import pytest
import torch
from ase import Atoms

from mlip.datasets.frame import LabelledFrame
from mlip.graph import build_graph
from mlip.training.data import collate, sample
from mlip.training.loss import Loss, Prediction
from mlip.training.settings import LossTermSettings

RNG = np.random.default_rng(3)


def _frame(count, *, energy=1.0, forces=True, stress=False, weight=1.0):
    atoms = Atoms("Cu" * count, positions=RNG.uniform(0, 9, (count, 3)), cell=[9.0] * 3, pbc=True)
    return LabelledFrame(
        atoms,
        energy=energy,
        forces=RNG.normal(size=(count, 3)) if forces is True else forces,
        stress=RNG.normal(size=(3, 3)) if stress is True else None,
        weight=weight,
    )


def _batch(*frames):
    return collate([sample(f, build_graph(f.atoms, 2.0, ["Cu"]), k) for k, f in enumerate(frames)])


def _prediction(batch, seed=0):
    rng = torch.Generator().manual_seed(seed)
    n, b = batch.graph.num_atoms, batch.graph.num_structures

    def draw(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    return Prediction(draw(b), draw(n, 3), draw(b, 3, 3))


def _value(batch, prediction, **term):
    loss = Loss.from_settings([LossTermSettings(**term)])
    return float(loss.total(loss.sums(prediction, batch), loss.counts(batch)))


def test_norms_are_their_formulas():
    frames = [_frame(3), _frame(5)]
    batch = _batch(*frames)
    p = _prediction(batch)
    forces = p.forces.numpy() - np.concatenate([f.forces for f in frames])
    energies = (p.energy.numpy() - 1.0) / [3, 5]
    lengths = np.linalg.norm(forces, axis=1)
    small = np.abs(forces) < 0.5
    huber = np.where(small, 0.5 * forces**2, 0.5 * (np.abs(forces) - 0.25))
    assert _value(batch, p, target="energy", weight=3.0) == pytest.approx(3 * np.mean(energies**2), rel=1e-14)
    assert _value(batch, p, target="forces") == pytest.approx(np.mean(forces**2), rel=1e-14)
    assert _value(batch, p, target="forces", norm="mae") == pytest.approx(np.abs(forces).mean(), rel=1e-14)
    assert _value(batch, p, target="forces", norm="l2mae") == pytest.approx(lengths.mean(), rel=1e-14)
    assert _value(batch, p, target="forces", norm="huber", delta=0.5) == pytest.approx(huber.mean(), rel=1e-14)


def test_missing_labels_are_masked():
    some = RNG.normal(size=(4, 3))
    some[2, 1] = np.nan
    whole = _frame(3, stress=True)
    partial = _frame(4, energy=float("nan"), forces=some)
    none = _frame(2, energy=None, forces=None)
    batch = _batch(whole, partial, none)
    p = _prediction(batch)
    forces = p.forces.numpy()[[0, 1, 2, 3, 4, 6]] - np.concatenate([whole.forces, some[[0, 1, 3]]])
    assert {k: n for k, n in batch.labels.items() if n} == {"energy": 1, "forces": 6, "stress": 1}
    energy = (float(p.energy[0]) - 1.0) / 3
    assert _value(batch, p, target="energy") == pytest.approx(energy**2, rel=1e-14)
    assert _value(batch, p, target="forces") == pytest.approx(np.mean(forces**2), rel=1e-14)
    stress = p.stress.numpy()[0] - whole.stress
    assert _value(batch, p, target="stress") == pytest.approx(np.mean(stress**2), rel=1e-14)


def test_a_batch_without_the_label_adds_nothing_and_has_finite_gradients():
    batch = _batch(_frame(2, energy=None, forces=None))
    p = _prediction(batch)
    p.forces.requires_grad_(True)
    loss = Loss.from_settings([LossTermSettings(target="forces", norm="l2mae")])
    value = loss.total(loss.sums(p, batch), loss.counts(batch))
    value.backward()
    assert value.item() == 0.0
    assert torch.all(p.forces.grad == 0)


def test_weights_of_frames_multiply_and_are_not_divided_out():
    light, heavy = _frame(3), _frame(3, weight=4.0)
    batch = _batch(light, heavy)
    p = _prediction(batch)
    square = (p.forces.numpy() - np.concatenate([light.forces, heavy.forces])) ** 2
    expected = (square[:3].sum() + 4.0 * square[3:].sum()) / 18
    assert _value(batch, p, target="forces") == pytest.approx(expected, rel=1e-14)


def test_a_lone_atom_counts_with_its_whole_energy():
    batch = _batch(_frame(1, forces=None), _frame(10, forces=None))
    p = _prediction(batch)
    error = p.energy.numpy() - 1.0
    expected = (error[0] ** 2 + (error[1] / 10) ** 2) / 2
    assert _value(batch, p, target="energy") == pytest.approx(expected, rel=1e-14)
    assert _value(batch, p, target="energy", per_atom=False) == pytest.approx(np.mean(error**2), rel=1e-14)


def test_large_total_energies_keep_their_digits():
    batch = _batch(_frame(3, energy=-30_000.000_001))
    p = Prediction(torch.tensor([-30_000.0], dtype=torch.float64), torch.zeros(3, 3), None)
    assert _value(batch, p, target="energy", norm="mae") == pytest.approx(1e-6 / 3, rel=1e-4)


def test_sums_and_counts_add_up_over_parts():
    frames = [_frame(3), _frame(5, weight=2.0), _frame(2, energy=None)]
    batch, parts = _batch(*frames), [_batch(frames[0]), _batch(*frames[1:])]
    loss = Loss.from_settings([LossTermSettings(target="energy"), LossTermSettings(target="forces", weight=100.0)])
    p = _prediction(batch)
    cut = [Prediction(p.energy[:1], p.forces[:3], None), Prediction(p.energy[1:], p.forces[3:], None)]
    counts = np.sum([loss.counts(part) for part in parts], axis=0)
    together = sum(loss.total(loss.sums(q, part), counts) for q, part in zip(cut, parts, strict=True))
    assert float(together) == pytest.approx(float(loss.total(loss.sums(p, batch), loss.counts(batch))), rel=1e-14)
