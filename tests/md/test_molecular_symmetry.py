"""Symmetry of molecules and of their vibrations: point groups, irreducible representations, activity."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from mlip.md import find_point_group, vibrations


def counted(result):
    """{symbol: how many levels}, by dividing by the degeneracy of the symbol."""
    labels = [s.label for s in result.symmetries]
    size = {"E": 2, "T": 3, "G": 4, "H": 5, "Π": 2}
    return {label: labels.count(label) // size.get(label[0], 1) for label in set(labels)}


GROUPS = {
    "H2O": "C2v", "NH3": "C3v", "CH4": "Td", "C2H4": "D2h", "C6H6": "D6h", "CO2": "D∞h", "HCN": "C∞v", "C2H6": "D3d",
    "H2O2": "C2", "CH3Cl": "C3v", "C2H2": "D∞h", "C3H4_D2d": "D2d", "C3H6_D3h": "D3h", "BF3": "D3h", "HOCl": "Cs",
    "trans-butane": "C2h", "H": "Kh",
}  # fmt: skip


@pytest.mark.parametrize("name", GROUPS)
def test_point_groups(name, new_molecule):
    group = find_point_group(new_molecule(name))
    assert group.symbol == GROUPS[name]
    rotations = {"H2O": 2, "NH3": 3, "CH4": 12, "C2H4": 4, "C6H6": 12, "CO2": 2, "HCN": 1, "C2H6": 6, "C3H6_D3h": 6}
    assert group.symmetry_number == rotations.get(name, group.symmetry_number)


def test_point_groups_of_high_and_of_no_symmetry():
    octahedron = np.concatenate([1.56 * np.eye(3), -1.56 * np.eye(3)])
    assert find_point_group(Atoms("SF6", positions=[[0, 0, 0], *octahedron])).symbol == "Oh"
    golden = (1 + np.sqrt(5)) / 2
    corners = np.array([[0, s, t * golden] for s in (1, -1) for t in (1, -1)])
    corners = np.concatenate([corners, corners[:, [1, 2, 0]], corners[:, [2, 0, 1]]])
    assert find_point_group(Atoms("B12", positions=1.5 * corners)).symbol == "Ih"
    four = np.array([[1, 1, 0.2], [-1, 1, -0.2], [-1, -1, 0.2], [1, -1, -0.2]])
    assert find_point_group(Atoms("B4", positions=four)).symbol == "D2d"
    assert find_point_group(Atoms("HClBrFC", positions=[[1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1], [0, 0, 0]])
                            ).symbol == "C1"  # fmt: skip
    star = [[np.cos(a), np.sin(a), 0] for a in np.arange(5) * 2 * np.pi / 5]
    assert find_point_group(Atoms("H5", positions=star)).symbol == "D5h"


def test_a_tolerance_decides_about_a_distorted_molecule():
    atoms = molecule("CH4")
    atoms.positions[1] *= 1.02
    assert find_point_group(atoms, 0.05).symbol == "Td"
    assert find_point_group(atoms, 0.002).symbol == "C3v"


def test_operations_form_a_group(new_molecule):
    for name in ("C2H6", "CH4", "C6H6"):
        matrices = np.array([op.matrix for op in find_point_group(new_molecule(name)).operations])
        products = np.einsum("aij,bjk->abik", matrices, matrices).reshape(-1, 3, 3)
        gaps = np.abs(products[:, None] - matrices[None]).max(axis=(2, 3)).min(axis=1)
        assert gaps.max() < 1e-3


# Vibrations by symmetry, as textbooks list them (Herzberg, Infrared and Raman Spectra; Wilson, Decius and Cross).
SPECIES = {
    "H2O": {"A1": 2, "B2": 1},
    "NH3": {"A1": 2, "E": 2},
    "CH4": {"A1": 1, "E": 1, "T2": 2},
    "CO2": {"Σg⁺": 1, "Σu⁺": 1, "Πu": 1},
    "C2H2": {"Σg⁺": 2, "Σu⁺": 1, "Πg": 1, "Πu": 1},
    "HCN": {"Σ⁺": 2, "Π": 1},
    "BF3": {"A1′": 1, "A2″": 1, "E′": 2},
    "C2H4": {"Ag": 3, "Au": 1, "B1u": 2, "B2g": 1, "B2u": 2, "B3g": 2, "B3u": 1},  # z along C=C, x across the plane
    "C2H6": {"A1g": 3, "A1u": 1, "A2u": 2, "Eg": 3, "Eu": 3},
    "C3H4_D2d": {"A1": 3, "B1": 1, "B2": 3, "E": 4},
    "C6H6": {"A1g": 2, "A2g": 1, "A2u": 1, "B1u": 2, "B2g": 2, "B2u": 2, "E1g": 1, "E1u": 3, "E2g": 4, "E2u": 2},
}  # fmt: skip
ACTIVE = {  # infrared, Raman
    "CH4": ({"T2"}, {"A1", "E", "T2"}),
    "C2H2": ({"Σu⁺", "Πu"}, {"Σg⁺", "Πg"}),
    "C6H6": ({"A2u", "E1u"}, {"A1g", "E1g", "E2g"}),
    "BF3": ({"A2″", "E′"}, {"A1′", "E′"}),
    "C2H4": ({"B1u", "B2u", "B3u"}, {"Ag", "B2g", "B3g"}),
}


@pytest.mark.parametrize("name", SPECIES)
def test_irreducible_representations_and_activity(name, new_molecule, field):
    atoms = new_molecule(name)
    result = vibrations(atoms, field(atoms), relax_first=False)
    assert counted(result) == SPECIES[name]
    assert len(result.symmetries) == 3 * len(atoms) - 6 + result.group.linear
    for kind, expected in zip(("infrared", "raman"), ACTIVE.get(name, ()), strict=False):
        assert {s.label for s in result.symmetries if getattr(s, kind)} == expected
    assert all(check.passed for check in result.checks), result.checks


def test_accidental_degeneracy_is_split_by_symmetry(new_molecule, field):
    """All frequencies of methane equal: the sets are still told apart, by the operations alone."""
    from mlip.md.curvature import rigid_motions

    atoms = new_molecule("CH4")
    weights = np.sqrt(np.repeat(atoms.get_masses(), 3))
    rigid = np.linalg.svd(rigid_motions(atoms) * weights, full_matrices=False)[2]
    matrix = weights[:, None] * (np.eye(15) - rigid.T @ rigid) * weights
    result = vibrations(atoms, field(atoms, matrix), relax_first=False)
    assert np.ptp(result.frequencies) < 1e-3
    assert counted(result) == SPECIES["CH4"]


def test_a_hessian_that_breaks_the_symmetry_is_caught(new_molecule, field):
    atoms = new_molecule("CH4")
    matrix = field(atoms).matrix
    noise = np.random.default_rng(0).normal(size=matrix.shape)
    result = vibrations(atoms, field(atoms, matrix + 1.0 * (noise + noise.T)), relax_first=False)
    assert not next(c for c in result.checks if c.name == "symmetry defect of modes").passed
    assert not next(c for c in result.checks if c.name.startswith("rigid motions")).passed
