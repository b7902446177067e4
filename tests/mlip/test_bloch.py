"""D(q) from the cell alone: equal to the Hessian of supercells at every q, and a Hermitian matrix of a crystal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms

from mlip import InputError
from mlip.bloch import BlochHessian, bloch_hessian_vector_product, dynamical_matrix
from mlip.derivatives import evaluate, hessian, hessian_vector_product
from mlip.graph import batch_graphs

GENERAL = np.array([0.137, -0.291, 0.443])
TRIM = [(0, 0, 0), (0.5, 0, 0), (0.5, 0, 0.5), (0.5, 0.5, 0.5)]


def folded(hessian: np.ndarray, atoms: Atoms, cells: np.ndarray, q: np.ndarray) -> np.ndarray:
    """D(q)_jk = (m_j m_k)^−½ Σ_R Φ(j0, kR) exp(iq·(R + r_k − r_j)), from rows of the home cell (3n, 3nR)."""
    n = len(atoms)
    phase = np.exp(2j * np.pi * cells @ q)
    summed = np.einsum("arb,r->ab", hessian.reshape(3 * n, len(cells), 3 * n), phase)
    basis = np.exp(2j * np.pi * atoms.get_scaled_positions(wrap=False) @ q) / np.sqrt(atoms.get_masses())
    factor = np.repeat(basis, 3)
    return factor.conj()[:, None] * summed * factor[None]


def supercell_cells(repeats: tuple[int, int, int]) -> np.ndarray:
    """Cells in the order of ase's repeat."""
    return np.array(list(np.ndindex(*repeats)))


@pytest.mark.parametrize("norm", [False, True], ids=["", "norm"])
@pytest.mark.parametrize("layers", [2, 4])
def test_commensurate_points_equal_the_supercell(calculator_for, variant, triclinic, tolerances, layers, norm):
    calculator = calculator_for(triclinic, num_layers=layers, norm=norm, cutoff=3.6, zbl=True, **variant)
    repeats = (2, 3, 1)
    rows = calculator.get_hessian(triclinic.repeat(repeats))[:9]
    cells = supercell_cells(repeats)
    points = cells / np.array(repeats)
    matrices = calculator.get_dynamical_matrix(triclinic, points)
    expected = np.array([folded(rows, triclinic, cells, q) for q in points])
    assert np.abs(matrices - expected).max() < tolerances.exact * np.abs(expected).max()


@pytest.mark.parametrize("lmax", [0, 1, 3])
def test_any_degree_on_a_long_thin_supercell(calculator_for, variant, triclinic, tolerances, lmax):
    calculator = calculator_for(triclinic, lmax=lmax, **variant)
    rows = calculator.get_hessian(triclinic.repeat((1, 1, 3)))[:9]
    q = np.array([0, 0, 1 / 3])
    expected = folded(rows, triclinic, supercell_cells((1, 1, 3)), q)
    matrix = calculator.get_dynamical_matrix(triclinic, q)[0]
    assert np.abs(matrix - expected).max() < tolerances.exact * np.abs(expected).max()


