"""The Hessian of a supercell as H(q) of its primitive cell, at the wavevectors that fit into the supercell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlip.datasets.frame import Array, LabelledFrame
from mlip.errors import InputError

_NEAR = 1e-2  # Å: atoms of a label supercell are at their lattice sites, to the rounding of files


@dataclass(frozen=True, eq=False)
class BlochLabels:
    """H(q) of a crystal, without masses and basis phases.

    Attributes:
        primitive: The primitive cell, in the orientation of the supercell.
        repeats: (3, 3) integers: supercell lattice = repeats · primitive lattice, rows.
        q: (nq, 3), in fractions of the primitive cell's reciprocal vectors.
        matrices: (nq, 3n, 3n) complex, eV/Å²: H_jk(q) = Σ_R Φ(j0, kR) exp(iq·R).
        name: Where they are from.
    """

    primitive: Atoms
    repeats: NDArray[np.int64]
    q: Array
    matrices: NDArray[np.complex128]
    name: str

    def only(self, q: Sequence[Sequence[float]]) -> BlochLabels:
        """Those at chosen wavevectors.

        Raises:
            InputError: A wavevector that does not fit into the label supercell.
        """
        chosen = [self._find(np.asarray(point, dtype=float)) for point in q]
        return replace(self, q=self.q[chosen], matrices=self.matrices[chosen])

    def _find(self, point: Array) -> int:
        gaps = np.abs(self.q - point - np.rint(self.q - point)).max(axis=1)
        if gaps.min() > 1e-4:
            shown = ", ".join(f"{x:g}" for x in point)
            rows = "; ".join(" ".join(str(n) for n in row) for row in self.repeats)
            raise InputError(
                f"q = ({shown}) is not commensurate with the label supercell ({rows})",
                file=self.name,
                key="q_points",
                mend="repeats · q must be integers",
            )
        return int(gaps.argmin())


def bloch_labels(frame: LabelledFrame, primitive: Atoms | None = None) -> BlochLabels:
    """Fold the Hessian of a supercell: H(q) = U†ΦU with U_(kR),k' = δ_kk' exp(iq·R)/√(number of cells).

    Every row of the Hessian enters, so that labels which break the lattice translations a little are averaged.

    Args:
        frame: A supercell at rest, with its Hessian.
        primitive: The cell to fold into; None: the primitive cell that phonopy finds.

    Raises:
        InputError: No crystal, no Hessian, or a supercell that the primitive cell does not tile.
    """
    if frame.hessian is None:
        raise InputError("no Hessian to fold into D(q)", file=frame.file, frame=frame.index)
    if not frame.atoms.pbc.all():
        raise InputError("D(q) needs a crystal", file=frame.file, frame=frame.index, mend="target: hessian")
    primitive = _guess(frame) if primitive is None else primitive
    repeats, kind, cells = _sites(frame, primitive)
    q = _commensurate(repeats)
    count, n = round(abs(np.linalg.det(repeats))), len(primitive)
    waves = np.exp(2j * np.pi * cells @ q.T) / np.sqrt(count)  # (N, nq)
    hessian = frame.hessian.reshape(len(frame), 3, len(frame), 3)
    member = (kind[:, None] == np.arange(n)).astype(float)  # (N, n)
    matrices = [_fold(hessian, member * wave[:, None]) for wave in waves.T]
    return BlochLabels(primitive, repeats, q, np.array(matrices), frame.name)


def _fold(hessian: Array, waves: NDArray[np.complex128]) -> NDArray[np.complex128]:
    n = waves.shape[1]
    half = np.einsum("iajb,jk->iakb", hessian, waves, optimize=True)
    return np.einsum("ij,iakb->jakb", waves.conj(), half, optimize=True).reshape(3 * n, 3 * n)


def _guess(frame: LabelledFrame) -> Atoms:
    from phonopy.structure.atoms import PhonopyAtoms
    from phonopy.structure.cells import get_primitive, guess_primitive_matrix

    atoms = frame.atoms
    supercell = PhonopyAtoms(
        symbols=list(atoms.symbols),
        cell=atoms.cell.array,
        scaled_positions=atoms.get_scaled_positions(wrap=False),
        masses=atoms.get_masses(),
    )
    try:
        found: Any = get_primitive(supercell, guess_primitive_matrix(supercell, symprec=1e-4), symprec=1e-4)
    except (RuntimeError, ValueError, TypeError) as error:
        raise InputError(
            f"phonopy finds no primitive cell ({error})", file=frame.file, frame=frame.index, mend="give `primitive`"
        ) from None
    return Atoms(
        found.symbols, cell=found.cell, scaled_positions=found.scaled_positions, masses=found.masses, pbc=True
    )


def _sites(frame: LabelledFrame, primitive: Atoms) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """The supercell in primitive vectors (3, 3), and of each atom: its primitive atom (N,) and its cell (N, 3)."""
    inverse = np.linalg.inv(primitive.cell.array)
    exact = frame.atoms.cell.array @ inverse
    repeats = np.rint(exact).astype(int)
    volume = abs(np.linalg.det(repeats))
    if np.abs((exact - repeats) @ primitive.cell.array).max() > _NEAR or round(volume * len(primitive)) != len(frame):
        raise _mismatch(frame, primitive)
    offsets = (frame.atoms.positions[:, None] - primitive.positions[None]) @ inverse  # (N, n, 3)
    distances = np.linalg.norm((offsets - np.rint(offsets)) @ primitive.cell.array, axis=2)
    kind = distances.argmin(axis=1)
    rows = np.arange(len(frame))
    alike = np.array_equal(primitive.numbers[kind], frame.atoms.numbers)
    even = np.array_equal(np.bincount(kind, minlength=len(primitive)), np.full(len(primitive), round(volume)))
    if distances[rows, kind].max() > _NEAR or not alike or not even:
        raise _mismatch(frame, primitive)
    return repeats, kind, np.rint(offsets[rows, kind])


def _mismatch(frame: LabelledFrame, primitive: Atoms) -> InputError:
    name = primitive.get_chemical_formula()
    return InputError(
        f"the label supercell of {len(frame)} atoms is no supercell of the primitive cell {name}",
        file=frame.file,
        frame=frame.index,
        key="primitive",
        mend="same orientation and origin needed; or leave it out",
    )


def _commensurate(repeats: NDArray[np.int64]) -> Array:
    """(nq, 3): every q in [0, 1)³ for which repeats · q are integers."""
    from phonopy.harmonic.dynmat_to_fc import get_commensurate_points

    # phonopy's supercell matrix has the new vectors as columns
    return np.asarray(get_commensurate_points(repeats.T), dtype=float)
