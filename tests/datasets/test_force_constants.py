"""Force constants and force sets: what is read, and D(q) of the primitive cell that follows from a supercell."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlip.datasets import bloch_labels, fitted_hessian, read_force_sets, read_frames, silicon
from mlip.datasets.frame import LabelledFrame
from mlip.errors import InputError

THZ = 15.633302300230191  # √(eV/Å²/amu)/2π


def frequencies(labels):
    """(nq, 3n) THz."""
    weight = np.repeat(labels.primitive.get_masses(), 3) ** -0.5
    values = np.linalg.eigvalsh(weight[:, None] * labels.matrices * weight)
    return np.sign(values) * np.sqrt(np.abs(values)) * THZ


def springs(atoms, stiffness=3.0, reach=1.2):
    """A supercell with the Hessian of springs between nearest neighbours."""
    from ase.neighborlist import neighbor_list

    i, j, vectors = neighbor_list("ijD", atoms, reach * 2.2)
    blocks = np.zeros((len(atoms), 3, len(atoms), 3))
    for a, b, d in zip(i, j, vectors, strict=True):
        k = stiffness * np.outer(d, d) / (d @ d)
        blocks[a, :, b] -= k
        blocks[a, :, a] += k
    return LabelledFrame(atoms, hessian=blocks.reshape(3 * len(atoms), -1))


@pytest.fixture
def crystal():
    return bulk("NaCl", "rocksalt", a=4.4)


def test_silicon_from_q2r_has_the_frequencies_of_the_mesh():
    """Every wavevector of the 4 × 4 × 4 mesh belongs to one of the eight stars, as often as it should."""
    frames = read_frames(silicon.path("dfpt"))
    assert frames.source.format == "q2r.x force constants"
    assert len(frames[0]) == 128
    labels = bloch_labels(frames[0])
    assert labels.matrices.shape == (64, 6, 6)
    np.testing.assert_allclose(labels.primitive.cell, silicon.primitive_cell().cell, atol=1e-5)
    found, reference = frequencies(labels), silicon.dfpt_reference()
    gaps = np.abs(found[:, None] - reference.frequencies[None]).max(axis=2)
    assert gaps.min(axis=1).max() < 2e-3
    np.testing.assert_array_equal(np.bincount(gaps.argmin(axis=1)), reference.weights)


def test_a_folded_supercell_is_the_sum_over_cells(crystal):
    """H_jk(q) = Σ_R Φ(j0, kR) exp(iq·R), and H(q) is Hermitian with the acoustic sum rule at Γ."""
    repeats = (3, 2, 2)
    frame = springs(crystal.repeat(repeats))
    labels = bloch_labels(frame, crystal)
    np.testing.assert_array_equal(labels.repeats, np.diag(repeats))
    cells = np.array(list(np.ndindex(*repeats)))
    rows = frame.hessian[:6].reshape(6, len(cells), 6)
    for q, matrix in zip(labels.q, labels.matrices, strict=True):
        expected = np.einsum("arb,r->ab", rows, np.exp(2j * np.pi * cells @ q))
        np.testing.assert_allclose(matrix, expected, atol=1e-12)
        np.testing.assert_allclose(matrix, matrix.conj().T, atol=1e-12)
    gamma = labels.only([[0, 0, 0]]).matrices[0]
    np.testing.assert_allclose(gamma.reshape(6, 2, 3).sum(axis=1), 0.0, atol=1e-12)


def test_eigenvalues_of_all_wavevectors_are_those_of_the_supercell(crystal):
    frame = springs(crystal.repeat((2, 3, 1)))
    labels = bloch_labels(frame)
    assert len(labels.primitive) == 2
    together = np.sort(np.concatenate(np.linalg.eigvalsh(labels.matrices)))
    np.testing.assert_allclose(together, np.linalg.eigvalsh(frame.hessian), atol=1e-10)


def test_only_chosen_wavevectors(crystal):
    labels = bloch_labels(springs(crystal.repeat((2, 2, 2))))
    few = labels.only([[0.5, 0, 0], [-0.5, 1.5, 0.0]])
    np.testing.assert_allclose(few.q, [[0.5, 0, 0], [0.5, 0.5, 0]])
    with pytest.raises(InputError, match=r"q = \(0.25, 0, 0\) is not commensurate with the label supercell \(2 0 0;"):
        labels.only([[0.25, 0, 0]])


def test_labels_that_do_not_fit(crystal):
    frame = springs(crystal.repeat((2, 2, 1)))
    turned = crystal.copy()
    turned.rotate(20, "z", rotate_cell=True)
    swapped = crystal.copy()
    swapped.numbers = swapped.numbers[::-1]
    moved = crystal.copy()
    moved.positions += 0.3
    for primitive in (turned, swapped, moved, crystal.repeat((1, 1, 2))):
        with pytest.raises(InputError, match="is no supercell of the primitive cell"):
            bloch_labels(frame, primitive)
    with pytest.raises(InputError, match="needs a crystal"):
        bloch_labels(LabelledFrame(Atoms("H2", positions=np.eye(3)[:2]), hessian=np.eye(6)))
    with pytest.raises(InputError, match="no Hessian"):
        bloch_labels(LabelledFrame(crystal))


def test_force_sets_of_sodium_chloride(data_folder):
    """Phonopy's fit gives the published frequencies at X; the sets themselves are two displaced supercells."""
    path = data_folder / "phonopy/NaCl/FORCE_SETS"
    sets = read_force_sets(path)
    assert sets.displacements.shape == sets.forces.shape == (2, 64, 3)
    assert np.abs(np.linalg.norm(sets.displacements, axis=(1, 2)) - 0.01).max() < 1e-6
    assert (sets.displacements * sets.forces).sum() < 0  # forces drive atoms back
    labels = bloch_labels(fitted_hessian(path))
    assert len(labels.q) == 32
    at_x = frequencies(labels.only([[0.5, 0.5, 0]]))[0]
    np.testing.assert_allclose(at_x, [2.414, 2.414, 4.066, 4.867, 4.867, 5.256], atol=2e-3)


def test_force_constants_without_their_dipole_part_are_refused(tmp_path):
    lines = silicon.path("dfpt").read_text().splitlines()
    at = lines.index("    1", lines.index(" T")) if " T" in lines else 0
    lines[at + 1] = "      1.0  0.0  0.0"
    path = tmp_path / "polar.fc"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match="lack the dipole part"):
        read_frames(path)
    (tmp_path / "short.fc").write_text("\n".join(lines[:40]))
    with pytest.raises(InputError, match=r"short.fc: cannot be read as force constants"):
        read_frames(tmp_path / "short.fc")
    (tmp_path / "fcc.fc").write_text("  1    2  2 10.2 0 0 0 0 0\n")
    with pytest.raises(InputError, match="ibrav = 2"):
        read_frames(tmp_path / "fcc.fc")


def test_force_sets_of_what_has_none(tmp_path):
    (tmp_path / "phonopy.yaml").write_text("phonopy: {}\n")
    for reader in (read_force_sets, fitted_hessian):
        with pytest.raises(InputError):
            reader(tmp_path / "phonopy.yaml")
