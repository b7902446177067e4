"""Denoising as an auxiliary task: what is corrupted, what is asked of the network, and that no trace is left."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.io import read, write
from rich.console import Console

from mlip import InputError, MLIPCalculator, Potential
from mlip.datasets import read_frames
from mlip.derivatives import evaluate
from mlip.testing import forces_of, random_rotation, transformed
from mlip.training import train
from mlip.training.corruption import LADDER, Corruption
from mlip.training.data import FrameSet, collate
from mlip.training.denoising import DenoisingTask, ForceEmbedding
from mlip.training.loss import Loss
from mlip.training.settings import LossTermSettings
from mlip.training.step import predict
from mlip.training.tables import loss_remark
from mlip.training.task_settings import DensSettings

QUIET = Console(quiet=True)
ARCHITECTURES = ["nequip", "equiformer"]
SMALL = {"cutoff": 4.0, "num_layers": 3, "num_channels": 6, "lmax": 2, "num_radial": 4, "radial_width": 8}
ALWAYS = {"probability": 1.0, "ratio": 0.5}


@pytest.fixture
def frames(copper):
    found = read_frames(copper)
    return FrameSet("train", found, cutoff=4.0, species=["Cu"], dtype=torch.float64)


def model_of(architecture, **settings):
    return Potential.from_config({"architecture": architecture, **SMALL, **settings}, ["Cu"]).double()


def test_noise_has_the_size_and_frequency_asked_for(frames):
    settings = DensSettings(sigma=0.07, probability=0.5, ratio=0.5)
    corruption = Corruption(frames, settings, seed=1)
    samples = [corruption.sample(index, step) for step in range(60) for index in range(len(frames))]
    noisy = [s for s in samples if s.labels["noise"]]
    kept = 1 - 0.5**4 - 0.5**4  # with four atoms, none moved or all moved leaves a frame as it is
    assert len(noisy) / len(samples) == pytest.approx(0.5 * kept, abs=0.06)
    noise = torch.cat([s.noise[s.corrupted] for s in noisy])
    assert float(noise.square().mean()) == pytest.approx(1, abs=0.1)
    assert abs(float(noise.mean())) < 0.06
    for s in noisy:
        clean = frames.samples[s.frames[0]]
        shift = s.graph.positions - clean.graph.positions
        assert (shift - 0.07 * s.noise).abs().max() < 1e-12
        assert not shift[~s.corrupted].abs().any()


def test_a_corrupted_frame_keeps_its_energy_and_loses_the_labels_that_moved(frames):
    sample = Corruption(frames, DensSettings(**ALWAYS), seed=1).sample(3, 5)
    clean = frames.samples[3]
    moved = int(sample.corrupted.sum())
    assert 0 < moved < 4
    assert torch.equal(sample.energy, clean.energy)
    assert torch.equal(sample.has_energy, clean.has_energy)
    assert torch.equal(sample.has_forces, ~sample.corrupted)
    assert not sample.has_stress.any()
    counted = {name: number for name, number in sample.labels.items() if number}
    assert counted == {"energy": 1, "forces": 4 - moved, "noise": moved}
    assert torch.equal(sample.forces, clean.forces)  # what the network is told


def test_its_neighbours_are_those_of_the_moved_atoms(frames):
    """An edge that left the cutoff would be worth more than none: the envelope does not end there."""
    sample = Corruption(frames, DensSettings(sigma=0.5, **ALWAYS), seed=1).sample(0, 0)
    lengths = sample.graph.edge_vectors().norm(dim=1)
    assert float(lengths.max()) < 4.0
    assert sample.graph.num_edges != frames.samples[0].graph.num_edges


def test_what_would_teach_nothing_stays_as_it_is(frames, copper, tmp_path):
    many = Corruption(frames, DensSettings(probability=1.0, ratio=0.99), seed=1)
    shares = [float(many.sample(i, step).corrupted.double().mean()) for i in range(12) for step in range(8)]
    assert max(shares) <= 0.75
    strong = Corruption(frames, DensSettings(max_force=1e-3, **ALWAYS), seed=1)
    assert all(strong.sample(i, 0) is frames.samples[i] for i in range(12))

    partly = read(copper, ":")
    for atoms in partly[1:]:
        atoms.calc.results.pop("forces")
    write(tmp_path / "partly.xyz", partly)
    found = FrameSet("train", read_frames(tmp_path / "partly.xyz"), cutoff=4.0, species=["Cu"], dtype=torch.float64)
    corruption = Corruption(found, DensSettings(**ALWAYS), seed=1)
    assert all(corruption.sample(i, step) is found.samples[i] for i in range(1, 12) for step in range(3))
    with pytest.raises(InputError, match="needs the forces of a frame, and no frame has them"):
        Corruption(
            FrameSet("train", found.frames[1:], cutoff=4.0, species=["Cu"], dtype=torch.float64),
            DensSettings(),
            seed=1,
        )


def test_noise_follows_from_seed_step_and_frame_alone(frames):
    settings = DensSettings(**ALWAYS)
    first, second = (Corruption(frames, settings, seed=1) for _ in range(2))
    second.batch([5, 6], 0)  # what was drawn before does not matter
    expected = [first.sample(index, 7).noise for index in (3, 2)]
    assert torch.equal(second.batch([3, 2], 7).noise, torch.cat(expected))
    other = [Corruption(frames, settings, seed=2).sample(2, 7), first.sample(2, 8), first.sample(3, 7)]
    assert not any(torch.equal(first.sample(2, 7).noise, sample.noise) for sample in other)


def test_the_ladder_draws_sigma_for_each_frame(frames):
    corruption = Corruption(frames, DensSettings(ladder=True, **ALWAYS), seed=1)
    found = []
    for step in range(20):
        sample = corruption.sample(0, step)
        if sample.labels["noise"]:
            shift = (sample.graph.positions - frames.samples[0].graph.positions)[sample.corrupted]
            found.append(float(shift.norm() / sample.noise[sample.corrupted].norm()))
    assert len({round(sigma, 6) for sigma in found}) > 8
    assert all(np.abs(LADDER - sigma).min() < 1e-9 for sigma in found)
    assert (LADDER[0], LADDER[-1], len(LADDER)) == (0.01, 0.5, 50)


def test_the_force_embedding_is_natural_and_vanishes_with_the_force():
    embedding = ForceEmbedding(2, 3, 4, torch.Generator().manual_seed(1)).double().requires_grad_(False)
    forces = torch.randn(5, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    forces[2] = 0
    features, inverted, double = (embedding(factor * forces) for factor in (1, -1, 2))
    assert not features.scalars[2].any()
    assert not features.tensors[2].any()
    signs = torch.tensor([-1.0] * 3 + [1.0] * 5, dtype=torch.float64).view(1, 8, 1)
    assert torch.allclose(inverted.tensors, signs * features.tensors)
    assert torch.allclose(double.tensors, 2 * features.tensors)
    sizes = forces.norm(dim=1, keepdim=True) / math.sqrt(3)
    expected = (math.sqrt(3) * forces / math.sqrt(3)).unsqueeze(2) * embedding.tensors[0]
    assert torch.allclose(features.tensors[:, :3], expected)
    assert torch.allclose(features.scalars, sizes * embedding.scalars)


def corrupted_batch(frames):
    corruption = Corruption(frames, DensSettings(**ALWAYS), seed=1)
    return collate([frames.samples[0], corruption.sample(1, 0), corruption.sample(2, 1)])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_told_of_a_structure_reaches_that_structure_alone(frames, architecture):
    model, batch = model_of(architecture), corrupted_batch(frames)
    task = DenoisingTask(model, seed=3).double()
    told, plain = task.predict(model, batch, stress=False), predict(model, batch)
    assert torch.allclose(told.energy[:1], plain.energy[:1], rtol=1e-12)
    assert torch.allclose(told.forces[:4], plain.forces[:4], atol=1e-12)
    assert (told.energy - plain.energy)[1:].abs().min() > 1e-6
    assert told.noise.shape == (12, 3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("parity", [False, True])
def test_the_noise_turns_with_structure_and_forces(frames, architecture, parity):
    model = model_of(architecture, parity=parity)
    task = DenoisingTask(model, seed=3).double()
    sample = Corruption(frames, DensSettings(**ALWAYS), seed=1).sample(1, 0)
    noise = task.predict(model, sample, stress=False).noise
    atoms = frames.frames[1].atoms.copy()
    atoms.positions[:] = sample.graph.positions.numpy()
    for operation in (random_rotation(2), -np.eye(3), -random_rotation(3)):
        matrix = torch.from_numpy(operation)
        graph = model.graph(transformed(atoms, operation))
        turned = task.predict(model, replace(sample, graph=graph, forces=sample.forces @ matrix.T), stress=False)
        assert (turned.noise - noise @ matrix.T).abs().max() < 1e-10 * noise.abs().max()


@pytest.mark.parametrize("forces", ["gradient", "direct"])
def test_the_loss_takes_noise_where_atoms_moved_and_forces_elsewhere(frames, forces):
    model, batch = model_of("equiformer", forces=forces), corrupted_batch(frames)
    task = DenoisingTask(model, seed=3).double()
    dens = DensSettings(weight=3.0)
    loss = Loss.from_settings([LossTermSettings(target="forces", weight=2.0)], dens)
    prediction = task.predict(model, batch, stress=False)
    moved = batch.corrupted
    counts = loss.counts(batch)
    assert counts == [3 * int((~moved).sum()), 3 * int(moved.sum())]
    value = loss.total(loss.sums(prediction, batch), counts, progress=0.25)
    by_hand = 2.0 * (prediction.forces - batch.forces)[~moved].square().mean()
    by_hand = by_hand + 3.0 * 0.75 * (prediction.noise - batch.noise)[moved].square().mean()
    assert float(value.detach()) == pytest.approx(float(by_hand.detach()), rel=1e-12)
    assert loss.targets == {"forces"}
    value.backward()
    assert all(p.grad is not None for p in task.parameters())


def test_the_weight_falls_where_it_is_told_to():
    decaying, constant = (Loss.from_settings([], DensSettings(decay=decay)).terms[0] for decay in (True, False))
    assert [decaying.weight(p) for p in (0.0, 0.5, 1.0, 1.1)] == [5.0, 2.5, 0.0, 0.0]
    assert [constant.weight(p) for p in (0.0, 1.0)] == [5.0, 5.0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_trained_with_it_is_a_model_like_any_other(settings, frames, copper, tmp_path, architecture):
    """The same tensors in the file, and the same bits with the task's modules at hand and without."""
    options = {"model": {"architecture": architecture}, "training": {"max_epochs": 2}, "dens": {"probability": 0.9}}
    with_task = train(settings(**options), console=QUIET)
    options |= {"dens": None, "run": {"name": "plain"}}
    without = train(settings(**options), console=QUIET)
    names = [list(result.model.state_dict()) for result in (with_task, without)]
    assert names[0] == names[1]
    model = Potential.load(with_task.best_path)
    assert any((a - b).abs().max() > 0 for a, b in zip(model.parameters(), without.model.parameters(), strict=True))
    forces = forces_of(MLIPCalculator(with_task.best_path), read(copper, 0))
    sample = frames.samples[0]
    assert np.array_equal(evaluate(model, sample.graph).forces.numpy(), forces)
    plain = predict(model, sample, {"stress"}, create_graph=True)
    task = DenoisingTask(model, seed=1).double()
    untouched = task.predict(model, sample, stress=True)  # no atom moved: forces of zero, embedded as zero
    for name in ("energy", "forces", "stress"):
        assert torch.equal(getattr(untouched, name), getattr(plain, name)), name


