"""Polar crystals: Born charges, and the dipole term that a short-range model cannot hold.

A model with a finite range has no macroscopic field: its LO branch is right at the commensurate points of a cell
like those it learnt from, and falls onto TO towards Γ. So D is taken there, exactly, and interpolated with the
dipole term of Gonze and Lee, Phys. Rev. B 55, 10355 (1997).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from numpy.typing import NDArray
from phonopy import Phonopy
from phonopy.exception import BORNFileParseError
from phonopy.file_IO import parse_BORN
from phonopy.interface.phonopy_yaml import load_phonopy_yaml
from phonopy.physical_units import get_physical_units

from mlip.errors import InputError
from mlip.md.alignment import align, bases_with_metric
from mlip.md.dynamical import (
    DynamicalMatrices,
    FourierMatrices,
    fill_from_matrices,
    frequencies_at,
    from_phonopy,
    operations,
    phonopy_for,
    to_phonopy,
)
from mlip.md.reference_files import Loader, plain_yaml
from mlip.md.structure import PrimitiveCell
from mlip.report import Check
from mlip.surroundings import FIELD

Array = NDArray[np.float64]
MODEL = "model"  # instead of a file: the model's own Born charges


@dataclass(frozen=True)
class BornCharges:
    """Born charges of a primitive cell, symmetric as the crystal is.

    Attributes:
        charges: (n, 3, 3) in e, Z[i, a, b] = V ∂P_a/∂u_ib, averaged over the space group.
        dielectric: (3, 3) ε∞, averaged likewise.
        charge_sum: Largest element of Σ_i Z_i in e, as read.
        asymmetry: Largest change of a charge (e) or of ε∞ in that average.
    """

    charges: Array
    dielectric: Array
    charge_sum: float
    asymmetry: float

    @property
    def parameters(self) -> dict[str, Any]:
        """Phonopy's ``nac_params``; charges in e, energies in eV, lengths in Å."""
        units = get_physical_units()
        return {"born": self.charges, "dielectric": self.dielectric, "factor": units.Hartree * units.Bohr}

    @property
    def checks(self) -> list[Check]:
        """What is left over of the sum rule and of site symmetry is an artefact of whatever made the charges."""
        return [
            Check("sum of the Born charges", self.charge_sum, 0.05, "e"),
            Check("Born charges against site symmetry", self.asymmetry, 0.05, "e"),
        ]


