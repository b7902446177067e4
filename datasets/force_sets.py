"""Displaced supercells of phonopy beside the undisplaced one: F(u), and the force constants that follow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlip.datasets.frame import Array, LabelledFrame
from mlip.datasets.raw import readable
from mlip.datasets.read_phonopy import (
    displacements,
    forces_and_energies,
    length_and_force_units,
    load_document,
    parse_document,
    read_force_sets_file,
    to_atoms,
)
from mlip.errors import InputError


@dataclass(frozen=True, eq=False)
class ForceSets:
    """Forces on displaced supercells.

    Attributes:
        supercell: The undisplaced supercell; its own forces are taken as zero, as phonopy does.
        displacements: (F, N, 3), Å.
        forces: (F, N, 3), eV/Å.
        file: Where they are from.
    """

    supercell: Atoms
    displacements: Array
    forces: Array
    file: Path


def is_force_sets(path: Path) -> bool:
    """Whether the file may hold phonopy's force sets."""
    names = [path.name, *(path.with_suffix("").name for _ in range(1) if path.suffix in (".xz", ".gz"))]
    return path.name.startswith("FORCE_SETS") or any(name.endswith((".yaml", ".yml")) for name in names)


def read_force_sets(path: Path) -> ForceSets:
    """Force sets of a phonopy YAML, or of FORCE_SETS with phonopy_disp.yaml beside it.

    Raises:
        InputError: Not such a file, or displacements without forces.
    """
    data, dataset = _open(path)
    moves = displacements(dataset, path)
    forces, _ = forces_and_energies(dataset)
    if any(force is None for force in forces):
        raise InputError("holds displacements without forces", file=path)
    length, unit = length_and_force_units(data)
    supercell = to_atoms(data.supercell)
    supercell.set_cell(supercell.cell * length, scale_atoms=True)
    return ForceSets(supercell, moves * length, np.asarray(forces, dtype=float) * unit, path)


def fitted_hessian(path: Path) -> LabelledFrame:
    """The undisplaced supercell with the Hessian that phonopy's symmetrised differences give.

    Raises:
        InputError: No force sets, or ones that phonopy cannot turn into force constants.
    """
    from phonopy import Phonopy

    data, dataset = _open(path)
    with readable(path, "force sets"):
        phonon = Phonopy(
            data.unitcell, data.supercell_matrix, data.primitive_matrix, calculator=data.calculator, log_level=0
        )
        phonon.dataset = dataset
        phonon.produce_force_constants()
        constants = np.asarray(phonon.force_constants)
    length, unit = length_and_force_units(data)
    n = len(constants)
    supercell = to_atoms(phonon.supercell)
    supercell.set_cell(supercell.cell * length, scale_atoms=True)
    hessian = constants.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n) * (unit / length)
    return LabelledFrame(supercell, hessian=hessian, file=path)


def _open(path: Path) -> tuple[Any, Any]:
    """Phonopy's reading of the crystal, and the data set with the forces."""
    if path.name.startswith("FORCE_SETS"):
        data, dataset, _ = read_force_sets_file(path)
        return data, dataset
    data = parse_document(load_document(path), path)
    if data.dataset is None:
        raise InputError("holds no force sets", file=path)
    return data, data.dataset
