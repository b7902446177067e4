"""Sampling the Brillouin zone: exact D(q) at every mesh point, or force constants in between."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from phonopy import Phonopy
from phonopy.phonon.mesh import Mesh

from mlip.errors import InputError
from mlip.md.dynamical import DynamicalMatrices, FourierMatrices, frequencies_at, frequencies_thz

Array = NDArray[np.float64]
Sampling = Literal["auto", "exact", "interpolated"]


class SampledMesh(Mesh):
    """phonopy's mesh, irreducible points and weights, with D(q) from wherever it comes.

    Args:
        phonon: The crystal.
        matrices: D(q) of its primitive cell.
        mesh: Three numbers, or a length in Å.
        symmetric: Whether D(q) has the crystal's symmetry, so that irreducible points suffice.
    """

    def __init__(
        self, phonon: Phonopy, matrices: DynamicalMatrices, mesh: float | Sequence[int], *, symmetric: bool
    ) -> None:
        if phonon.dynamical_matrix is None:
            raise InputError("a mesh needs force constants first")
        self.matrices = matrices
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a mesh that only time reversal reduces is still a mesh
            super().__init__(
                phonon.dynamical_matrix,
                mesh,
                is_mesh_symmetry=symmetric,
                with_eigenvectors=True,
                is_gamma_center=True,
                primitive_symmetry=phonon.primitive_symmetry,
            )

    def run(self) -> None:
        """Diagonalise D(q) at the irreducible points, a few hundred at a time."""
        values, vectors = [], []
        for q in np.array_split(self.qpoints, max(1, len(self.qpoints) // 200)):
            d = self.matrices.at(q)
            some = np.linalg.eigh((d + d.conj().swapaxes(-1, -2)) / 2)
            values.append(frequencies_thz(some.eigenvalues))
            vectors.append(some.eigenvectors)
        self._frequencies, self._eigenvectors = np.concatenate(values), np.concatenate(vectors)


@dataclass(frozen=True)
class ZoneSample:
    """A mesh that was run, and how its D(q) were had.

    Attributes:
        mesh: phonopy's mesh.
        source: "exact" or "interpolated".
        reason: Why, for people.
    """

    mesh: SampledMesh
    source: str
    reason: str


def sample_zone(
    phonon: Phonopy,
    exact: DynamicalMatrices | None,
    mesh: float | Sequence[int],
    *,
    symmetric: bool,
    sampling: Sampling,
    affordable: int,
) -> ZoneSample:
    """Phonons on a mesh, from exact D(q) where that costs no more than the rest of the calculation.

    Args:
        phonon: The crystal with force constants.
        exact: D(q) that needs no force constants, or None.
        mesh: Three numbers, or a length in Å.
        symmetric: Whether D(q) has the crystal's symmetry.
        sampling: ``"exact"`` D(q) at each irreducible point, ``"interpolated"`` from the force constants, or
            ``"auto"``: exact for at most ``affordable`` irreducible points.
        affordable: How many D(q) the rest of the calculation needs.

    Raises:
        InputError: Exact sampling was asked for where there is no exact D(q).
    """
    if sampling == "exact" and exact is None:
        raise InputError(
            "there is no exact D(q) to sample: force constants are all there is",
            key="dos_sampling",
            mend="use a calculator with get_dynamical_matrix, without Born charges",
        )
    if exact is not None and sampling != "interpolated":
        direct = SampledMesh(phonon, exact, mesh, symmetric=symmetric)
        if sampling == "exact" or len(direct.qpoints) <= affordable:
            direct.run()
            return ZoneSample(direct, "exact", f"a mesh of {len(direct.qpoints)} irreducible points")
    rough = SampledMesh(phonon, FourierMatrices(phonon), mesh, symmetric=symmetric)
    rough.run()
    why = f"a mesh of {len(rough.qpoints)} irreducible points"
    if exact is not None and sampling == "auto":
        why += f", more than the {affordable} D(q) that the rest of the calculation needs"
    return ZoneSample(rough, "interpolated", why)


def points_between(matrix: NDArray[np.int64]) -> Array:
    """A few q as far from a supercell's commensurate points as can be: S⁻¹(n + ½), and some of no symmetry.

    Args:
        matrix: (3, 3) rows S: supercell lattice = S · primitive lattice; S q is integer at commensurate points.
    """
    half = np.array([[0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0.5], [0.5, 0.29, -0.37], [1.5, 0.46, 0.61]])
    return np.asarray(np.linalg.solve(matrix.astype(np.float64), half.T).T)


def interpolation_error(exact: DynamicalMatrices, phonon: Phonopy, matrix: NDArray[np.int64]) -> float:
    """Largest |Δν| in THz between exact D(q) and the force constants' interpolation, off the commensurate mesh."""
    q = points_between(matrix)
    return float(np.abs(frequencies_at(exact, q) - frequencies_at(FourierMatrices(phonon), q)).max())
