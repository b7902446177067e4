"""NequIP's side. The argument is a `task.Task` as JSON; its model are the options of NequIP's builder.

With ``compiled: true`` among them a training step is that of its ``compile_mode: compile``, and an evaluation what
``nequip-compile --mode aotinductor --target ase`` makes.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import worker
from nequip import __version__
from nequip.data import AtomicDataDict, from_ase
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
from nequip.model import NequIPGNNModel, PresetNequIPGNNModel
from nequip.utils.global_state import set_global_state
from task import Task, TrainingStep, asked, facts
from torch import Tensor, nn

CUTOFF = 5.0


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    set_global_state()
    task = asked()
    compiled = task.model.pop("compiled", False)
    data = prepare(task)
    build = PresetNequIPGNNModel if "preset" in task.model else NequIPGNNModel
    model = build(
        seed=1,
        compile_mode="compile" if compiled and task.call == "train" else "eager",
        model_dtype=task.dtype,
        r_max=CUTOFF,
        type_names=task.species(),
        avg_num_neighbors=28.0,
        per_type_energy_scales=1.0,
        per_type_energy_shifts=0.0,
        **task.model,
    )
    edges = data[AtomicDataDict.EDGE_INDEX_KEY].shape[1]
    call = evaluate_ahead(model, data) if compiled and task.call == "evaluate" else prepared(task, model, data)
    worker.serve(call, facts(f"nequip {__version__}", model, edges))


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


def evaluate_ahead(model: nn.Module, data: dict[str, Tensor]) -> Callable[[], object]:
    """Energy, forces and stress from AOTInductor, compiled in the first call, whose time is told."""
    from nequip.nn.compile import DictInputOutputWrapper
    from nequip.scripts._compile_utils import ASE_TARGET
    from nequip.utils.aot import aot_export_model
    from torch._inductor import aoti_load_package

    fields, target = (ASE_TARGET["input"], ASE_TARGET["output"]), ASE_TARGET
    one = target["data_settings"](data)
    sizes = {name: torch.export.Dim(f"num_{name}s", min=2) for name in ("graph", "node", "edge")}
    found = []

    def call() -> object:
        if not found:
            path = str(Path(tempfile.mkdtemp()) / "model.nequip.pt2")
            aot_export_model(model.eval(), "cpu", *fields, one, target["batch_map_settings"](sizes), path)
            found.append(DictInputOutputWrapper(aoti_load_package(path), *fields))
        return found[0]({name: one[name] for name in fields[0]})

    return call


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
