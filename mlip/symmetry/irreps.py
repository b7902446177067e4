"""The displacements of a supercell taken apart by star and irrep, exactly, with spgrep's small representations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import seekpath
from ase import Atoms
from numpy.typing import NDArray
from spgrep.core import get_spacegroup_irreps_from_primitive_symmetry

from mlip.symmetry.crystal import Integers, atom_map, spglib_cell, symmetry_types
from mlip.symmetry.irrep_names import miller_love, mulliken
from mlip.symmetry.supercell import SupercellGroup, commensurate_points

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]


@dataclass(frozen=True)
class IrrepComponent:
    """All displacements of a supercell that belong to one irrep of one star.

    Attributes:
        name: Such as ``R4+`` or ``X(1/4 0 1/4) E``; the parent's origin is where its labels refer to.
        point: Name of the q point.
        symbol: Mulliken's symbol of the small representation, or its number where the little co-group has none.
        q: (3,) one arm, in fractions of the primitive reciprocal vectors.
        arms: Number of arms of the star.
        dimension: Of the order parameter (all arms, real).
        multiplicity: How often the irrep occurs.
        basis: (dimension · multiplicity, atoms, 3) orthonormal displacements of the supercell.
    """

    name: str
    point: str
    symbol: str
    q: Array
    arms: int
    dimension: int
    multiplicity: int
    basis: Array

    def share(self, pattern: Array) -> float:
        """‖P u‖² / ‖u‖² of a displacement (atoms, 3)."""
        flat = pattern.ravel()
        total = float(flat @ flat)
        return float(np.sum((self.basis.reshape(len(self.basis), -1) @ flat) ** 2) / total) if total > 0 else 0.0


def supercell_irreps(group: SupercellGroup, labelling_origin: Array | None = None) -> list[IrrepComponent]:
    """Every irrep that the displacements of a supercell hold; together they are complete and orthogonal.

    The labels are those of the parent's whole space group, also where the supercell's shape is less symmetric; of
    each star those arms are there that fit into the supercell.

    Args:
        group: The supercell with its group.
        labelling_origin: (3,) fractional; zone-boundary labels depend on it. None: the atom that `origin_atom` names.

    Returns:
        One component per star and irrep, Γ first.
    """
    if labelling_origin is None:
        labelling_origin = group.primitive.get_scaled_positions(wrap=False)[origin_atom(group)]
    components = []
    for arms in stars(group):
        components += _at_star(group, arms, labelling_origin)
    return components


def origin_atom(group: SupercellGroup) -> int:
    """The atom whose site has the most symmetry, among equals the one with the closest neighbours.

    In a perovskite that is the octahedral cation, on which the usual labels R4+ and M3+ are based.
    """
    primitive, space = group.primitive, group.full_group
    counts = []
    for x in primitive.get_scaled_positions(wrap=False):
        gap = space.rotations @ x + space.translations - x
        counts.append(int((np.linalg.norm((gap - np.rint(gap)) @ space.cell, axis=1) < 1e-2).sum()))
    distances = primitive.repeat((3, 3, 3)).get_all_distances(mic=True)[: len(primitive)]
    nearest = np.where(distances < 1e-6, np.inf, distances).min(axis=1)
    return int(np.lexsort((np.round(nearest, 4), -np.array(counts)))[0])


def stars(group: SupercellGroup) -> list[Array]:
    """The commensurate points by stars, each (arms, 3) with one of every ±q; Γ first."""
    points, rotations = commensurate_points(group.matrix), group.full_group.rotations
    left, found = list(range(len(points))), []
    while left:
        q = points[left[0]]
        images = np.concatenate([q @ rotations, -q @ rotations])
        inside = [i for i in left if equivalent(points[i], images)]
        arms: list[Array] = []
        for i in inside:
            if not arms or not equivalent(points[i], -np.array(arms)):
                arms.append(points[i])
        found.append(np.array(arms))
        left = [i for i in left if i not in inside]
    return found


def equivalent(q: Array, others: Array) -> bool:
    """Whether q differs from one of the others by a reciprocal lattice vector."""
    gap = others - q
    return bool((np.abs(gap - np.rint(gap)).max(axis=1) < 1e-6).any())


def waves(group: SupercellGroup, q: Array, patterns: Complex) -> Complex:
    """exp(iq·R) ε_j on the supercell: patterns (k, 3n) → (k, atoms, 3), of the same norm."""
    phase = np.exp(2j * np.pi * (group.cells @ q)) / np.sqrt(group.num_cells)
    return (phase[None, :, None] * patterns[:, None, :]).reshape(len(patterns), -1, 3)


def bloch_action(group: SupercellGroup, rotation: int, image: Array) -> Complex:
    """An operation {W | w} of the full group on Bloch patterns, (3n, 3n): from q to its image q·W⁻¹.

    W x_j + w = x_k + s_j sends exp(iq·R) ε_j to exp(iq′·R) exp(−iq′·s_j) g ε_j on atom k.
    """
    space, primitive = group.full_group, group.primitive
    types = symmetry_types(primitive)
    target, shift = atom_map(
        primitive.get_scaled_positions(wrap=False),
        types,
        space.rotations[rotation],
        space.translations[rotation],
        space.cell,
    )
    turn, n = space.cartesian[rotation], len(primitive)
    matrix = np.zeros((n, 3, n, 3), dtype=np.complex128)
    for j, k in enumerate(target):
        matrix[k, :, j, :] = turn * np.exp(-2j * np.pi * float(image @ shift[j]))
    return matrix.reshape(3 * n, 3 * n)


def _at_star(group: SupercellGroup, arms: Array, origin: Array) -> list[IrrepComponent]:
    space, q = group.full_group, arms[0]
    irreps, mapping = get_spacegroup_irreps_from_primitive_symmetry(space.rotations, space.translations, q)
    little = np.asarray(mapping)
    actions = np.stack([bloch_action(group, int(i), q) for i in little])
    to_arms = _to_arms(group, arms)
    point = point_name(group.primitive, q)
    components: list[IrrepComponent] = []
    for number, irrep in enumerate(irreps):
        characters = np.trace(irrep, axis1=1, axis2=2)
        projector = irrep.shape[1] / len(little) * np.einsum("g,gab->ab", characters.conj(), actions)
        values, vectors = np.linalg.eigh((projector + projector.conj().T) / 2)
        chosen = vectors[:, values > 0.5].T
        if not len(chosen):
            continue
        basis = _real_basis(group, arms, [chosen @ t.T for t in to_arms])
        if any(np.abs(np.einsum("kix,jix->kj", basis, c.basis)).max() > 1e-6 for c in components):
            continue  # the complex partner of an irrep that is there already
        symbol = _symbol(group, q, little, characters, number, origin)
        multiplicity = len(chosen) // irrep.shape[1]
        components.append(
            IrrepComponent(
                name=_name(group, point, symbol, little, q),
                point=point,
                symbol=symbol,
                q=q,
                arms=len(arms),
                dimension=len(basis) // multiplicity,
                multiplicity=multiplicity,
                basis=basis,
            )
        )
    return components


def _real_basis(group: SupercellGroup, arms: Array, patterns: list[Complex]) -> Array:
    """Real and imaginary parts of the waves of all arms, orthonormal."""
    found = [waves(group, arm, pattern) for arm, pattern in zip(arms, patterns, strict=True)]
    parts = np.concatenate([part for wave in found for part in (wave.real, wave.imag)])
    _, size, rows = np.linalg.svd(parts.reshape(len(parts), -1), full_matrices=False)
    return rows[size > 1e-6].reshape(-1, *parts.shape[1:])


def _to_arms(group: SupercellGroup, arms: Array) -> list[Complex]:
    """Actions that carry patterns at the first arm to each of the arms."""
    images = arms[0] @ np.linalg.inv(group.full_group.rotations)
    actions = []
    for arm in arms:
        hits = [i for i, image in enumerate(images) if equivalent(arm, image[None])]
        # Only −q may be in the star: the conjugate pattern there spans the same real displacements.
        turned = hits or [i for i, image in enumerate(images) if equivalent(-arm, image[None])]
        action = bloch_action(group, turned[0], arm if hits else -arm)
        actions.append(action)
    return actions


def _symbol(
    group: SupercellGroup, q: Array, little: Integers, characters: Complex, number: int, origin: Array
) -> str:
    """Mulliken's symbol where the little group acts as its point group with phases taken off; else a number."""
    space = group.full_group
    # About the new origin the translation is w + (W − 1) o, and the phase exp(−iq·t) comes off.
    shifts = space.translations[little] + space.rotations[little] @ origin - origin
    plain = characters * np.exp(2j * np.pi * (shifts @ q))
    inner = np.allclose(q, 0) or np.abs(shifts - np.rint(shifts)).max() < 1e-6
    if not inner and not np.isclose(np.mean(np.abs(plain) ** 2), 1, atol=1e-6):
        return f"#{number + 1}"
    if not inner and not _ordinary(space.rotations[little], shifts, q):
        return f"#{number + 1}"
    return mulliken(space.cartesian[little], plain)


