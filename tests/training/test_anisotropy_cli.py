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

SMALL = {"cutoff": 3.5, "num_layers": 2, "num_channels": 4, "lmax": 3, "radial_width": 8}
# only θ·W means anything; with W as drawn this θ moves energies by meV, a tenth of what the random network says
THETA = [60.0, 20.0, -40.0, 80.0, 40.0]


def relaxed(gauge: float = 1.0) -> Potential:
    """Relaxed weights away from zero; the same function in another gauge, θ → cθ and W → W/c; float64."""
    config = {**SMALL, "anisotropy": {"source": "learned", "irreps": "2e"}}
    potential = Potential.from_config(config, ["Si"]).double()
    port = potential.network.port
    with torch.no_grad():
        port.theta.copy_(gauge * torch.tensor(THETA))
        for parameter in port.places.parameters():
            parameter.div_(gauge)
    return potential


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.mlip"
    relaxed().save(path)
    return str(path)


def spectrum(potential: Potential) -> np.ndarray:
    """Rms energy and force of every (l, p), meV/atom and meV/Å, (9, 2)."""
    settings = ReportSettings(rotations=8, reorientations=500, resamples=50)
    report = anisotropy_report(potential, read(silicon.path("test"), index="0:6"), settings=settings)
    return np.array([(c.energy, c.force) for c in report.spectrum])


def test_gauge_does_not_matter():
    """θ → −3θ with W → −W/3 are other weights and the same numbers; θ → 1.001 θ alone is another function."""
    one, other = spectrum(relaxed()), spectrum(relaxed(-3.0))
    assert one[:, 0].max() > 1.0
    np.testing.assert_allclose(other, one, rtol=1e-8, atol=1e-8)
    larger = relaxed()
    with torch.no_grad():
        larger.network.port.theta.mul_(1.001)
    change = np.abs(spectrum(larger) / one.max(axis=0) - one / one.max(axis=0)).max(axis=0)
    assert (change > 1e-4).all()


def test_turning_structure_and_frame_together_changes_nothing():
    """A disordered structure: in the perfect crystal a 2e tensor moves no energy to first order, by symmetry."""
    atoms = read(silicon.path("test"), index="2")
    evaluate = evaluator_of(relaxed())
    frame = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ frame.T, scale_atoms=True)
    atoms.info["frame"], turned.info["frame"] = np.eye(3), frame
    straight, other = evaluate([atoms, turned])
    assert other.energy == pytest.approx(straight.energy, abs=1e-9)
    np.testing.assert_allclose(other.forces, straight.forces @ frame.T, atol=1e-9)
    np.testing.assert_allclose(other.stress, frame @ straight.stress @ frame.T, atol=1e-9)
    for wrong in (np.eye(3), frame.T):
        turned.info["frame"] = wrong
        assert abs(evaluate([turned])[0].energy - straight.energy) > 1e-3


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
