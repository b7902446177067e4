"""One labelled structure: geometry, energy, forces, stress, Hessian, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlip.surroundings import turned

Array = NDArray[np.float64]

LABELS = ("energy", "forces", "stress", "hessian")
# What derivatives by an electric field are compared with; they stand in ``info``.
RESPONSE = ("polarization", "born_charges", "polarizability")
ISOLATED_GAP = 8.0  # Å; no crystal has one atom per cell and every height of the cell above this


@dataclass(frozen=True, eq=False)
class LabelledFrame:
    """A structure and its reference labels, in eV and Å; a label that is not known is None.

    Attributes:
        atoms: The structure, without calculator and without constraints. ``atoms.info`` keeps what the file
            said about it (``frame`` as 3×3); ``atoms.arrays`` what it said per atom.
        energy: Total energy, eV, float64.
        forces: (N, 3), eV/Å; also of atoms that were held fixed.
        stress: (3, 3), eV/Å³, ASE's sign: dE/dε / V, positive under tension.
        hessian: (3N, 3N), eV/Å², row 3i + a.
        weight: Weight of the frame in a loss: the file's own times the entry's.
        config_type: Group the frame belongs to.
        file: The file it was read from.
        index: Its index in that file, from 0.
        info: Extra labels: polarization, born_charges (N, 3, 3), dipole, magmoms, theory …
    """

    atoms: Atoms
    energy: float | None = None
    forces: Array | None = None
    stress: Array | None = None
    hessian: Array | None = None
    weight: float = 1.0
    config_type: str | None = None
    file: Path | None = None
    index: int = 0
    info: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.atoms)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels it carries, of energy, forces, stress, hessian."""
        return tuple(name for name in LABELS if getattr(self, name) is not None)

    def response(self, name: str) -> Array | None:
        """A label of `RESPONSE`; None where it is not known.

        ``polarization`` (3,) is the dipole in e Å: of a molecule, or of the whole cell, V·P; ``born_charges``
        (N, 3, 3) in e, Z[i, a, b] = ∂μ_a/∂x_ib; ``polarizability`` (3, 3) in e Å²/V.
        """
        value = self.info.get(name)
        if value is None and name == "polarization":
            value = self.info.get("dipole")
        return None if value is None else np.asarray(value, dtype=np.float64)

    @property
    def response_labels(self) -> tuple[str, ...]:
        """Names of the labels of `RESPONSE` that it carries."""
        return tuple(name for name in RESPONSE if self.response(name) is not None)

    @property
    def composition(self) -> str:
        """Chemical formula in Hill order."""
        return str(self.atoms.get_chemical_formula())

    @property
    def is_isolated_atom(self) -> bool:
        """One atom that sees no other: no periodic direction, or a very large cell."""
        if len(self.atoms) != 1:
            return False
        return not self.atoms.pbc.any() or bool((heights(self.atoms)[self.atoms.pbc] > ISOLATED_GAP).all())

    @property
    def name(self) -> str:
        """``file, frame 3``: how messages call it."""
        return f"frame {self.index}" if self.file is None else f"{self.file}, frame {self.index}"

    def turned(self, turn: Array) -> LabelledFrame:
        """The same frame and labels in other axes, v → turn·v, its place in the laboratory turned along.

        The way to augment data: whatever breaks the symmetry keeps its meaning. To plant a wrong orientation, give
        the result the old ``atoms.info["frame"]``.

        Args:
            turn: (3, 3), orthogonal.
        """
        big = np.kron(np.eye(len(self)), turn)
        info = {name: _turned_label(name, value, turn) for name, value in self.info.items()}
        return replace(
            self,
            atoms=turned(self.atoms, turn),
            forces=None if self.forces is None else self.forces @ turn.T,
            stress=None if self.stress is None else turn @ self.stress @ turn.T,
            hessian=None if self.hessian is None else big @ self.hessian @ big.T,
            info=info,
        )

    def with_weight(self, weight: float) -> LabelledFrame:
        """The same frame with another weight."""
        return replace(self, weight=weight)


def _turned_label(name: str, value: Any, turn: Array) -> Any:
    """An extra label in other axes; what is no tensor stays."""
    if name in {"polarization", "dipole"}:
        return turn @ np.asarray(value, dtype=np.float64)
    if name in {"polarizability", "dielectric", "born_charges"}:
        return turn @ np.asarray(value, dtype=np.float64) @ turn.T
    return value


def heights(atoms: Atoms) -> Array:
    """Distances between opposite faces of the cell, (3,), Å; infinite along cell vectors that are zero."""
    cell = np.asarray(atoms.cell.complete())
    volume = abs(np.linalg.det(cell))
    areas = np.linalg.norm(np.cross(np.roll(cell, -1, axis=0), np.roll(cell, -2, axis=0)), axis=1)
    there = np.linalg.norm(np.asarray(atoms.cell), axis=1) > 0
    return np.where(there, volume / areas, np.inf)


def as_frame(structure: LabelledFrame | Atoms) -> LabelledFrame:
    """A LabelledFrame of ASE atoms, with the labels their calculator holds (read past constraints)."""
    if isinstance(structure, LabelledFrame):
        return structure
    results = {} if structure.calc is None else dict(structure.calc.results)
    stress = results.get("stress")
    energy = results.get("free_energy", results.get("energy"))
    bare = structure.copy()
    bare.set_constraint()
    return LabelledFrame(
        atoms=bare,
        energy=None if energy is None else float(energy),
        forces=None if "forces" not in results else np.array(results["forces"], dtype=float),
        stress=None if stress is None else full_stress(np.array(stress, dtype=float)),
        config_type=structure.info.get("config_type"),
    )


def full_stress(stress: Array) -> Array:
    """(3, 3) from (3, 3), nine numbers, or Voigt's six in ASE's order xx yy zz yz xz xy."""
    if stress.size == 6:
        return stress.reshape(6)[np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])]
    return stress.reshape(3, 3)
