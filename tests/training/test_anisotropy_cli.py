"""The commands ``mlip symmetry report`` and ``mlip symmetry shuffle``, on a potential with relaxed weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from ase.io import read

from mlip import Potential
from mlip.__main__ import main
from mlip.datasets import silicon
from mlip.symmetry import ReportSettings, anisotropy_report
from mlip.symmetry.orientations import evaluator_of

SMALL = {"cutoff": 3.5, "num_layers": 2, "num_channels": 4, "lmax": 2, "radial_width": 8}
THETA = {"2e": [0.3, 0.1, -0.2, 0.4, 0.2]}


def relaxed(sign: float = 1.0) -> Potential:
    """Relaxed weights away from zero; with sign −1 the same function in another gauge, θ → −θ and W → −W."""
    config = {**SMALL, "anisotropy": {"source": "learned", "irreps": "2e"}}
    potential = Potential.from_config(config, ["Si"])
    port = potential.network.port
    with torch.no_grad():
        port.theta.copy_(sign * torch.tensor(THETA["2e"]))
        for parameter in port.places.parameters():
            parameter.mul_(sign)
    return potential


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.mlip"
    relaxed().save(path)
    return str(path)


def test_gauge_does_not_matter():
    """θ → −θ with W → −W: other weights, the same function, the same numbers to the bit of the energies."""
    frames = read(silicon.path("test"), index="0:6")
    settings = ReportSettings(rotations=8, reorientations=500, resamples=50)
    one, other = (anisotropy_report(relaxed(s).double(), frames, settings=settings) for s in (1.0, -1.0))
    assert max(c.energy for c in one.spectrum) > 0.1
    np.testing.assert_allclose([c.energy for c in one.spectrum], [c.energy for c in other.spectrum], rtol=1e-8)
    np.testing.assert_allclose([c.force for c in one.spectrum], [c.force for c in other.spectrum], rtol=1e-8)


def test_turning_structure_and_frame_together_changes_nothing():
    atoms = read(silicon.path("test"), index="0")
    evaluate = evaluator_of(relaxed().double())
    frame = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ frame.T, scale_atoms=True)
    atoms.info["frame"], turned.info["frame"] = np.eye(3), frame
    straight, other = evaluate([atoms, turned])
    energy = straight.energy
    assert other.energy == pytest.approx(energy, abs=1e-9)
    np.testing.assert_allclose(other.stress, frame @ straight.stress @ frame.T, atol=1e-9)
    turned.info["frame"] = np.eye(3)
    assert evaluate([turned])[0][0] != pytest.approx(energy, abs=1e-4)


def test_the_command(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--rotations", "8", "--reorientations", "500", "--parent", "silicon", "--index", "0:8"]
    assert main(["symmetry", "report", model, "silicon:test", *options, "--json", "out.json"]) in (0, 1)
    stored = json.loads((tmp_path / "out.json").read_text())
    assert stored["command"] == "symmetry report"
    assert len(stored["results"]["spectrum"]) == 9
    assert stored["results"]["parent"]["group"] == "m-3m"
    assert (tmp_path / "silicon-test-anisotropy" / "anisotropy.png").is_file()
    assert main(["symmetry", "report", model, "silicon:test", *options]) == 2  # the folder is kept


def test_shuffled_data_are_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["symmetry", "shuffle", "silicon:test", "shuffled.xyz", "--parent", "Oh", "--index", "0:5"]) == 0
    before, after = read(silicon.path("test"), index="0:5"), read(tmp_path / "shuffled.xyz", index=":")
    for a, b in zip(before, after, strict=True):
        assert b.get_potential_energy() == pytest.approx(a.get_potential_energy())
        assert np.abs(np.asarray(b.info["frame"])).max() == pytest.approx(1.0)


def test_other_calculators(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--rotations", "8", "--reorientations", "500", "--index", "0:3"]
    arguments = ["symmetry", "report", "silicon:test", "--calculator", "ase.calculators.lj:LennardJones", *options]
    assert main(arguments) == 0
    assert main(["symmetry", "report", "silicon:test", "--calculator", "nowhere:Nothing"]) == 2
    assert main(["symmetry", "report", "missing.mlip", "silicon:test"]) == 2
