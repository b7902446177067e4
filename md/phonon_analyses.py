"""What can be asked of phonons beyond frequencies, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from phonopy import Phonopy
from phonopy.phonon.mesh import Mesh

from mlip.errors import InputError
from mlip.files import atomic_path
from mlip.md.bands import BandPath
from mlip.md.dynamical import DynamicalMatrices
from mlip.md.group_velocity import GroupVelocities, group_velocities
from mlip.md.gruneisen import (
    GruneisenParameters,
    checked_strain,
    exact_gruneisen,
    has_strain_derivatives,
    three_volumes,
)
from mlip.md.irreps import ModeTable, gamma_modes
from mlip.md.mesh import Sampling
from mlip.md.structure import PrimitiveCell
from mlip.md.thermal_displacements import ThermalDisplacements, thermal_displacements

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Analyses:
    """What to compute beside bands, density of states and thermal properties.

    Attributes:
        irreps: Names of the modes at Γ with infrared and Raman activity.
        group_velocities: dω/dk along the path.
        gruneisen: Mode Grüneisen parameters along the path: ``"volume"``, or a strain per unit of η as 3, 6 (Voigt)
            or 9 numbers; None: none.
        displacements: Mean square displacements of the atoms.
        dos_sampling: ``"exact"`` D(q) on the mesh, ``"interpolated"`` from force constants, or ``"auto"``: exact
            where the mesh needs no more D(q) than path and force constants do.
    """

    irreps: bool = True
    group_velocities: bool = False
    gruneisen: Literal["volume"] | Sequence[float] | None = None
    displacements: bool = True
    dos_sampling: Sampling = "auto"

    def validate(self) -> None:
        """Say what is wrong before anything is computed.

        Raises:
            InputError: An unknown sampling, or a strain that is none.
        """
        if self.dos_sampling not in get_args(Sampling):
            raise InputError(f"'{self.dos_sampling}' is none of {', '.join(get_args(Sampling))}", key="dos_sampling")
        if self.gruneisen is not None:
            checked_strain(self.gruneisen)


DEFAULT_ANALYSES = Analyses()


@dataclass(frozen=True)
class AnalysisResults:
    """What came of the `Analyses` that were asked for; the others are None.

    Attributes:
        irreps: Modes at Γ.
        group_velocities: dω/dk along the path.
        gruneisen: Mode Grüneisen parameters along the path.
        displacements: Mean square displacements.
    """

    irreps: ModeTable | None = None
    group_velocities: GroupVelocities | None = None
    gruneisen: GruneisenParameters | None = None
    displacements: ThermalDisplacements | None = None

    @property
    def lines(self) -> list[str]:
        """What was found, for people."""
        lines = [] if self.irreps is None else [self.irreps.line]
        if self.group_velocities is not None:
            found = self.group_velocities
            lines.append(f"group velocities up to {found.fastest:.2f} km/s along the path ({found.method})")
        if self.gruneisen is not None:
            low, high = self.gruneisen.span
            lines.append(
                f"Grüneisen parameters from {low:.2f} to {high:.2f} along the path ({self.gruneisen.method})"
            )
        if self.displacements is not None:
            room = self.displacements.at(300.0)
            kinds = dict.fromkeys(self.displacements.symbols)
            means = {
                kind: np.mean(
                    [np.trace(u) / 3 for u, s in zip(room, self.displacements.symbols, strict=True) if s == kind]
                )
                for kind in kinds
            }
            lines.append("U_iso at 300 K: " + ", ".join(f"{kind} {value:.4f} Å²" for kind, value in means.items()))
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Plain values of what was asked for."""
        return {name: part.to_dict() for name, part in vars(self).items() if part is not None}

    def write(self, folder: Path) -> list[Path]:
        """A table and a figure for each."""
        parts = {
            "group_velocities": self.group_velocities,
            "gruneisen": self.gruneisen,
            "thermal_displacements": self.displacements,
        }
        files = []
        for name, part in parts.items():
            if part is None:
                continue
            files.append(part.to_csv(folder / f"{name}.csv"))
            with atomic_path(folder / f"{name}.png") as temporary:
                part.plot().savefig(temporary, dpi=200)
            files.append(folder / f"{name}.png")
        return files


@dataclass(frozen=True)
class Solved:
    """Phonons of a crystal, as the analyses need them.

    Attributes:
        cell: The primitive cell.
        calculator: The calculator.
        matrices: D(q) as used for the bands.
        phonon: phonopy's object with force constants.
        path: The path of the bands.
        mesh: A mesh that was run.
        symmetric: Whether D(q) has the crystal's symmetry.
        again: Makes force constants of a strained crystal in the same way.
    """

    cell: PrimitiveCell
    calculator: Any
    matrices: DynamicalMatrices
    phonon: Phonopy
    path: BandPath
    mesh: Mesh
    symmetric: bool
    again: Callable[[Atoms], Phonopy]


def analyse(solved: Solved, wanted: Analyses, temperatures: Array) -> AnalysisResults:
    """Do what was asked for. Representations are refused where the calculator breaks the space group."""
    cell, symmetric = solved.cell, solved.symmetric
    return AnalysisResults(
        irreps=gamma_modes(solved.matrices, cell) if wanted.irreps and symmetric else None,
        group_velocities=group_velocities(solved.matrices, solved.phonon, cell, solved.path)
        if wanted.group_velocities
        else None,
        gruneisen=None if wanted.gruneisen is None else _gruneisen(solved, checked_strain(wanted.gruneisen)),
        displacements=thermal_displacements(solved.mesh, cell, temperatures, symmetric=symmetric)
        if wanted.displacements
        else None,
    )


def _gruneisen(solved: Solved, strain: Array) -> GruneisenParameters:
    atoms, calculator, q = solved.cell.atoms, solved.calculator, solved.path.q
    if has_strain_derivatives(calculator):
        return GruneisenParameters(
            solved.path, *exact_gruneisen(atoms, calculator, q, strain), strain=strain, method="exact"
        )
    found = three_volumes(atoms, calculator, solved.again, q, strain, keep_symmetry=solved.symmetric)
    return GruneisenParameters(solved.path, *found, strain=strain, method="three volumes")
