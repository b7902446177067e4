"""Potentials of known physics for the tests of this room."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from matscipy.calculators.manybody import Manybody, StillingerWeber
from matscipy.calculators.manybody.explicit_forms.stillinger_weber import Stillinger_Weber_PRB_31_5262_Si

A0 = 5.43095  # Å, where Stillinger–Weber silicon has no stress


def stillinger_weber():
    return Manybody(**StillingerWeber(Stillinger_Weber_PRB_31_5262_Si))


@pytest.fixture
def sw():
    return stillinger_weber()


@pytest.fixture
def new_sw():
    """A factory, for tests that need a fresh calculator."""
    return stillinger_weber


@pytest.fixture
def silicon():
    return bulk("Si", a=A0)


@pytest.fixture
def silicon8():
    return bulk("Si", a=A0, cubic=True)


class Springs(Calculator):
    """Every atom tethered to where it was first seen, relative to the centroid; stiffness in eV/Å²."""

    implemented_properties = ("energy", "forces")

    def __init__(self, stiffness):
        super().__init__()
        self.stiffness, self.sites = stiffness, None

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.sites = self.atoms.get_positions() if self.sites is None else self.sites
        u = self.atoms.get_positions() - self.sites
        u -= u.mean(axis=0)
        self.results = {"energy": 0.5 * self.stiffness * float((u**2).sum()), "forces": -self.stiffness * u}


@pytest.fixture
def new_springs():
    return Springs


class Altered(Calculator):
    """Another calculator with a defect put in: a function of (atoms, results) that returns new results."""

    implemented_properties = ("energy", "free_energy", "forces", "stress")

    def __init__(self, inner, defect):
        super().__init__()
        self.inner, self.defect = inner, defect

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        copy = self.atoms.copy()
        copy.calc = self.inner
        results = {"energy": copy.get_potential_energy(), "forces": copy.get_forces().copy()}
        if copy.pbc.all():
            results["stress"] = copy.get_stress().copy()
        self.results = self.defect(self.atoms, results)
        self.results["free_energy"] = self.results["energy"]


@pytest.fixture
def altered():
    return Altered


@pytest.fixture
def small_potential():
    """A random-weights potential for silicon, float64."""
    import mlip

    settings = {"architecture": "nequip", "cutoff": 4.0, "num_layers": 2, "num_channels": 8, "lmax": 2, "seed": 1}
    return mlip.Potential.from_config(settings, species=["Si"])


@pytest.fixture
def small_calculator(small_potential):
    from mlip import MLIPCalculator

    return MLIPCalculator(small_potential, dtype="float64")


@pytest.fixture(scope="session")
def quick():
    """Settings that keep a calculation short."""
    return {"points": 30, "dos_mesh": [6, 6, 6], "supercell": 3}


@pytest.fixture(scope="session")
def silicon_phonons(quick):
    """Made once: a result is frozen."""
    from mlip.md import phonons

    return phonons(bulk("Si", a=A0), stillinger_weber(), method="hessian", **quick)


class Network(Calculator):
    """Springs along bonds and between second neighbours, at rest in the structure it is made of; eV/Å²."""

    implemented_properties = ("energy", "forces")

    def __init__(self, atoms, stiffness=(25.0, 3.0), reach=(1.3, 2.0)):
        super().__init__()
        distances = atoms.get_all_distances()
        radii = np.array([{"H": 0.31, "C": 0.76, "N": 0.71, "O": 0.66}[s] for s in atoms.symbols])
        sums = radii[:, None] + radii[None]
        bonds = np.triu(distances < reach[0] * sums, 1)
        near = (bonds | bonds.T).astype(int)
        second = np.triu((near @ near > 0) & ~(bonds | bonds.T), 1)
        self.springs = [(i, j, distances[i, j], k) for m, k in zip((bonds, second), stiffness, strict=True)
                        for i, j in np.argwhere(m)]  # fmt: skip

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        energy, forces = 0.0, np.zeros((len(self.atoms), 3))
        for i, j, rest, k in self.springs:
            d = self.atoms.positions[j] - self.atoms.positions[i]
            r = np.linalg.norm(d)
            energy += k * (r - rest) ** 2 / 2
            forces[i] += k * (r - rest) * d / r
            forces[j] -= k * (r - rest) * d / r
        self.results = {"energy": energy, "forces": forces}


class Field(Calculator):
    """E = ½ u·H·u about a structure, with an analytic Hessian."""

    implemented_properties = ("energy", "forces")

    def __init__(self, atoms, hessian):
        super().__init__()
        self.rest, self.matrix = atoms.get_positions(), hessian

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        u = (self.atoms.get_positions() - self.rest).ravel()
        self.results = {"energy": float(u @ self.matrix @ u / 2), "forces": -(self.matrix @ u).reshape(-1, 3)}

    def get_hessian(self, atoms):
        return self.matrix


def symmetric_field(atoms, seed=0):
    """A random Hessian with the full symmetry of the molecule, translations and rotations at no cost."""
    from mlip.md import find_point_group
    from mlip.md.curvature import rigid_motions
    from mlip.md.mode_symmetry import _displacements

    rng = np.random.default_rng(seed)
    n = 3 * len(atoms)
    matrix = rng.normal(size=(n, n))
    matrix = matrix @ matrix.T + 10 * np.eye(n)
    group = find_point_group(atoms)
    turns = [_displacements(op) for op in group.operations]
    if group.linear:  # any rotation about the axis: average over many
        turns = [
            t @ np.kron(np.eye(len(atoms)), _turn(group.axis, a)) for t in turns for a in np.arange(8) * np.pi / 4
        ]
    matrix = sum(t @ matrix @ t.T for t in turns) / len(turns)
    rigid = rigid_motions(atoms)
    free = np.eye(n) - rigid.T @ rigid
    return free @ matrix @ free


def _turn(axis, angle):
    k = np.cross(np.eye(3), axis)
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def turned(name):
    atoms = molecule(name)
    atoms.rotate(37, (1, 2, 3))
    atoms.translate((0.3, -2.0, 1.0))
    return atoms


@pytest.fixture
def network():
    return Network


@pytest.fixture
def field():
    """A function: a molecule's random Hessian of its own symmetry, or a given one, as a calculator."""
    return lambda atoms, matrix=None: Field(atoms, symmetric_field(atoms) if matrix is None else matrix)


