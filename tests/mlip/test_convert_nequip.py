"""Converted NequIP models: NequIP's own numbers, by another route; and what cannot be converted says why.

The checkpoints and NequIP's answers were made by `tests/external/nequip_recipe.py` in NequIP's environment.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from mlip import InputError, MLIPCalculator, Potential
from mlip.__main__ import main
from mlip.convert.nequip import convert_nequip
from mlip.nn.uvu_network import polynomial_envelope
from mlip.testing import check_calculator, energy_of, forces_of

MODELS = Path(__file__).parent / "nequip_models"
SAME = 1e-10


def structure(said):
    return Atoms(said["numbers"], said["positions"], cell=said["cell"], pbc=said["pbc"])


@pytest.fixture(scope="module", params=["silicon-lmax2-parity", "silicon-lmax1", "oxide"])
def name(request):
    return request.param


@pytest.fixture(scope="module")
def calculator(name):
    return MLIPCalculator(convert_nequip(MODELS / f"{name}.ckpt"))


@pytest.fixture(scope="module")
def said(name):
    return json.loads((MODELS / f"{name}.json").read_text())


def test_energies_forces_and_stresses_are_those_of_nequip(calculator, said):
    for frame in said["frames"]:
        atoms = structure(frame)
        assert energy_of(calculator, atoms) == pytest.approx(frame["energy"], abs=SAME)
        np.testing.assert_allclose(forces_of(calculator, atoms), frame["forces"], atol=SAME)
        if atoms.pbc.all():
            stress = np.array(frame["stress"])[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
            np.testing.assert_allclose(calculator.get_stress(atoms), stress, atol=SAME)
    assert max(np.abs(frame["forces"]).max() for frame in said["frames"]) > 0.05


def test_exact_dynamical_matrices_are_those_of_nequips_supercell(calculator, said):
    """Σ_R H(0j, Rk) exp(iq·(r_Rk − r_0j)) over the rows of NequIP's autograd Hessian, on the whole 3×3×3 mesh."""
    if "supercell" not in said:
        pytest.skip("no Hessian was computed for this model")
    supercell = structure(said["supercell"])
    rows = np.array(said["hessian_rows"]).reshape(2, 3, len(supercell), 3)
    cell = supercell[:2]
    cell.set_cell(supercell.cell.array / 3)
    fractional = supercell.positions @ np.linalg.inv(cell.cell.array)
    member = [int(np.argmin([off_lattice(f - b) for b in fractional[:2]])) for f in fractional]
    mesh = np.stack(np.meshgrid(*3 * [np.arange(3) / 3]), -1).reshape(-1, 3)
    ours = calculator.get_dynamical_matrix(cell, mesh)
    for q, matrix in zip(mesh, ours, strict=True):
        theirs = np.zeros((2, 3, 2, 3), complex)
        for k, f in zip(range(len(supercell)), fractional, strict=True):
            phases = np.exp(2j * np.pi * (f - fractional[:2]) @ q)
            theirs[:, :, member[k]] += rows[:, :, k] * phases[:, None, None]
        np.testing.assert_allclose(matrix, theirs.reshape(6, 6) / cell.get_masses()[0], atol=SAME)
    assert np.abs(ours).max() > 0.01


def off_lattice(difference):
    return np.abs(difference - np.rint(difference)).max()


def test_the_model_file_keeps_every_number(calculator, said, tmp_path):
    path = tmp_path / "model.mlip"
    calculator.potential.save(path)
    again = Potential.load(path)
    assert again.settings == calculator.potential.settings
    assert again.metadata["converted_from"]["package"] == "nequip"
    atoms = structure(said["frames"][0])
    assert energy_of(MLIPCalculator(path), atoms) == energy_of(calculator, atoms)


def test_numbers_stay_in_double_precision_when_the_network_does_not(calculator, said):
    """1/r_c, mean neighbours and the gains must not come back from float32 with seven digits."""
    atoms = structure(said["frames"][0])
    single = MLIPCalculator(calculator.potential, dtype="float32")
    assert energy_of(single, atoms) == pytest.approx(energy_of(calculator, atoms), abs=1e-3)
    kept = single.potential.network.numbers.state_dict()
    for key, value in calculator.potential.network.numbers.state_dict().items():
        assert torch.equal(kept[key], value)


def test_every_physical_check_passes(calculator, said):
    checks = check_calculator(calculator, structure(said["frames"][0]))
    failed = [check for check in checks if not check.passed]
    assert not failed


@pytest.mark.parametrize("power", [2, 5, 6, 9])
def test_the_envelope_is_the_published_one(power):
    x = torch.linspace(0, 1.2, 61, dtype=torch.float64)
    p = power
    published = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)
    torch.testing.assert_close(polynomial_envelope(x, p), published * (x < 1), atol=1e-13, rtol=0)


