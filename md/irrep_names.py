"""Mulliken names of point-group representations, from phonopy's character tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import spglib
from numpy.typing import NDArray
from phonopy.phonon.character_table import CharTableEntry, RotationRep, character_table

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
# Hexagonal axes turned by 30°: phonopy has 32 with its twofold axes along a only (321, not 312).
HEXAGONAL_TURN = np.array([[1, 1, 0], [-1, 2, 0], [0, 0, 3]]) / 3


@dataclass(frozen=True)
class NamedCharacters:
    """The irreducible representations over the reals of one point group.

    Complex pairs (E of C3, C4h, Th, …) are one entry, as no real mode has half of one.

    Attributes:
        labels: Mulliken names.
        characters: (labels, g), in the order of the operations that were given.
    """

    labels: list[str]
    characters: Array

    def decompose(self, characters: NDArray[np.complex128], tolerance: float = 0.05) -> dict[str, int] | None:
        """How often each representation is contained; None where the characters are no sum of these."""
        if np.abs(characters.imag).max() > tolerance:
            return None
        norms = (self.characters**2).mean(axis=1)
        counts = self.characters @ characters.real / len(characters) / norms
        whole = np.rint(counts).astype(int)
        if np.abs(whole @ self.characters - characters).max() > tolerance or whole.min() < 0:
            return None
        return {label: int(n) for label, n in zip(self.labels, whole, strict=True) if n}

    def name(self, characters: NDArray[np.complex128]) -> str | None:
        """Such as "T1u", or "A1g + Eg" where two levels coincide; None where there is no name."""
        found = self.decompose(characters)
        return None if found is None else " + ".join(label for label, n in found.items() for _ in range(n))


def named_characters(rotations: Integers, transformation: Array | None = None) -> NamedCharacters | None:
    """The table of a point group, for operations in the order given.

    Args:
        rotations: (g, 3, 3) integers, on fractional coordinates.
        transformation: (3, 3) P with x_standard = P x, which says what the standard axes are; None: spglib's
            choice for the point group alone, which leaves open what is B1 and what B2 in some groups.

    Returns:
        The table; None where phonopy has none in these axes.
    """
    found = spglib.get_pointgroup(rotations)
    if found is None:
        return None
    symbol, _, axes = found
    own = [np.roll(np.eye(3), turn, axis=0) @ np.linalg.inv(axes) for turn in range(3)]  # the unique axis may differ
    given = own if transformation is None else [transformation]
    for to_standard in [*given, *(HEXAGONAL_TURN @ one for one in given)]:
        standard = np.rint([to_standard @ w @ np.linalg.inv(to_standard) for w in rotations]).astype(np.int64)
        for entry in character_table.get(symbol.strip(), []):
            classes = [_class_of(rotation, entry["mapping_table"]) for rotation in standard]
            if None not in classes:
                return _in_order([str(name) for name in classes], entry)
    return None


def _class_of(rotation: Integers, mapping: dict[str, tuple[RotationRep, ...]]) -> str | None:
    for name, members in mapping.items():
        if any(np.array_equal(rotation, member) for member in members):
            return name
    return None


def _in_order(classes: list[str], entry: CharTableEntry) -> NamedCharacters | None:
    """Spread the classes' characters over the operations; None if they are not orthogonal (a wrong table)."""
    listed = entry["rotation_list"]
    order = [listed] if isinstance(listed, str) else list(listed)
    places = [order.index(name) for name in classes]
    characters = np.array([np.atleast_1d(row)[places] for row in entry["character_table"].values()], dtype=np.float64)
    overlaps = characters @ characters.T / len(classes)
    if np.abs(overlaps - np.diag(np.diag(overlaps))).max() > 1e-8:
        return None
    return NamedCharacters(list(entry["character_table"]), characters)
