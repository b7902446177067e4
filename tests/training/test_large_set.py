"""A set that lies in an HDF5 cache stays there: what a run keeps of a frame is a few hundred bytes."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from ase.build import bulk
from rich.console import Console

from mlip.datasets import LabelledFrame, read_frames, write_cache, write_frames
from mlip.training.card import data_digest
from mlip.training.data import FrameSet
from mlip.training.load import validate
from mlip.training.loss import Loss
from mlip.training.normalization import compute_normalization
from mlip.training.references import run_references
from mlip.training.sets import load_data
from mlip.training.tables import loss_table, print_data

BOUND = 1200  # bytes a frame, of any number of atoms; one of sixteen takes more than twice as much in memory


def frames(count, atoms=16, seed=0):
    rng = np.random.default_rng(seed)
    perfect = bulk("Cu", cubic=True) * (1, 1, atoms // 4)
    for index in range(count):
        moved = perfect.copy()
        moved.positions += rng.normal(0.0, 0.05, moved.positions.shape)
        yield LabelledFrame(moved, energy=rng.normal(), forces=rng.normal(size=(len(moved), 3)), index=index)


def settings(path, **data):
    return validate(
        {
            "model": {"preset": "fast", "cutoff": 2.8},
            "data": {"train": str(path), "validation": 0.05, **data},
            "loss": [{"target": "energy"}, {"target": "forces"}],
        }
    )


def everything(path):
    """All that a run does with its frames before the first step."""
    chosen = settings(path)
    loss = Loss.from_settings(chosen.loss, None)
    data = load_data(chosen.data, loss, seed=0)
    references = run_references(chosen.data.e0, data, None)
    print_data(data, 2.8, Console(quiet=True))
    loss_table(loss, data.train, 10)
    options = {"cutoff": 2.8, "species": data.species, "dtype": torch.float32}
    training = FrameSet("train", data.train, memory=0.0, **options)
    normalization = compute_normalization(training, references.values)
    return data, normalization, data_digest(data.train), training.coverage.to_dict()


def peak(path):
    tracemalloc.start()
    everything(path)
    _, highest = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return highest


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    for count in (100, 200, 500):
        write_cache(frames(count), folder / f"{count}.h5")
    return folder


def test_memory_grows_by_little_with_the_number_of_frames(caches, monkeypatch):
    # What is in memory at a time, and what is compared pair by pair, are constants: made small to see the slope.
    monkeypatch.setattr("mlip.datasets.inspection.MOST_EXAMINED", 20)
    for module in ("views", "neighbours"):
        monkeypatch.setattr(f"mlip.datasets.{module}._BLOCK", 16)
    everything(caches / "100.h5")  # what is imported and cached once
    growth = (peak(caches / "500.h5") - peak(caches / "200.h5")) / 300
    assert growth < BOUND


def test_the_bound_would_notice_frames_in_memory(caches):
    tracemalloc.start()
    held = read_frames(caches / "200.h5")
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert size / len(held) > 2 * BOUND


def test_a_cache_gives_what_a_list_gives(caches, tmp_path):
    """The same split, statistics, ranges and order from the file as from memory."""
    write_frames(read_frames(caches / "100.h5"), tmp_path / "100.extxyz")
    stored, listed = everything(caches / "100.h5"), everything(tmp_path / "100.extxyz")
    assert [f.index for f in stored[0].validation] == [f.index for f in listed[0].validation]
    assert len(stored[0].train) == len(listed[0].train) == 95
    for a, b in zip(stored[0].train, listed[0].train, strict=True):
        assert np.abs(a.atoms.positions - b.atoms.positions).max() < 1e-7
    assert stored[1].energy_shift == pytest.approx(listed[1].energy_shift, abs=1e-12)
    assert stored[1].energy_scale == pytest.approx(listed[1].energy_scale, rel=1e-6)
    assert stored[3]["neighbors"] == listed[3]["neighbors"]


def test_entries_change_what_the_cache_says(caches):
    entry = {"path": str(caches / "100.h5"), "index": "10:90:2", "weight": 3.0}
    chosen = settings("", train=entry, subset=0.5)
    data = load_data(chosen.data, Loss.from_settings(chosen.loss, None), seed=0)
    assert len(data.validation) + 2 * len(data.train) == pytest.approx(40, abs=1)
    assert {f.weight for f in data.train} == {3.0}
    places = [f.index for f in data.train]
    assert places == sorted(places)
    assert set(places) <= set(range(10, 90, 2))


def test_a_subset_differs_between_seeds_and_its_split_does_not(caches):
    chosen = settings(caches / "100.h5", subset=0.5, split_seed=0)
    loss = Loss.from_settings(chosen.loss, None)
    one, two = (load_data(chosen.data, loss, seed=seed) for seed in (1, 2))
    first, second = ({f.index for f in data.train} for data in (one, two))
    assert len(first) == len(second)
    assert 10 < len(first & second) < 38
    assert [f.index for f in one.validation] == [f.index for f in two.validation]
    assert not first & {f.index for f in one.validation}