@pytest.fixture
def content():
    return torch.load(MODELS / "oxide.ckpt", weights_only=True)


def refused(content, tmp_path):
    torch.save(content, tmp_path / "changed.ckpt")
    with pytest.raises(InputError) as raised:
        convert_nequip(tmp_path / "changed.ckpt")
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("pair_potential", {"_target_": "nequip.nn.pair_potential.ZBL"}, "pair_potential"),
        ("categorical_graph_field_embed", [{"field": "charge"}], "categorical_graph_field_embed"),
        ("convnet_resnet", True, "convnet_resnet"),
        ("_target_", "nequip.model.FullNequIPGNNModel", "FullNequIPGNNModel"),
        ("_target_", "allegro.model.AllegroModel", "AllegroModel"),
        ("type_names", ["O", "Wat"], "Wat"),
        ("polynomial_cutoff_p", 6.5, "6.5"),
        ("readout_mlp_nonlinearity", None, "readout_mlp_nonlinearity"),
        ("avg_num_neighbors", None, "avg_num_neighbors"),
        ("num_layers", 2, "numbers"),
        ("num_features", [3, 3, 3], "numbers"),
        ("parity", False, "numbers"),
    ],
)
def test_what_cannot_be_converted_is_refused_with_the_reason(content, tmp_path, key, value, reason):
    content["hyper_parameters"]["model"][key] = value
    assert reason in refused(content, tmp_path)


def test_another_modification_than_a_kernel_is_refused(content, tmp_path):
    model = content["hyper_parameters"]["model"]
    wrapped = {
        "_target_": "nequip.model.modify",
        "model": model,
        "modifiers": [{"modifier": "modify_PerTypeScaleShift"}],
    }
    content["hyper_parameters"]["model"] = wrapped
    assert "modify_PerTypeScaleShift" in refused(content, tmp_path)
    wrapped["modifiers"] = [{"modifier": "enable_OpenEquivariance"}]
    torch.save(content, tmp_path / "kernel.ckpt")
    atoms = Atoms("SiO", positions=[(0, 0, 0), (1.6, 0.1, 0)])
    plain, kernel = (MLIPCalculator(convert_nequip(p)) for p in (MODELS / "oxide.ckpt", tmp_path / "kernel.ckpt"))
    assert energy_of(plain, atoms) == energy_of(kernel, atoms)


class Malicious:
    """Unpickled by a careless reader, it would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_checkpoint_cannot_run_code(content, tmp_path):
    content["hyper_parameters"]["surprise"] = Malicious(tmp_path / "ran")
    assert "examples/export_nequip.py" in refused(content, tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("data", [b"", b"not a checkpoint", pickle.dumps({"a": 1})], ids=["empty", "text", "pickle"])
def test_damaged_files_are_refused(tmp_path, data):
    (tmp_path / "bad.ckpt").write_bytes(data)
    with pytest.raises(InputError):
        convert_nequip(tmp_path / "bad.ckpt")


def test_packages_are_refused_with_the_way_out(tmp_path):
    (tmp_path / "model.nequip.zip").write_bytes(b"")
    with pytest.raises(InputError, match=r"export_nequip\.py"):
        convert_nequip(tmp_path / "model.nequip.zip")


def test_averaged_weights_are_taken_where_there_are_any(tmp_path):
    content = torch.load(MODELS / "silicon-lmax2-parity.ckpt", weights_only=True)
    trained = content["state_dict"]["model.sole_model.model.func.per_atom_energy_readout.mlp_module.mlp.0.weight"]
    potential = convert_nequip(MODELS / "silicon-lmax2-parity.ckpt")
    assert not torch.equal(potential.network.readout.weights[0], trained)
    names = [name for name in content["state_dict"] if name.startswith("ema.ema_weight_")]
    del content["state_dict"][names[-1]]
    assert "averaged weights" in refused(content, tmp_path)


def test_the_command_writes_an_ordinary_model_file(tmp_path, capsys):
    out = tmp_path / "model.mlip"
    assert main(["convert", "nequip", str(MODELS / "silicon-lmax1.ckpt"), "--out", str(out)]) == 0
    assert "2 layers, lmax 1" in capsys.readouterr().out
    assert main(["convert", "nequip", str(MODELS / "silicon-lmax1.ckpt"), "--out", str(out)]) == 2
    assert main(["info", str(out)]) == 0


def test_sevennet_is_refused_with_the_reason(capsys):
    assert main(["convert", "sevennet", "checkpoint_sevennet_0.pth"]) == 2
    said = capsys.readouterr().err.strip()
    assert "mirror images" in said
    assert "lone atoms" in said
    assert len(said.splitlines()) == 1
