"""Harmonic statistics of independent modes, and a mesh of q points with weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import spglib
from numpy.typing import NDArray
from scipy.constants import Avogadro, Boltzmann, Planck

from mlip.errors import InputError
from mlip.md.structure import PrimitiveCell

Array = NDArray[np.float64]
_MODE_J = Planck * 1e12  # J per THz
_MOLAR = Avogadro


@dataclass(frozen=True)
class QMesh:
    """A Γ-centred mesh reduced by symmetry.

    Attributes:
        numbers: Points along each reciprocal vector.
        q: (m, 3) in fractions of the primitive reciprocal vectors.
        weights: (m,) that sum to one.
    """

    numbers: tuple[int, int, int]
    q: Array
    weights: Array


def q_mesh(cell: PrimitiveCell, length: float, *, symmetric: bool = True) -> QMesh:
    """A mesh with as many points as cells fit into ``length`` (Å) along each direction.

    Args:
        cell: The primitive cell.
        length: Å.
        symmetric: Reduce by the space group; else by q ↔ −q alone.

    Raises:
        InputError: The length is not positive.
    """
    if length <= 0:
        raise InputError(f"a mesh of {length:g} Å has no points", key="mesh")
    reciprocal = np.linalg.norm(cell.atoms.cell.reciprocal().array, axis=1)
    a, b, c = (max(1, int(np.rint(length * k))) for k in reciprocal)
    rotations = cell.rotations if symmetric else np.eye(3, dtype=np.int64)[None]
    mapping, grid = spglib.get_stabilized_reciprocal_mesh([a, b, c], rotations, is_time_reversal=True)
    chosen, counts = np.unique(mapping, return_counts=True)
    return QMesh((a, b, c), grid[chosen] / np.array([a, b, c]), counts / counts.sum())


def free_energy(frequencies: Array, temperature: float) -> Array:
    """ħω/2 + kT ln(1 − e^(−ħω/kT)) of each mode, kJ/mol, from THz and K."""
    zero_point = _MODE_J * frequencies / 2
    if temperature <= 0:
        return zero_point * _MOLAR / 1000
    x = _MODE_J * frequencies / (Boltzmann * temperature)
    return np.asarray((zero_point + Boltzmann * temperature * np.log(-np.expm1(-x))) * _MOLAR / 1000)


def entropy(frequencies: Array, temperature: float) -> Array:
    """K [x/(eˣ − 1) − ln(1 − e⁻ˣ)] of each mode, J/K/mol; x = ħω/kT."""
    if temperature <= 0:
        return np.zeros_like(frequencies)
    x = np.minimum(_MODE_J * frequencies / (Boltzmann * temperature), 600.0)
    return np.asarray(Boltzmann * _MOLAR * (x / np.expm1(x) - np.log(-np.expm1(-x))))


def heat_capacity(frequencies: Array, temperature: float) -> Array:
    """K x² eˣ/(eˣ − 1)² of each mode at constant volume, J/K/mol."""
    if temperature <= 0:
        return np.zeros_like(frequencies)
    x = np.minimum(_MODE_J * frequencies / (Boltzmann * temperature), 600.0)
    return np.asarray(Boltzmann * _MOLAR * (x / 2 / np.sinh(x / 2)) ** 2)
