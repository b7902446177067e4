"""Model files: whole, exact, free of code, and clear about what is wrong with a bad one."""

from __future__ import annotations

import json
import os
import pickle

import numpy as np
import pytest
import torch
from ase import Atoms
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mlip import InputError, MLIPCalculator, Potential
from mlip.potential import Normalization
from mlip.testing import check_rotation, energy_of, forces_of


@pytest.fixture
def saved(potential_for, triclinic, tmp_path):
    """A model file, and the potential it holds."""
    potential = potential_for(triclinic, num_layers=3, zbl=True)
    potential.metadata = {"theory": "PBE", "metrics": {"forces_mae_meV_per_A": 12.5}, "ranges": {}}
    path = tmp_path / "model.mlip"
    potential.save(path)
    return path, potential


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_what_is_saved_comes_back_bit_by_bit(potential_for, variant, triclinic, tmp_path, dtype):
    potential = potential_for(triclinic, dtype=dtype, norm=True, **variant)
    potential.save(tmp_path / "model.mlip")
    again = Potential.load(tmp_path / "model.mlip")
    assert again.dtype == dtype
    first, second = potential.state_dict(), again.state_dict()
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)
    one, other = MLIPCalculator(potential), MLIPCalculator(tmp_path / "model.mlip")
    assert energy_of(one, triclinic) == energy_of(other, triclinic)
    np.testing.assert_array_equal(forces_of(one, triclinic), forces_of(other, triclinic))


def test_the_description_comes_back(saved):
    path, potential = saved
    again = Potential.load(path)
    assert again.settings == potential.settings
    assert again.species == potential.species
    assert again.normalization == potential.normalization
    assert again.metadata == potential.metadata


def test_header_contract(saved):
    """What other programs may rely on."""
    path, potential = saved
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert set(metadata) == {"format", "schema", "header"}
    assert metadata["format"] == "curie-mlip"
    assert metadata["schema"] == "1"
    header = json.loads(metadata["header"])
    assert header["species"] == ["O", "Si"]
    assert header["settings"]["cutoff"] == 4.0
    assert header["dtype"] == "float64"
    assert header["units"] == {"energy": "eV", "length": "Ang"}
    assert header["metadata"] == potential.metadata


def test_precision_can_be_chosen(saved, triclinic, tolerances):
    path, _ = saved
    exact = forces_of(MLIPCalculator(path), triclinic)
    rough = forces_of(MLIPCalculator(path, dtype="float32"), triclinic)
    assert 0 < np.abs(rough - exact).max() < tolerances.single * np.abs(exact).max()
    with pytest.raises(InputError, match="float32 or float64"):
        Potential.load(path, dtype="float16")


def test_constants_keep_their_digits_on_the_way(potential_for, variant, triclinic, tmp_path, tolerances):
    """Built in float32, saved, read as float64, moved down and up again: still equivariant to 1e-12."""
    potential_for(triclinic, dtype=torch.float32, **variant).save(tmp_path / "model.mlip")
    potential = Potential.load(tmp_path / "model.mlip", dtype="float64")
    before = MLIPCalculator(potential)
    assert check_rotation(before, triclinic, tolerances.exact).passed
    after = MLIPCalculator(potential.float().double())
    np.testing.assert_array_equal(forces_of(before, triclinic), forces_of(after, triclinic))


def test_reference_energies_keep_their_digits(tmp_path):
    """E0 of −1e4 eV and more, and the scale, stay in float64 in a float32 model, moved or saved."""
    normalization = Normalization(energy_scale=0.1234567890123, energy_shift=-1 / 3, e0={"Si": -7890.123456789012})
    potential = Potential.from_config({"num_layers": 2, "num_channels": 2}, ["Si"], normalization)
    potential = potential.double().float()
    potential.save(tmp_path / "model.mlip")
    again = Potential.load(tmp_path / "model.mlip")
    assert float(again.reference.e0[0]) == -7890.123456789012
    assert float(again.reference.scale) == 0.1234567890123
    assert float(again.reference.shift) == -1 / 3
    assert energy_of(MLIPCalculator(again), Atoms("Si")) == -7890.123456789012


