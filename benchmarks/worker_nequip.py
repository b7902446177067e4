"""NequIP's side. The argument is a `task.Task` as JSON; its model are the options of NequIP's builder."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable

import torch
import worker
from nequip import __version__
from nequip.data import AtomicDataDict, from_ase
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
from nequip.model import NequIPGNNModel
from nequip.utils.global_state import set_global_state
from task import Task, TrainingStep, asked, facts
from torch import Tensor, nn

CUTOFF = 5.0


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    set_global_state()
    task = asked()
    data = prepare(task)
    model = NequIPGNNModel(
        seed=1,
        model_dtype=task.dtype,
        r_max=CUTOFF,
        type_names=task.species(),
        avg_num_neighbors=28.0,
        per_type_energy_scales=1.0,
        per_type_energy_shifts=0.0,
        **task.model,
    )
    edges = data[AtomicDataDict.EDGE_INDEX_KEY].shape[1]
    worker.serve(prepared(task, model, data), facts(f"nequip {__version__}", model, edges))


def prepare(task: Task) -> dict[str, Tensor]:
    """The structures with their neighbours, made once."""
    species = task.species()
    mapper = ChemicalSpeciesToAtomTypeMapper(
        model_type_names=species, chemical_species_to_atom_type_map={symbol: symbol for symbol in species}
    )
    neighbors = NeighborListTransform(r_max=CUTOFF)
    return AtomicDataDict.batched_from_list([neighbors(mapper(from_ase(atoms))) for atoms in task.frames()])


def prepared(task: Task, model: nn.Module, data: dict[str, Tensor]) -> Callable[[], object]:
    """What is timed."""

    def predict() -> tuple[Tensor, Tensor]:
        found = model(data.copy())
        return found[AtomicDataDict.TOTAL_ENERGY_KEY].squeeze(1), found[AtomicDataDict.FORCE_KEY]

    if task.call == "train":
        return TrainingStep(model.train(), predict, task.frames())
    model.eval().requires_grad_(False)
    return lambda: model(data.copy())


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
