"""Run in NequIP's own environment: what a checkpoint's model says of structures. Not a test.

    python nequip_worker.py evaluate CHECKPOINT FRAMES.xyz OUT.json           energies, forces, stresses
    python nequip_worker.py hessian CHECKPOINT SUPERCELL.xyz OUT.npy [ROWS]   autograd Hessian; prints its cost

The Hessian is that of NequIP's own module: the energy is differentiated twice by the positions, one row per walk of
the kept graph of the forces.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import torch
from nequip.data import AtomicDataDict, from_ase
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
from nequip.model import ModelFromCheckpoint
from nequip.utils.global_state import set_global_state


class Model:
    """A checkpoint's model, with what prepares its input."""

    def __init__(self, checkpoint):
        set_global_state()
        self.graph_model = ModelFromCheckpoint(str(checkpoint))["sole_model"].eval().requires_grad_(False)
        names = list(self.graph_model.type_names)
        self.transforms = [
            ChemicalSpeciesToAtomTypeMapper(model_type_names=names),
            NeighborListTransform(r_max=float(self.graph_model.metadata["r_max"])),
        ]

    def data(self, atoms):
        data = from_ase(atoms)
        for transform in self.transforms:
            data = transform(data)
        return data

    def evaluate(self, atoms):
        out = self.graph_model(self.data(atoms))
        return {
            "energy": float(out["total_energy"]),
            "forces": out["forces"].view(-1, 3).tolist(),
            "stress": out["stress"].view(3, 3).tolist() if atoms.pbc.all() else None,
        }

    def hessian(self, atoms, rows=None):
        """All rows, or the first ones alone."""
        data = self.data(atoms)
        positions = data[AtomicDataDict.POSITIONS_KEY].requires_grad_(True)
        energy = self.graph_model.model.func(data)[AtomicDataDict.TOTAL_ENERGY_KEY].sum()
        (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
        found = [torch.autograd.grad(g, positions, retain_graph=True)[0].flatten() for g in gradient.flatten()[:rows]]
        return torch.stack(found).numpy() if found else np.zeros((0, positions.numel()))


def main(task, checkpoint, structures, out, rows=None):
    model = Model(checkpoint)
    if task == "evaluate":
        frames = ase.io.read(structures, ":")
        Path(out).write_text(json.dumps([model.evaluate(atoms) for atoms in frames]))
        return
    atoms = ase.io.read(structures)
    memory, start = peak_memory(), time.process_time()
    model.hessian(atoms, 0)
    middle = time.process_time()
    np.save(out, model.hessian(atoms, rows and int(rows)))
    seconds = time.process_time() - middle
    cost = {"seconds": seconds, "first_pass": middle - start, "megabytes": peak_memory() - memory}
    print("RESULT " + json.dumps(cost))


def peak_memory():
    """Largest resident size so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
