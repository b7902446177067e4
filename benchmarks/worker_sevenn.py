"""SevenNet's side. The argument is a `task.Task` as JSON; its model are keys of SevenNet's ``model`` section."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from importlib.metadata import version

import sevenn._keys as keys
import torch
import worker
from sevenn._const import DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG
from sevenn.atom_graph_data import AtomGraphData
from sevenn.model_build import build_E3_equivariant_model
from sevenn.train.dataload import unlabeled_atoms_to_graph
from sevenn.util import chemical_species_preprocess
from task import Task, asked, facts
from torch import nn

CUTOFF = 5.0


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    task = asked()
    torch.manual_seed(1)
    model, graph = build(task), prepare(task)
    edges = graph[keys.EDGE_IDX].shape[1]
    worker.serve(prepared(model, graph), facts(f"sevenn {version('sevenn')}", model, edges))


def build(task: Task) -> nn.Module:
    """The model with random weights."""
    config = {
        **DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG,
        **chemical_species_preprocess(task.species()),
        keys.CUTOFF: CUTOFF,
        keys.CONV_DENOMINATOR: 28.0,
        keys.SHIFT: 0.0,
        keys.SCALE: 1.0,
        **task.model,
    }
    return build_E3_equivariant_model(config)


def prepare(task: Task) -> AtomGraphData:
    """The structure with its neighbours, made once."""
    (atoms,) = task.frames()
    return AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(atoms, CUTOFF))


def prepared(model: nn.Module, graph: AtomGraphData) -> Callable[[], object]:
    """What is timed."""
    model.set_is_batch_data(False)
    model.eval().requires_grad_(False)
    return lambda: model(graph.clone())


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
