"""Domain variants and order parameters of children in any cell, order and orientation."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from scipy.spatial.transform import Rotation

from mlip.errors import InputError
from mlip.symmetry import OrderParameter, SupercellGroup, domain_variants, supercell_irreps
from mlip.symmetry.matching import Limits

A = 4.0


def cubic():
    scaled = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    return Atoms("BaTiO3", scaled_positions=scaled, cell=A * np.eye(3), pbc=True)


def polar(direction, size=0.15, strain=0.02):
    """Ti against O along a direction, with the strain that goes with it."""
    atoms, d = cubic(), np.array(direction, float) / np.linalg.norm(direction)
    atoms.positions[1] += size * d
    atoms.positions[2:] -= size / 2 * d
    deform = np.eye(3) + strain * (np.outer(d, d) - np.eye(3) / 3)
    atoms.set_cell(atoms.cell.array @ deform, scale_atoms=True)
    return atoms


def disguised(atoms, seed=0):
    """The same crystal: another cell, another order, turned and shifted."""
    rng = np.random.default_rng(seed)
    other = atoms.repeat((2, 1, 1))
    other.set_cell(np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1]]) @ other.cell.array, scale_atoms=False)
    turn = Rotation.random(rng=rng).as_matrix()
    other.set_cell(other.cell.array @ turn.T, scale_atoms=True)
    other.positions += rng.uniform(-3, 3, size=3)
    other.wrap()
    return other[rng.permutation(len(other))]


@pytest.mark.parametrize(
    ("direction", "number", "states", "ferroelastic"),
    [((0, 0, 1), 99, 6, 3), ((1, 1, 0), 38, 12, 6), ((1, 1, 1), 160, 8, 4), ((1, 1, 0.4), 8, 24, 12)],
)
def test_ferroelectric_variants(direction, number, states, ferroelastic):
    found = domain_variants(cubic(), disguised(polar(direction)))
    assert found.child.endswith(f"({number})")
    assert (len(found.orientations), len(found.translations)) == (states, 1)
    assert found.ferroelastic_count == ferroelastic
    assert found.tensor.name == "1o"
    assert len(np.unique(np.round(found.tensors, 6), axis=0)) == states
    assert found.symmetry_breaking_set().ideal


def test_operations_make_the_variants():
    """Applied to the child they give different structures of equal distances, all children of the parent."""
    child = polar((0, 0, 1))
    found = domain_variants(cubic(), child)
    moves = [g @ (child.positions[1] - child.positions[2:].mean(axis=0)) for g in found.orientations]
    assert len(np.unique(np.round(moves, 6), axis=0)) == 6
    for g in found.orientations:
        other = child.copy()
        other.set_cell(child.cell.array @ g.T, scale_atoms=True)
        assert domain_variants(cubic(), other).count == 6


def tilted(amplitudes):
    group = SupercellGroup(cubic(), 2 * np.eye(3, dtype=int))
    parts = {c.name: c for c in supercell_irreps(group)}
    atoms = group.atoms.copy()
    for name, values in amplitudes.items():
        basis = parts[name].basis
        atoms.positions += np.einsum("k,kix->ix", np.resize(values, len(basis)), basis)
    return atoms


def test_antiphase_domains_are_counted_apart():
    """a0a0c- (I4/mcm) and a0a0c+ (P4/mbm): three axes, and two phases that differ by a lattice vector."""
    r4 = disguised(i4mcm())
    found = domain_variants(cubic(), r4)
    assert found.child.endswith("(140)")
    assert (len(found.orientations), len(found.translations)) == (3, 2)
    assert found.tensor.name == "2e"
    assert np.allclose(np.linalg.norm(found.translations[1]), A)


def i4mcm():
    """Rigid tilt about z, alternating."""
    group = SupercellGroup(cubic(), 2 * np.eye(3, dtype=int))
    basis = next(c.basis for c in supercell_irreps(group) if c.name == "R4+")
    # The combination without displacements along z turns about z.
    _, _, rows = np.linalg.svd(basis[:, :, 2].T)
    atoms = group.atoms.copy()
    atoms.positions += 0.8 * np.einsum("k,kix->ix", rows[-1], basis)
    return atoms


def test_the_parent_itself_has_one_state():
    found = domain_variants(cubic(), disguised(cubic()))
    assert found.count == 1
    assert found.tensor is None


def test_wrong_pairs_are_refused():
    with pytest.raises(InputError, match="lacks"):
        domain_variants(polar((0, 0, 1)), cubic())
    with pytest.raises(InputError, match="whole number"):
        domain_variants(cubic(), Atoms("BaTiO2", positions=np.eye(4, 3) * 2, cell=A * np.eye(3), pbc=True))
    far = cubic()
    far.set_cell(far.cell.array @ np.diag([1, 1, 1.6]), scale_atoms=True)
    with pytest.raises(InputError, match="strain"):
        domain_variants(cubic(), far)
    with pytest.raises(InputError, match="from its parent site"):
        domain_variants(cubic(), polar((0, 0, 1)), limits=Limits(displacement=0.05))
    with pytest.raises(InputError, match="lacks"):
        domain_variants(polar((0, 0, 1)), polar((1, 1, 1)))


def test_one_axis_has_no_finite_set_but_variants():
    """P4 → P2: two orientation variants, yet no finite equivariant set of tensors; said, not hidden."""
    parent = polar((0, 0, 1))
    chiral = parent.repeat((1, 1, 1)) + Atoms("H4", positions=four((0.9, 0.4, 0.3)), cell=parent.cell, pbc=True)
    child = chiral.copy()
    for i in (-4, -2):
        child.positions[i, 2] += 0.08
    found = domain_variants(chiral, child)
    assert found.parent.endswith("(75)")
    assert (len(found.orientations), found.child_point_group) == (2, "C2")
    with pytest.raises(InputError, match="no finite symmetry-breaking set"):
        found.symmetry_breaking_set()
    assert any("no finite symmetry-breaking set" in line for line in found.lines)


def four(point):
    """An orbit of the four-fold axis through the origin."""
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    return [np.linalg.matrix_power(turn, k) @ point for k in range(4)]


def test_amplitudes_are_recovered():
    child = tilted({"R4+": (0.3, 0.2, 0.1), "M3-": (0.1, 0, 0, 0, 0, 0.05)})
    found = OrderParameter.from_structures(cubic(), child)
    assert found.names == ["R4+", "M3-"]
    expected = np.array([np.linalg.norm([0.3, 0.2, 0.1]), np.linalg.norm([0.1, 0.05])]) / np.sqrt(8)
    assert np.allclose(found.amplitudes, expected, atol=1e-10)
    series = found.project([child, disguise_in_place(child)])
    assert np.allclose(series.amplitudes, expected, atol=1e-10)


def disguise_in_place(atoms):
    """Turned, strained, shifted and wrapped, with the atoms in order: what a molecular-dynamics cell does."""
    other = atoms.copy()
    turn = Rotation.from_euler("xyz", [0.1, -0.2, 0.3]).as_matrix() @ np.diag([1.02, 0.99, 1.0])
    other.set_cell(other.cell.array @ turn.T, scale_atoms=True)
    other.positions += 1.234
    other.wrap()
    return other


def test_noise_is_shared_by_dimension():
    """Random displacements: ⟨A²⟩ of a component is its dimension times the variance, per cell."""
    base = SupercellGroup(cubic(), 2 * np.eye(3, dtype=int)).atoms
    child = tilted({"R4+": (0.3, 0, 0)})
    found = OrderParameter.from_structures(cubic(), child).following("R4+", "X5-", "M5-")
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(200):
        frame = child.copy()
        frame.positions = base.positions + rng.normal(scale=0.05, size=frame.positions.shape)
        frames.append(frame)
    mean = (found.project(frames).amplitudes ** 2).mean(axis=0)
    sizes = np.array([len(c.basis) for c in found.components])
    assert np.allclose(mean, 0.05**2 * sizes / 8, rtol=0.2)


def test_frames_of_other_atoms_are_refused(tmp_path):
    child = tilted({"R4+": (0.3, 0.2, 0.1)})
    found = OrderParameter.from_structures(cubic(), child)
    with pytest.raises(InputError, match="another order"):
        found.project(child[::-1])
    with pytest.raises(InputError, match="no irrep"):
        found.following("Z9")
    series = found.project([child] * 3, times=np.arange(3) * 10.0)
    assert series.to_csv(tmp_path / "a.csv").read_text().startswith("time_fs,R4+_A")
    assert series.plot().axes[0].get_xlabel() == "time (ps)"
