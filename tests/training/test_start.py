"""Random weights must give forces of a sensible size, in molecules and in crystals."""

import pytest
import torch

from mlip.datasets import read_frames, silicon
from mlip.potential import Potential
from mlip.settings import PRESETS, model_settings
from mlip.training.data import FrameSet
from mlip.training.normalization import compute_normalization
from mlip.training.start import initial_ratio, with_message_scale

SLOW = {("equiformer", "large")}  # a molecule of tests/mlip/test_start.py has it as well
CASES = [
    pytest.param(a, p, marks=[pytest.mark.slow] if (a, p) in SLOW else [])
    for a, presets in PRESETS.items()
    for p in presets
]


def ratio(frames, architecture, preset, seed, e0):
    species = sorted({symbol for frame in frames for symbol in frame.atoms.get_chemical_symbols()})
    settings = model_settings({"architecture": architecture, "preset": preset, "cutoff": 5.0, "seed": seed})
    frame_set = FrameSet("train", frames, cutoff=5.0, species=species, dtype=torch.float32)
    normalization = compute_normalization(frame_set, e0)
    normalization = with_message_scale(settings, species, normalization, frame_set)
    return initial_ratio(Potential.from_config(settings, species, normalization), frame_set)


@pytest.mark.parametrize(("architecture", "preset"), CASES)
@pytest.mark.parametrize("seed", [1, 2])
def test_silicon(architecture, preset, seed):
    frames = read_frames(silicon.path("train"))[::6]
    energies = [frame.energy / len(frame) for frame in frames]
    assert 0.02 < ratio(frames, architecture, preset, seed, {"Si": sum(energies) / len(energies)}) < 0.5


@pytest.mark.parametrize(("architecture", "preset"), CASES)
def test_flexible_molecule(architecture, preset, data_folder):
    atoms = read_frames(data_folder / "3bpa/iso_atoms.xyz")
    e0 = {frame.atoms.get_chemical_symbols()[0]: frame.energy for frame in atoms}
    frames = read_frames(data_folder / "3bpa/train_300K.xyz", index="0:16")
    assert 0.02 < ratio(frames, architecture, preset, 1, e0) < 0.5
