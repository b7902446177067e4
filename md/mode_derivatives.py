"""First derivatives of ω² where levels may coincide: perturbation theory within each degenerate set.

The derivative of D(q) within a set of degenerate modes is a Hermitian matrix M_ab = v_a† ∂H v_b. Calculators give
derivatives of curvatures s(v) = v† H v only; M follows from the curvatures of v_a, v_a + v_b and v_a + i v_b.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]


def degenerate_sets(frequencies: Array, gap: float = 1e-4) -> list[slice]:
    """Runs of levels, each within ``gap`` (THz) of the one before."""
    cuts = [0, *(np.flatnonzero(np.diff(frequencies) > gap) + 1).tolist(), len(frequencies)]
    return [slice(a, b) for a, b in pairwise(cuts)]


def bloch_waves(atoms: Atoms, q: Array, vectors: Complex) -> Complex:
    """Eigenvectors of D(q) in columns → displacement waves v_j = e_j exp(iq·r_j)/√m_j, (m, n, 3)."""
    phase = np.exp(2j * np.pi * atoms.get_scaled_positions(wrap=False) @ q) / np.sqrt(atoms.get_masses())
    return np.asarray((np.repeat(phase, 3)[:, None] * vectors).T.reshape(-1, len(atoms), 3))


def probes(waves: Complex) -> Complex:
    """The waves whose curvatures say all about a set of d waves: d, then a pair for each a < b; d² in all."""
    a, b = np.triu_indices(len(waves), 1)
    return np.concatenate([waves, waves[a] + waves[b], waves[a] + 1j * waves[b]])


def hermitian(curvatures: Array, size: int) -> Complex:
    """M_ab from the (derivatives of) curvatures of `probes`, (d², …) → (…, d, d)."""
    a, b = np.triu_indices(size, 1)
    single, real, imaginary = np.split(np.moveaxis(curvatures, 0, -1), [size, size + len(a)], axis=-1)
    both = single[..., a] + single[..., b]
    result = np.zeros((*single.shape[:-1], size, size), dtype=np.complex128)
    result[..., range(size), range(size)] = single
    # s(v_a + i v_b) = M_aa + M_bb − 2 Im M_ab
    result[..., a, b] = ((real - both) - 1j * (imaginary - both)) / 2
    result[..., b, a] = result[..., a, b].conj()
    return result


@dataclass(frozen=True)
class ProbePlan:
    """All waves to ask a calculator for at many q, and where each degenerate set's answers lie.

    Attributes:
        q: (m, 3) of each wave.
        waves: (m, n, 3).
        places: For each degenerate set: index of its q, its levels, its rows among the waves.
    """

    q: Array
    waves: Complex
    places: list[tuple[int, slice, slice]]


def plan(atoms: Atoms, q: Array, frequencies: Array, vectors: Complex) -> ProbePlan:
    """List the probes of every degenerate set at every q.

    Args:
        atoms: The primitive cell.
        q: (nq, 3) fractions.
        frequencies: (nq, 3n) THz.
        vectors: (nq, 3n, 3n), eigenvectors of D(q) in columns.
    """
    rows, waves, places, start = [], [], [], 0
    for i, point in enumerate(q):
        moving = bloch_waves(atoms, point, vectors[i])
        for levels in degenerate_sets(frequencies[i]):
            some = probes(moving[levels])
            places.append((i, levels, slice(start, start + len(some))))
            start += len(some)
            waves.append(some)
            rows.append(np.repeat(point[None], len(some), axis=0))
    return ProbePlan(np.concatenate(rows), np.concatenate(waves), places)
