"""Representations of modes: names, infrared and Raman activity at Γ, little groups elsewhere.

Activity needs no character table: with χ(g) = tr(V† T(g) V) over a set of degenerate modes V and R the Cartesian
rotation of g,

    n_infrared = ⟨χ tr R⟩,   n_Raman = ⟨χ ((tr R)² + tr R²)/2⟩,   irreducible over the reals: ⟨(χ(g)² + χ(g²))/2⟩ = 1.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import spglib
from numpy.typing import NDArray
from spgrep.core import get_spacegroup_irreps_from_primitive_symmetry

from mlip.md.dynamical import DynamicalMatrices, frequencies_thz
from mlip.md.irrep_names import NamedCharacters, named_characters
from mlip.md.little_groups import LittleGroup, level_sets, little_group
from mlip.md.structure import PrimitiveCell
from mlip.symmetry.crystal import symmetry_types

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]


@dataclass(frozen=True)
class ModeSet:
    """Modes at one q that symmetry holds together.

    Attributes:
        frequency: THz, their mean; negative where they are imaginary.
        degeneracy: How many there are.
        irrep: Mulliken name of the point group of q ("A1g + Eg" where levels coincide), or None without one.
        irreducible: Whether the set is one representation over the reals.
        infrared: How many independent components of a dipole it carries; None away from Γ.
        raman: How many independent components of a polarisability; None away from Γ.
        small: Dimensions of the small representations of the space group that the set is made of.
    """

    frequency: float
    degeneracy: int
    irrep: str | None
    irreducible: bool
    infrared: int | None = None
    raman: int | None = None
    small: tuple[int, ...] = ()

    @property
    def activity(self) -> str:
        """IR, Raman, IR+Raman or silent; empty away from Γ."""
        if self.infrared is None:
            return ""
        return "+".join(word for word, n in (("IR", self.infrared), ("Raman", self.raman)) if n) or "silent"

    @property
    def label(self) -> str:
        """The name, or what can be said without one."""
        if self.irrep is not None:
            return self.irrep
        return f"{'+'.join(map(str, self.small)) or self.degeneracy}-dim., unnamed"


@dataclass(frozen=True)
class ModeTable:
    """All modes at one q by symmetry; at Γ the optical ones.

    Attributes:
        q: (3,) fractions.
        point_group: International symbol of the point group of q.
        sets: In rising frequency.
        acoustic: Name of the acoustic triplet at Γ, which is left out of ``sets``.
    """

    q: Array
    point_group: str
    sets: list[ModeSet]
    acoustic: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        rows = [asdict(one) | {"activity": one.activity, "label": one.label} for one in self.sets]
        return {"q": self.q, "point_group": self.point_group, "acoustic": self.acoustic, "modes": rows}

    @property
    def line(self) -> str:
        """The optical modes in one line, for people."""
        if not self.sets:
            return "no optical modes"
        words = [f"{one.label} {one.frequency:.2f} {one.activity}".strip() for one in self.sets]
        return f"modes at Γ ({self.point_group}), THz: " + ", ".join(words)


def gamma_modes(matrices: DynamicalMatrices, cell: PrimitiveCell, gap: float = 1e-4) -> ModeTable:
    """Optical modes at Γ with names and activity.

    The rigid translations are projected out first, so that an unstable optical mode is not mistaken for one of
    them; a macroscopic electric field is left out (transverse modes).

    Args:
        matrices: D(q).
        cell: The primitive cell; the matrices must have its symmetry.
        gap: THz below which levels count as one.
    """
    group = little_group(cell, np.zeros(3))
    shifts = np.kron(np.sqrt(cell.atoms.get_masses())[:, None], np.eye(3))
    orthogonal, _ = np.linalg.qr(shifts, mode="complete")
    acoustic, optical = orthogonal[:, :3], orthogonal[:, 3:]
    d = matrices.at(np.zeros((1, 3)))[0].real
    values, inner = np.linalg.eigh(optical.T @ ((d + d.T) / 2) @ optical)
    table = _named_at_gamma(cell, group)
    sets = _sets(frequencies_thz(values), (optical @ inner).astype(np.complex128), group, table, gap)
    name = None if table is None else table.name(group.characters(acoustic.astype(np.complex128)))
    return ModeTable(np.zeros(3), group.symbol, sets, name)


def modes_at(matrices: DynamicalMatrices, cell: PrimitiveCell, q: Array, gap: float = 1e-4) -> ModeTable:
    """Modes at any q by the representations of its little group.

    Names are those of the point group of q where the modes have them, else dimensions alone are given. Away from Γ
    names depend on the origin (that of the cell, else the inversion centre) and, where the point group leaves open
    what is B1 and what B2, on spglib's axes.
    """
    if np.abs(q - np.rint(q)).max() < 1e-6:
        return gamma_modes(matrices, cell, gap)
    group = little_group(cell, q)
    d = matrices.at(np.asarray(q)[None])[0]
    values, vectors = np.linalg.eigh((d + d.conj().T) / 2)
    table = None if group.phases is None else named_characters(group.rotations)
    return ModeTable(np.asarray(q), group.symbol, _sets(frequencies_thz(values), vectors, group, table, gap))


def _named_at_gamma(cell: PrimitiveCell, group: LittleGroup) -> NamedCharacters | None:
    crystal = (cell.atoms.cell.array, cell.atoms.get_scaled_positions(wrap=False), symmetry_types(cell.atoms))
    dataset = spglib.get_symmetry_dataset(crystal, symprec=1e-5)
    return named_characters(group.rotations, None if dataset is None else dataset.transformation_matrix)


def _sets(
    frequencies: Array, vectors: Complex, group: LittleGroup, table: NamedCharacters | None, gap: float
) -> list[ModeSet]:
    if not len(frequencies):
        return []
    at_gamma = not group.q.any()
    small = _small_representations(group)
    result = []
    for where in level_sets(frequencies, vectors, group, gap):
        characters = group.characters(vectors[:, where])
        plain = characters if group.phases is None else characters * group.phases
        dipole, polarisability = activity(characters.real, group.cartesian) if at_gamma else (None, None)
        parts = _parts(characters, small)
        result.append(
            ModeSet(
                frequency=float(frequencies[where].mean()),
                degeneracy=where.stop - where.start,
                irrep=None if table is None else table.name(plain),
                irreducible=is_irreducible(characters.real, group) if at_gamma else len(parts) == 1,
                infrared=dipole,
                raman=polarisability,
                small=parts,
            )
        )
    return result


def activity(characters: Array, cartesian: Array) -> tuple[int, int]:
    """How often a representation is contained in the vectors and in the symmetric tensors of second rank."""
    trace = np.trace(cartesian, axis1=1, axis2=2)
    squared = np.trace(cartesian @ cartesian, axis1=1, axis2=2)
    infrared = (characters * trace).mean()
    raman = (characters * (trace**2 + squared) / 2).mean()
    return round(float(infrared)), round(float(raman))


def is_irreducible(characters: Array, group: LittleGroup) -> bool:
    """Whether a real representation cannot be split over the reals: ⟨(χ(g)² + χ(g²))/2⟩ = 1.

    For a complex pair, as in C3, C4h or Th, the plain ⟨χ²⟩ is 2 although no real vectors split it.
    """
    squares = [int(np.abs(group.rotations - w @ w).sum(axis=(1, 2)).argmin()) for w in group.rotations]
    return round(float(((characters**2 + characters[squares]) / 2).mean())) == 1


@dataclass(frozen=True)
class _Small:
    """A small representation: its dimension and characters (g,)."""

    dimension: int
    characters: Complex


def _small_representations(group: LittleGroup) -> list[_Small]:
    """The small representations of the little group, by spgrep, in the order of the group's operations."""
    found, order = get_spacegroup_irreps_from_primitive_symmetry(group.rotations, group.translations, group.q)
    back = np.argsort(np.asarray(order))
    traces = [np.trace(np.asarray(one), axis1=1, axis2=2)[back] for one in found]
    return [_Small(one.shape[-1], np.asarray(trace)) for one, trace in zip(found, traces, strict=True)]


def _parts(characters: Complex, small: list[_Small]) -> tuple[int, ...]:
    """Dimensions of the small representations contained in a set."""
    parts: list[int] = []
    for one in small:
        parts += [one.dimension] * round(float((one.characters.conj() * characters).mean().real))
    return tuple(parts)
