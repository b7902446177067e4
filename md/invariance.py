"""Calculators whose energy depends on the orientation: what may still be asked of them."""

from __future__ import annotations

from typing import Any

from ase import Atoms

from mlip.errors import InputError


def is_invariant(calculator: Any, atoms: Atoms) -> bool:
    """Whether turning a structure alone leaves its energy as it is, as far as the calculator says."""
    asked = getattr(calculator, "is_invariant", None)
    return True if asked is None else bool(asked(atoms))


def require_invariant(calculator: Any, atoms: Atoms, what: str) -> None:
    """Refuse relaxed weights and fields where the symmetry of space is taken for granted.

    Args:
        calculator: Any ASE calculator.
        atoms: The structure.
        what: What takes it for granted, such as "a search for distortions".

    Raises:
        InputError: The energy depends on the orientation.
    """
    if not is_invariant(calculator, atoms):
        raise InputError(
            f"the model breaks the symmetry of space, by relaxed weights or a field, which {what} takes for granted",
            mend="RotationAveragedCalculator(calculator) is its part that keeps every symmetry",
        )


def placed(atoms: Atoms, calculator: Any) -> Atoms:
    """The structure with the frame that a calculator of ours evaluates it in; itself with any other."""
    place = getattr(calculator, "placed", None)
    found: Atoms = atoms if place is None else place(atoms)
    return found
