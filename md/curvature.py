"""The curvature of the energy at a structure: minimum or saddle, and the highest vibration, by Lanczos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian, FixedLine, FixedPlane, FixSymmetry
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh

from mlip.errors import InputError
from mlip.md.calculators import attached, working_dtype
from mlip.md.units import THZ_PER_SQRT_EV_A2_AMU

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curvature:
    """The lowest eigenvalue of the Hessian, rigid motions left out.

    Attributes:
        lowest: Lowest eigenvalue in eV/Å².
        highest: Highest eigenvalue in eV/Å².
        mode: (N, 3), normalised displacement of the lowest one.
        zero_modes: Number of rigid motions (and fixed coordinates) that were projected out.
        tolerance: Eigenvalues within ± this many eV/Å² of zero cannot be told from zero.
        max_force: Largest force in eV/Å; a curvature is a verdict only where forces vanish.
        ignored: Constraints of the structure that were not considered, by name.
    """

    lowest: float
    highest: float
    mode: Array
    zero_modes: int
    tolerance: float
    max_force: float
    ignored: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """``"minimum"``, ``"saddle"`` or ``"flat"`` (lowest eigenvalue zero within the tolerance)."""
        if self.lowest < -self.tolerance:
            return "saddle"
        return "minimum" if self.lowest > self.tolerance else "flat"

    @property
    def line(self) -> str:
        """One line for people; displacements that do not fit into this cell were not tried."""
        left_out = f" ({', '.join(self.ignored)} not considered)" if self.ignored else ""
        if self.zero_modes >= self.mode.size:
            return f"minimum by symmetry, no displacement is left within this cell{left_out}"
        return f"{self.kind}, lowest eigenvalue {self.lowest:+.4g} eV/Å² within this cell{left_out}"


def hessian_product(atoms: Atoms, calculator: Any, step: float = 1e-3) -> Callable[[Array], Array]:
    """The function v ↦ H·v, (N, 3) to (N, 3) in eV/Å².

    Exact when the calculator has ``get_hessian_vector_product``; otherwise the central difference
    −[F(x + s v) − F(x − s v)] / 2s with the largest displacement s·|v_i| equal to ``step`` (Å).
    """
    system = attached(atoms, calculator)
    exact = getattr(calculator, "get_hessian_vector_product", None)
    if exact is not None:
        return lambda v: np.asarray(exact(system, v.reshape(-1, 3)), dtype=np.float64)

    start = system.get_positions()

    def forces(displacement: Array) -> Array:
        system.set_positions(start + displacement)
        return np.array(system.get_forces(), dtype=np.float64)

    def product(v: Array) -> Array:
        u = v.reshape(-1, 3)
        s = step / np.linalg.norm(u, axis=1).max()
        return (forces(-s * u) - forces(s * u)) / (2 * s)

    return product


def full_hessian(atoms: Atoms, calculator: Any, indices: Sequence[int] | None = None) -> Array:
    """The calculator's analytic Hessian in eV/Å², dense.

    Args:
        atoms: The structure.
        calculator: With ``get_hessian``; one that takes ``indices`` pays only for those atoms.
        indices: The atoms whose block (3k, 3k) is wanted, in this order; None: (3N, 3N).

    Raises:
        InputError: The calculator has no ``get_hessian``.
    """
    method = getattr(calculator, "get_hessian", None)
    if method is None:
        raise InputError(f"{type(calculator).__name__} has no analytic Hessian (get_hessian)")
    system = attached(atoms, calculator)
    system.get_potential_energy()  # matscipy's Hessians use the neighbours of the last calculation
    if indices is not None and "indices" in signature(method).parameters:
        return np.asarray(method(system, indices=indices), dtype=np.float64)
    hessian = method(system)
    hessian = hessian.toarray() if hasattr(hessian, "toarray") else np.asarray(hessian)
    hessian = hessian.reshape(3 * len(atoms), 3 * len(atoms)).astype(np.float64)
    rows = np.arange(len(hessian)) if indices is None else _coordinates(indices)
    return hessian[np.ix_(rows, rows)]


def _coordinates(indices: Sequence[int] | Array) -> NDArray[np.int64]:
    """Rows 3i+a of some atoms."""
    return (3 * np.asarray(indices, dtype=np.int64)[:, None] + np.arange(3)).ravel()


def rigid_motions(atoms: Atoms) -> Array:
    """Orthonormal rows (k, 3N): translations, and the rotations that the periodic boundaries allow.

    A molecule has three rotations (two when linear), a wire one about its axis, a slab or crystal none.
    """
    translations = np.tile(np.eye(3), len(atoms))
    arms = atoms.get_positions() - atoms.get_center_of_mass()
    axes = {0: np.eye(3), 1: atoms.cell[np.flatnonzero(atoms.pbc)]}.get(int(atoms.pbc.sum()), np.empty((0, 3)))
    rotations = [np.cross(axis / np.linalg.norm(axis), arms).ravel() for axis in axes]
    motions = np.array([*translations, *rotations])
    _, size, rows = np.linalg.svd(motions, full_matrices=False)
    return rows[size > 1e-6 * size.max()]


def fixed_directions(atoms: Atoms) -> tuple[Array, tuple[str, ...]]:
    """Orthonormal rows (k, 3N) that the constraints forbid, and the names of constraints not understood.

    `FixAtoms`, `FixCartesian`, `FixedPlane` and `FixedLine` forbid directions; `FixSymmetry` forbids none, since the
    question is whether the symmetric structure is stable. What is left, bond lengths and the like, is not linear.
    """
    rows: list[Array] = []
    ignored: list[str] = []
    for constraint in atoms.constraints:
        blocked = _blocked(constraint)
        if blocked is not None:
            for i in constraint.get_indices():
                place = np.zeros((len(blocked), 3 * len(atoms)))
                place[:, 3 * i : 3 * i + 3] = blocked
                rows.append(place)
        elif not isinstance(constraint, FixSymmetry):
            ignored.append(type(constraint).__name__)
    return _orthonormal(np.vstack([np.empty((0, 3 * len(atoms))), *rows])), tuple(dict.fromkeys(ignored))


def _blocked(constraint: Any) -> Array | None:
    """(k, 3) directions in which each of a constraint's atoms may not move; None: not of this kind."""
    if isinstance(constraint, FixAtoms):
        return np.eye(3)
    if isinstance(constraint, FixCartesian):
        return np.eye(3)[np.asarray(constraint.mask, dtype=bool)]
    if isinstance(constraint, FixedPlane):
        return np.asarray(constraint.dir, dtype=np.float64)[None]
    if isinstance(constraint, FixedLine):
        return np.eye(3) - np.outer(constraint.dir, constraint.dir)
    return None


