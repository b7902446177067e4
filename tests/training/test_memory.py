"""Graphs are kept within a budget, and a run does not depend on how large it is."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from rich.console import Console

from mlip.datasets import read_frames
from mlip.training import train
from mlip.training.data import FrameSet, memory_of

QUIET = Console(quiet=True)
OPTIONS = {"cutoff": 4.0, "species": ["Cu"], "dtype": torch.float64}

LARGE = """
import json, sys
import numpy as np
from ase.build import bulk
from rich.console import Console
from mlip.datasets import write_cache
from mlip.datasets.frame import LabelledFrame
from mlip.training import train
from mlip.training.forecast import peak_memory
from mlip.training.load import validate

count, memory = int(sys.argv[1]), float(sys.argv[2])

def frames():
    rng, crystal = np.random.default_rng(0), bulk("Si", a=5.43)
    for _ in range(count):
        atoms = crystal.copy()
        atoms.positions += rng.normal(scale=0.05, size=(2, 3))
        force = rng.normal(size=3)
        yield LabelledFrame(atoms, energy=rng.normal(), forces=np.array([force, -force]))

write_cache(frames(), "large.h5")
before = peak_memory()
settings = validate({
    "model": {"preset": "fast", "num_channels": 4, "lmax": 1, "cutoff": 6.0},
    "data": {"train": "large.h5", "validation": 0.01},
    "training": {"max_minutes": 0.2, "graph_memory": memory},
    "run": {"name": "large"},
})
result = train(settings, console=Console(quiet=True))
print(json.dumps({"before": before, "after": peak_memory(), "rows": len(result.rows)}))
"""


def test_what_does_not_fit_is_built_again(copper):
    frames = read_frames(copper)
    whole = FrameSet("whole", frames, **OPTIONS)
    size = memory_of(whole.samples[0])
    some = FrameSet("some", frames, memory=3.5 * size, **OPTIONS)
    kept = [some.samples[i] is some.samples[i] for i in range(len(some))]
    assert 3 <= sum(kept) <= 4 < len(kept)
    for i in range(len(whole)):
        one, other = whole.samples[i], some.samples[i]
        assert torch.equal(one.graph.shifts, other.graph.shifts)
        assert torch.equal(one.graph.source, other.graph.source)
        assert torch.equal(one.forces, other.forces)
    assert list(some.packs(400)) == list(whole.packs(400))
    np.testing.assert_array_equal(some.samples.num_edges, [s.graph.num_edges for s in whole.samples])
    with pytest.raises(IndexError):
        some.samples[len(some)]


def test_the_budget_changes_nothing_but_the_memory(settings, tmp_path):
    texts = []
    for name, memory in (("all", 2.0), ("some", 2e-5), ("none", 0.0)):
        train(settings(run={"name": name}, training={"graph_memory": memory}), console=QUIET)
        texts.append((tmp_path / "runs" / name / "metrics.csv").read_text())
    assert texts[0] == texts[1] == texts[2]


@pytest.mark.slow
def test_a_hundred_thousand_frames_train_in_bounded_memory(tmp_path):
    """Frames cost a few kB each; their graphs, which would be many times that, stay within the budget."""
    found = {}
    for count, memory in ((5_000, 100.0), (5_000, 0.0), (100_000, 0.05)):
        command = [sys.executable, "-c", LARGE, str(count), str(memory)]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=3000)
        assert result.returncode == 0, result.stderr
        found[count, memory] = json.loads(result.stdout)
        (tmp_path / "runs").rename(tmp_path / f"runs-{count}-{memory}")
        (tmp_path / "large.h5").unlink()
    grown = {key: (value["after"] - value["before"]) / 2**20 for key, value in found.items()}
    print(grown)
    graphs_of_all = 20 * (grown[5_000, 100.0] - grown[5_000, 0.0])
    frames_of_all = 100_000 * 8e3 / 2**20  # 8 kB for a frame of two atoms with its labels
    assert grown[100_000, 0.05] < grown[5_000, 0.0] + frames_of_all + 51
    assert grown[100_000, 0.05] < graphs_of_all
