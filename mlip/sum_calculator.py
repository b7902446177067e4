"""A sum of calculators whose Hessian is the sum of theirs: a potential with a dispersion correction, say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.calculators.mixing import SumCalculator as ASESumCalculator
from matscipy.numerical import numerical_hessian

from mlip.errors import InputError


class SumCalculator(ASESumCalculator):
    """ASE's sum of energies, forces and stresses, and of Hessians.

    A member with ``get_hessian`` gives its own, which may be sparse (matscipy's potentials); of the others the forces
    are differenced. Members are summed as they are: a correction must not describe what the potential has learnt.

    Args:
        calculators: The members.
        displacement: Step of the central differences where a member has no Hessian, Å.
    """

    def __init__(self, calculators: Sequence[BaseCalculator], displacement: float = 1e-4) -> None:
        super().__init__(list(calculators))
        self.displacement = displacement

    def get_hessian(self, atoms: Atoms, indices: Sequence[int] | None = None) -> np.ndarray:
        """Second derivatives of the summed energy by the positions, (3N, 3N), row 3i+a, eV/Å².

        Args:
            atoms: The structure.
            indices: Only the block (3k, 3k) of these k atoms, in this order.

        Raises:
            InputError: An index is out of range, or a member's Hessian has another shape.
        """
        total: np.ndarray = np.sum([self._member(member, atoms) for member in self.mixer.calcs], axis=0)
        if indices is None:
            return total
        chosen = np.asarray(indices, dtype=np.int64)
        if chosen.size and not 0 <= chosen.min() <= chosen.max() < len(atoms):
            raise InputError(f"an atom is not among {len(atoms)}", key="indices")
        rows = (3 * chosen[:, None] + np.arange(3)).ravel()
        return total[np.ix_(rows, rows)]

    def get_hessian_vector_product(self, atoms: Atoms, v: np.ndarray) -> np.ndarray:
        """+H·v, (N, 3) → (N, 3), eV/Å² times the unit of ``v``."""
        products = [self._product(member, atoms, np.asarray(v, dtype=np.float64)) for member in self.mixer.calcs]
        total: np.ndarray = np.sum(products, axis=0)
        return total

    def _product(self, member: Any, atoms: Atoms, v: np.ndarray) -> np.ndarray:
        if hasattr(member, "get_hessian_vector_product"):
            return np.asarray(member.get_hessian_vector_product(atoms, v))
        return (self._member(member, atoms) @ v.ravel()).reshape(v.shape)

    def _member(self, member: Any, atoms: Atoms) -> np.ndarray:
        if hasattr(member, "get_hessian"):
            member.get_property("energy", atoms)  # matscipy's Hessians use the neighbours of the last calculation
            found = member.get_hessian(atoms)
        else:
            image = atoms.copy()
            image.calc = member
            found = numerical_hessian(image, d=self.displacement)
        dense = np.asarray(found.toarray() if hasattr(found, "toarray") else found, dtype=np.float64)
        if dense.size != (3 * len(atoms)) ** 2:
            name = type(member).__name__
            raise InputError(f"the Hessian of {name} has shape {dense.shape}, for {len(atoms)} atoms")
        return dense.reshape(3 * len(atoms), 3 * len(atoms))