def _ordinary(rotations: Integers, shifts: Array, q: Array) -> bool:
    """Whether exp(iq·(t_ab − t_a − W_a t_b)) = 1 throughout: small representations are ordinary ones."""
    turned = np.einsum("aij,bj->abi", rotations, shifts) - shifts[None]
    # W_a q differs from q by a reciprocal vector, so exp(iq·(W_a t_b − t_b)) is the factor system.
    phase = np.exp(2j * np.pi * (turned @ q))
    return bool(np.abs(phase - 1).max() < 1e-6)


def _name(group: SupercellGroup, point: str, symbol: str, little: Integers, q: Array) -> str:
    if group.full_group.number == 221 and np.allclose(2 * q, np.rint(2 * q), atol=1e-6):
        number = miller_love(group.full_group.cartesian[little], symbol)
        if number is not None:
            return f"{point}{number}"
    return f"{point} {symbol}"


def point_name(primitive: Atoms, q: Array) -> str:
    """The usual letter of a special point, else its coordinates as fractions."""
    if np.abs(q - np.rint(q)).max() < 1e-6:
        return "Γ"
    for label, point in _special_points(primitive).items():
        if equivalent(q, point):
            return label
    return "(" + " ".join(_fraction(x) for x in q) + ")"


def _special_points(primitive: Atoms) -> dict[str, Array]:
    """Label → all arms, in the reciprocal vectors of the given primitive cell."""
    import warnings

    import spglib

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: Any = seekpath.get_path(spglib_cell(primitive), symprec=1e-4)
    # Fractions of seekpath's reciprocal vectors → Cartesian in its frame → ours.
    lattice = np.array(found["primitive_lattice"]) @ np.array(found["rotation_matrix"])
    into = np.linalg.inv(lattice).T @ primitive.cell.array.T
    dataset: Any = spglib.get_symmetry_dataset(spglib_cell(primitive), symprec=1e-4)
    result = {}
    for label, point in found["point_coords"].items():
        q = np.asarray(point) @ into
        arms = np.concatenate([q @ dataset.rotations, -q @ dataset.rotations])
        result["Γ" if label == "GAMMA" else label] = arms
    return result


def _fraction(x: float) -> str:
    from fractions import Fraction

    near = Fraction(float(x)).limit_denominator(24)
    return str(near) if abs(float(near) - x) < 1e-6 else f"{x:.3f}"