def _orthonormal(rows: Array) -> Array:
    """An orthonormal basis of what the rows span."""
    if not len(rows):
        return rows
    _, size, basis = np.linalg.svd(rows, full_matrices=False)
    return np.asarray(basis[size > 1e-8 * max(size.max(), 1e-300)])


def _excluded(atoms: Atoms) -> tuple[Array, tuple[str, ...]]:
    """Directions that are not asked about: forbidden ones, and the rigid motions that remain allowed."""
    fixed, ignored = fixed_directions(atoms)
    rigid = rigid_motions(atoms)
    if len(fixed):
        _, size, combinations = np.linalg.svd(fixed @ rigid.T)
        size = np.concatenate([size, np.zeros(len(rigid) - len(size))]) if len(size) < len(rigid) else size
        rigid = combinations[size < 1e-8] @ rigid
    return np.vstack([fixed, rigid]), ignored


def curvature(atoms: Atoms, calculator: Any, *, step: float = 1e-3, tolerance: float | None = None) -> Curvature:
    """Say whether ``atoms`` sits at a minimum or a saddle, by Lanczos on H·v.

    Args:
        atoms: The structure, best with vanishing forces. Directions that its `FixAtoms`, `FixCartesian`, `FixedPlane`
            and `FixedLine` forbid are kept out of the question; other constraints are named as not considered.
        calculator: Any ASE calculator.
        step: Displacement in Å of the finite differences, where H·v is not analytic.
        tolerance: In eV/Å²; None takes 1e-5 of the highest eigenvalue, and for finite differences 3e-5 in
            double and 1e-3 in single precision.

    Returns:
        The lowest eigenvalue and its mode.
    """
    product, (out, ignored) = hessian_product(atoms, calculator, step), _excluded(atoms)
    size = 3 * len(atoms)
    forces = attached(atoms, calculator, constraints=True).get_forces()
    max_force = float(np.linalg.norm(forces, axis=1).max())
    if len(out) >= size:
        return Curvature(0.0, 0.0, np.zeros((len(atoms), 3)), len(out), 0.0, max_force, ignored)

    def projected(v: Array) -> Array:
        free = v - out.T @ (out @ v)
        if np.linalg.norm(free) < 1e-12 * np.linalg.norm(v):
            return np.zeros_like(v)
        image = product(free).ravel()
        return image - out.T @ (out @ image)

    highest = float(_extreme(projected, size)[0])
    # The lowest vibration is the highest eigenvalue of lift·1 − H, where rigid motions are put at zero; seen from
    # there the accuracy asked for is relative to the whole spectrum, and soft modes do not hold Lanczos up.
    lift = 2 * max(abs(highest), 1e-3)
    above, mode = _extreme(lambda v: lift * (v - out.T @ (out @ v)) - projected(v), size)
    lowest = lift - above
    tolerance = _relative_noise(calculator) * max(abs(highest), abs(lowest)) if tolerance is None else tolerance
    return Curvature(float(lowest), highest, mode.reshape(-1, 3), len(out), tolerance, max_force, ignored)


