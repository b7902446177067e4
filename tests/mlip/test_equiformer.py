"""Options of the attention network: each keeps every symmetry; noise in training leaves no trace in evaluation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from e3nn import o3

from mlip import InputError, MLIPCalculator
from mlip.bloch import BlochHessian
from mlip.derivatives import HessianOperator, evaluate
from mlip.graph import batch_graphs
from mlip.nn.activation import SphereSquare, harmonics_on, sphere_grid
from mlip.nn.features import Features
from mlip.nn.layout import frame_rows, phase_folded
from mlip.nn.norm import DegreeNorm, SeparableNorm
from mlip.testing import check_inversion, check_operation, check_rotation, energy_of, five_point, forces_of

EQUIFORMER = {"architecture": "equiformer"}
OPTIONS = [
    {"activation": "s2_product"},
    {"activation": "s2_product", "parity": True},
    {"activation": "s2_product", "parity": True, "lmax": 3, "mmax": 1},
    {"mmax": 0},
    {"mmax": 1, "parity": True},
    {"lmax": 3, "mmax": 2, "parity": True, "num_layers": 4},
    {"node_square": False, "parity": True},
    {"num_heads": 3, "attention_channels": 2},
    {"attention": "plain"},
    {"attention": "sum", "parity": True},
    {"num_layers": 1},
    {"num_channels": (8, 5), "parity": True},
    {"lmax": 0},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_keeps_the_symmetries(calculator_for, cluster, tolerances, options):
    calculator = calculator_for(cluster, **EQUIFORMER | options)
    for check in (check_rotation, check_inversion):
        result = check(calculator, cluster, tolerances.symmetry)
        assert result.passed, result
    direction = np.random.default_rng(1).normal(size=(len(cluster), 3))
    slope = five_point(lambda h: energy_of(calculator, moved(cluster, h * direction)), 1e-3)
    assert -np.sum(forces_of(calculator, cluster) * direction) == pytest.approx(
        float(slope), abs=tolerances.derivative
    )


def moved(atoms: Atoms, displacement: np.ndarray) -> Atoms:
    image = atoms.copy()
    image.positions += displacement
    return image


def test_a_lone_atom_has_no_energy_to_the_last_bit(potential_for, cluster):
    """Whatever row of a matrix product it stands in: with E0 of zero nothing rounds a difference away."""
    for mmax in (0, 1, 2):
        potential = potential_for(cluster, **EQUIFORMER, mmax=mmax)
        potential.reference.e0.zero_()
        for atoms in (Atoms("Si"), Atoms("O"), Atoms("SiOSi", 9 * np.eye(3))):
            assert energy_of(MLIPCalculator(potential), atoms) == 0.0


@pytest.mark.parametrize("degree", [2, 6, 9])
def test_the_grid_integrates_harmonics(degree, tolerances):
    points, weights = sphere_grid(degree)
    values = o3.spherical_harmonics(list(range(degree + 1)), points, normalize=True, normalization="component")
    expected = torch.zeros(values.shape[1], dtype=torch.float64)
    expected[0] = 1.0
    assert (weights @ values - expected).abs().max() < tolerances.exact


@pytest.mark.parametrize("lmax", [1, 2, 3])
def test_products_on_the_sphere_are_resolved(lmax, tolerances):
    """A finer grid changes nothing, which a SiLU on the grid would not survive."""
    rows = [(l, m) for l in range(lmax + 1) for m in range(-l, l + 1)]
    rng = torch.Generator().manual_seed(1)
    field = torch.randn(3, len(rows), 2, generator=rng, dtype=torch.float64)
    square = SphereSquare(lmax, rows, [], folded=False).double()
    points, weights = sphere_grid(40)
    fine = harmonics_on(points, rows)
    values = torch.matmul(fine, field) / np.sqrt(len(rows))

    def projected(v: torch.Tensor) -> torch.Tensor:
        return torch.matmul((fine * weights[:, None]).t(), v) * np.sqrt(len(rows))

    assert (square(field, None)[0] - projected((values + values.square()) / 2)).abs().max() < tolerances.exact
    coarse_points, coarse_weights = sphere_grid(3 * lmax)
    coarse = harmonics_on(coarse_points, rows)
    silu = torch.nn.functional.silu
    rough = torch.matmul((coarse * coarse_weights[:, None]).t(), silu(coarse @ field / np.sqrt(len(rows))))
    assert (rough * np.sqrt(len(rows)) - projected(silu(values))).abs().max() > 1e-6


def test_the_product_of_pseudo_features_knows_their_phase(tolerances):
    """In the edge frame pseudo rows are stored as (−x₋, x₊): the product is that of the unfolded functions."""
    lmax = 2
    rows, pseudo = [(0, 0), *frame_rows(lmax, 1, lmax)], frame_rows(lmax, 0, lmax)
    rng = torch.Generator().manual_seed(1)
    natural = torch.randn(4, len(rows), 3, generator=rng, dtype=torch.float64)
    odd = torch.randn(4, len(pseudo), 3, generator=rng, dtype=torch.float64)
    sources, signs = phase_folded(pseudo)
    order = [pseudo.index(row) for row in sources]
    folded = odd[:, order] * signs[:, None]
    plain = SphereSquare(lmax, rows, pseudo, folded=False).double()(natural, odd)[1]
    mine = SphereSquare(lmax, rows, pseudo, folded=True).double()(natural, folded)[1]
    assert (mine - plain[:, order] * signs[:, None]).abs().max() < tolerances.exact


def features(scale: float, channels: int = 6) -> Features:
    rng = torch.Generator().manual_seed(4)
    scalars = torch.randn(2, channels, generator=rng, dtype=torch.float64)
    tensors = torch.randn(2, 8, channels, generator=rng, dtype=torch.float64)
    return Features(scalars, scale * tensors)


def curvature(norm: torch.nn.Module, h: float = 1e-3) -> float:
    """Second derivative of what becomes of tensors that vanish, by their size."""
    plus, zero, minus = (norm(features(scale)).tensors for scale in (h, 0.0, -h))
    slopes = (plus - zero) / h, (norm(features(2 * h)).tensors - plus) / h
    return float(((slopes[1] - slopes[0]) / h).abs().max() + (plus + minus - 2 * zero).abs().max())


def test_only_the_published_norm_is_steep_where_tensors_vanish():
    ours, published = DegreeNorm(2, 6, 6).double(), SeparableNorm(2, 6, 6).double()
    assert curvature(ours) < 1
    assert curvature(published) > 100


@pytest.mark.parametrize("norm", [DegreeNorm, SeparableNorm])
def test_norms_have_unit_size(norm):
    out = norm(2, 6, 6).double()(features(1.0))
    assert float(out.tensors.square().mean()) == pytest.approx(1, abs=0.35)
    assert float(out.scalars.mean(1).abs().max()) < 1e-12


@pytest.mark.parametrize("architecture", ["nequip", "equiformer"])
@pytest.mark.parametrize("options", [{}, {"parity": True}, {"lmax": 1, "num_layers": 2}, {"num_layers": 1}], ids=str)
def test_direct_forces_are_vectors(calculator_for, cluster, tolerances, architecture, options):
    calculator = calculator_for(cluster, architecture=architecture, forces="direct", **options)
    assert np.abs(forces_of(calculator, cluster)).max() == pytest.approx(1, rel=1e-6)
    for check in (check_rotation, check_inversion):
        result = check(calculator, cluster, tolerances.symmetry)
        assert result.passed, result
    assert np.abs(forces_of(calculator, cluster[:1])).max() == 0.0


def test_the_separable_norm_keeps_symmetries(calculator_for, cluster, tolerances):
    calculator = calculator_for(cluster, **EQUIFORMER, forces="direct", norm="separable", parity=True)
    mirror = np.diag([1.0, -1.0, 1.0])
    for operation in (mirror, -np.eye(3)):
        assert check_operation(calculator, cluster, operation, tolerances.symmetry).passed
    assert check_rotation(calculator, cluster, tolerances.symmetry).passed


@pytest.mark.parametrize("architecture", ["nequip", "equiformer"])
def test_direct_forces_have_no_second_derivatives(calculator_for, potential_for, triclinic, architecture):
    calculator = calculator_for(triclinic, architecture=architecture, forces="direct")
    refused = [
        lambda: calculator.get_hessian(triclinic),
        lambda: calculator.get_hessian_vector_product(triclinic, np.zeros((3, 3))),
        lambda: calculator.get_dynamical_matrix(triclinic, (0, 0, 0)),
    ]
    for ask in refused:
        with pytest.raises(InputError, match="direct readout, not −dE/dx: it has no Hessian, no phonons"):
            ask()
    potential = potential_for(triclinic, architecture=architecture, forces="direct")
    for operator in (HessianOperator, BlochHessian):
        with pytest.raises(InputError, match="forces: gradient"):
            operator(potential, potential.graph(triclinic))


def test_the_stress_beside_direct_forces_is_that_of_the_energy(potential_for, triclinic, tolerances):
    """And it is computed only where it is asked for."""
    potential = potential_for(triclinic, **EQUIFORMER, forces="direct")
    graph = potential.graph(triclinic)
    assert evaluate(potential, graph).edge_forces is None
    both = evaluate(potential, graph, stress=True)
    assert (both.forces - evaluate(potential, graph).forces).abs().max() < tolerances.exact
    triclinic.calc = MLIPCalculator(potential)
    triclinic.get_forces()
    assert "stress" not in triclinic.calc.results
    expected = both.stress[0].detach().numpy()
    np.testing.assert_allclose(triclinic.get_stress(voigt=False), expected, rtol=0, atol=tolerances.exact)


NOISE = [{"drop_path": 0.5}, {"dropout": 0.3}, {"attention_dropout": 0.3}]


@pytest.mark.parametrize("noise", NOISE, ids=str)
def test_noise_in_training_leaves_no_trace_in_evaluation(potential_for, triclinic, noise):
    quiet, noisy = (potential_for(triclinic, **EQUIFORMER | options) for options in ({}, noise))
    graph = quiet.graph(triclinic)
    expected = evaluate(quiet, graph).forces
    assert torch.equal(evaluate(noisy, graph).forces, expected)
    noisy.train()
    torch.manual_seed(1)
    drawn = [evaluate(noisy, graph).forces for _ in range(6)]
    assert any((one - drawn[0]).abs().max() > 1e-3 for one in drawn[1:])
    torch.manual_seed(1)
    assert torch.equal(evaluate(noisy, graph).forces, drawn[0])
    noisy.eval()
    assert torch.equal(evaluate(noisy, graph).forces, expected)
    matrix = MLIPCalculator(noisy).get_dynamical_matrix(triclinic, (0.2, 0.1, 0))
    assert np.array_equal(matrix, MLIPCalculator(quiet).get_dynamical_matrix(triclinic, (0.2, 0.1, 0)))


def test_a_structure_skips_a_branch_as_a_whole(potential_for, triclinic):
    """Stochastic depth leaves a smaller network, the same for all atoms: copies show a few energies, no more."""
    potential = potential_for(triclinic, **EQUIFORMER, drop_path=0.5).train()
    graph = batch_graphs([potential.graph(triclinic)] * 12)
    torch.manual_seed(3)
    energies = evaluate(potential, graph).energy
    levels = torch.unique(torch.round(energies, decimals=8))
    assert 1 < len(levels) <= 2**4  # two blocks of two branches
    assert energy_of(MLIPCalculator(potential), Atoms("Si")) == -4.0
