"""How D(q) of a primitive cell are had from a calculator, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from phonopy import Phonopy

from mlip.md.dynamical import (
    BlochMatrices,
    DynamicalMatrices,
    FourierMatrices,
    SumRuleMatrices,
    SymmetricMatrices,
    fill_from_displacements,
    fill_from_hessian,
    fill_from_matrices,
    force_symmetry_defect,
    phonopy_for,
    space_group_defect,
)
from mlip.md.phonon_result import PolarTerm
from mlip.md.polar import MODEL, born_of_model, change_in_larger_supercell, read_born, with_dipoles
from mlip.md.stars import StarMatrices
from mlip.md.structure import PrimitiveCell
from mlip.report import Check

Method = Literal["auto", "exact", "hessian", "displacement"]
# A q point of no symmetry, where defects are measured.
GENERAL_Q = np.array([0.137, 0.259, 0.391])
SYMMETRIC = 1e-6  # relative defect below which a calculator counts as having the crystal's space group


@dataclass(frozen=True)
class Solution:
    """D(q) of a crystal.

    Attributes:
        matrices: D(q) as used for bands, corrections and dipoles included.
        phonon: phonopy's object with force constants.
        defect: How far the calculator breaks the space group, relative.
        exact: D(q) that need no force constants; None where there are none, or dipoles are added.
        polar: The dipole term, where Born charges were given.
        checks: What was found out about these charges.
    """

    matrices: DynamicalMatrices
    phonon: Phonopy
    defect: float
    exact: DynamicalMatrices | None = None
    polar: PolarTerm | None = None
    checks: list[Check] = field(default_factory=list)

    @property
    def symmetric(self) -> bool:
        """Whether the crystal's symmetry may be used.

        With a calculator that has not got it, phonopy's reduction would be wrong while the frequencies look fine.
        """
        return self.defect < SYMMETRIC


@dataclass(frozen=True)
class Recipe:
    """How D(q) are had; a committee's members are solved as their mean is.

    Attributes:
        method: ``"exact"``, ``"hessian"`` or ``"displacement"``.
        supercell: (3, 3) rows, for force constants.
        displacement: Å, for finite differences.
        asr: Impose the acoustic sum rule.
        symmetrize: Average over the space group.
        born: File of Born charges, "model" for the model's own, or None.
        progress: Wraps an iterable of displaced supercells.
    """

    method: Method
    supercell: NDArray[np.int64]
    displacement: float = 0.01
    asr: bool = False
    symmetrize: bool = False
    born: str | Path | None = None
    progress: Any = iter

    def solve(self, cell: PrimitiveCell, calculator: Any) -> Solution:
        """D(q) and force constants of a crystal."""
        plain, phonon, defect = self._plain(cell, calculator)
        matrices = self._corrected(plain, cell)
        stars = StarMatrices(matrices, cell, symmetric=defect < SYMMETRIC)
        if self.method == "exact" or matrices is not plain:
            fill_from_matrices(phonon, stars)
        if self.born is None:
            return Solution(matrices, phonon, defect, exact=matrices if self.method == "exact" else None)
        return self._polar(self.born, stars, phonon, defect, cell, calculator)

    def member(self, cell: PrimitiveCell, calculator: Any) -> DynamicalMatrices:
        """D(q) of one member of a committee, with force constants only where they are needed."""
        if self.method == "exact" and self.born is None:
            return self._corrected(BlochMatrices(cell.atoms, calculator), cell)
        return self.solve(cell, calculator).matrices

    def force_constants(self, atoms: Atoms, calculator: Any, *, symmetric: bool) -> Phonopy:
        """Force constants of the crystal ``atoms`` as it is."""
        phonon = phonopy_for(atoms, self.supercell, symmetric=symmetric)
        if self.method == "exact":
            fill_from_matrices(phonon, BlochMatrices(atoms, calculator))
        elif self.method == "hessian":
            fill_from_hessian(phonon, calculator)
        else:
            fill_from_displacements(phonon, calculator, self.displacement, self.progress)
        return phonon

    def _plain(self, cell: PrimitiveCell, calculator: Any) -> tuple[DynamicalMatrices, Phonopy, float]:
        """D(q) without corrections, a phonopy object, and the defect; force constants but for exact D(q)."""
        if self.method == "exact":
            exact = BlochMatrices(cell.atoms, calculator)
            defect = space_group_defect(exact, cell, GENERAL_Q)
            return exact, phonopy_for(cell.atoms, self.supercell, symmetric=defect < SYMMETRIC), defect
        defect = force_symmetry_defect(cell, calculator)
        phonon = self.force_constants(cell.atoms, calculator, symmetric=defect < SYMMETRIC)
        return FourierMatrices(phonon), phonon, defect

    def _corrected(self, matrices: DynamicalMatrices, cell: PrimitiveCell) -> DynamicalMatrices:
        if self.symmetrize:
            matrices = SymmetricMatrices(matrices, cell)
        if self.asr:
            matrices = SumRuleMatrices(matrices, cell.atoms.get_masses())
        return matrices

    def _polar(
        self,
        born: str | Path,
        plain: DynamicalMatrices,
        phonon: Phonopy,
        defect: float,
        cell: PrimitiveCell,
        calculator: Any,
    ) -> Solution:
        """Add the dipole term, and see what a larger supercell would change."""
        charges, change = born_of_model(calculator, cell) if str(born) == MODEL else read_born(born, cell), None
        matrices = with_dipoles(phonon, charges)
        if self.method == "exact":
            change = change_in_larger_supercell(plain, phonon, charges, cell.atoms, GENERAL_Q[None])
        term = PolarTerm(charges.charges, charges.dielectric, change)
        return Solution(matrices, phonon, defect, polar=term, checks=charges.checks)
