"""How the atoms move in a phonon: displacement patterns, and the waves they make in a block of cells.

An eigenvector e of phonopy's D(q) has the atomic positions in its phase and is mass-weighted, so atom j of cell l
moves by u_jl(t) = Re[e_j / √m_j · exp(2πi q·(l + x_j)) · exp(−iωt)], with q and x_j in fractions. The pattern that is
kept here, v_j = e_j / √m_j · exp(2πi q·x_j), has mass and position in it: u_jl(t) = Re[v_j · exp(2πi q·l − iωt)].
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlip.md.bands import BandPath, Bands

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]


@dataclass(frozen=True)
class Modes:
    """Displacement patterns at some q points.

    Attributes:
        index: (m,) where on the path they stand.
        q: (m, 3) in fractions of the primitive reciprocal vectors.
        frequencies: (m, 3n) THz in rising order; imaginary ones negative.
        patterns: (m, 3n, n, 3) v_j, each pattern of norm 1 and with its largest component real.
    """

    index: NDArray[np.int64]
    q: Array
    frequencies: Array
    patterns: Complex

    def displacements(self, point: int, branch: int, cells: Array, phase: float = 0.0) -> Array:
        """The wave in given cells at the time at which ωt is ``phase``, of unit amplitude.

        Args:
            point: Which of these q points.
            branch: Which branch.
            cells: (c, 3) integers l.
            phase: ωt in radians.

        Returns:
            (c, n, 3) in the order of ``cells``.
        """
        turn = np.exp(2j * np.pi * (np.asarray(cells) @ self.q[point]) - 1j * phase)
        return np.real(turn[:, None, None] * self.patterns[point, branch])


def patterns(atoms: Atoms, q: Array, vectors: Complex) -> Complex:
    """Displacement patterns from eigenvectors of D(q).

    Args:
        atoms: The primitive cell, with its masses.
        q: (m, 3) fractions.
        vectors: (m, 3n, 3n), eigenvectors in columns.

    Returns:
        (m, 3n, n, 3), see `Modes.patterns`.
    """
    m, size, _ = vectors.shape
    moved = vectors.swapaxes(1, 2).reshape(m, size, len(atoms), 3)
    phase = np.exp(2j * np.pi * q @ atoms.get_scaled_positions(wrap=False).T)
    moved = moved * (phase / np.sqrt(atoms.get_masses()))[:, None, :, None]
    flat = moved.reshape(m, size, -1)
    flat = flat / np.linalg.norm(flat, axis=-1, keepdims=True)
    largest = np.take_along_axis(flat, np.abs(flat).argmax(axis=-1)[..., None], axis=-1)
    return (flat * np.abs(largest) / largest).reshape(m, size, len(atoms), 3)


def modes_of(bands: Bands, atoms: Atoms, budget: int = 400_000) -> Modes:
    """Modes along a path, thinned so that they hold at most ``budget`` real numbers; special points always stay."""
    per_point = 18 * len(atoms) ** 2  # 3n modes of n atoms, three complex components each
    index = thinned(bands.path, max(1, budget // per_point))
    q = bands.path.q[index]
    return Modes(index, q, bands.frequencies[index], patterns(atoms, q, bands.vectors[index]))


def thinned(path: BandPath, most: int) -> NDArray[np.int64]:
    """Indices of at most ``most`` points, evenly along each segment; both ends of every segment are always there."""
    ends = {i for first, stop in path.segments for i in (first, stop - 1)}
    inner = len(path.q) - len(ends)
    stride = max(1, -(-inner // max(1, most - len(ends))))
    between = {i for first, stop in path.segments for i in range(first, stop, stride)} if most > len(ends) else set()
    return np.array(sorted(ends | between), dtype=np.int64)


def repetitions(q: Array, atoms: Atoms, *, edge: float = 8.0, most_atoms: int = 400) -> tuple[int, int, int]:
    """A block of cells in which the wave of ``q`` fits, or else in which it is seen.

    Along each axis the block is a multiple of the denominator of q where that is at most 8, and about one
    wavelength where it is not; it is at least ``edge`` Å long, and shorter again where there would be too many atoms.

    Args:
        q: (3,) fractions.
        atoms: The primitive cell.
        edge: Å.
        most_atoms: In the whole block.
    """
    periods = [_period(float(x)) for x in q]
    wanted = [period * max(1, round(edge / (period * length)))
              for period, length in zip(periods, atoms.cell.lengths(), strict=True)]  # fmt: skip
    while np.prod(wanted) * len(atoms) > most_atoms and wanted != periods:
        axis = int(np.argmax([(n - p) * a for n, p, a in zip(wanted, periods, atoms.cell.lengths(), strict=True)]))
        wanted[axis] -= periods[axis]
    while np.prod(wanted) * len(atoms) > most_atoms and max(wanted) > 1:
        wanted[int(np.argmax(wanted))] -= 1
    return wanted[0], wanted[1], wanted[2]


def _period(q: float, most: int = 8) -> int:
    """The number of cells after which exp(2πi q l) comes back, or about one wavelength where that is too many."""
    near = Fraction(q).limit_denominator(most)
    if abs(float(near) - q) < 1e-3:
        return near.denominator
    away = abs(q - round(q))
    return min(most, round(1 / away))
