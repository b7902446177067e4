"""Two hundred malformed inputs are two hundred one-line errors, and no reader ends in a traceback."""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlip import Potential
from mlip.__main__ import main
from mlip.datasets import read_frames
from mlip.datasets.entry import make_entry, parse_index
from mlip.errors import InputError
from mlip.training.load import load_settings, validate

TOKENS = ["nan", "inf", "-1", "1e999", "0", "99999999999999999999", "é", "\x00", "'", '"', "[", "{", "true", "H", ":"]
SETTINGS = """seed: 1
run: {name: test}
model: {preset: small, cutoff: 5.0, num_channels: [8, 4], parity: true, zbl: false}
data:
  train: [{path: a.xyz, index: '0:10', keys: {energy: Energy}, units: {energy: eV}, weight: 1.0}]
  validation: 0.05
  test: b.xyz
  e0: {method: explicit, values: {Si: -1.0}}
loss:
  - {target: energy, weight: 1.0, norm: huber, delta: 0.1}
  - {target: forces, weight: 100.0}
training: {max_epochs: 5, max_minutes: 3.0, batch_size: 5, optimizer: adamw, ema: 0.99, clip: null, patience: 3}
hessian: {weight: 1.0, data: [{path: h.h5, target: dynamical_matrix, q_points: [[0, 0, 0]]}]}
"""
FAST = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
# file → how many malformed copies, and the command that meets it
COMMANDS = {
    "frames.xyz": (60, ["data", "inspect"]),
    "frames.h5": (30, ["data", "inspect"]),
    "water.npz": (40, ["data", "inspect"]),
    "settings.yaml": (40, ["train"]),
    "model.mlip": (30, ["info"]),
}


def spoil(data: bytes, rng: np.random.Generator) -> bytes:
    """One to three random faults."""
    for _ in range(int(rng.integers(1, 4))):
        data = FAULTS[int(rng.integers(len(FAULTS)))](data, rng) or b"\x00"
    return data


def _cut(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(len(data)))]


def _flip(data: bytes, rng: np.random.Generator) -> bytes:
    array = np.frombuffer(data, np.uint8).copy()
    array[rng.integers(len(array), size=int(rng.integers(1, 9)))] = rng.integers(256, dtype=np.uint8)
    return array.tobytes()


def _insert(data: bytes, rng: np.random.Generator) -> bytes:
    place = int(rng.integers(len(data)))
    return data[:place] + rng.bytes(int(rng.integers(1, 40))) + data[place:]


def _remove(data: bytes, rng: np.random.Generator) -> bytes:
    place = int(rng.integers(len(data)))
    return data[:place] + data[place + int(rng.integers(1, 60)) :]


def _swap_words(data: bytes, rng: np.random.Generator) -> bytes:
    """A number or word becomes something odd."""
    words = list(re.finditer(rb"[\w.+-]+", data[:20_000]))
    if not words:
        return data
    word = words[int(rng.integers(len(words)))]
    token = TOKENS[int(rng.integers(len(TOKENS)))].encode()
    return data[: word.start()] + token + data[word.end() :]


def _shuffle_lines(data: bytes, rng: np.random.Generator) -> bytes:
    lines = data.split(b"\n")
    first, second = rng.integers(len(lines), size=2)
    lines[first], lines[second] = lines[second], lines[first]
    return b"\n".join(lines)


FAULTS = (_cut, _flip, _insert, _remove, _swap_words, _swap_words, _shuffle_lines)


def write_spoilt(folder: Path, name: str, good: dict[str, bytes], seed: int) -> Path:
    """A spoilt copy of a good file."""
    path = folder / name
    path.write_bytes(spoil(good[name], np.random.default_rng(seed)))
    return path


@contextmanager
def taken_or_refused():
    """Whatever happens inside, the only error is one line."""
    try:
        yield
    except InputError as error:
        check_line(str(error))


def check_line(message: str) -> None:
    assert "\n" not in message
    assert len(message) < 800


def test_there_are_two_hundred():
    assert sum(count for count, _ in COMMANDS.values()) == 200


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", COMMANDS)
def test_malformed_files_are_one_line_each(good, tmp_path, capsys, monkeypatch, name):
    """Copies that are still readable do not count."""
    monkeypatch.chdir(tmp_path)
    wanted, command = COMMANDS[name]
    errors = 0
    for seed in range(3 * wanted):
        path = write_spoilt(tmp_path, name, {**good, "settings.yaml": SETTINGS.encode()}, seed)
        code = main([*command, str(path)])
        told = capsys.readouterr().err
        if code == 0:
            continue
        assert code == 2, (seed, told)
        assert told.count("\n") == 1, (seed, told)
        assert told.startswith("error: "), (seed, told)
        assert len(told) < 800, (seed, told)
        errors += 1
        if errors == wanted:
            break
    assert errors == wanted


@pytest.mark.filterwarnings("ignore")
@FAST
@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(["frames.xyz", "frames.h5", "water.npz"]))
def test_readers_read_or_refuse(good, tmp_path, seed, name):
    path = write_spoilt(tmp_path, name, good, seed)
    with taken_or_refused():
        frames = read_frames(path)
        assert all(np.isfinite(frame.atoms.positions).all() for frame in frames)
        assert all(frame.forces is None or frame.forces.shape == (len(frame), 3) for frame in frames)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@FAST
@given(seed=st.integers(0, 2**32 - 1))
def test_phonopy_files_are_read_or_refused(good, tmp_path, seed):
    path = write_spoilt(tmp_path, "phonopy.yaml", good, seed)
    with taken_or_refused():
        read_frames(path)


@pytest.mark.filterwarnings("ignore")
@FAST
@given(seed=st.integers(0, 2**32 - 1))
def test_models_are_whole_or_refused(good, tmp_path, seed):
    path = write_spoilt(tmp_path, "model.mlip", good, seed)
    with taken_or_refused():
        potential = Potential.load(path)
        assert all(bool(tensor.isfinite().all()) for tensor in potential.state_dict().values())


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["model", "a.xyz", "energy", "cosine", "0:10", "fit", "mse"]),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)


def paths_of(value, prefix=()):
    """Where every value of a tree is."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    for key, child in children:
        yield (*prefix, key)
        yield from paths_of(child, (*prefix, key))


PATHS = list(paths_of(yaml.safe_load(SETTINGS)))


@settings(FAST, max_examples=150)
@given(path=st.sampled_from(PATHS), value=VALUES)
def test_any_value_in_any_setting_is_taken_or_refused(path, value):
    values = yaml.safe_load(SETTINGS)
    place = values
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with taken_or_refused():
        validate(values)


@settings(FAST, max_examples=100)
@given(text=st.text(max_size=40), override=st.text(max_size=20))
def test_any_text_is_a_configuration_or_refused(tmp_path, text, override):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8", errors="ignore")
    for action in (lambda: load_settings(path), lambda: load_settings("silicon", [override])):
        with taken_or_refused():
            action()


@settings(FAST, max_examples=200)
@given(text=st.text("0123456789:+-. \n²", max_size=12), key=st.text(max_size=5), unit=st.text(max_size=8))
def test_indices_and_names_are_understood_or_refused(text, key, unit):
    for action in (
        lambda: parse_index(text),
        lambda: make_entry("a.xyz", keys={key: unit}),
        lambda: make_entry("a.xyz", units={"energy": unit}),
    ):
        with taken_or_refused():
            action()


def test_spoiling_is_repeatable(good):
    first, second = (spoil(good["frames.xyz"], np.random.default_rng(7)) for _ in range(2))
    assert first == second != good["frames.xyz"]