@pytest.mark.parametrize("parity", [False, True])
def test_a_general_point_equals_the_sum_over_real_space(calculator_for, triclinic, tolerances, parity):
    """Two layers reach 4 cutoffs; a supercell wider than twice that folds nothing: any q may be summed over it."""
    calculator = calculator_for(triclinic, num_layers=2, cutoff=2.4, parity=parity)
    repeats = np.array([7, 7, 7])
    crystal = triclinic.repeat(tuple(repeats))
    heights = 1 / np.linalg.norm(np.linalg.inv(crystal.cell.array), axis=0)
    assert heights.min() > 2 * 4 * 2.4
    columns = []
    for row in np.eye(9).reshape(9, 3, 3):
        vector = np.zeros((len(crystal), 3))
        vector[:3] = row
        columns.append(calculator.get_hessian_vector_product(crystal, vector).ravel())
    cells = supercell_cells(tuple(repeats))
    cells = np.where(cells > repeats // 2, cells - repeats, cells)
    expected = folded(np.array(columns), triclinic, cells, GENERAL)
    matrix = calculator.get_dynamical_matrix(triclinic, GENERAL)[0]
    assert np.abs(matrix - expected).max() < tolerances.exact * np.abs(expected).max()


def test_hermitian_and_real_in_time(calculator_for, variant, triclinic, tolerances):
    """D(q) = D(q)†, D(−q) = D(q)*, and D is real where q ≡ −q up to the basis phases."""
    calculator = calculator_for(triclinic, **variant)
    for q in [GENERAL, *map(np.array, TRIM)]:
        plus, minus = calculator.get_dynamical_matrix(triclinic, [q, -q])
        assert np.abs(plus - plus.conj().T).max() < tolerances.symmetry * np.abs(plus).max()
        assert np.abs(minus - plus.conj()).max() < tolerances.symmetry * np.abs(plus).max()


def test_points_that_need_one_copy_continue_those_that_need_two(calculator_for, variant, triclinic):
    """At time-reversal invariant momenta a shorter route is taken: it is the limit of the long one."""
    calculator = calculator_for(triclinic, **variant)
    for q in map(np.array, TRIM):
        exact, near = calculator.get_dynamical_matrix(triclinic, [q, q + 1e-9])
        assert np.abs(exact - near).max() < 1e-6 * np.abs(exact).max()


def test_a_reciprocal_lattice_vector_only_turns_the_basis(calculator_for, variant, triclinic, tolerances):
    calculator = calculator_for(triclinic, **variant)
    shift = np.array([1, -2, 0])
    first, second = calculator.get_dynamical_matrix(triclinic, [GENERAL, GENERAL + shift])
    phase = np.repeat(np.exp(2j * np.pi * triclinic.get_scaled_positions(wrap=False) @ shift), 3)
    expected = phase.conj()[:, None] * first * phase[None]
    assert np.abs(second - expected).max() < tolerances.symmetry * np.abs(first).max()


def test_acoustic_sum_rule(calculator_for, variant, triclinic, tolerances):
    matrix = calculator_for(triclinic, **variant).get_dynamical_matrix(triclinic, (0, 0, 0))[0]
    uniform = np.kron(np.sqrt(triclinic.get_masses())[:, None], np.eye(3))
    assert np.abs(matrix @ uniform).max() < tolerances.symmetry * np.abs(matrix).max()


def test_a_choice_of_images_changes_nothing(calculator_for, variant, triclinic, tolerances):
    """phonopy's phases belong to the distances between atoms, whatever cell an atom is counted in."""
    calculator = calculator_for(triclinic, **variant)
    moved = triclinic.copy()
    moved.positions += np.array([[1, 0, -2], [0, 0, 0], [-1, 1, 0]]) @ moved.cell.array
    first = calculator.get_dynamical_matrix(triclinic, GENERAL)
    second = calculator.get_dynamical_matrix(moved, GENERAL)
    assert np.abs(second - first).max() < tolerances.symmetry * np.abs(first).max()


def test_isotopes_change_the_mass_and_nothing_else(calculator_for, triclinic, tolerances):
    calculator = calculator_for(triclinic)
    heavy = triclinic.copy()
    heavy.set_masses(4 * triclinic.get_masses())
    light = calculator.get_dynamical_matrix(triclinic, GENERAL)
    assert np.abs(calculator.get_dynamical_matrix(heavy, GENERAL) - light / 4).max() < tolerances.exact


def test_points_side_by_side_and_one_by_one_agree(potential_for, variant, triclinic, tolerances):
    """Real and complex ones mixed, more than fit side by side."""
    potential = potential_for(triclinic, **variant)
    graph = potential.graph(triclinic)
    points = torch.tensor([[0, 0, 0], [0.2, 0.1, 0], [0.5, 0.5, 0], [-0.3, 0, 0.1], [0.1, 0.2, 0.3]]).double()
    together = BlochHessian(potential, graph, max_edges=4 * graph.num_edges).many(points)
    alone = torch.stack([BlochHessian(potential, graph, max_edges=0)(q) for q in points])
    assert (together - alone).abs().max() < tolerances.exact * alone.abs().max()


def test_points_do_not_disturb_each_other(potential_for, variant, triclinic):
    """The kept first pass serves all points: their order leaves the bits alone."""
    potential = potential_for(triclinic, **variant)
    points = torch.tensor([[0, 0, 0], [0.2, 0.1, 0], [0.5, 0.5, 0], [-0.3, 0, 0.1]], dtype=torch.float64)
    operator = BlochHessian(potential, potential.graph(triclinic))
    forward = [operator(q) for q in points]
    backward = [operator(q) for q in points.flip(0)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forward, backward, strict=True))


