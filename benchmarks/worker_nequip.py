"""NequIP's side: energy, forces and stress of one structure. The argument is the builder's options as JSON."""

from __future__ import annotations

import json
import logging
import sys
import warnings

import structures
import torch
import worker
from nequip import __version__
from nequip.data import AtomicDataDict, from_ase
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
from nequip.model import NequIPGNNModel
from nequip.utils.global_state import set_global_state

CUTOFF = 5.0


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    set_global_state()
    model = NequIPGNNModel(
        seed=1,
        model_dtype="float32",
        r_max=CUTOFF,
        type_names=["Si"],
        avg_num_neighbors=28.0,
        per_type_energy_scales=1.0,
        per_type_energy_shifts=0.0,
        **json.loads(sys.argv[1]),
    )
    model.eval().requires_grad_(False)
    data = prepare()
    facts = {
        "package": f"nequip {__version__}",
        "parameters": sum(p.numel() for p in model.parameters()),
        "edges": data[AtomicDataDict.EDGE_INDEX_KEY].shape[1],
    }
    worker.serve(lambda: model(data.copy()), facts)


def prepare() -> dict[str, torch.Tensor]:
    """The structure with its neighbours, made once."""
    data = from_ase(structures.silicon())
    mapper = ChemicalSpeciesToAtomTypeMapper(model_type_names=["Si"], chemical_species_to_atom_type_map={"Si": "Si"})
    return NeighborListTransform(r_max=CUTOFF)(mapper(data))


if __name__ == "__main__":
    main()
