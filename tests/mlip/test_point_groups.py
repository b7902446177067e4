"""Group theory against the tables of the literature and against itself."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mlip.errors import InputError
from mlip.symmetry import (
    BreakingSets,
    MatrixGroup,
    breaking_set,
    invariant_count,
    lightest_tensor,
    normaliser,
    point_group,
    point_group_name,
)
from mlip.symmetry.characters import character, invariant_basis, wigner_matrices
from mlip.symmetry.point_groups import CRYSTALLOGRAPHIC

# Number of invariants of (0e 0o 1e 1o 2e 2o 3e 3o 4e 4o).
INVARIANTS = {
    "Oh": "1000000010", "Td": "1000000110", "O": "1100000011", "Th": "1000001010", "D3d": "1000101020",
    "D6h": "1000100010", "D2h": "1000201030", "D4h": "1000100020", "C4v": "1001100121", "D4": "1100110022",
    "D2d": "1000110121", "C3v": "1001101221", "C6v": "1001100110", "C2v": "1001211232",
}  # fmt: skip
NORMALISERS = {
    "Oh": ("D2", "D2h", "T", "Th", "O", "Td", "Oh"),
    "D4h": ("D2d", "C2v"),
    "D8h": ("D4", "C4v", "D4h"),
    "D6h": ("D3", "C3v", "D3d", "D3h"),
    "D12h": ("D6", "C6v", "D6h"),
}
MANY_AXES = [name for names in NORMALISERS.values() for name in names]
ONE_AXIS = ("C2", "C3", "C4", "C6", "Cs", "C2h", "C3h", "C4h", "C6h", "S4", "S6")
SIZES = {
    "Oh": {
        "C4v": 6, "C3v": 8, "C2v": 12, "D4h": 3, "D3d": 4, "D2h": 6, "D2d": 6, "Td": 2, "O": 2, "Th": 2, "T": 4,
        "C4h": 6, "D3": 8, "S6": 8, "Cs": 24, "C1": 48,
    },
    "Td": {"C3v": 4, "C2v": 6, "D2d": 3},
    "D4h": {"C4v": 2, "D2h": 2, "C2v": 4, "Cs": 8},
    "D6h": {"C6v": 2, "D2h": 3, "C2v": 6, "D3d": 2},
}  # fmt: skip


def subgroup_classes(name):
    """One subgroup of each class under the group itself, with its symbol."""
    group = point_group(name)
    seen, found = set(), []
    for h in group.subgroups:
        if h not in seen:
            seen |= group.conjugates(h)
            found.append(group.subgroup(h))
    return group, [(point_group_name(h.elements), h) for h in found]


@pytest.mark.parametrize("name", INVARIANTS)
def test_invariants(name):
    counted = [invariant_count(point_group(name), l, p) for l in range(5) for p in (1, -1)]
    assert "".join(map(str, counted)) == INVARIANTS[name]


@pytest.mark.parametrize("l", range(7))
def test_characters_are_traces_of_wigner_matrices(l, tolerances):
    turns = Rotation.random(6, rng=np.random.default_rng(l)).as_matrix()
    turns[3:] *= -1
    for parity in (1, -1):
        matrices = wigner_matrices(turns, l, parity)
        assert np.allclose(character(turns, l, parity), np.trace(matrices, axis1=1, axis2=2), atol=1e-10)
        product = wigner_matrices(turns[:1] @ turns[3:4], l, parity)[0]
        assert np.allclose(matrices[0] @ matrices[3], product, atol=tolerances.symmetry)


@pytest.mark.parametrize("name", ["C4v", "D2d", "Td", "D3d"])
def test_the_invariant_basis_is_invariant_and_complete(name):
    group = point_group(name)
    for l in range(5):
        for parity in (1, -1):
            basis = invariant_basis(group, l, parity)
            assert len(basis) == invariant_count(group, l, parity)
            assert np.allclose(wigner_matrices(group.elements, l, parity) @ basis.T, basis.T, atol=1e-9)


def test_a_character_table_with_an_error_is_caught():
    """The 32 point groups are told apart by what they leave invariant or by their order."""
    rows = {n: (len(point_group(n)), *(invariant_count(point_group(n), l, p) for l in range(10) for p in (1, -1)))
            for n in CRYSTALLOGRAPHIC}  # fmt: skip
    assert len(set(rows.values())) == 32


def test_subgroups_of_the_cube():
    """98 subgroups of O_h in 33 classes, and their names."""
    group, classes = subgroup_classes("Oh")
    assert len(group.subgroups) == 98
    assert len(classes) == 33
    assert {name for name, _ in classes} == set(CRYSTALLOGRAPHIC) - {
        "C6", "C3h", "C6h", "D6", "C6v", "D3h", "D6h"}  # fmt: skip


def test_names_do_not_depend_on_orientation():
    turn = Rotation.random(rng=np.random.default_rng(3)).as_matrix()
    for name in CRYSTALLOGRAPHIC:
        assert point_group_name(turn @ point_group(name).elements @ turn.T) == name


@pytest.mark.parametrize(("whole", "names"), NORMALISERS.items())
def test_normalisers(whole, names):
    turn = Rotation.random(rng=np.random.default_rng(4)).as_matrix()
    for name in names:
        found = normaliser(MatrixGroup(turn @ point_group(name).elements @ turn.T))
        assert isinstance(found, MatrixGroup)
        assert point_group_name(found.elements) == whole


def test_normalisers_of_groups_with_one_axis_are_continuous():
    assert {normaliser(point_group(name)) for name in ONE_AXIS} == {"D∞h"}
    assert {normaliser(point_group(name)) for name in ("C1", "Ci")} == {"O(3)"}


@pytest.mark.parametrize("name", ONE_AXIS)
def test_one_axis_has_no_finite_set(name):
    with pytest.raises(InputError, match="no finite symmetry-breaking set"):
        breaking_set(point_group(name))


@pytest.mark.parametrize("name", SIZES)
def test_sizes_of_breaking_sets(name):
    group, classes = subgroup_classes(name)
    sets = BreakingSets(group)
    sizes = {k: {sets.to(h).size for label, h in classes if label == k} for k in SIZES[name]}
    assert sizes == {k: {size} for k, size in SIZES[name].items()}


def test_all_pairs_have_ideal_sets():
    """229 pairs (S, class of K) of the 19 dihedral and cubic groups; a full set is the pair K = 1."""
    pairs = []
    for group, classes in map(subgroup_classes, MANY_AXES):
        sets = BreakingSets(group)
        pairs += [sets.to(k) for _, k in classes]
    assert len(MANY_AXES) == 19
    assert len(pairs) == 229
    assert all(pair.ideal for pair in pairs)


def test_a_complement_is_one():
    """O = T ⋊ C2' within O; D4h has no complement of its C4 within C4v's normaliser that is C4 itself."""
    group = point_group("O")
    t = next(h for h in group.subgroups if len(h) == 12)
    found = group.complements(t, frozenset(range(24)))
    assert found
    assert all(len(h) == 2 and len(h & t) == 1 for h in found)
    c4 = point_group("C4")
    half = next(h for h in c4.subgroups if len(h) == 2)
    assert not c4.complements(half, frozenset(range(4)))  # Z4 is not a product


LIGHTEST = {
    "C4v": {"1o"}, "C3v": {"1o"}, "Cs": {"1o"}, "C1": {"1o"}, "D4h": {"2e"}, "D3d": {"2e"}, "D2d": {"2o"},
    "D3": {"2o"}, "D4": {"2o"}, "C2": {"2o"}, "S4": {"2o"}, "C4h": {"1e"}, "S6": {"1e"}, "Ci": {"1e"}, "Td": {"3o"},
    "Th": {"3e"}, "O": {"0o"},
}  # fmt: skip


def test_lightest_tensors_of_the_cube():
    group, classes = subgroup_classes("Oh")
    found: dict[str, set[str]] = {}
    for name, subgroup in classes:
        tensor = lightest_tensor(group, subgroup)
        found.setdefault(name, set()).add(tensor.name if tensor else "none")
    for name, expected in LIGHTEST.items():
        assert expected <= found[name], name
    assert "1o" in found["C2v"]  # along [110]
    assert "2e" in found["D2h"]
    assert {"1e", "2e"} <= found["C2h"]


def test_the_lightest_tensor_has_that_stabiliser():
    group, classes = subgroup_classes("Oh")
    for name, subgroup in classes:
        tensor = lightest_tensor(group, subgroup)
        if tensor is None or tensor.l > 4:
            continue
        fixed = np.linalg.norm(tensor.turned(group.elements) - tensor.components, axis=1) < 1e-6
        assert fixed.sum() == len(subgroup), name


def test_cartesian_forms_turn_as_tensors():
    turn = Rotation.random(rng=np.random.default_rng(5)).as_matrix()
    strain = lightest_tensor(point_group("Oh"), point_group("D4h"))
    vector = lightest_tensor(point_group("Oh"), point_group("C4v"))
    assert np.allclose(strain.cartesian, np.diag([-1, -1, 2]) / np.sqrt(6)) or np.allclose(
        strain.cartesian, np.diag([1, 1, -2]) / np.sqrt(6)
    )
    assert np.allclose(np.abs(vector.cartesian), [0, 0, 1])
    for tensor in (strain, vector):
        components = tensor.turned(turn[None])[0]
        moved = type(tensor)(tensor.l, tensor.parity, components, 1).cartesian
        expected = turn @ tensor.cartesian if tensor.l == 1 else turn @ tensor.cartesian @ turn.T
        assert np.allclose(moved, expected)


def test_a_set_of_matrices_that_is_no_group_is_refused():
    group = MatrixGroup(np.array([np.eye(3), Rotation.from_rotvec([0, 0, 1.0]).as_matrix()]))
    with pytest.raises(InputError):
        _ = group.table
