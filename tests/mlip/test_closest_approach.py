"""Closer than the training data: the network sees no change, and nuclear repulsion decides."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from safetensors import safe_open

from mlip import MLIPCalculator, Potential
from mlip.md.probes import pair_curve, repulsion_hole
from mlip.nn.closest_approach import ClosestApproach
from mlip.nn.zbl import ZBL
from mlip.ranges import TrainingRanges, describe_structure
from mlip.testing import check_forces, check_hessian, energy_of, forces_of

SPECIES = ["O", "Si"]
D = {"O-Si": 1.5, "Si-Si": 2.1}


def edges(lengths: np.ndarray) -> torch.Tensor:
    """(E, 3) of these lengths, in one skew direction."""
    direction = torch.tensor([2.0, -3.0, 6.0], dtype=torch.float64) / 7
    return torch.as_tensor(lengths).unsqueeze(1) * direction


def kinds(a: str, b: str, number: int) -> list[torch.Tensor]:
    return [torch.full((number,), SPECIES.index(s)) for s in (a, b)]


@pytest.fixture
def approach() -> ClosestApproach:
    return ClosestApproach(SPECIES, D).double()


@pytest.fixture
def close_for(potential_for):
    """The potential of ``potential_for`` with ZBL, for a structure, and the closest distances it was trained on."""

    def make(atoms: Atoms, min_distance: dict[str, float], **settings) -> Potential:
        plain = potential_for(atoms, zbl=True, **settings)
        normalization = replace(plain.normalization, min_distance=min_distance)
        potential = Potential(plain.settings, plain.species, normalization).double()
        potential.load_state_dict(plain.state_dict())
        return potential

    return make


@pytest.mark.parametrize(("a", "b", "d"), [("Si", "Si", 2.1), ("Si", "O", 1.5), ("O", "Si", 1.5), ("O", "O", 1.32)])
def test_lengths_stop_at_a_bit_less_than_the_closest_known(approach, a, b, d):
    """From 0.95 d on as they are, to the last bit; below 0.75 d all alike. O–O is unknown: covalent radii."""
    far = edges(np.linspace(0.9501, 3, 50) * d)
    assert torch.equal(approach(far, *kinds(a, b, 50)), far)
    near = edges(np.linspace(1e-3, 0.75, 50) * d)
    torch.testing.assert_close(approach(near, *kinds(a, b, 50)), edges(np.full(50, 0.85 * d)), rtol=1e-13, atol=0)
    between = approach(edges(np.linspace(0.75, 0.95, 50) * d), *kinds(a, b, 50)).norm(dim=1)
    assert (between.diff() > 0).all()


@pytest.mark.parametrize("fraction", [0.951, 0.94])
def test_edges_change_exactly_where_the_calculator_warns(approach, fraction):
    """Both take their limit from the training distances, each in its own file: they must stay one."""
    r = fraction * D["O-Si"]
    seen, given = approach(edges(np.array([r])), *kinds("O", "Si", 1)), edges(np.array([r]))
    pair = Atoms("OSi", positions=[[0, 0, 0], [r, 0, 0]])
    graph = Potential.from_config({"cutoff": 4.0}, SPECIES).double().graph(pair)
    warned = TrainingRanges({"min_distance": D}).violations(pair, graph, SPECIES, 0.0)
    assert bool(warned) == (fraction < 0.95) == (not torch.equal(seen, given))


def test_beyond_the_end_no_derivative_is_added(approach):
    vectors = edges(np.array([2.0, 2.5])).requires_grad_(True)
    (gradient,) = torch.autograd.grad(approach(vectors, *kinds("Si", "Si", 2)).sum(), vectors)
    assert torch.equal(gradient, torch.ones_like(vectors))


@pytest.mark.parametrize("end", [0.75, 0.95])
@pytest.mark.parametrize(("what", "order"), [("length", 5), ("unseen", 4)])
def test_both_ends_are_smooth(approach, end, what, order):
    """What is left near an end falls with the fifth power of the distance from it, or the fourth."""

    def left(gap: float) -> float:
        r = torch.tensor([end * 2.1 + (gap if end == 0.75 else -gap)], dtype=torch.float64)
        if what == "unseen":
            return float(approach.unseen(r, *kinds("Si", "Si", 1)) - (1 if end == 0.75 else 0))
        seen = approach(edges(r.numpy()), *kinds("Si", "Si", 1)).norm()
        return float(seen - (0.85 * 2.1 if end == 0.75 else r))

    assert np.log2(left(8e-3) / left(4e-3)) == pytest.approx(order, abs=0.1)


def test_the_repulsion_is_whole_where_nothing_is_known(approach):
    """Below 0.75 d the universal curve without a switch; from 0.95 d on the switched one."""
    zbl = ZBL(SPECIES).double()
    r = np.linspace(0.2, 0.74, 20) * 2.1
    pair = kinds("Si", "Si", 20)
    reach = float(zbl.constants.reach[1, 1])
    whole = zbl(edges(r), *pair) / torch.as_tensor((1 - r / reach) ** 4)
    torch.testing.assert_close(zbl(edges(r), *pair, approach), whole, rtol=1e-12, atol=0)
    far = edges(np.linspace(0.951, 1.2, 20) * 2.1)
    assert torch.equal(zbl(far, *pair, approach), zbl(far, *pair))


def test_data_are_seen_as_ever(close_for, variant, cluster, tolerances):
    """Where the training data reach nothing changes, not a bit of the energy."""
    plain = close_for(cluster, {}, **variant)
    known = describe_structure(cluster, plain.graph(cluster), plain.species)["min_distance"]
    assert set(known) == {"O-O", "O-Si", "Si-Si"}
    with_known, without = MLIPCalculator(close_for(cluster, known, **variant)), MLIPCalculator(plain)
    assert energy_of(with_known, cluster) == energy_of(without, cluster)
    np.testing.assert_allclose(forces_of(with_known, cluster), forces_of(without, cluster), rtol=tolerances.exact)


def test_derivatives_hold_in_between(close_for, variant, cluster, tolerances):
    """Forces and Hessian with some edges constant, some in between, some as they are."""
    calculator = MLIPCalculator(close_for(cluster, {"Si-Si": 2.7, "O-Si": 2.0, "O-O": 2.4}, **variant))
    assert check_forces(calculator, cluster, tolerances.derivative).passed
    assert check_hessian(calculator, cluster, tolerances.derivative).passed


def test_dynamical_matrices_see_them_too(close_for, variant, triclinic, tolerances):
    """The frequencies² of two cells in a row are those of the cell at Γ and at the zone's border."""
    species = sorted(set(triclinic.get_chemical_symbols()))
    known = {"-".join(sorted((a, b))): 3.0 for a in species for b in species}
    calculator = MLIPCalculator(close_for(triclinic, known, **variant))
    found = np.linalg.eigvalsh(calculator.get_dynamical_matrix(triclinic, [[0, 0, 0], [0.5, 0, 0]])).ravel()
    double = triclinic.repeat((2, 1, 1))
    weights = np.repeat(double.get_masses() ** -0.5, 3)
    expected = np.linalg.eigvalsh(weights[:, None] * calculator.get_hessian(double) * weights)
    np.testing.assert_allclose(np.sort(found), expected, rtol=0, atol=tolerances.symmetry * np.abs(expected).max())


