"""Physical checks of any ASE calculator: each measures one error and holds it against a limit.

Every function takes a calculator and a structure and returns a :class:`mlip.report.Check`; ``check_calculator``
runs all that apply. Errors of forces are relative to the largest force, errors of energies to that force
times 1 Å, so that the same limits serve every system; the structure must therefore not be at rest.

    >>> from ase.build import bulk
    >>> from ase.calculators.emt import EMT
    >>> atoms = bulk("Cu", cubic=True)
    >>> atoms.rattle(0.1, seed=1)
    >>> check_forces(EMT(), atoms).passed
    True
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.stress import voigt_6_to_full_3x3_stress
from scipy.spatial.transform import Rotation

from mlip.errors import InputError
from mlip.report import Check
from mlip.surroundings import turned

_LEAST_FORCE = 0.05  # eV/Å: below this a relative error says nothing


def energy_of(calculator: BaseCalculator, atoms: Atoms) -> float:
    """Potential energy, eV."""
    return float(calculator.get_potential_energy(atoms.copy()))


def forces_of(calculator: BaseCalculator, atoms: Atoms) -> np.ndarray:
    """Forces as the calculator gives them, without constraints, (N, 3), eV/Å."""
    return np.array(calculator.get_property("forces", atoms.copy()), dtype=np.float64)


def stress_of(calculator: BaseCalculator, atoms: Atoms) -> np.ndarray:
    """Stress, (3, 3), eV/Å³, ASE's sign."""
    stress = np.asarray(calculator.get_property("stress", atoms.copy()), dtype=np.float64)
    return voigt_6_to_full_3x3_stress(stress) if stress.shape == (6,) else stress


def has_stress(calculator: BaseCalculator, atoms: Atoms) -> bool:
    """Whether the stress can be asked for."""
    return bool(atoms.pbc.all()) and "stress" in calculator.implemented_properties


def five_point(function: Callable[[float], np.ndarray | float], step: float) -> np.ndarray:
    """Derivative at zero, with an error of fourth order in ``step``."""
    near = np.asarray(function(step)) - np.asarray(function(-step))
    far = np.asarray(function(2 * step)) - np.asarray(function(-2 * step))
    return (8 * near - far) / (12 * step)


def numerical_forces(calculator: BaseCalculator, atoms: Atoms, step: float = 1e-3) -> np.ndarray:
    """−dE/dx by five-point differences, (N, 3), eV/Å."""

    def slope(direction: np.ndarray) -> np.ndarray:
        return five_point(lambda h: energy_of(calculator, _moved(atoms, h * direction)), step)

    return -np.reshape([slope(direction) for direction in _directions(atoms)], (-1, 3))


def numerical_stress(calculator: BaseCalculator, atoms: Atoms, step: float = 1e-4) -> np.ndarray:
    """dE/dε/V by five-point differences in symmetric strains, (3, 3), eV/Å³."""

    def slope(strain: np.ndarray) -> float:
        return float(five_point(lambda h: energy_of(calculator, strained(atoms, h * strain)), step))

    stress = np.zeros((3, 3))
    for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        strain = np.zeros((3, 3))
        strain[a, b] = strain[b, a] = 1.0 if a == b else 0.5
        stress[a, b] = stress[b, a] = slope(strain) / atoms.cell.volume
    return stress


def numerical_hessian(calculator: BaseCalculator, atoms: Atoms, step: float = 1e-3) -> np.ndarray:
    """−dF/dx by five-point differences, (3N, 3N), eV/Å²; not symmetrised."""

    def column(direction: np.ndarray) -> np.ndarray:
        return -five_point(lambda h: forces_of(calculator, _moved(atoms, h * direction)).ravel(), step)

    return np.stack([column(direction) for direction in _directions(atoms)], 1)


def strained(atoms: Atoms, strain: np.ndarray) -> Atoms:
    """The structure with every vector v → (1 + strain)·v."""
    return transformed(atoms, np.eye(3) + strain)