def directional(potential, loss, rng, tolerances):
    """The gradient of a loss by the parameters along a random direction equals its finite difference."""
    loss(True).backward()
    parameters = list(potential.parameters())
    directions = [torch.randn(p.shape, generator=rng, dtype=torch.float64) for p in parameters]
    expected = sum(
        float((p.grad * d).sum()) for p, d in zip(parameters, directions, strict=True) if p.grad is not None
    )
    start = [p.detach().clone() for p in parameters]

    def moved(step: float) -> float:
        with torch.no_grad():
            for p, s, d in zip(parameters, start, directions, strict=True):
                p.copy_(s + step * d)
        return float(loss(False).detach())

    h = 1e-4
    slope = (8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * h)
    assert slope == pytest.approx(expected, rel=tolerances.derivative)
    assert abs(expected) > 1e-3


@pytest.mark.parametrize("norm", [False, True], ids=["", "norm"])
@pytest.mark.parametrize("q", [GENERAL, (0.5, 0, 0.5)], ids=["general", "TRIM"])
def test_gradient_by_the_parameters(potential_for, variant, triclinic, tolerances, q, norm):
    """What training on D(q) rests on: the gradient of a loss equals its finite difference."""
    potential = potential_for(triclinic, norm=norm, **variant)
    graph, point = potential.graph(triclinic), torch.tensor(q, dtype=torch.float64)
    rng = torch.Generator().manual_seed(3)
    weight = torch.complex(*torch.randn(2, 9, 9, generator=rng, dtype=torch.float64))

    def loss(create_graph: bool) -> torch.Tensor:
        matrix = BlochHessian(potential, graph, create_graph=create_graph)(point)
        return (weight.conj() * matrix).real.sum() + matrix.abs().square().sum()

    directional(potential, loss, rng, tolerances)


@pytest.mark.parametrize("q", [GENERAL, (0.5, 0, 0.5)], ids=["general", "TRIM"])
def test_product_of_one_wave(potential_for, variant, triclinic, tolerances, q):
    """H(q)·v, of a real and of a complex wave, is the whole H(q) times v."""
    potential = potential_for(triclinic, **variant)
    operator, point = BlochHessian(potential, potential.graph(triclinic)), torch.tensor(q, dtype=torch.float64)
    rng = torch.Generator().manual_seed(4)
    wave = torch.complex(*torch.randn(2, 3, 3, generator=rng, dtype=torch.float64))
    matrix = operator(point)
    for vector in (wave, wave.real.contiguous()):
        expected = (matrix @ vector.flatten().to(matrix.dtype)).view(3, 3)
        product = operator.product(point, vector)
        assert (product - expected).abs().max() < tolerances.exact * expected.abs().max()


