"""Frames are harvested where the committee disagrees or the training ranges are left, and nowhere else."""

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read

from mlip import MLIPCalculator, Potential
from mlip.__main__ import main
from mlip.errors import InputError
from mlip.md.harvest import Harvest, force_disagreement

SETTINGS = {"cutoff": 4.0, "num_layers": 1, "num_channels": 4, "lmax": 1}


@pytest.fixture
def committee():
    return MLIPCalculator([Potential.from_config({**SETTINGS, "seed": s}, ["Si"]) for s in (1, 2)], dtype="float64")


@pytest.fixture
def path():
    """Silicon rattled more and more: forces vanish by symmetry at the start, and so does their spread."""
    frames = []
    for scale in np.linspace(0.0, 0.3, 13):
        atoms = bulk("Si", cubic=True)
        atoms.rattle(scale, seed=1)
        frames.append(atoms)
    return frames


def test_only_what_is_above_the_threshold_is_kept(committee, path, tmp_path):
    spreads = [force_disagreement(atoms, committee) for atoms in path]
    threshold = float(np.median(spreads))
    harvest = Harvest(tmp_path / "kept.xyz", committee, threshold, gap=0)
    for atoms in path:
        harvest(atoms)
    kept = read(tmp_path / "kept.xyz", ":")
    assert [f.info["forces_std_max"] for f in kept] == pytest.approx([s for s in spreads if s > threshold], abs=1e-6)
    assert len(kept) == harvest.kept == 6
    np.testing.assert_allclose(kept[-1].positions, path[-1].positions, atol=1e-6)
    assert kept[0].calc is None


def test_neighbours_in_time_and_a_run_astray_do_not_fill_the_disk(committee, path, tmp_path):
    harvest = Harvest(tmp_path / "kept.xyz", committee, 1e-9, gap=3, most=2)
    for atoms in path[1:]:
        harvest(atoms)
    assert harvest.kept == 2
    spreads = [force_disagreement(atoms, committee) for atoms in path[1:]]
    kept = [f.info["forces_std_max"] for f in read(tmp_path / "kept.xyz", ":")]
    assert kept == pytest.approx([spreads[0], spreads[4]], abs=1e-6)


def test_leaving_the_ranges_is_a_reason_even_for_one_model(path, tmp_path):
    potential = Potential.from_config(SETTINGS, ["Si"])
    with pytest.raises(InputError, match="ranges"):
        Harvest(tmp_path / "kept.xyz", MLIPCalculator(potential), 0.1)
    potential.metadata["ranges"] = {"min_distance": {"Si-Si": 2.2}}
    harvest = Harvest(tmp_path / "kept.xyz", MLIPCalculator(potential), 0.1, gap=0)
    for atoms in path:
        harvest(atoms)
    short = [atoms for atoms in path if atoms.get_all_distances(mic=True)[np.triu_indices(8, 1)].min() < 2.2 * 0.95]
    assert 0 < harvest.kept == len(short) < len(path)
    assert "Si-Si distance" in read(tmp_path / "kept.xyz", "0").info["harvest_reason"]


def test_the_threshold_is_a_force(committee, tmp_path):
    with pytest.raises(InputError, match="positive"):
        Harvest(tmp_path / "kept.xyz", committee, 0.0)


def test_the_command(tmp_path, path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in (1, 2):
        Potential.from_config({**SETTINGS, "seed": seed}, ["Si"]).save(tmp_path / f"{seed}.mlip")
    path[4].write(tmp_path / "si.xyz")
    arguments = ["md", "1.mlip", "2.mlip", "si.xyz", "--steps", "10", "--timestep", "0.5", "--ensemble", "langevin"]
    assert main([*arguments, "--harvest", "1e-6", "--out", "run"]) == 0
    assert len(read("run/harvested.xyz", ":")) == 1
    assert "1 frames harvested" in capsys.readouterr().out
    assert main([*arguments, "--harvest", "1e6", "--out", "other"]) == 0
    assert not (tmp_path / "other" / "harvested.xyz").exists()