def read_born(path: str | Path, cell: PrimitiveCell) -> BornCharges:
    """Born charges and dielectric tensor, laid onto our primitive cell.

    Args:
        path: phonopy's ``BORN`` (axes and order of atoms are those of the structure, only independent atoms), or a
            phonopy or phono3py YAML with a ``nac`` section, whose cell may be another choice, turned and reordered.
        cell: The crystal.

    Raises:
        InputError: Not there, or it does not fit the crystal.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("no such BORN file", file=path)
    is_yaml = any(suffix in path.suffixes for suffix in (".yaml", ".yml"))
    charges, dielectric = _from_yaml(path, cell.atoms) if is_yaml else _from_born(path, cell.atoms)
    return symmetric_charges(charges, dielectric, cell)


def born_of_model(calculator: Any, cell: PrimitiveCell) -> BornCharges:
    """Born charges and ε∞ of a model that feels a field, at the crystal as it is and in no field.

    Args:
        calculator: One of ours, of a model with ``anisotropy: {source: field}``.
        cell: The crystal.

    Raises:
        InputError: The calculator has no derivatives by a field.
    """
    ask = getattr(calculator, "get_field_response", None)
    if ask is None:
        raise InputError(f"{type(calculator).__name__} has no Born charges", key="born", mend="give a BORN file")
    atoms = cell.atoms.copy()
    atoms.info.pop(FIELD, None)
    from mlip.response import dielectric_tensor  # torch is slow to import, and files of charges do not need it

    found = ask(atoms)
    dielectric = dielectric_tensor(found["polarizability"], atoms.get_volume())
    return symmetric_charges(found["born_charges"], dielectric, cell)


def _from_born(path: Path, atoms: Atoms) -> tuple[Array, Array]:
    try:
        found = parse_BORN(to_phonopy(atoms), filename=path)
    except (BORNFileParseError, ValueError, IndexError, RuntimeError) as error:
        raise InputError(f"does not fit {atoms.get_chemical_formula()}: {error}", file=path, key="born") from error
    return np.array(found["born"]), np.array(found["dielectric"])


def _from_yaml(path: Path, atoms: Atoms) -> tuple[Array, Array]:
    """The charges of a phonopy file, turned and reordered onto our cell."""
    data = load_phonopy_yaml(yaml.load(plain_yaml(path), Loader=Loader))  # noqa: S506 — safe
    if data.nac_params is None:
        raise InputError("holds no Born charges (nac)", file=path, key="nac")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = Phonopy(data.unitcell, np.eye(3), data.primitive_matrix, log_level=0).primitive
        found = align(from_phonopy(theirs), atoms)
    except InputError as error:
        raise InputError(error.problem, file=path, key="nac") from None
    charges, dielectric = np.array(data.nac_params["born"]), np.array(data.nac_params["dielectric"])
    if len(charges) != len(theirs):
        raise InputError(f"{len(charges)} Born charges for {len(theirs)} atoms", file=path, key="nac")
    return found.tensors(charges), found.tensors(dielectric[None].repeat(len(charges), 0))[0]


def symmetric_charges(charges: Array, dielectric: Array, cell: PrimitiveCell) -> BornCharges:
    """Average over the space group, and see what that changes.

    Args:
        charges: (n, 3, 3) e, at the atoms of ``cell``.
        dielectric: (3, 3).
        cell: The crystal.
    """
    n = len(cell.atoms)
    group = [matrix for _, matrix in operations(cell)]
    blocks = np.zeros((3 * n, 3 * n))
    for i, charge in enumerate(charges):
        blocks[3 * i : 3 * i + 3, 3 * i : 3 * i + 3] = charge
    average = np.mean([t @ blocks @ t.T for t in group], axis=0)
    kept = np.array([average[3 * i : 3 * i + 3, 3 * i : 3 * i + 3] for i in range(n)])
    turns = [matrix.reshape(n, 3, n, 3).sum(axis=(0, 2)) / n for matrix in group]
    tensor = np.mean([r @ dielectric @ r.T for r in turns], axis=0)
    change = max(float(np.abs(kept - charges).max()), float(np.abs(tensor - dielectric).max()))
    return BornCharges(kept, (tensor + tensor.T) / 2, float(np.abs(charges.sum(axis=0)).max()), change)


def trained_supercell(calculator: Any, atoms: Atoms) -> NDArray[np.int64] | None:
    """The cell that a potential was trained on, as a supercell of ``atoms``: rows M of M · primitive lattice.

    The macroscopic field of DFT labels is that of their own periodic cell, so the model's D is right at the points
    commensurate with it.

    Returns:
        (3, 3) integers of positive determinant, or None where the header does not say or the two lattices do not
        correspond.
    """
    potential = getattr(calculator, "potential", None)
    known = getattr(potential, "metadata", {}).get("ranges", {}).get("largest_cell")
    if known is None:
        return None
    found = bases_with_metric(atoms.cell.array, np.asarray(known, dtype=np.float64), 0.04)
    matrix = np.rint(found[0]).astype(np.int64) if found else None
    return matrix if matrix is None or np.linalg.det(matrix) > 0 else -matrix  # the same lattice


def with_dipoles(phonon: Phonopy, born: BornCharges) -> DynamicalMatrices:
    """D(q) of the object's force constants with the dipole term.

    The dipole–dipole part at the commensurate points is taken out of the force constants before they are
    interpolated and put back at every q, so that it is counted once.
    """
    phonon.nac_params = born.parameters
    return FourierMatrices(phonon)


def change_in_larger_supercell(
    plain: DynamicalMatrices, phonon: Phonopy, born: BornCharges, atoms: Atoms, q: Array
) -> float:
    """Largest |Δν| in THz at ``q`` in the next larger supercell of the same shape.

    Args:
        plain: D(q) without dipoles, exact at any q.
        phonon: The crystal with its dipole term.
        born: Born charges and ε∞.
        atoms: The primitive cell.
        q: (nq, 3) fractions.
    """
    matrix = np.rint(phonon.supercell_matrix.T).astype(np.int64)
    larger = phonopy_for(atoms, _larger(matrix), symmetric=False)
    fill_from_matrices(larger, plain)
    there = with_dipoles(larger, born)
    return float(np.abs(frequencies_at(there, q) - frequencies_at(FourierMatrices(phonon), q)).max())


def _larger(matrix: NDArray[np.int64]) -> NDArray[np.int64]:
    """The next multiple of the rows' common shape: (2, 2, 2) becomes (3, 3, 3), twice a cell three times."""
    common = int(np.gcd.reduce(np.abs(matrix[matrix != 0])))
    return matrix // common * (common + 1)
