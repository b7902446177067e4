"""Edge frames: R·n = +y, orthogonal blocks, a homomorphism; both charts, the poles and the coordinate planes."""

from __future__ import annotations

import pytest
import torch
from e3nn import o3

from mlip.nn.geometry import EdgeFrames, Harmonics, WignerBlocks
from mlip.nn.layout import frame_rows

LMAX = 4


@pytest.fixture
def directions():
    """Random, along the axes, within the planes, and a hair away from both poles and the seam of the charts."""
    rng = torch.Generator().manual_seed(1)
    random = torch.randn(20, 3, generator=rng, dtype=torch.float64)
    axes = torch.cat([torch.eye(3), -torch.eye(3)]).double()
    planes = torch.randn(9, 3, generator=rng, dtype=torch.float64)
    planes = planes * (1 - torch.eye(3, dtype=torch.float64).repeat(3, 1))
    close = torch.tensor([[1e-9, 1, 0], [0, -1, 1e-9], [1e-7, -1, -1e-7], [1, 1e-12, 0], [0.6, -1e-12, 0.8]]).double()
    vectors = torch.cat([random, axes, planes, close])
    return vectors / vectors.norm(dim=1, keepdim=True)


def blocks_of(directions: torch.Tensor, lmax: int = LMAX) -> list[torch.Tensor]:
    """D¹…Dᴸ, each (E, 2l+1, 2l+1)."""
    flat = WignerBlocks(lmax).double()(directions)
    sizes = [(2 * l + 1) ** 2 for l in range(1, lmax + 1)]
    return [part.unflatten(1, (2 * l + 1, -1)) for l, part in enumerate(flat.split([*sizes, 2], 1)[:-1], 1)]


def wigner(l: int, rotation: torch.Tensor) -> torch.Tensor:
    """D^l of one rotation from e3nn's harmonics alone: Y(R·n) = D·Y(n), solved over many n."""
    rng = torch.Generator().manual_seed(5)
    points = torch.randn(60, 3, generator=rng, dtype=torch.float64)
    before = o3.spherical_harmonics(l, points, normalize=True)
    after = o3.spherical_harmonics(l, points @ rotation.T, normalize=True)
    return torch.linalg.lstsq(before, after).solution.T


def test_the_frame_carries_the_edge_onto_y(directions, tolerances):
    rotation = blocks_of(directions, 1)[0]
    carried = torch.bmm(rotation, directions.unsqueeze(2)).squeeze(2)
    assert (carried - torch.tensor([0.0, 1.0, 0.0])).abs().max() < tolerances.exact
    assert (torch.linalg.det(rotation) - 1).abs().max() < tolerances.exact


def test_blocks_are_orthogonal(directions, tolerances):
    for block in blocks_of(directions):
        product = torch.bmm(block, block.transpose(1, 2))
        assert (product - torch.eye(block.shape[1])).abs().max() < tolerances.exact


def test_blocks_represent_the_rotation(directions, tolerances):
    """Dˡ(R) of the recursion equals the matrix under which e3nn's harmonics turn."""
    blocks = blocks_of(directions)
    for edge in range(0, len(directions), 3):
        for l in range(1, LMAX + 1):
            expected = wigner(l, blocks[0][edge])
            assert (blocks[l - 1][edge] - expected).abs().max() < tolerances.exact


def test_blocks_form_a_homomorphism(directions, tolerances):
    """D(R₁)·D(R₂)ᵀ depends on R₁·R₂ᵀ alone."""
    blocks = blocks_of(directions)
    first, second = blocks[0][0], blocks[0][7]
    for l in range(1, LMAX + 1):
        product = blocks[l - 1][0] @ blocks[l - 1][7].T
        assert (product - wigner(l, first @ second.T)).abs().max() < tolerances.exact


def test_harmonics_are_the_middle_rows(directions, tolerances):
    """What models of two layers use instead of frames is the same: unit harmonics of e3nn."""
    rows = Harmonics(LMAX).double()(directions)
    for l, block in enumerate(blocks_of(directions), 1):
        mine = rows[:, l - 1, l * l - 1 : (l + 1) ** 2 - 1]
        expected = o3.spherical_harmonics(l, directions, normalize=True, normalization="norm")
        assert (mine - block[:, l]).abs().max() < tolerances.exact
        assert (mine - expected).abs().max() < tolerances.exact


def test_derivatives_agree_across_the_charts(tolerances):
    """m = 0 rows do not feel the chart: their derivative on the seam, y = 0, is that of the harmonics."""
    on_seam = torch.tensor([[0.6, 0.0, 0.8], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]], dtype=torch.float64)
    framed = torch.autograd.functional.jacobian(lambda n: torch.cat([b[:, l] for l, b in pairs(n)], 1), on_seam)
    plain = torch.autograd.functional.jacobian(
        lambda n: Harmonics(LMAX).double()(n / n.norm(dim=1, keepdim=True)).sum(1), on_seam
    )
    assert (framed - plain).abs().max() < tolerances.exact


def pairs(vectors):
    return list(enumerate(blocks_of(vectors / vectors.norm(dim=1, keepdim=True)), 1))


def test_pseudo_rows_carry_the_phase(directions, tolerances):
    """(x₊, x₋) → (−x₋, x₊), and l = 0 stands in front."""
    natural, pseudo = EdgeFrames(LMAX, pseudo=True).double()(directions)
    assert torch.equal(pseudo[:, 0, :1], torch.ones(len(directions), 1, dtype=torch.float64))
    natural_rows, pseudo_rows = frame_rows(LMAX, 1, LMAX), frame_rows(LMAX, 0, LMAX)
    for l, m in natural_rows:
        sign = -1.0 if m > 0 else 1.0
        expected = sign * natural[:, natural_rows.index((l, -m))]
        assert (pseudo[:, pseudo_rows.index((l, m)), 1:] - expected).abs().max() < tolerances.exact