def transformed(atoms: Atoms, matrix: np.ndarray) -> Atoms:
    """The structure with every vector v → matrix·v: positions and cell, rotations proper or not, or strains."""
    image = atoms.copy()
    image.set_cell(atoms.cell.array @ matrix.T, scale_atoms=False)
    image.positions = atoms.positions @ matrix.T
    return image


def _placed(calculator: BaseCalculator, atoms: Atoms) -> Atoms:
    """The structure in the frame that a calculator of ours evaluates it in."""
    place = getattr(calculator, "placed", None)
    found: Atoms = atoms if place is None else place(atoms)
    return found


def random_rotation(seed: int) -> np.ndarray:
    """A rotation matrix drawn evenly from SO(3)."""
    return Rotation.random(random_state=seed).as_matrix()


def check_forces(calculator: BaseCalculator, atoms: Atoms, limit: float = 1e-6) -> Check:
    """Forces against −dE/dx by five-point differences.

    Args:
        calculator: Any ASE calculator.
        atoms: The structure, with forces.
        limit: Largest error allowed, relative to max|F|.

    Returns:
        The largest error of a component, relative to max|F|.

    Raises:
        InputError: max|F| is below 0.05 eV/Å.
    """
    forces = forces_of(calculator, atoms)
    error = np.abs(forces - numerical_forces(calculator, atoms)).max()
    return Check("forces = −dE/dx", float(error / _largest(forces)), limit, "max|F|")


def check_stress(calculator: BaseCalculator, atoms: Atoms, limit: float = 1e-6) -> Check:
    """Stress against dE/dε/V by five-point differences; error relative to max|stress|.

    Raises:
        InputError: The structure has no stress.
    """
    stress = stress_of(calculator, atoms)
    error = np.abs(stress - numerical_stress(calculator, atoms)).max()
    largest = np.abs(stress).max()
    if largest < 1e-6:
        raise InputError("the stress vanishes: nothing to compare with", mend="strain the structure")
    return Check("stress = dE/dε/V", float(error / largest), limit, "max|stress|")


def check_hessian(calculator: BaseCalculator, atoms: Atoms, limit: float = 1e-6) -> Check:
    """``calculator.get_hessian`` against −dF/dx; error relative to the largest element."""
    matrix = np.asarray(calculator.get_hessian(atoms))  # type: ignore[attr-defined]
    error = np.abs(matrix - numerical_hessian(calculator, atoms)).max()
    return Check("Hessian = −dF/dx", float(error / np.abs(matrix).max()), limit, "max|H|")


def check_operation(
    calculator: BaseCalculator, atoms: Atoms, operation: np.ndarray, limit: float = 1e-10, name: str = "rotation"
) -> Check:
    """Energy, forces and stress of a rotated or reflected structure against the rotated results.

    A frame or an electric field that the structure carries is turned along.

    Args:
        calculator: Any ASE calculator.
        atoms: The structure, with forces.
        operation: (3, 3), orthogonal; determinant −1 for reflections and inversion.
        limit: Largest relative error allowed.
        name: What the operation is called.

    Raises:
        InputError: ``operation`` is not orthogonal, or max|F| is below 0.05 eV/Å.
    """
    if np.abs(operation @ operation.T - np.eye(3)).max() > 1e-12:
        raise InputError("the operation is not orthogonal")
    atoms = _placed(calculator, atoms)
    image = turned(atoms, operation)
    error = _difference(calculator, atoms, image, lambda forces: forces @ operation.T)
    if has_stress(calculator, atoms):
        stress = stress_of(calculator, atoms)
        change = stress_of(calculator, image) - operation @ stress @ operation.T
        error = max(error, float(np.abs(change).max() / np.abs(stress).max()))
    return Check(f"symmetry under {name}", error, limit, "relative")


def check_rotation(calculator: BaseCalculator, atoms: Atoms, limit: float = 1e-10, seed: int = 1) -> Check:
    """Equivariance under a random rotation; see :func:`check_operation`."""
    return check_operation(calculator, atoms, random_rotation(seed), limit, "rotation")


