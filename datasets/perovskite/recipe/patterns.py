"""Displacement patterns of a perovskite: polar modes and octahedral rotations, with any phase the cell holds."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from mlip.datasets.recipes.espresso import FloatArray, IntArray, cubic_rotations

# Å along the polar axis in ferroelectric PbTiO3, centre at rest: Pb, Ti, O on the axis, O beside it (twice).
# They set the relative sizes only.
POLAR = np.array([-0.305, -0.150, 0.155, 0.182])
Sites = tuple[IntArray, IntArray]


def build(supercell: IntArray, lattice_constant: float) -> Atoms:
    """The cubic perovskite ABO3 repeated to ``supercell`` (rows: lattice vectors in units of the cubic cell)."""
    fractions = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    cells = cells_of(supercell)
    positions = (cells[:, None] + fractions).reshape(-1, 3) * lattice_constant
    return Atoms(
        ["Pb", "Ti", "O", "O", "O"] * len(cells), positions=positions, cell=supercell * lattice_constant, pbc=True
    )


def cells_of(supercell: IntArray) -> IntArray:
    """(n, 3) the cubic cells of a supercell, the first one at the origin."""
    reach = np.arange(-4, 5)
    grid = np.stack(np.meshgrid(reach, reach, reach, indexing="ij"), axis=-1).reshape(-1, 3)
    fractions = grid @ np.linalg.inv(supercell)
    inside = np.all((fractions > -1e-9) & (fractions < 1 - 1e-9), axis=1)
    return np.array(sorted(grid[inside].tolist()), dtype=np.int64)


def signs(cells: IntArray, twice_q: IntArray) -> FloatArray:
    """(n,) exp(i q R) in cells R for a q of halves and zeros, given as 2q."""
    return np.asarray(1.0 - 2.0 * (cells @ twice_q % 2), dtype=np.float64)


def phases(supercell: IntArray) -> list[FloatArray]:
    """(n,) signs of every real modulation exp(i q R) = ±1 that fits the supercell; the first is all ones."""
    cells = cells_of(supercell)
    twice_q = np.stack(np.meshgrid(*[[0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return [signs(cells, q) for q in twice_q if not np.any(supercell @ q % 2)]


def polar(axis: int, weights: FloatArray, phase: FloatArray) -> FloatArray:
    """(N, 3) displacements along one axis with the weights of Pb, Ti, O on the axis and O beside it."""
    cell = np.zeros((5, 3))
    cell[:2, axis] = weights[:2]
    for oxygen, on_axis in ((2, 2), (3, 1), (4, 0)):  # the Ti-O bond of each oxygen is along `on_axis`
        cell[oxygen, axis] = weights[2] if on_axis == axis else weights[3]
    return (phase[:, None, None] * cell).reshape(-1, 3)


def rotation(axis: int, phase: FloatArray) -> FloatArray:
    """(N, 3) displacements, rms 1, of octahedra that turn about one axis with the given phases.

    The phase belongs to the titanium of each cell; a shared oxygen follows the octahedron of its own cell,
    and it fits the neighbour's where the phases alternate in the plane of the turn.
    """
    first, second = (axis + 1) % 3, (axis + 2) % 3
    cell = np.zeros((5, 3))
    cell[4 - first, second] = -1.0  # the oxygen at half a lattice constant below the titanium along `first`
    cell[4 - second, first] = 1.0
    return (phase[:, None, None] * cell).reshape(-1, 3)


def tilts(supercell: IntArray) -> list[FloatArray]:
    """Octahedral rotations that the supercell holds: phases alternate in the plane of the turn."""
    cells = cells_of(supercell)
    found = []
    for axis in range(3):
        for along in (0, 1):
            q = np.ones(3, dtype=np.int64)
            q[axis] = along
            if not np.any(supercell @ q % 2):
                found.append(rotation(axis, signs(cells, q)))
    return found


def invariant(displacement: FloatArray, supercell: IntArray, group: list[IntArray]) -> FloatArray:
    """The average of a displacement field over a point group about the lead atom at the origin.

    Args:
        displacement: (N, 3) of the atoms of `build`.
        supercell: (3, 3) integers; each operation has to map its lattice onto itself.
        group: (3, 3) signed permutations Q.
    """
    atoms = build(supercell, 2.0)  # half a lattice constant is 1: sites are integers
    sites = np.rint(atoms.positions).astype(np.int64)
    inverse = np.linalg.inv(2 * supercell)
    total = np.zeros_like(displacement)
    for operation in group:
        offsets = ((sites @ operation.T)[:, None] - sites[None]) @ inverse
        image = np.argmax(np.all(np.abs(offsets - np.rint(offsets)) < 1e-6, axis=-1), axis=1)
        total += displacement[image] @ operation
    return total / len(group)


def generated(*names: str) -> list[IntArray]:
    """The point group that some mirrors and rotations of the cube generate."""
    known = {
        "mx": np.diag([-1, 1, 1]),
        "my": np.diag([1, -1, 1]),
        "mz": np.diag([1, 1, -1]),
        "mxy": np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]]),  # swaps x and y
        "mXy": np.array([[0, -1, 0], [-1, 0, 0], [0, 0, 1]]),
        "3": np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]]),  # about [111]
    }
    group = {np.eye(3, dtype=np.int64).tobytes()}
    while True:
        grown = group | {
            (known[name] @ np.frombuffer(one, dtype=np.int64).reshape(3, 3)).tobytes()
            for name in names
            for one in group
        }
        if len(grown) == len(group):
            break
        group = grown
    return [q for q in cubic_rotations() if q.tobytes() in group]


GROUPS = {
    "1": [],
    "mx": ["mx"],  # free in the yz plane
    "mxy": ["mxy"],  # free in the plane of [110] and [001]
    "mm2": ["mx", "my"],  # free along z
    "mm2d": ["mxy", "mXy"],  # free along z, other mirrors
    "4mm": ["mx", "my", "mxy"],
    "3m": ["3", "mxy"],
    "mm2x": ["my", "mz"],  # free along x
    "mm2xy": ["mz", "mxy"],  # free along [110]
}
