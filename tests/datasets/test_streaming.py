"""Conversion reads frame by frame: the same frames and remarks as from a list, and no more memory for more frames."""

from __future__ import annotations

import gc
import gzip
import tracemalloc

import numpy as np
import pytest
from ase.build import bulk
from typer.testing import CliRunner

from mlip.datasets import LabelledFrame, read_frames, write_frames
from mlip.datasets.cli import data
from mlip.datasets.entry import make_entry
from mlip.datasets.reading import stream_frames
from mlip.errors import InputError

HELD = 2000  # bytes of a frame of eight atoms with its labels, at least, when it is in memory
BOUND = 500  # bytes a frame


def frames(count, energies=True):
    rng, perfect = np.random.default_rng(0), bulk("Si", cubic=True)
    for index in range(count):
        moved = perfect.copy()
        moved.positions += rng.normal(0.0, 0.05, moved.positions.shape)
        energy = float(rng.normal()) if energies else 0.0
        yield LabelledFrame(moved, energy=energy, forces=rng.normal(size=(8, 3)), index=index)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streams")
    for count in (100, 200, 500):
        write_frames(frames(count), folder / f"{count}.extxyz")
    return folder


def convert(*arguments):
    result = CliRunner().invoke(data, ["convert", "--force", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def tidy():
    """ASE's calculators are cyclic garbage, that usually waits for long."""
    usual = gc.get_threshold()
    gc.set_threshold(200, 1, 1)
    yield
    gc.set_threshold(*usual)


def peak(source, target):
    gc.collect()
    tracemalloc.start()
    convert(source, target)
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return highest


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize("ending", ["h5", "extxyz"])
def test_memory_does_not_grow_with_the_frames(folder, tmp_path, ending, monkeypatch):
    monkeypatch.setattr("mlip.datasets.cache._CHUNK", 32)  # what is in memory at a time is a constant: made small
    monkeypatch.setattr("mlip.datasets.writing._BLOCK", 32)
    convert(folder / "200.extxyz", tmp_path / f"once.{ending}")  # what is imported and cached once
    few, many = (peak(folder / f"{count}.extxyz", tmp_path / f"{count}.{ending}") for count in (200, 500))
    assert (many - few) / 300 < BOUND


def test_the_bound_would_notice_frames_in_memory(folder):
    tracemalloc.start()
    held = read_frames(folder / "200.extxyz")
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert size / len(held) > HELD >= 4 * BOUND


@pytest.mark.parametrize("index", [None, "7", "-1", "5:60:3", "::-1", "60:5:-4"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_stream_gives_what_reading_gives(folder, tmp_path, index, packed):
    path = folder / "100.extxyz"
    if packed:
        path = tmp_path / "100.extxyz.gz"
        path.write_bytes(gzip.compress((folder / "100.extxyz").read_bytes()))
    entry = make_entry(path, index=index)
    stream, listed = stream_frames(entry), read_frames(entry)
    streamed = list(stream)
    assert [f.index for f in streamed] == [f.index for f in listed] == list(range(100))[slicer(index)]
    for a, b in zip(streamed, listed, strict=True):
        np.testing.assert_array_equal(a.atoms.positions, b.atoms.positions)
        np.testing.assert_array_equal(a.forces, b.forces)
        assert a.energy == b.energy
    assert stream.source.to_dict() == listed.source.to_dict()


def slicer(index):
    if index is None:
        return slice(None)
    parts = [int(part) if part else None for part in index.split(":")]
    return slice(*parts) if len(parts) > 1 else slice(parts[0], parts[0] + 1 or None)


def test_remarks_about_all_frames_come_after_the_last(tmp_path):
    write_frames(frames(20, energies=False), tmp_path / "zero.extxyz")
    assert "energy: exactly zero in all 20 frames, a placeholder?" in convert(
        tmp_path / "zero.extxyz", tmp_path / "zero.h5"
    )


def test_a_label_that_is_nowhere_leaves_no_file(folder, tmp_path):
    with pytest.raises(InputError, match="no frame has stress"):
        convert("--require", "stress", folder / "100.extxyz", tmp_path / "out.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_number_spoilt_on_the_way_leaves_the_old_file(folder, tmp_path):
    text = (folder / "100.extxyz").read_text().splitlines()
    text[10 * 57 + 4] = text[10 * 57 + 4].replace(".", "x", 1)
    (tmp_path / "spoilt.extxyz").write_text("\n".join(text) + "\n")
    (tmp_path / "out.h5").write_bytes(b"old")
    with pytest.raises(InputError, match="frame 57"):
        convert(tmp_path / "spoilt.extxyz", tmp_path / "out.h5")
    assert (tmp_path / "out.h5").read_bytes() == b"old"