def test_a_save_that_fails_leaves_the_old_file(saved):
    path, potential = saved
    before = path.read_bytes()
    potential.metadata["loss"] = float("nan")  # strict JSON cannot hold it
    with pytest.raises(ValueError, match="JSON"):
        potential.save(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def rewrite(path, change_tensors=None, **change_metadata) -> None:
    """The same file with other tensors or metadata."""
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    metadata.update(change_metadata)
    if change_tensors is not None:
        change_tensors(tensors)
    save_file(tensors, path, {k: v for k, v in metadata.items() if v is not None})


def header_with(path, **changes) -> str:
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["header"])
    for name, value in changes.items():
        header[name] = value if not isinstance(value, dict) else {**header[name], **value}
    return json.dumps(header)


DAMAGE = {
    "empty": lambda p: p.write_bytes(b""),
    "truncated": lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]),
    "truncated header": lambda p: p.write_bytes(p.read_bytes()[:20]),
    "random bytes": lambda p: p.write_bytes(np.random.default_rng(1).bytes(5000)),
    "pickle": lambda p: p.write_bytes(pickle.dumps({"weights": [1.0]})),
    "torch.save": lambda p: torch.save({"weights": torch.ones(3)}, p),
    "text": lambda p: p.write_text("model: nequip\n"),
    "folder": lambda p: (p.unlink(), p.mkdir()),
    "other format": lambda p: rewrite(p, format="pt"),
    "no metadata": lambda p: save_file(load_file(p), p),
    "newer schema": lambda p: rewrite(p, schema="2"),
    "header not JSON": lambda p: rewrite(p, header="{settings:"),
    "header a list": lambda p: rewrite(p, header="[1, 2]"),
    "header missing": lambda p: rewrite(p, header=None),
    "header empty": lambda p: rewrite(p, header="{}"),
    "unknown setting": lambda p: rewrite(p, header=header_with(p, settings={"colour": "red"})),
    "setting out of range": lambda p: rewrite(p, header=header_with(p, settings={"cutoff": -1})),
    "settings a string": lambda p: rewrite(p, header=header_with(p, settings="small")),
    "unknown element": lambda p: rewrite(p, header=header_with(p, species=["O", "Qq"])),
    "species a number": lambda p: rewrite(p, header=header_with(p, species=3)),
    "unknown normalisation": lambda p: rewrite(p, header=header_with(p, normalization={"mean": 1})),
    "e0 a list": lambda p: rewrite(p, header=header_with(p, normalization={"e0": [1, 2]})),
    "unknown dtype": lambda p: rewrite(p, header=header_with(p, dtype="int8")),
    "metadata a number": lambda p: rewrite(p, header=header_with(p, metadata=7)),
    "missing tensor": lambda p: rewrite(p, lambda t: t.pop("network.embedding")),
    "tensor too many": lambda p: rewrite(p, lambda t: t.update(extra=torch.ones(2))),
    "wrong shape": lambda p: rewrite(p, lambda t: t.update({"network.embedding": torch.ones(7, 7)})),
    "more layers": lambda p: rewrite(p, header=header_with(p, settings={"num_layers": 5})),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_one_line(saved, damage):
    path, _ = saved
    damage(path)
    with pytest.raises(InputError) as caught:
        Potential.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    assert len(message) < 500


def test_no_code_runs_while_reading(saved, tmp_path):
    """A pickle in a model's place is refused before anything in it runs."""

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    path, _ = saved
    for write in (lambda: path.write_bytes(pickle.dumps(Trap())), lambda: torch.save(Trap(), path)):
        write()
        with pytest.raises(InputError):
            Potential.load(path)
    assert not (tmp_path / "sprung").exists()
