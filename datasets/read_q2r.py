"""Force constants of density-functional perturbation theory, as Quantum ESPRESSO's q2r.x writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units

from mlip.datasets.entry import select
from mlip.datasets.raw import RawFrame, RawSet, readable
from mlip.datasets.read_phonopy import to_atoms
from mlip.errors import InputError

_MASS = units._me / units._amu * 2  # Rydberg atomic units → amu  # noqa: SLF001


def read_q2r(path: Path, index: int | slice) -> RawSet:
    """The supercell of the mesh of q points, with its force constants as Hessian, in eV and Å.

    Args:
        path: The file ``flfrc`` of q2r.x (``ibrav = 0``, so that the cell is in it).
        index: Must take the one frame that there is.

    Raises:
        InputError: Not such a file, no cell in it, or force constants without their dipole part (a polar crystal).
    """
    select(index, 1, file=path)
    with readable(path, "force constants of q2r.x"):
        supercell, constants = _read(path)
    n = len(constants)
    values = {"hessian": constants.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n) * units.Ry / units.Bohr**2}
    return RawSet([RawFrame(supercell, values)], "q2r.x force constants", units_from="converted from Ry and Bohr")


def _read(path: Path) -> tuple[Atoms, Any]:
    """Supercell and full force constants (N, N, 3, 3) in Ry/Bohr²."""
    from phonopy.interface.qe import PH_Q2R
    from phonopy.structure.atoms import PhonopyAtoms

    cell = _primitive(path)
    reader = PH_Q2R(path)
    primitive = PhonopyAtoms(
        symbols=cell.symbols,
        cell=cell.cell.array,
        scaled_positions=cell.get_scaled_positions(),
        masses=cell.get_masses(),
    )
    reader.run(primitive, is_full_fc=True)
    if reader.borns is not None and np.abs(reader.borns).max() > 1e-6:
        raise InputError(
            "its force constants lack the dipole part (Born charges are in the file)",
            file=path,
            mend="run q2r.x on matrices without Born charges, or use force sets of a supercell",
        )
    return to_atoms(reader.supercell), reader.fc


def _primitive(path: Path) -> Atoms:
    """The header: types, atoms, Bravais index and lattice constant; vectors; masses; positions."""
    lines = path.read_text(encoding="utf-8").splitlines()
    types, atoms, bravais = (int(word) for word in lines[0].split()[:3])
    if bravais != 0:
        raise InputError(f"ibrav = {bravais}: the cell is not in the file", file=path, mend="use ibrav = 0")
    alat = float(lines[0].split()[3]) * units.Bohr
    cell = [[float(word) for word in line.split()] for line in lines[1:4]]
    species = [line.split("'") for line in lines[4 : 4 + types]]
    sites = [line.split() for line in lines[4 + types : 4 + types + atoms]]
    kinds = [int(site[1]) - 1 for site in sites]
    return Atoms(
        [species[kind][1].strip() for kind in kinds],
        cell=alat * np.array(cell),
        positions=alat * np.array([site[2:5] for site in sites], dtype=float),
        masses=[float(species[kind][2]) * _MASS for kind in kinds],
        pbc=True,
    )