def check_inversion(calculator: BaseCalculator, atoms: Atoms, limit: float = 1e-10) -> Check:
    """Equivariance under inversion; says something only of a chiral structure."""
    return check_operation(calculator, atoms, -np.eye(3), limit, "inversion")


def check_translation(calculator: BaseCalculator, atoms: Atoms, limit: float = 1e-10) -> Check:
    """Energy and forces of the structure moved as a whole."""
    image = atoms.copy()
    image.positions += (0.31, -1.27, 2.73)
    return Check("translation", _difference(calculator, atoms, image), limit, "relative")


def check_permutation(calculator: BaseCalculator, atoms: Atoms, limit: float = 1e-10, seed: int = 1) -> Check:
    """Energy and forces when the atoms are numbered otherwise."""
    order = np.random.default_rng(seed).permutation(len(atoms))
    error = _difference(calculator, atoms, atoms[order], lambda forces: forces[order])
    return Check("permutation", error, limit, "relative")


def check_periodicity(calculator: BaseCalculator, atoms: Atoms, limit: float = 1e-10, seed: int = 1) -> Check:
    """Energy and forces when each atom is moved by lattice vectors of its own."""
    shifts = np.random.default_rng(seed).integers(-2, 3, (len(atoms), 3)) * atoms.pbc
    image = atoms.copy()
    image.positions += shifts @ atoms.cell.array
    return Check("atoms moved by lattice vectors", _difference(calculator, atoms, image), limit, "relative")


def check_supercell(
    calculator: BaseCalculator, atoms: Atoms, limit: float = 1e-10, repeats: tuple[int, int, int] = (2, 1, 3)
) -> Check:
    """Energy per cell, forces and stress of a supercell against those of the cell."""
    copies = [n if periodic else 1 for n, periodic in zip(repeats, atoms.pbc, strict=True)]
    count = int(np.prod(copies))
    big = atoms.repeat(copies)
    forces = forces_of(calculator, atoms)
    scale = _largest(forces)
    errors = [
        np.abs(forces_of(calculator, big) - np.tile(forces, (count, 1))).max() / scale,
        abs(energy_of(calculator, big) - count * energy_of(calculator, atoms)) / (count * scale),
    ]
    if has_stress(calculator, atoms):
        stress = stress_of(calculator, atoms)
        errors.append(np.abs(stress_of(calculator, big) - stress).max() / np.abs(stress).max())
    return Check("supercell", float(max(errors)), limit, "relative")


def check_net_force(calculator: BaseCalculator, atoms: Atoms, limit: float = 1e-10) -> Check:
    """|ΣF| / max|F|: momentum is conserved."""
    forces = forces_of(calculator, atoms)
    return Check("net force", float(np.abs(forces.sum(0)).max() / _largest(forces)), limit, "max|F|")


def check_torque(calculator: BaseCalculator, atoms: Atoms, limit: float = 1e-10) -> Check:
    """|Σ r × F| / (max|F| × size) of a molecule: angular momentum is conserved.

    Raises:
        InputError: The structure is periodic.
    """
    if atoms.pbc.any():
        raise InputError("a periodic structure has no torque")
    if not _conserves_angular_momentum(calculator, atoms):
        raise InputError("the model's energy depends on the orientation: there is a torque, and it is right")
    arms = atoms.positions - atoms.positions.mean(0)
    forces = forces_of(calculator, atoms)
    torque = np.cross(arms, forces).sum(0)
    return Check("torque", float(np.abs(torque).max() / (_largest(forces) * np.abs(arms).max())), limit, "relative")


def check_repeatability(calculator: BaseCalculator, atoms: Atoms) -> Check:
    """Two evaluations, another structure between them, give the same bits."""
    first = energy_of(calculator, atoms), forces_of(calculator, atoms)
    energy_of(calculator, _moved(atoms, 0.01 * np.ones((len(atoms), 3)) * np.arange(len(atoms))[:, None]))
    second = energy_of(calculator, atoms), forces_of(calculator, atoms)
    error = max(abs(first[0] - second[0]), float(np.abs(first[1] - second[1]).max()))
    return Check("repeatability", error, 0.0, "eV, eV/Å")