@pytest.fixture
def new_molecule():
    return turned


class Landau(Calculator):
    """CsCl lattice whose B atoms sit in anisotropic wells against their A neighbours; every minimum is known.

    Per B atom, with d its displacement against the mean of the eight A around it:
    V = −a/2 Σd² + b/4 Σd⁴ + c/2 Σ_{i<j} d_i² d_j². Springs of stiffness ``k_a`` and ``k_b`` (eV/Å²) join equal
    neighbours; a negative ``k_b`` makes neighbouring B antiparallel.
    """

    implemented_properties = ("energy", "free_energy", "forces")

    def __init__(self, a=1.0, b=10.0, c=2.0, k_a=4.0, k_b=1.0, edge=4.0):
        super().__init__()
        self.a, self.b, self.c, self.k_a, self.k_b, self.edge = a, b, c, k_a, k_b, edge

    def crystal(self):
        return Atoms("CsCl", scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5)], cell=np.eye(3) * self.edge, pbc=True)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        tree = self._tree(self.atoms)
        u = self.atoms.positions - tree["sites"]
        forces, energy = np.zeros_like(u), 0.0
        for kind, stiffness in (("a", self.k_a), ("b", self.k_b)):
            here, there = tree[kind]
            gap = u[here] - u[there]
            energy += 0.25 * stiffness * float((gap**2).sum())  # each pair is met twice
            np.add.at(forces, here, -0.5 * stiffness * gap)
            np.add.at(forces, there, 0.5 * stiffness * gap)
        b, around = tree["well"]
        d = u[b] - u[around].mean(axis=1)
        s = (d**2).sum(axis=1, keepdims=True)
        fourth = (d**4).sum(axis=1)
        energy += float((-self.a / 2 * s[:, 0] + self.b / 4 * fourth + self.c / 4 * (s[:, 0] ** 2 - fourth)).sum())
        slope = -self.a * d + self.b * d**3 + self.c * d * (s - d**2)
        forces[b] -= slope
        for k in range(8):
            np.add.at(forces, around[:, k], slope / 8)
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}

    def _tree(self, atoms):
        """Ideal sites and neighbours; the lattice is the one of edge ``edge`` along x, y, z."""
        half = self.edge / 2
        offset = np.where(atoms.numbers == 55, 0.0, half)[:, None]
        sites = np.rint((atoms.positions - offset) / self.edge) * self.edge + offset
        inverse = np.linalg.inv(atoms.cell.array)
        gap = (sites[None] - sites[:, None]) @ inverse

        def neighbours(rows, columns, vectors):
            found = []
            for v in vectors:
                miss = gap[np.ix_(rows, columns)] - v @ inverse
                match = np.abs(miss - np.rint(miss)).max(axis=2) < 1e-6
                found.append(columns[match.argmax(axis=1)])
            return np.stack(found, axis=1)

        a, b = np.flatnonzero(atoms.numbers == 55), np.flatnonzero(atoms.numbers != 55)
        axes = [s * self.edge * e for e in np.eye(3) for s in (1, -1)]
        corners = [half * np.array(v) for v in product((-1, 1), repeat=3)]
        pairs = {}
        for kind, members in (("a", a), ("b", b)):
            others = neighbours(members, members, axes)
            pairs[kind] = (np.repeat(members, 6), others.ravel())
        return {"sites": sites, **pairs, "well": (b, neighbours(b, a, corners))}


@pytest.fixture
def landau():
    return Landau
