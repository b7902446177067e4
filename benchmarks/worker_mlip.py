"""Our side: energy, forces and stress of one structure. The argument is the model's settings as JSON."""

from __future__ import annotations

import json
import sys

import structures
import worker

import mlip
from mlip import Potential
from mlip.derivatives import evaluate
from mlip.inference import for_inference


def main() -> None:
    settings = json.loads(sys.argv[1])
    tables = settings.pop("tables", True)
    potential = Potential.from_config(settings, ["Si"]).eval().requires_grad_(False)
    potential = for_inference(potential) if tables else potential
    graph = potential.graph(structures.silicon())
    facts = {
        "package": f"curie-mlip {mlip.__version__}",
        "parameters": sum(p.numel() for p in potential.parameters()),
        "edges": graph.num_edges,
    }
    worker.serve(lambda: evaluate(potential, graph, stress=True), facts)


if __name__ == "__main__":
    main()