def check_cutoff(
    calculator: BaseCalculator, symbols: Sequence[str], cutoff: float, limit: float = 0.15, order: int = 3
) -> Check:
    """How smoothly the force within a dimer ends: F ∝ (r_c − r)^p with p ≥ ``order``.

    Phonons need continuous second derivatives (p > 1), training on Hessians third ones (p > 2). Forces say it
    better than energies, which lose their last digits to those of the lone atoms.

    Args:
        calculator: Any ASE calculator.
        symbols: Two chemical symbols.
        cutoff: Radius at which the interaction ends, Å.
        limit: How far the measured power may stay below ``order``.
        order: The power wanted.

    Returns:
        By how much the power is too small, 0 when it is large enough; infinite when the interaction reaches
        farther than ``cutoff`` or the atoms do not interact at all.
    """

    def force(distance: float) -> float:
        dimer = Atoms(symbols, [(0, 0, 0), (0.6 * distance, 0, 0.8 * distance)])
        return float(np.linalg.norm(forces_of(calculator, dimer)[1]))

    near, far = force(cutoff * (1 - 1e-3)), force(cutoff * (1 - 2e-3))
    if near == 0 or force(cutoff * (1 + 1e-6)) > 0:
        return Check("smoothness at the cutoff", float("inf"), limit, "powers missing")
    return Check("smoothness at the cutoff", max(0.0, order - float(np.log2(far / near))), limit, "powers missing")


def check_calculator(calculator: BaseCalculator, atoms: Atoms, cutoff: float | None = None) -> list[Check]:
    """All checks that apply to the structure, with limits for double precision.

    Args:
        calculator: Any ASE calculator.
        atoms: The structure, not at rest; best a chiral one.
        cutoff: Radius at which the interactions end, Å; None leaves that check out.
    """
    general = (check_forces, check_rotation, check_inversion, check_translation, check_permutation, check_net_force)
    checks = [check(calculator, atoms) for check in general]
    checks.append(check_repeatability(calculator, atoms))
    if atoms.pbc.any():
        checks += [check_periodicity(calculator, atoms), check_supercell(calculator, atoms)]
    elif _conserves_angular_momentum(calculator, atoms):
        checks.append(check_torque(calculator, atoms))
    if has_stress(calculator, atoms):
        checks.append(check_stress(calculator, atoms))
    if hasattr(calculator, "get_hessian"):
        checks.append(check_hessian(calculator, atoms))
    if cutoff is not None:
        checks.append(check_cutoff(calculator, atoms.get_chemical_symbols()[:2], cutoff))
    return checks


def _conserves_angular_momentum(calculator: BaseCalculator, atoms: Atoms) -> bool:
    asked = getattr(calculator, "is_invariant", None)
    return True if asked is None else bool(asked(atoms))


def _directions(atoms: Atoms) -> np.ndarray:
    """(3N, N, 3), every coordinate of every atom."""
    return np.eye(3 * len(atoms)).reshape(-1, len(atoms), 3)


def _moved(atoms: Atoms, displacements: np.ndarray) -> Atoms:
    image = atoms.copy()
    image.positions += displacements
    return image


def _largest(forces: np.ndarray) -> float:
    largest = float(np.abs(forces).max())
    if not largest >= _LEAST_FORCE:
        raise InputError(f"the largest force is {largest:.2g} eV/Å: too small to measure errors by", mend="rattle it")
    return largest


def _difference(
    calculator: BaseCalculator,
    atoms: Atoms,
    image: Atoms,
    carry: Callable[[np.ndarray], np.ndarray] = lambda forces: forces,
) -> float:
    """Largest relative difference of energy and forces between a structure and its image."""
    forces = forces_of(calculator, atoms)
    scale = _largest(forces)
    energy_error = abs(energy_of(calculator, image) - energy_of(calculator, atoms)) / scale
    return float(max(energy_error, np.abs(forces_of(calculator, image) - carry(forces)).max() / scale))
