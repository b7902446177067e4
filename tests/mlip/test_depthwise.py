"""Depthwise mixing is NequIP's convolution: equal to e3nn's `uvu` tensor product, pseudo features included."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from e3nn import o3

from mlip.exchange import Exchange
from mlip.nn.depthwise_mix import DepthwiseMix, FinalDepthwiseMix, ScalarDepthwiseMix, paths_between
from mlip.nn.features import EdgeContext, Features

CHANNELS, WIDTH, NODES = 3, 6, 4
Kind = tuple[int, int]  # (η, l)


@dataclass
class Setup:
    """Edges of a small graph, and random features on its nodes."""

    edges: EdgeContext
    directions: torch.Tensor
    features: Features


@pytest.fixture
def setup(edge_context, lmax) -> Setup:
    rng = torch.Generator().manual_seed(lmax)

    def draw(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    vectors = torch.cat([draw(8, 3), torch.eye(3), -torch.eye(3), torch.tensor([[0.6, 0, -0.8]])])
    source, target = torch.randint(NODES, (2, len(vectors)), generator=rng)
    edges = edge_context(vectors, Exchange(source, target, NODES), draw(len(vectors), WIDTH), lmax)
    dim = (lmax + 1) ** 2
    features = Features(draw(NODES, 5), draw(NODES, dim - 1, CHANNELS), draw(NODES, dim, CHANNELS))
    return Setup(edges, vectors / vectors.norm(dim=1, keepdim=True), features)


def by_kind(features: Features, lmax: int) -> dict[Kind, torch.Tensor]:
    """(η, l) → (N, C, 2l+1), e3nn's layout."""
    found = {(1, 0): features.scalars.unsqueeze(2)}
    for l in range(1, lmax + 1):
        if features.tensors is not None:
            found[1, l] = features.tensors[:, l * l - 1 : (l + 1) ** 2 - 1].transpose(1, 2)
    for l in range(lmax + 1):
        if features.pseudo is not None:
            found[-1, l] = features.pseudo[:, l * l : (l + 1) ** 2].transpose(1, 2)
    return found


def irrep(kind: Kind) -> o3.Irrep:
    eta, l = kind
    return o3.Irrep(l, eta * (-1) ** l)


def irreps(kinds: list[Kind]) -> o3.Irreps:
    return o3.Irreps([(CHANNELS, irrep(kind)) for kind in kinds])


def path_weights(mix: torch.nn.Module, radial: torch.Tensor) -> torch.Tensor:
    """(E, paths, C): what the radial network says of each path."""
    for layer in mix.weights.hidden:
        radial = torch.nn.functional.silu(layer(radial))
    return torch.einsum("ew,wcp->epc", radial, mix.weights.weight * mix.weights.scale) + mix.weights.bias.t()


def convolution(mix, setup: Setup, sent: dict[Kind, torch.Tensor], outputs: list[Kind], lf_max: int):
    """Σ_edges of e3nn's tensor product, (η, l) → (N, C, 2l+1)."""
    inputs = list(sent)
    paths = paths_between(inputs, outputs, lf_max)
    filters = o3.Irreps.spherical_harmonics(lf_max)
    instructions = [
        (inputs.index((p.eta_in, p.l_in)), p.l_filter, outputs.index((p.eta_out, p.l_out)), "uvu", True)
        for p in paths
    ]
    product = o3.TensorProduct(
        irreps(inputs), filters, irreps(outputs), instructions, shared_weights=False, internal_weights=False
    )
    source, target = setup.edges.exchange.source, setup.edges.exchange.target
    flat = torch.cat([sent[kind].flatten(1) for kind in inputs], 1).index_select(0, source)
    harmonics = o3.spherical_harmonics(filters, setup.directions, normalize=True, normalization="component")
    messages = product(flat, harmonics, path_weights(mix, setup.edges.radial).flatten(1))
    summed = messages.new_zeros(NODES, messages.shape[1]).index_add(0, target, messages * setup.edges.weight)
    parts = summed.split([CHANNELS * (2 * l + 1) for _, l in outputs], 1)
    return {kind: part.unflatten(1, (CHANNELS, -1)) for kind, part in zip(outputs, parts, strict=True)}


def natural(lmax: int) -> list[Kind]:
    return [(1, l) for l in range(lmax + 1)]


def pseudo(lmax: int) -> list[Kind]:
    return [(-1, l) for l in range(lmax + 1)]


