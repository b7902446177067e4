"""What is written comes back."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from mlip.datasets import CachedFrames, read_frames, write_cache, write_frames
from mlip.errors import InputError


@pytest.fixture
def varied(copper_frames, molecule_frames):
    """Frames of different sizes with different labels missing."""
    hessian = np.arange(144.0).reshape(12, 12)
    extra = {"born_charges": np.arange(72.0).reshape(8, 3, 3), "polarization": np.array([1.0, 2.0, 3.0])}
    return [
        replace(copper_frames[0], info=extra, config_type="bulk", weight=2.0),
        replace(molecule_frames[0], hessian=hessian + hessian.T),
        replace(copper_frames[1], energy=None, stress=None),
        replace(molecule_frames[1], forces=None, energy=-30123.456789012345),
    ]


def _assert_same(a, b, digits=None):
    assert a.energy == b.energy
    assert a.labels == b.labels
    assert (a.atoms.numbers == b.atoms.numbers).all()
    assert (a.atoms.pbc == b.atoms.pbc).all()
    assert (a.weight, a.config_type) == (b.weight, b.config_type)
    tolerance = 0 if digits is None else 0.6 * 10**-digits
    for name in ("forces", "stress", "hessian"):
        one, two = getattr(a, name), getattr(b, name)
        assert one is two is None or np.abs(one - two).max() <= tolerance
    assert np.abs(a.atoms.positions - b.atoms.positions).max() <= tolerance
    for name in a.info:
        assert np.abs(a.info[name] - b.info[name]).max() <= tolerance


def test_the_cache_is_exact(varied, tmp_path):
    varied[0].atoms.info["frame"] = np.arange(9.0).reshape(3, 3)
    assert write_cache(iter(varied), tmp_path / "a.h5") == 4
    cached = CachedFrames(tmp_path / "a.h5")
    assert len(cached) == 4
    for a, b in zip(varied, cached, strict=True):
        _assert_same(a, b)
        assert (a.file, a.index) == (b.file, b.index)
    assert cached[0].atoms.info["frame"].shape == (3, 3)
    assert cached.atom_counts.tolist() == [8, 4, 8, 4]
    assert [frame.energy for frame in cached[1:3]] == [varied[1].energy, None]
    assert cached[-1].energy == varied[-1].energy


def test_every_block_of_a_cache_is_its_frames(varied, tmp_path):
    """Neighbours are read together: each keeps its own atoms, labels and Hessian wherever the block begins."""
    other = np.random.default_rng(0).normal(size=(24, 24))
    frames = [
        varied[1],
        replace(varied[0], hessian=other + other.T),
        varied[2],
        replace(varied[1], hessian=-varied[1].hessian),
    ]
    write_cache(frames, tmp_path / "a.h5")
    cached = CachedFrames(tmp_path / "a.h5")
    for start in range(4):
        for stop in range(start + 1, 5):
            for a, b in zip(frames[start:stop], cached[start:stop], strict=True):
                _assert_same(a, b)


def test_the_cache_can_be_pickled_and_read_through_the_usual_door(varied, tmp_path):
    write_cache(varied, tmp_path / "a.h5")
    cached = CachedFrames(tmp_path / "a.h5")
    assert pickle.loads(pickle.dumps(cached))[3].energy == varied[3].energy
    frames = read_frames(tmp_path / "a.h5", index="1:3", weight=0.5, require=["forces"])
    assert [frame.weight for frame in frames] == [0.5, 0.5]
    there = {name for frame in varied[1:3] for name in frame.labels}
    assert frames.source.keys == {name: name for name in there}
    with pytest.raises(InputError, match="in eV and Å already"):
        read_frames(tmp_path / "a.h5", units={"energy": "kcal/mol"})


def test_text_keeps_energies_exactly_and_the_rest_to_eight_decimals(varied, tmp_path):
    write_frames(varied, tmp_path / "a.extxyz")
    for a, b in zip(varied, read_frames(tmp_path / "a.extxyz"), strict=True):
        _assert_same(a, b, digits=8)


def test_nothing_is_overwritten_unless_asked(varied, tmp_path):
    write_frames(varied, tmp_path / "a.xyz")
    with pytest.raises(InputError, match="--force"):
        write_frames(varied, tmp_path / "a.xyz")
    assert write_frames(varied[:1], tmp_path / "a.xyz", force=True) == 1


def test_a_failing_write_leaves_the_old_file_whole(varied, tmp_path):
    write_frames(varied, tmp_path / "a.h5")

    def failing():
        yield varied[0]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_frames(failing(), tmp_path / "a.h5", force=True)
    assert len(CachedFrames(tmp_path / "a.h5")) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_every_real_label_survives_the_cache(data_file, tmp_path):
    frames = read_frames(data_file("batio3_field/BaTiO3_59.xyz"), index=":3")
    write_cache(frames, tmp_path / "a.h5")
    for a, b in zip(frames, CachedFrames(tmp_path / "a.h5"), strict=True):
        _assert_same(a, b)
