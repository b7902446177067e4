"""Model files made to do harm are refused before they can."""

from __future__ import annotations

import json
import struct
import time

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mlip import InputError, Potential
from mlip.training.forecast import peak_memory

MODEL = {"cutoff": 3.0, "num_layers": 1, "num_channels": 2, "lmax": 1, "num_radial": 2, "radial_width": 2}
DESCRIPTION = {"format": "curie-mlip", "schema": "1", "header": "{}"}


@pytest.fixture
def path(good, tmp_path):
    """A good model file."""
    file = tmp_path / "model.mlip"
    file.write_bytes(good["model.mlip"])
    return file


def raw(path, header: bytes, data: bytes = b"", length: int | None = None) -> None:
    """A safetensors file byte by byte."""
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)


def tensors(**entries) -> bytes:
    return json.dumps({"__metadata__": DESCRIPTION, **entries}).encode()


def one(offsets, shape=(1,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


BYTES = {
    "a header longer than the file": lambda p: raw(p, b"{}", length=2**40),
    "a header of negative length": lambda p: raw(p, b"{}", length=2**64 - 8),
    "negative offsets": lambda p: raw(p, tensors(a=one([-4, 0]))),
    "offsets outside": lambda p: raw(p, tensors(a=one([0, 4 * 2**40], [2**40])), b"\0" * 4),
    "offsets that overlap": lambda p: raw(p, tensors(a=one([0, 4]), b=one([0, 4])), b"\0" * 4),
    "offsets the wrong way round": lambda p: raw(p, tensors(a=one([4, 0])), b"\0" * 4),
    "a shape that overflows": lambda p: raw(p, tensors(a=one([0, 4], [2**33, 2**33])), b"\0" * 4),
    "a hole between tensors": lambda p: raw(p, tensors(a=one([0, 4]), b=one([8, 12])), b"\0" * 12),
    "an unknown type": lambda p: raw(p, tensors(a=one([0, 4], dtype="O8")), b"\0" * 4),
    "the same name twice": lambda p: raw(p, tensors(a=one([0, 4]))[:-1] + b', "a": 3}', b"\0" * 4),
    "nested without end": lambda p: raw(p, b"[" * 100_000),
    "a header nested without end": lambda p: raw(
        p, json.dumps({"__metadata__": {**DESCRIPTION, "header": "[" * 100_000}}).encode()
    ),
}


@pytest.mark.parametrize("make", BYTES.values(), ids=BYTES)
def test_crafted_bytes_are_one_line(path, make):
    make(path)
    with pytest.raises(InputError) as caught:
        Potential.load(path)
    assert "\n" not in str(caught.value)


def rewrite(path, change=None, **header) -> None:
    """The same file with other weights or another description."""
    weights = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    old = json.loads(metadata["header"])
    new = {name: {**old[name], **v} if isinstance(v, dict) else v for name, v in header.items()}
    if change is not None:
        name = next(n for n in weights if n.startswith("network."))
        weights[name] = change(weights[name])
    save_file(weights, path, {**metadata, "header": json.dumps({**old, **new})})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.float64], ids=str)
def test_weights_of_another_type_are_not_converted_in_silence(path, dtype):
    rewrite(path, lambda tensor: tensor.to(dtype))
    with pytest.raises(InputError, match="where float32 is due"):
        Potential.load(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(path, value):
    rewrite(path, lambda tensor: torch.full_like(tensor, value))
    with pytest.raises(InputError, match="not finite"):
        Potential.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"avg_num_neighbors": 0},
        {"avg_num_neighbors": -3.0},
        {"energy_scale": float("nan")},
        {"energy_scale": 0.0},
        {"energy_shift": float("inf")},
        {"e0": {"O": float("-inf")}},
        {"message_scale": 10**400},
        {"min_distance": {"O-O": -1.0}},
        {"min_distance": {"O-O": "near"}},
        {"min_distance": [1.0]},
    ],
    ids=str,
)
def test_impossible_sizes_are_refused(path, change):
    rewrite(path, normalization=change)
    with pytest.raises(InputError, match=r"possible value|incomplete header"):
        Potential.load(path)


def test_a_giant_is_refused_before_it_is_built(path):
    """Settings that would need some hundred GB, on a file of a few kB."""
    rewrite(path, settings={"num_channels": [4096, 4096], "num_layers": 12, "lmax": 6})
    before, start = peak_memory(), time.process_time()
    with pytest.raises(InputError, match="far too few"):
        Potential.load(path)
    assert peak_memory() - before < 50 * 2**20
    assert time.process_time() - start < 2.0


@pytest.mark.parametrize("channels", [1, 2, 33, [1, 40], [40, 1]])
@pytest.mark.parametrize("extra", [{}, {"mixing": "depthwise"}, {"architecture": "equiformer"}], ids=str)
def test_no_honest_model_is_taken_for_a_giant(tmp_path, channels, extra):
    model = Potential.from_config({**MODEL, "num_layers": 3, **extra, "num_channels": channels}, ["H"])
    model.save(tmp_path / "model.mlip")
    assert Potential.load(tmp_path / "model.mlip").settings == model.settings


def test_a_library_that_quotes_a_whole_file_is_cut_short(tmp_path):
    """Found by fuzzing: a header with one byte changed was quoted from end to end."""
    header = json.dumps({"x" * 5000: {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}).encode()
    (tmp_path / "model.mlip").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(InputError) as caught:
        Potential.load(tmp_path / "model.mlip")
    assert "not a readable model file" in str(caught.value)
    assert len(str(caught.value)) < 800
