"""Polar crystals: Born charges, and the dipole term that a short-range model cannot hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from phonopy import Phonopy
from phonopy.exception import BORNFileParseError
from phonopy.file_IO import parse_BORN
from phonopy.physical_units import get_physical_units

from mlip.errors import InputError
from mlip.md.dynamical import DynamicalMatrices, FourierMatrices, fill_from_matrices, frequencies_at, phonopy_for
from mlip.report import Check


def read_born(path: str | Path, phonon: Phonopy) -> dict[str, Any]:
    """Born charges and dielectric tensor from phonopy's ``BORN`` file.

    Its Cartesian axes are those of the structure, its atoms the symmetry-independent ones in the structure's
    order; phonopy spreads them over the primitive cell and averages over site symmetry.

    Args:
        path: The file: unit factor, ε∞ (9 numbers), Z* (9 numbers) of each independent atom.
        phonon: The crystal.

    Returns:
        phonopy's ``nac_params``: born (n, 3, 3) in e, dielectric (3, 3), factor.

    Raises:
        InputError: Not there, or it does not fit the crystal.
    """
    if not Path(path).is_file():
        raise InputError("no such BORN file", file=path)
    try:
        found = dict(parse_BORN(phonon.primitive, filename=path))
    except (BORNFileParseError, ValueError, IndexError, RuntimeError) as error:
        raise InputError(f"does not fit {phonon.primitive.symbols}: {error}", file=path, key="born") from error
    found.setdefault("factor", None)
    found["factor"] = found["factor"] or get_physical_units().Hartree * get_physical_units().Bohr
    return found


def charge_check(parameters: dict[str, Any]) -> Check:
    """Σ Z* must vanish; what is left over is an artefact of the calculation that made the charges."""
    left = np.abs(parameters["born"].sum(axis=0)).max()
    return Check("sum of the Born charges", float(left), 0.05, "e")


def with_dipoles(phonon: Phonopy, parameters: dict[str, Any]) -> DynamicalMatrices:
    """D(q) of the object's force constants with the dipole term of Gonze and Lee, Phys. Rev. B 55, 10355 (1997).

    The dipole–dipole part at the commensurate points is taken out of the force constants before they are
    interpolated and put back at every q, so that it is counted once.
    """
    phonon.nac_params = parameters
    return FourierMatrices(phonon)


def change_in_larger_supercell(
    plain: DynamicalMatrices, phonon: Phonopy, parameters: dict[str, Any], atoms: Any, q: NDArray[np.float64]
) -> float:
    """Largest |Δν| in THz at ``q`` when every edge of the supercell grows by one primitive vector.

    Args:
        plain: D(q) without dipoles, exact at any q.
        phonon: The crystal with its dipole term.
        parameters: Born charges and ε∞.
        atoms: The primitive cell.
        q: (nq, 3) fractions.
    """
    matrix = np.rint(phonon.supercell_matrix.T).astype(np.int64)
    larger = phonopy_for(atoms, matrix + np.diag(np.sign(np.diag(matrix))), symmetric=False)
    fill_from_matrices(larger, plain)
    there = with_dipoles(larger, parameters)
    return float(np.abs(frequencies_at(there, q) - frequencies_at(FourierMatrices(phonon), q)).max())