def randomised(mix: torch.nn.Module) -> torch.nn.Module:
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in mix.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng))
    return mix.double().requires_grad_(False)


def largest_difference(mine: dict[Kind, torch.Tensor], theirs: dict[Kind, torch.Tensor]) -> float:
    assert set(mine) == set(theirs)
    size = max(float(value.abs().max()) for value in theirs.values())
    return max(float((mine[kind] - theirs[kind]).abs().max()) for kind in theirs) / size


def common(lf_max: int, lmax: int) -> dict:
    rng = torch.Generator().manual_seed(2)
    return {
        "lmax": lmax, "lf_max": lf_max, "scalars": 5, "channels": CHANNELS, "width": WIDTH, "depth": 2, "rng": rng,
    }  # fmt: skip


@pytest.mark.parametrize("lmax", [1, 2, 3, 4])
@pytest.mark.parametrize("filter_factor", [1, 2], ids=["filter≤L", "filter≤2L"])
@pytest.mark.parametrize("pseudo_out", [False, True], ids=["", "pseudo-out"])
@pytest.mark.parametrize("pseudo_in", [False, True], ids=["", "pseudo-in"])
def test_middle_layer(e3nn_float64, tolerances, setup, lmax, pseudo_in, pseudo_out, filter_factor):
    lf_max = filter_factor * lmax
    mix = randomised(DepthwiseMix(pseudo_in=pseudo_in, pseudo_out=pseudo_out, **common(lf_max, lmax)))
    arriving = Features(
        mix.up(setup.features.scalars),
        mix.up_tensors(setup.features.tensors),
        mix.up_pseudo(setup.features.pseudo) if pseudo_in else None,
    )
    outputs = natural(lmax) + (pseudo(lmax) if pseudo_out else [])
    expected = convolution(mix, setup, by_kind(arriving, lmax), reachable(arriving, outputs, lmax, lf_max), lf_max)
    mine = {
        kind: value for kind, value in by_kind(mix(setup.features, setup.edges), lmax).items() if kind in expected
    }
    assert largest_difference(mine, expected) < tolerances.exact


def reachable(arriving: Features, outputs: list[Kind], lmax: int, lf_max: int) -> list[Kind]:
    """Outputs to which any path leads; a pseudoscalar cannot arise from natural features."""
    paths = paths_between(list(by_kind(arriving, lmax)), outputs, lf_max)
    return [kind for kind in outputs if any((p.eta_out, p.l_out) == kind for p in paths)]


@pytest.mark.parametrize("lmax", [2])
def test_no_pseudoscalar_arises_from_natural_features(setup, lmax):
    mix = randomised(DepthwiseMix(pseudo_in=False, pseudo_out=True, **common(2, 2)))
    assert float(mix(setup.features, setup.edges).pseudo[:, 0].abs().max()) == 0.0


@pytest.mark.parametrize("filter_factor", [1, 2], ids=["filter≤L", "filter≤2L"])
def test_first_layer(e3nn_float64, tolerances, setup, lmax, filter_factor):
    lf_max = filter_factor * lmax
    mix = randomised(ScalarDepthwiseMix(**common(lf_max, lmax)))
    sent = {(1, 0): mix.up(setup.features.scalars).unsqueeze(2)}
    expected = convolution(mix, setup, sent, natural(lmax), lf_max)
    assert largest_difference(by_kind(mix(setup.features, setup.edges), lmax), expected) < tolerances.exact


def test_last_layer(e3nn_float64, tolerances, setup, lmax):
    mix = randomised(FinalDepthwiseMix(**common(lmax, lmax)))
    tensors = mix.up_tensors(setup.features.tensors) if lmax else None
    sent = by_kind(Features(mix.up(setup.features.scalars), tensors), lmax)
    expected = convolution(mix, setup, sent, [(1, 0)], lmax)
    mine = {(1, 0): mix(setup.features, setup.edges).scalars.unsqueeze(2)}
    assert largest_difference(mine, expected) < tolerances.exact


def test_number_of_paths():
    """Filters up to L: 5, 15, 34, 65 natural paths for L = 1…4 with both families; up to 2L: 6, 19, 44, 85."""
    for lmax, short, full in ((1, 5, 6), (2, 15, 19), (3, 34, 44), (4, 65, 85)):
        kinds = natural(lmax)
        both = kinds + pseudo(lmax)
        assert len(paths_between(kinds, both, lmax)) == short
        assert len(paths_between(kinds, both, 2 * lmax)) == full