def test_there_is_no_hole_whatever_the_network_says(close_for, variant):
    """A network that draws a pair together by keV is caught without the known distances, and silent with them."""
    pair = Atoms("Si2", [(0, 0, 0), (0, 1.6, 0)])
    holes = {}
    for name, known in (("unknown", {}), ("known", {"Si-Si": 2.2})):
        potential = close_for(pair, known, **variant)
        potential.reference.scale *= 1e4
        distance, energy = pair_curve((14, 14), MLIPCalculator(potential), 3.0)
        holes[name] = repulsion_hole((14, 14), distance, energy)
    assert holes["known"] == 0
    assert holes["unknown"] > 1000


def test_the_fast_calculator_agrees(close_for, cluster, tolerances):
    """Float32, with tables in the place of radial networks."""
    potential = close_for(cluster, {"Si-Si": 2.7, "O-Si": 2.0, "O-O": 2.4})
    exact, fast = MLIPCalculator(potential), MLIPCalculator(potential, dtype="float32")
    assert energy_of(fast, cluster) == pytest.approx(energy_of(exact, cluster), rel=tolerances.single)


def test_the_file_keeps_them(close_for, cluster, tmp_path):
    potential = close_for(cluster, D)
    potential.save(tmp_path / "model.mlip")
    with safe_open(tmp_path / "model.mlip", framework="pt") as file:
        assert json.loads(file.metadata()["header"])["normalization"]["min_distance"] == D
    again = Potential.load(tmp_path / "model.mlip")
    near = Atoms("SiO", [(0, 0, 0), (0, 1.2, 0)])
    assert energy_of(MLIPCalculator(again), near) == energy_of(MLIPCalculator(potential), near)