def test_products_of_several_crystals_are_those_of_each(potential_for, variant, triclinic, cluster, tolerances):
    """Each at its own wavevector; a molecule rides along at q = 0."""
    potential = potential_for(triclinic, **variant)
    strained = triclinic.copy()
    strained.set_cell(1.02 * triclinic.cell, scale_atoms=True)
    crystals = [triclinic, strained, cluster]
    points = torch.tensor([GENERAL.tolist(), [0.25, 0.5, 0.0], [0, 0, 0]], dtype=torch.float64)
    graphs = [potential.graph(atoms) for atoms in crystals]
    rng = torch.Generator().manual_seed(4)
    vector = torch.complex(*torch.randn(2, 11, 3, generator=rng, dtype=torch.float64))
    together = bloch_hessian_vector_product(potential, batch_graphs(graphs), points, vector)
    for graph, q, v, found in zip(graphs, points, vector.split([3, 3, 5]), together.split([3, 3, 5]), strict=True):
        expected = BlochHessian(potential, graph).product(q, v)
        assert (found - expected).abs().max() < tolerances.exact * expected.abs().max()


@pytest.mark.parametrize("q", [GENERAL, (0.5, 0, 0.5)], ids=["general", "TRIM"])
@pytest.mark.parametrize("settings", [{}, {"norm": True, "zbl": True}], ids=["", "norm-zbl"])
def test_gradient_of_one_product_by_the_parameters(potential_for, variant, triclinic, tolerances, q, settings):
    """The third pass through the phased exchange is plain: a loss on H(q)·v has the right gradient."""
    potential = potential_for(triclinic, **variant, **settings)
    graph, point = potential.graph(triclinic), torch.tensor([list(q)], dtype=torch.float64)
    rng = torch.Generator().manual_seed(3)
    wave = torch.complex(*torch.randn(2, 3, 3, generator=rng, dtype=torch.float64))
    label = torch.complex(*torch.randn(2, 3, 3, generator=rng, dtype=torch.float64))

    def loss(create_graph: bool) -> torch.Tensor:
        found = bloch_hessian_vector_product(potential, graph, point, wave, create_graph=create_graph)
        return torch.view_as_real(found - label).square().sum()

    directional(potential, loss, rng, tolerances)


def test_single_against_double_precision(potential_for, variant, triclinic, tolerances):
    masses, points = torch.tensor([28.0, 16.0, 16.0]).double(), torch.from_numpy(GENERAL)[None]
    double = potential_for(triclinic, **variant)
    exact = dynamical_matrix(double, double.graph(triclinic), points, masses)
    single = double.float()
    rough = dynamical_matrix(single, single.graph(triclinic), points.float(), masses.float())
    assert (rough.to(exact.dtype) - exact).abs().max() < tolerances.single * exact.abs().max()


def test_at_gamma_it_is_the_hessian(potential_for, variant, triclinic, tolerances):
    potential = potential_for(triclinic, **variant)
    graph = potential.graph(triclinic)
    matrix = BlochHessian(potential, graph)(torch.zeros(3, dtype=torch.float64))
    expected = hessian(potential, graph)
    assert (matrix.real - expected).abs().max() < tolerances.exact * expected.abs().max()
    assert float(matrix.imag.abs().max()) == 0.0


def test_nothing_is_left_behind(potential_for, variant, triclinic):
    """Neither D(q) nor a failed call changes what forces and H·v give afterwards."""
    potential = potential_for(triclinic, **variant)
    graph, vector = potential.graph(triclinic), torch.ones(3, 3, dtype=torch.float64).cumsum(0)
    before = evaluate(potential, graph).forces, hessian_vector_product(potential, graph, vector)
    BlochHessian(potential, graph)(torch.from_numpy(GENERAL))
    with pytest.raises(InputError, match="one crystal at a time"):
        BlochHessian(potential, batch_graphs([graph, graph]))
    after = evaluate(potential, graph).forces, hessian_vector_product(potential, graph, vector)
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])
    assert all(parameter.grad is None for parameter in potential.parameters())
