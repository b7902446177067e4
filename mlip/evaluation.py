"""Many structures at once: batches packed by edges, results in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from mlip.derivatives import Evaluation, evaluate
from mlip.errors import InputError
from mlip.graph import AtomicGraph, batch_graphs

if TYPE_CHECKING:
    from mlip.potential import Potential

PROPERTIES = ("energy", "energies", "forces", "stress")


def evaluate_structures(
    potential: Potential, structures: Iterable[Atoms], properties: Sequence[str], max_edges: int
) -> list[dict[str, Any]]:
    """See :meth:`mlip.potential.Potential.evaluate`."""
    unknown = [name for name in properties if name not in PROPERTIES]
    if unknown:
        raise InputError(f"unknown property '{unknown[0]}'", mend=f"known: {', '.join(PROPERTIES)}")
    results: list[dict[str, Any]] = []
    for atoms, graphs in _packed(potential, structures, max_edges):
        batch = batch_graphs(graphs)
        evaluation = evaluate(potential, batch, stress="stress" in properties)
        results += split_evaluation(evaluation, atoms, properties)
    return results


def _packed(
    potential: Potential, structures: Iterable[Atoms], max_edges: int
) -> Iterator[tuple[list[Atoms], list[AtomicGraph]]]:
    """Consecutive structures while their edges fit."""
    atoms: list[Atoms] = []
    graphs: list[AtomicGraph] = []
    edges = 0
    for k, structure in enumerate(structures):
        try:
            graph = potential.graph(structure)
        except InputError as error:
            raise InputError(error.problem, frame=k, mend=error.mend) from None
        if graphs and edges + graph.num_edges > max_edges:
            yield atoms, graphs
            atoms, graphs, edges = [], [], 0
        atoms.append(structure)
        graphs.append(graph)
        edges += graph.num_edges
    if graphs:
        yield atoms, graphs


def split_evaluation(
    evaluation: Evaluation, structures: Sequence[Atoms], properties: Sequence[str]
) -> list[dict[str, Any]]:
    """A batched evaluation → one dictionary of NumPy values per structure."""
    ends = np.cumsum([len(atoms) for atoms in structures])[:-1]
    columns: dict[str, Sequence[Any]] = {
        "energy": evaluation.energy.tolist(),
        "energies": np.split(evaluation.atomic_energies.cpu().numpy(), ends),
        "forces": np.split(evaluation.forces.detach().cpu().double().numpy(), ends),
    }
    if evaluation.stress is not None:
        columns["stress"] = list(evaluation.stress.detach().cpu().double().numpy())
    results = [{name: columns[name][k] for name in properties if name != "stress"} for k in range(len(structures))]
    for k, atoms in enumerate(structures):
        if "stress" in properties and atoms.pbc.all():
            results[k]["stress"] = columns["stress"][k]
    return results
