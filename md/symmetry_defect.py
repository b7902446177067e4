"""How far a calculator breaks the space group that a structure has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from mlip.md.calculators import attached, has_stress
from mlip.symmetry.crystal import SpaceGroup, atom_map, symmetry_types

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SymmetryError:
    """What a calculator breaks of a structure's own symmetry; all zero for a strict one.

    Attributes:
        space_group: International symbol and number.
        operations: Number of operations in this cell, pure supercell translations included.
        energy: eV/atom, standard deviation of the energies of the equivalent images of a disturbed structure.
        forces: eV/Å, rms over atoms of what symmetrising takes off the forces of the structure itself.
        stress: eV/Å³, largest component of what symmetrising takes off the stress; None without stress.
    """

    space_group: str
    operations: int
    energy: float
    forces: float
    stress: float | None


def symmetry_error(
    atoms: Atoms, calculator: Any, *, symprec: float = 1e-3, rattle: float = 0.05, most: int = 48, seed: int = 0
) -> SymmetryError:
    """The spread of a calculator's results under a structure's own space group.

    Forces and stress of the structure are compared with their averages over the group. As the structure itself looks
    the same after each operation, its energy tells nothing; so the atoms are moved at random and the energies of the
    images g·x′ compared.

    Args:
        atoms: A crystal; a supercell's pure translations are operations too.
        calculator: Any ASE calculator.
        symprec: Å.
        rattle: Å, of the random displacements.
        most: Most images whose energy is computed.
        seed: Of the displacements and of the choice of images.

    Raises:
        InputError: Not a crystal.
    """
    group = SpaceGroup.of(atoms, symprec)
    positions, types = atoms.get_scaled_positions(wrap=False), symmetry_types(atoms)
    pairs = zip(group.rotations, group.translations, strict=True)
    images = np.array([atom_map(positions, types, w, t, group.cell)[0] for w, t in pairs])
    system = attached(atoms, calculator)
    forces = np.asarray(system.get_forces(), dtype=np.float64)
    excess = forces - _symmetrised(forces, group.cartesian, images)
    stress = None
    if has_stress(atoms, calculator):
        tensor = voigt_6_to_full_3x3_stress(system.get_stress())
        mean = np.mean([g @ tensor @ g.T for g in group.cartesian], axis=0)
        stress = float(np.abs(tensor - mean).max())
    return SymmetryError(
        group.symbol,
        len(images),
        _energy_spread(atoms, calculator, group, images, rattle, most, seed),
        float(np.sqrt((excess**2).sum(axis=1).mean())),
        stress,
    )


def _symmetrised(forces: Array, turns: Array, images: NDArray[np.int64]) -> Array:
    """⟨g f⟩ with the atoms permuted: (P f)_image(i) = g f_i."""
    total = np.zeros_like(forces)
    for g, image in zip(turns, images, strict=True):
        total[image] += forces @ g.T
    return total / len(turns)


def _energy_spread(
    atoms: Atoms, calculator: Any, group: SpaceGroup, images: NDArray[np.int64], rattle: float, most: int, seed: int
) -> float:
    rng = np.random.default_rng(seed)
    moves = rng.normal(scale=rattle, size=(len(atoms), 3))
    energies = []
    for k in rng.permutation(len(images))[:most]:
        system = attached(atoms, calculator)
        there = np.empty_like(moves)
        there[images[k]] = moves @ group.cartesian[k].T
        system.set_positions(atoms.get_positions() + there)
        energies.append(float(system.get_potential_energy()))
    return float(np.std(energies)) / len(atoms)
