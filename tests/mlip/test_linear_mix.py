"""Linear mixing is O(3)-equivariant, improper operations included, and the typing of η is what makes it so."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from e3nn import o3
from scipy.spatial.transform import Rotation
from torch import nn

from mlip.exchange import Exchange
from mlip.nn.features import Features
from mlip.nn.layout import frame_rows
from mlip.nn.linear_mix import FinalLinearMix, LinearMix, ScalarLinearMix
from mlip.nn.nequip import NequIP
from mlip.nn.node import NodeSquare
from mlip.testing import check_inversion, check_rotation

NODES, SCALARS, TENSORS, WIDTH = 4, 5, 3, 6
OPERATIONS = {
    "rotation": Rotation.random(random_state=3).as_matrix(),
    "inversion": -np.eye(3),
    "mirror": np.diag([1.0, -1.0, 1.0]),
    "improper": -Rotation.random(random_state=4).as_matrix(),
}


@pytest.fixture(params=OPERATIONS.values(), ids=OPERATIONS)
def operation(request) -> torch.Tensor:
    return torch.from_numpy(request.param)


def representation(l: int, parity: int, operation: torch.Tensor) -> torch.Tensor:
    """The matrix of an irrep of O(3), from e3nn's harmonics: Y(R·n) = D·Y(n)."""
    rng = torch.Generator().manual_seed(5)
    points = torch.randn(60, 3, generator=rng, dtype=torch.float64)
    sign = torch.linalg.det(operation)
    before = o3.spherical_harmonics(l, points, normalize=True)
    after = o3.spherical_harmonics(l, points @ (sign * operation).T, normalize=True)
    proper = torch.linalg.lstsq(before, after).solution.T
    return proper * (parity if sign < 0 else 1)


def transformed(features: Features, lmax: int, operation: torch.Tensor) -> Features:
    """Natural features have parity (−1)^l, pseudo ones −(−1)^l."""
    blocks = [representation(l, (-1) ** l, operation) for l in range(lmax + 1)]
    natural = torch.block_diag(*blocks[1:]) if lmax else None
    pseudo = torch.block_diag(*blocks) * torch.linalg.det(operation)
    return Features(
        features.scalars,
        None if features.tensors is None or natural is None else torch.matmul(natural, features.tensors),
        None if features.pseudo is None else torch.matmul(pseudo, features.pseudo),
    )


def differences(mine: Features, theirs: Features) -> list[float]:
    pairs = [(mine.scalars, theirs.scalars), (mine.tensors, theirs.tensors), (mine.pseudo, theirs.pseudo)]
    assert all((a is None) == (b is None) for a, b in pairs)
    return [float((a - b).abs().max() / b.abs().max()) for a, b in pairs if a is not None]


@pytest.fixture
def inputs(lmax):
    rng = torch.Generator().manual_seed(lmax)

    def draw(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    vectors = torch.cat([draw(9, 3), torch.eye(3), -torch.eye(3)])
    source, target = torch.randint(NODES, (2, len(vectors)), generator=rng)
    dim = (lmax + 1) ** 2
    features = Features(draw(NODES, SCALARS), draw(NODES, dim - 1, TENSORS), draw(NODES, dim, TENSORS))
    return vectors, Exchange(source, target, NODES), draw(len(vectors), WIDTH), features


def build(kind: str, lmax: int) -> nn.Module:
    rng = torch.Generator().manual_seed(2)
    common = {"lmax": lmax, "scalars": SCALARS, "tensors": TENSORS, "width": WIDTH, "depth": 2, "rng": rng}
    if kind in ("first", "last"):
        mix = (ScalarLinearMix if kind == "first" else FinalLinearMix)(**common)
    else:
        pseudo_in, pseudo_out = (TENSORS if f"pseudo-{way}" in kind else 0 for way in ("in", "out"))
        mix = LinearMix(pseudo_in=pseudo_in, pseudo_out=pseudo_out, **common)
    with torch.no_grad():
        for parameter in mix.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng))
    return mix.double().requires_grad_(False)


@pytest.mark.parametrize("lmax", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["first", "last", "natural", "pseudo-in", "pseudo-out", "pseudo-in pseudo-out"])
def test_messages_turn_with_the_structure(edge_context, inputs, operation, tolerances, kind, lmax):
    vectors, exchange, radial, features = inputs
    mix = build(kind, lmax)
    before = mix(features, edge_context(vectors, exchange, radial, lmax))
    moved = edge_context(vectors @ operation.T, exchange, radial, lmax)
    after = mix(transformed(features, lmax, operation), moved)
    assert max(differences(after, transformed(before, lmax, operation))) < tolerances.exact


@pytest.mark.parametrize("lmax", [1, 2])
def test_the_last_layer_mixes_sums_as_it_would_mix_edges(edge_context, inputs, tolerances, lmax):
    """Written out per edge: m = 0 of what each source sends, scaled, mixed, and only then summed."""
    vectors, exchange, radial, features = inputs
    mix, edges = build("last", lmax), edge_context(vectors, exchange, radial, lmax)
    scales = mix.radial(radial)
    along = torch.bmm(edges.geometry.harmonics, exchange.gather(features.tensors)).flatten(1)
    mixed = mix.from_scalars(exchange.gather(features.scalars) * scales[0]) + mix.from_tensors(along * scales[1])
    expected = Features(exchange.collect(mixed * edges.weight) / math.sqrt(2))
    assert max(differences(mix(features, edges), expected)) < tolerances.exact


@pytest.mark.parametrize("lmax", [1, 2, 3, 4])
def test_node_square_turns_with_the_structure(inputs, operation, tolerances, lmax):
    tensors = inputs[3].tensors
    square = NodeSquare(lmax, TENSORS, SCALARS, torch.Generator().manual_seed(1)).double().requires_grad_(False)
    turned = transformed(inputs[3], lmax, operation).tensors
    before, after = Features(*square(tensors)), Features(*square(turned))
    expected = transformed(before, lmax, operation)
    size = before.scalars.abs().max()
    assert float((after.scalars - expected.scalars).abs().max() / size) < tolerances.exact
    assert float((after.tensors - expected.tensors).abs().max() / size) < tolerances.exact


def roll(lmax: int, angle: float) -> torch.Tensor:
    """A turn about the edge: (x₊, x₋) of order m by m·angle."""
    rows = frame_rows(lmax, 1, lmax)
    matrix = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for a, (l, m) in enumerate(rows):
        matrix[a, a] = math.cos(m * angle)
        matrix[a, rows.index((l, -m))] += -math.sin(m * angle) if m else 0.0
    return matrix


@pytest.mark.parametrize("mixing", ["linear", "depthwise"])
def test_imaginary_weights_within_one_family_break_inversion_alone(
    monkeypatch, calculator_for, cluster, tolerances, mixing
):
    """A test of the tests: what published SO(2) layers do, W2 ≠ 0 from natural to natural.

    Messages that come back turned about their edge are W1 = cos, W2 = sin: every rotation still holds.
    """
    calculator = calculator_for(cluster, mixing=mixing, parity=False)
    assert check_inversion(calculator, cluster, tolerances.symmetry).passed
    context = NequIP._context

    def turned(self, *arguments):
        edges = context(self, *arguments)
        return replace(edges, from_frame=edges.from_frame @ roll(2, 0.4))

    monkeypatch.setattr(NequIP, "_context", turned)
    calculator.reset()
    assert check_rotation(calculator, cluster, tolerances.symmetry).passed
    assert check_inversion(calculator, cluster).value > 1e-3
