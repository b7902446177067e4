"""Train on the embedded silicon set for a minute, and look at the errors: `python examples/train_silicon.py`."""

import sys

from mlip.training import evaluate, train

minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
settings = [f"training.max_minutes={minutes}", "model.preset=fast", "run.name=silicon-example", "data.test=[]"]
run = train("silicon", settings, force=True)
result = evaluate(run.best_path, "silicon:test")
print(f"forces within {result.rows[0]['forces_mae_meV_per_A']:.0f} meV/Å")
result.plot().savefig("silicon-parity.png")
