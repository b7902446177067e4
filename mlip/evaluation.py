"""Many structures at once: batches packed by edges, results in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from torch import Tensor

from mlip.derivatives import Evaluation, evaluate
from mlip.errors import InputError
from mlip.graph import AtomicGraph, batch_graphs
from mlip.response import FieldResponse, field_response

if TYPE_CHECKING:
    from mlip.potential import Potential

RESPONSE = ("polarization", "born_charges", "polarizability")
PROPERTIES = ("energy", "energies", "forces", "stress", *RESPONSE)


def evaluate_structures(
    potential: Potential, structures: Iterable[Atoms], properties: Sequence[str], max_edges: int
) -> list[dict[str, Any]]:
    """See :meth:`mlip.potential.Potential.evaluate`."""
    unknown = [name for name in properties if name not in PROPERTIES]
    if unknown:
        raise InputError(f"unknown property '{unknown[0]}'", mend=f"known: {', '.join(PROPERTIES)}")
    results: list[dict[str, Any]] = []
    for atoms, graphs in _packed(potential, structures, max_edges):
        batch, stress = batch_graphs(graphs), "stress" in properties
        if not set(RESPONSE) & set(properties):
            results += split_evaluation(evaluate(potential, batch, stress=stress), atoms, properties)
            continue
        found = field_response(potential, batch, second=bool(set(RESPONSE[1:]) & set(properties)), stress=stress)
        plain = split_evaluation(found.evaluation, atoms, [name for name in properties if name not in RESPONSE])
        fields = split_response(found, atoms, [name for name in properties if name in RESPONSE])
        results += [one | other for one, other in zip(plain, fields, strict=True)]
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


def split_response(
    response: FieldResponse, structures: Sequence[Atoms], properties: Sequence[str]
) -> list[dict[str, Any]]:
    """Derivatives by a field of a batch → one dictionary of NumPy values per structure."""
    ends = np.cumsum([len(atoms) for atoms in structures])[:-1]
    columns: dict[str, Sequence[Any]] = {"polarization": _numpy(response.dipole)}
    if response.polarizability is not None and response.born_charges is not None:
        columns["polarizability"] = _numpy(response.polarizability)
        columns["born_charges"] = np.split(_numpy(response.born_charges), ends)
    return [{name: columns[name][k] for name in properties} for k in range(len(structures))]


def _numpy(tensor: Tensor) -> Any:
    return tensor.detach().cpu().double().numpy()
