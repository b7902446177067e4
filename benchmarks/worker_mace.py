"""MACE's side. The argument is a `task.Task` as JSON; its model are options of ``ScaleShiftMACE``.

Everything else has the defaults of ``mace_run_train``. The Hessian is what ``MACECalculator.get_hessian`` computes:
by default rows in chunks under ``vmap``; with ``rows: loop`` among the options, MACE's own loop over single rows.
With ``compiled: true`` an evaluation is what ``MACECalculator(compile_mode="default")`` makes of the model.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import worker
from ase.data import atomic_numbers
from task import Task, TrainingStep, asked, facts
from torch import Tensor, nn

torch.serialization.add_safe_globals([slice])  # e3nn 0.4.4, which MACE pins, reads its constants without
from e3nn import o3  # noqa: E402
from mace import data, modules, tools  # noqa: E402
from mace.__version__ import __version__  # noqa: E402
from mace.modules import utils  # noqa: E402
from mace.tools import torch_geometric  # noqa: E402
from mace.tools.compile import prepare as prepare_to_compile  # noqa: E402
from mace.tools.scripts_utils import extract_model  # noqa: E402

CUTOFF = 5.0


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    task = asked()
    if task.model.pop("rows", "vmap") == "loop":
        utils.compute_hessians_vmap = utils.compute_hessians_loop
    compiled = task.model.pop("compiled", False)
    torch.set_default_dtype(task.torch_dtype)
    torch.manual_seed(1)
    model, batch = build(task), prepare(task)
    edges = batch["edge_index"].shape[1]
    warm_up = 0 if task.call == "hessian" else 3
    call = ahead(model, batch) if compiled else prepared(task, model, batch)
    worker.serve(call, facts(f"mace-torch {__version__}", model, edges), warm_up)


def build(task: Task) -> nn.Module:
    """The model with random weights."""
    numbers = [atomic_numbers[symbol] for symbol in task.species()]
    options = {**task.model, "hidden_irreps": o3.Irreps(task.model["hidden_irreps"])}
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    return modules.ScaleShiftMACE(
        r_max=CUTOFF,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=options.pop("max_ell", 3),
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=options.pop("num_interactions", 2),
        num_elements=len(numbers),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(len(numbers)),
        avg_num_neighbors=28.0,
        atomic_numbers=numbers,
        correlation=options.pop("correlation", 3),
        gate=nn.functional.silu,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
        **options,
    )


def prepare(task: Task) -> dict[str, Tensor]:
    """The structures with their neighbours, made once."""
    table = tools.AtomicNumberTable([atomic_numbers[symbol] for symbol in task.species()])
    graphs = [
        data.AtomicData.from_config(data.config_from_atoms(atoms), z_table=table, cutoff=CUTOFF)
        for atoms in task.frames()
    ]
    loader = torch_geometric.dataloader.DataLoader(graphs, batch_size=len(graphs), shuffle=False)
    return next(iter(loader)).to_dict()


def prepared(task: Task, model: nn.Module, batch: dict[str, Tensor]) -> Callable[[], object]:
    """What is timed."""

    def call(**options: Any) -> dict[str, Tensor]:
        return model(dict(batch), **options)

    def predict() -> tuple[Tensor, Tensor]:
        found = call(training=True)
        return found["energy"], found["forces"]

    if task.call == "train":
        return TrainingStep(model, predict, task.frames())
    model.eval().requires_grad_(False)
    if task.call == "hessian":
        return lambda: call(compute_hessian=True)
    return lambda: call(compute_stress=True)


def ahead(model: nn.Module, batch: dict[str, Tensor]) -> Callable[[], object]:
    """Energy, forces and stress of the compiled model; the compiler runs in the first call."""
    whole = torch.compile(prepare_to_compile(extract_model)(model=model, map_location="cpu"), fullgraph=True)
    whole.requires_grad_(False)

    def call() -> object:
        own = {**batch, **{name: batch[name].clone().requires_grad_() for name in ("node_attrs", "positions")}}
        return whole(own, compute_stress=True, training=True)

    return call


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
