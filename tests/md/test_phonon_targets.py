"""What the numbers must be: exact D(q) against displacements, in single precision, at Γ, of isotopes, in memory."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from ase.build import bulk
from torch.autograd.graph import saved_tensors_hooks

from mlip import MLIPCalculator, Potential
from mlip.bloch import dynamical_matrix
from mlip.md import phonons
from mlip.md.dynamical import (
    BlochMatrices,
    FourierMatrices,
    fill_from_displacements,
    frequencies_at,
    frequencies_thz,
    hermitian_defect,
    phonopy_for,
    space_group_defect,
    supercell_matrix,
)
from mlip.md.structure import primitive_cell
from mlip.potential import Normalization

GENERAL = np.array([0.137, 0.259, 0.391])
SETTINGS = {"architecture": "nequip", "cutoff": 4.0, "num_layers": 3, "num_channels": 8, "lmax": 2, "seed": 1}


@pytest.fixture(scope="module")
def potential():
    """Random weights for rocksalt, scaled so that the highest frequency is that of a hard crystal (20 THz)."""
    atoms = bulk("MgO", "rocksalt", a=4.25)
    plain = Potential.from_config(SETTINGS, ["Mg", "O"]).double()
    top = np.abs(frequencies_at(BlochMatrices(atoms, MLIPCalculator(plain)), np.array([[0.5, 0.5, 0.0]]))).max()
    scale = float((20 / top) ** 2)
    return Potential.from_config(SETTINGS, ["Mg", "O"], Normalization(energy_scale=scale)).double()


@pytest.fixture(scope="module")
def magnesia():
    return bulk("MgO", "rocksalt", a=4.25)


@pytest.fixture(scope="module")
def exact(potential, magnesia):
    return BlochMatrices(magnesia, MLIPCalculator(potential))


def error_of_displacements(exact, atoms, displacement):
    """Largest relative error in D and largest |Δν| in THz at commensurate points."""
    phonon = phonopy_for(atoms, supercell_matrix(2, atoms), symmetric=True)
    fill_from_displacements(phonon, exact.calculator, displacement)
    q = np.array([[0.5, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0.5]])
    ours, theirs = exact.at(q), FourierMatrices(phonon)
    gap = frequencies_at(exact, q) - frequencies_at(theirs, q)
    return np.abs(ours - theirs.at(q)).max() / np.abs(ours).max(), np.abs(gap).max()


def test_phonopys_finite_displacements(silicon):
    """At u = 1e-3 Å: 1e-5 relative in D, 1e-4 THz. Few radial functions: as anharmonic as silicon, not more."""
    smooth = Potential.from_config(SETTINGS | {"cutoff": 5.0, "num_layers": 2, "num_radial": 4}, ["Si"]).double()
    relative, frequency = error_of_displacements(BlochMatrices(silicon, MLIPCalculator(smooth)), silicon, 1e-3)
    assert relative < 1e-5
    assert frequency < 1e-4


def test_the_error_of_displacements_falls_with_their_square(exact, magnesia):
    """What differs is the displacements' anharmonicity: the limit is the exact matrix."""
    coarse, _ = error_of_displacements(exact, magnesia, 4e-3)
    fine, _ = error_of_displacements(exact, magnesia, 2e-3)
    assert coarse / fine == pytest.approx(4, rel=0.05)


def test_single_precision(potential, exact, magnesia):
    """1e-4 relative in D; acoustic modes at Γ within 1e-4 THz in double precision, 0.02 THz in single."""
    single = Potential.from_config(SETTINGS, ["Mg", "O"], potential.normalization)
    single.load_state_dict(potential.state_dict())
    single = single.float()
    q = torch.tensor(np.array([GENERAL, np.zeros(3)]))
    masses = torch.tensor(magnesia.get_masses())
    rough = dynamical_matrix(single, single.graph(magnesia), q.float(), masses.float()).detach().numpy()
    fine = exact.at(q.numpy())
    assert rough.dtype == np.complex64
    assert np.abs(rough - fine).max() < 1e-4 * np.abs(fine).max()
    for gamma, limit in ((fine[1], 1e-4), (rough[1].astype(complex), 0.02)):
        values = frequencies_thz(np.linalg.eigvalsh((gamma + gamma.conj().T) / 2))
        assert np.sort(np.abs(values))[:3].max() < limit
        assert np.abs(values).max() > 1


def test_hermitian_and_of_the_crystals_symmetry(exact, magnesia):
    assert hermitian_defect(exact.at(GENERAL[None])) < 1e-10
    assert space_group_defect(exact, primitive_cell(magnesia), GENERAL) < 1e-8


def test_frequencies_of_isotopes(exact, magnesia):
    """ω ∝ m^−½ to 1e-10."""
    heavy = magnesia.copy()
    heavy.set_masses(1.7 * magnesia.get_masses())
    light, slow = (frequencies_at(BlochMatrices(a, exact.calculator), GENERAL[None])[0] for a in (magnesia, heavy))
    assert slow * np.sqrt(1.7) == pytest.approx(light, rel=1e-10)


class SavedBytes(saved_tensors_hooks):
    """Counts what autograd keeps for its backward passes, which is what an evaluation's memory consists of."""

    def __init__(self):
        self.bytes = 0
        super().__init__(self.pack, lambda tensor: tensor)

    def pack(self, tensor):
        self.bytes += tensor.numel() * tensor.element_size()
        return tensor


def kept(calculate):
    counter = SavedBytes()
    with counter:
        calculate()
    return counter.bytes


def test_a_path_needs_no_more_memory_than_a_few_cells(silicon, small_calculator):
    """Neither the number of q nor their denominators play a part; a supercell costs its size."""
    easy = np.array([[1 / 3, 0, 0]] * 96)
    hard = np.array([[k / 199, (k * k % 197) / 197, 0.2] for k in range(1, 97)])
    one = kept(lambda: small_calculator.get_dynamical_matrix(silicon, easy[:1]))
    several = kept(lambda: small_calculator.get_dynamical_matrix(silicon, easy))
    assert one > 1e5
    assert kept(lambda: small_calculator.get_dynamical_matrix(silicon, hard)) == several
    twice = np.concatenate([hard, hard])
    assert kept(lambda: small_calculator.get_dynamical_matrix(silicon, twice)) < 1.5 * several
    supercell = silicon * (1, 1, 20)  # makes q = 1/20 commensurate: D(q) keeps two copies of the cell, this twenty
    column = kept(lambda: small_calculator.get_hessian_vector_product(supercell, np.ones((40, 3))))
    assert column > 8 * one  # ten, but for the weights, which are kept once


@pytest.mark.slow
def test_two_hundred_points_take_seconds(silicon, small_calculator):
    start = time.process_time()
    result = phonons(silicon, small_calculator, points=200, dos_mesh=[6, 6, 6], supercell=3)
    assert len(result.bands.path.q) >= 195
    assert time.process_time() - start < 60
