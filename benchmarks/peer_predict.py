"""In a peer's environment: energies and forces of the frames of a file by a model that the peer trained.

    python peer_predict.py nequip best.ckpt test.extxyz predictions.npz

`peer_training.py` calls it.
"""

from __future__ import annotations

import sys
import warnings

import ase.io
import numpy as np
import torch
from ase.calculators.calculator import Calculator


def nequip(path: str) -> Calculator:
    """The weights of a checkpoint, averaged where an average was kept."""
    from nequip.integrations.ase import NequIPCalculator

    return NequIPCalculator._from_saved_model(path)  # noqa: SLF001 (what it offers beside compiled files)


def mace(path: str) -> Calculator:
    """In the precision it was trained in."""
    from mace.calculators import MACECalculator

    return MACECalculator(model_paths=path, device="cpu", default_dtype="float32")


def main() -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    peer, model, frames, out = sys.argv[1:]
    calculator = {"nequip": nequip, "mace": mace}[peer](model)
    energies, forces = [], []
    for atoms in ase.io.iread(frames, index=":"):
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces())
    np.savez(out, energies=np.array(energies), forces=np.concatenate(forces))


if __name__ == "__main__":
    main()
