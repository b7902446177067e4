"""PbTiO3 for pw.x: pseudopotentials, settings, and the correction that makes energy and stress agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms

from mlip.datasets.recipes import espresso
from mlip.datasets.recipes.espresso import Crystal, IntArray, Settings

LATTICE_CONSTANT = 3.879  # Å, cubic, zero stress at these settings; measured by reference.py
BASIS_CORRECTION = 0.0737  # eV/atom, see basis_correction; measured by convergence.py
PBTIO3 = Crystal(
    "pto",
    {
        "Pb": (207.2, "Pb.pz-d-van.UPF"),
        "Ti": (47.867, "Ti.pz-sp-van_ak.UPF"),
        "O": (15.999, "O.pz-van_ak.UPF"),
    },
    np.eye(3, dtype=np.int64),
    symmetric=True,
)
SETTINGS = Settings(cutoff=30.0, mesh=(6, 6, 6), threshold=5e-9, dual=8.0, mixing=0.4)


def single_point(atoms: Atoms, supercell: IntArray, settings: Settings, folder: Path) -> Atoms:
    """Energy, forces and stress of PbTiO3, see `mlip.datasets.recipes.espresso.single_point`."""
    return espresso.single_point(atoms, supercell, settings, PBTIO3, folder)


def basis_correction(atoms: Atoms) -> float:
    """Energy (eV) that turns a fixed cut-off into a fixed number of plane waves.

    N c ln(V / V0) with c = -(2/3) dE/d(ln cut-off) per atom (Francis and Payne, J. Phys.: Condens. Matter 2,
    4395 (1990)), N atoms and V0 the volume of the relaxed cubic crystal: the stress is the derivative of the
    energy at a fixed number of plane waves, the energies of different volumes are computed at a fixed cut-off.
    """
    relaxed = LATTICE_CONSTANT**3 / 5
    return len(atoms) * BASIS_CORRECTION * float(np.log(atoms.get_volume() / len(atoms) / relaxed))