def _relative_noise(calculator: Any) -> float:
    if hasattr(calculator, "get_hessian_vector_product"):
        return 1e-5
    return 1e-3 if working_dtype(calculator) == np.float32 else 3e-5


def highest_frequency(atoms: Atoms, calculator: Any, *, step: float = 1e-3) -> float:
    """The highest vibrational frequency in THz at this structure, by Lanczos on the mass-weighted H·v.

    √(λ_max) of m^−½ H m^−½; zero when nothing vibrates. Atoms that `FixAtoms` holds do not vibrate.
    """
    product = hessian_product(atoms, calculator, step)
    weight = np.repeat(atoms.get_masses() ** -0.5, 3)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            weight[_coordinates(constraint.get_indices())] = 0.0

    def weighted(v: Array) -> Array:
        u = weight * v
        return weight * product(u).ravel() if np.any(u) else np.zeros_like(v)

    top, _ = _extreme(weighted, 3 * len(atoms), tolerance=1e-3)
    return float(np.sqrt(max(top, 0.0)) * THZ_PER_SQRT_EV_A2_AMU)


def suggested_timestep(frequency: float) -> float:
    """A time step in fs from the highest frequency in THz: a twentieth of its period, rounded down.

    Velocity Verlet is stable up to 1/π of the period; a twentieth keeps its energy error near 1 %.
    """
    if frequency <= 0:
        return 1.0
    step = 1000.0 / frequency / 20
    return float(np.floor(step * 4) / 4) if step >= 0.25 else step


def _extreme(product: Callable[[Array], Array], size: int, tolerance: float = 1e-7) -> tuple[float, Array]:
    """The highest eigenpair of a symmetric operator."""
    if size <= 12:
        matrix = np.column_stack([product(column) for column in np.eye(size)])
        values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
        return values[-1], vectors[:, -1]
    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).normal(size=size)  # ARPACK's own start is different in every run
    values, vectors = eigsh(operator, k=1, which="LA", v0=start, tol=tolerance)
    return values[0], vectors[:, 0]
