"""A committee of three, its calibrated spread, and the frames it knows least: `python examples/committee.py`."""

import sys

from mlip import MLIPCalculator
from mlip.datasets import read_frames
from mlip.datasets.selection import select_frames
from mlip.datasets.silicon import path
from mlip.training import evaluate_committee, train_committee

minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 0.5
settings = [f"training.max_minutes={minutes}", "model.preset=fast", "run.name=silicon-example", "data.test=[]"]
run = train_committee("silicon", 3, settings, force=True)
found = evaluate_committee(run.models, "silicon:test", calibration=run.calibration)
spread = found.spreads["forces"]
print(f"{100 * spread.coverage(found.scale('forces')):.0f} % of the forces lie within one standard deviation (68 %)")
found.plot().savefig("silicon-calibration.png")

pool = read_frames(path("test"))
chosen, disagreement = select_frames(pool, 3, committee=MLIPCalculator(run.models))
for index, value in zip(chosen, disagreement, strict=True):
    print(f"frame {index}: forces differ by up to {1e3 * value:.0f} meV/Å")
