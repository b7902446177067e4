"""A model seen at many orientations of each structure against the laboratory.

Everything is put into laboratory axes first, y = frameᵀ x, where a model that is equivariant together with its
laboratory is one function h(y). Its dependence on orientation, S ↦ h(S y) over O(3), is what can be measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mlip.errors import InputError
from mlip.surroundings import frame_of

Array = NDArray[np.float64]


class Prediction(NamedTuple):
    """Of one structure: energy (eV), forces (N, 3) (eV/Å), symmetric part of the stress (3, 3) (eV/Å³) or None."""

    energy: float
    forces: Array
    stress: Array | None


Evaluator = Callable[[Sequence[Atoms]], list[Prediction]]


@dataclass(frozen=True, eq=False)
class LabStructure:
    """A structure in laboratory axes, with its labels there.

    Attributes:
        atoms: The structure, ``info["frame"]`` the identity.
        energy: Label, eV; None without.
        forces: Label (N, 3), eV/Å; None without.
        stress: Label (3, 3), eV/Å³, its symmetric part; None without.
        index: Which of the user's structures it is.
    """

    atoms: Atoms
    energy: float | None
    forces: Array | None
    stress: Array | None
    index: int

    def __len__(self) -> int:
        return len(self.atoms)


def in_laboratory(structures: Sequence[Atoms]) -> list[LabStructure]:
    """Structures in laboratory axes; without ``info["frame"]`` those of the file are the laboratory's.

    Raises:
        InputError: There are none, or a frame is not an orthogonal matrix.
    """
    if not structures:
        raise InputError("no structures given")
    return [_in_laboratory(atoms, k) for k, atoms in enumerate(structures)]


def frame_or_laboratory(atoms: Atoms, index: int = 0) -> Array:
    """``info["frame"]``, (3, 3), v_structure = frame @ v_lab; the identity where there is none.

    Raises:
        InputError: It is not an orthogonal matrix.
    """
    try:
        frame = frame_of(atoms)
    except InputError as error:
        raise InputError(error.problem, frame=index, key="frame", mend=error.mend) from None
    return np.eye(3) if frame is None else frame


def _in_laboratory(atoms: Atoms, index: int) -> LabStructure:
    frame = frame_or_laboratory(atoms, index)
    results = {} if atoms.calc is None else atoms.calc.results
    energy, forces = results.get("free_energy", results.get("energy")), results.get("forces")
    stress = symmetric(results["stress"]) if has_stress(atoms) and results.get("stress") is not None else None
    return LabStructure(
        atoms=turned(atoms, frame.T),
        energy=None if energy is None else float(energy),
        forces=None if forces is None else np.asarray(forces, dtype=np.float64) @ frame,
        stress=None if stress is None else frame.T @ stress @ frame,
        index=index,
    )


def has_stress(atoms: Atoms) -> bool:
    """Whether a structure has a volume."""
    return bool(atoms.pbc.all() and atoms.cell.rank == 3)


def symmetric(stress: Any) -> Array:
    """(3, 3), its symmetric part, from (3, 3) or Voigt's six in ASE's order."""
    values = np.asarray(stress, dtype=np.float64)
    full = voigt_6_to_full_3x3_stress(values) if values.size == 6 else values.reshape(3, 3)
    return np.asarray((full + full.T) / 2)


def turned(atoms: Atoms, turn: Array) -> Atoms:
    """The structure turned against a laboratory that stays: positions and cell by an orthogonal matrix."""
    copy = Atoms(atoms.numbers, positions=atoms.positions @ turn.T, cell=atoms.cell.array @ turn.T, pbc=atoms.pbc)
    copy.info["frame"] = np.eye(3)
    return copy


def evaluator_of(model: Any) -> Evaluator:
    """What evaluates a model.

    Args:
        model: A model file, a Potential, our calculator (of one model or a committee), any other ASE calculator.

    Raises:
        InputError: The file cannot be read.
    """
    if isinstance(model, str | Path):
        from mlip.potential import Potential

        return evaluator_of(Potential.load(model))
    if hasattr(model, "evaluate"):
        return _batched([model])
    if hasattr(model, "potentials"):
        return _batched(model.potentials)
    return _one_by_one(model)


def _batched(potentials: Sequence[Any]) -> Evaluator:
    def evaluate(structures: Sequence[Atoms]) -> list[Prediction]:
        wanted = ("energy", "forces", "stress") if all(map(has_stress, structures)) else ("energy", "forces")
        members = [p.evaluate(structures, wanted) for p in potentials]
        return [_mean_of(rows, wanted) for rows in zip(*members, strict=True)]

    evaluate.knows_frames = all(hasattr(p, "settings") for p in potentials)  # type: ignore[attr-defined]
    return evaluate


def _mean_of(rows: Sequence[dict[str, Any]], wanted: Sequence[str]) -> Prediction:
    stressed = "stress" in wanted and all("stress" in r for r in rows)
    return Prediction(
        float(np.mean([r["energy"] for r in rows])),
        np.mean([r["forces"] for r in rows], axis=0),
        np.mean([symmetric(r["stress"]) for r in rows], axis=0) if stressed else None,
    )


def _one_by_one(calculator: Any) -> Evaluator:
    knows_stress = "stress" in getattr(calculator, "implemented_properties", ())

    def evaluate(structures: Sequence[Atoms]) -> list[Prediction]:
        results = []
        for atoms in structures:
            atoms.calc = calculator
            energy = float(atoms.get_potential_energy())
            forces = np.array(atoms.get_forces(), dtype=np.float64)
            stress = symmetric(atoms.get_stress()) if knows_stress and has_stress(atoms) else None
            results.append(Prediction(energy, forces, stress))
        return results

    return evaluate


@dataclass(frozen=True, eq=False)
class Orientations:
    """A model's results for one structure at several orientations, per atom and turned back.

    Attributes:
        turns: (m, 3, 3).
        energies: (m,) of h(S y), eV/atom.
        forces: (m, 3N) of −∂h(S y)/∂y, eV/Å.
        stresses: (m, 9) of Sᵀσ(S y)S, eV/Å³; None without.
    """

    turns: Array
    energies: Array
    forces: Array
    stresses: Array | None = None

    def parts(self) -> tuple[Orientations, Orientations]:
        """The parts even and odd under inversion, from turns that hold all S first and then all −S."""
        half = len(self.turns) // 2
        up, down = slice(0, half), slice(half, None)
        even, odd = (
            Orientations(
                self.turns[up],
                (self.energies[up] + sign * self.energies[down]) / 2,
                (self.forces[up] + sign * self.forces[down]) / 2,
                None if self.stresses is None else (self.stresses[up] + sign * self.stresses[down]) / 2,
            )
            for sign in (1, -1)
        )
        return even, odd


def at_orientations(structure: LabStructure, evaluate: Evaluator, turns: Array) -> Orientations:
    """A model at given orientations of a structure, (m, 3, 3) orthogonal matrices."""
    found = evaluate([turned(structure.atoms, turn) for turn in turns])
    energies = np.array([p.energy for p in found]) / len(structure)
    forces = np.stack([(p.forces @ turn).ravel() for p, turn in zip(found, turns, strict=True)])
    return Orientations(turns, energies, forces, _turned_back([p.stress for p in found], turns))


def _turned_back(stresses: Sequence[Array | None], turns: Array) -> Array | None:
    known = [s for s in stresses if s is not None]
    if len(known) < len(turns):
        return None
    return np.einsum("aki,akl,alj->aij", turns, np.array(known), turns).reshape(len(turns), 9)


def random_turns(rng: np.random.Generator, number: int) -> Array:
    """Independent uniform rotations, and after them their products with the inversion: (2·number, 3, 3)."""
    turns = Rotation.random(number, rng=rng).as_matrix()
    return np.concatenate([turns, -turns])


def random_coset(rng: np.random.Generator, group: Array) -> Array:
    """A·g·B for the elements g of a group, with random rotations A and B."""
    a, b = Rotation.random(2, rng=rng).as_matrix()
    return np.asarray(a @ group @ b)