@pytest.mark.slow
def test_noise_can_be_learnt(settings):
    """On crystals near rest an atom that was moved stands out: the head learns more than to say nothing."""
    dens = {"probability": 1.0, "ratio": 0.3, "sigma": 0.3, "decay": False, "weight": 100.0}
    options = {"training": {"max_epochs": 60, "learning_rate": 0.02}, "model": {"num_channels": 16}, "dens": dens}
    run = settings(**options)
    result = train(run, console=QUIET)
    losses = [row["train_loss"] for row in result.rows]
    assert np.mean(losses[-5:]) < 0.6 * 100


@pytest.mark.parametrize(("model", "message"), [
    ({"lmax": 0}, "dens needs vectors in the network"),
    ({"num_layers": 1}, "dens needs vectors in the network"),
])  # fmt: skip
def test_networks_without_vectors_are_refused(settings, model, message):
    with pytest.raises(InputError, match=message):
        settings(model=model, dens={})


def test_it_takes_two_lines(settings):
    assert settings(dens={"sigma": 0.05}).dens == DensSettings()
    with pytest.raises(InputError, match="'sigma' and 'ladder' exclude one another"):
        settings(dens={"sigma": 0.1, "ladder": True})
    with pytest.raises(InputError, match="did you mean 'sigma'"):
        settings(dens={"sigm": 0.1})


@pytest.mark.parametrize(("norm", "said"), [("mse", True), ("l2mae", False)])
def test_squared_force_errors_are_advised_against(settings, norm, said):
    """They taught the energies of ethanol an offset of 13 meV/atom, without a word."""
    chosen = settings(loss=[{"target": "forces", "norm": norm}], dens={"sigma": 0.05})
    remark = loss_remark(Loss.from_settings(chosen.loss, chosen.dens))
    assert (remark is not None and "l2mae" in remark) is said
    assert loss_remark(Loss.from_settings(chosen.loss)) is None
