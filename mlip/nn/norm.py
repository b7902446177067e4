"""Normalisation of node features."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mlip.nn.constants import Constants
from mlip.nn.features import Features
from mlip.nn.layout import degree_of_rows

# Where a norm has fewer directions than this to average over, x/√(x² + ε) would turn sharply.
_EPSILON = 0.01


class _Gains(nn.Module):
    """Learnt factors per degree and channel, and a bias of the scalars."""

    degrees: Tensor
    pseudo_degrees: Tensor

    def __init__(self, lmax: int, scalars: int, tensors: int, pseudo: int) -> None:
        super().__init__()
        self.scalars = nn.Parameter(torch.ones(scalars, dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros(scalars, dtype=torch.float32))
        self.tensors = nn.Parameter(torch.ones(lmax, tensors, dtype=torch.float32)) if lmax else None
        self.pseudo = nn.Parameter(torch.ones(lmax + 1, pseudo, dtype=torch.float32)) if pseudo else None
        self.register_buffer("degrees", degree_of_rows(lmax), persistent=False)
        self.register_buffer("pseudo_degrees", degree_of_rows(lmax, 0), persistent=False)

    def forward(self, scalars: Tensor, tensors: Tensor | None, pseudo: Tensor | None) -> Features:
        if tensors is not None and self.tensors is not None:
            tensors = tensors * self.tensors.index_select(0, self.degrees)
        if pseudo is not None and self.pseudo is not None:
            pseudo = pseudo * self.pseudo.index_select(0, self.pseudo_degrees)
        return Features(scalars * self.scalars + self.bias, tensors, pseudo)


class _DegreeSquares(nn.Module):
    """(N, D, C) → (N,): mean squares of the degrees, summed, every degree with the same weight."""

    def __init__(self, lmax: int, lmin: int) -> None:
        super().__init__()
        weights = [1 / (2 * l + 1) for l in range(lmin, lmax + 1) for _ in range(2 * l + 1)]
        self.constants = Constants(weights=torch.tensor(weights, dtype=torch.float64))
        self.count = lmax + 1 - lmin

    def forward(self, x: Tensor) -> Tensor:
        return x.square().mean(2) @ self.constants.weights


class DegreeNorm(nn.Module):
    """Divide all degrees by one rms in which each degree counts alike, centred scalars included.

    At sites of high symmetry every l > 0 feature vanishes; a norm over l > 0 alone would have the curvature of
    x/√(x²+ε) there and ruin the phonons of simple crystals.

    Args:
        lmax: Highest degree.
        scalars: Channels of scalars.
        tensors: Channels of tensors.
        pseudo: Channels of pseudo features, 0 for none.
    """

    def __init__(self, lmax: int, scalars: int, tensors: int, pseudo: int = 0) -> None:
        super().__init__()
        self.gains = _Gains(lmax, scalars, tensors, pseudo)
        self.squares = _DegreeSquares(lmax, 1)
        self.pseudo_squares = _DegreeSquares(lmax, 0)

    def forward(self, features: Features) -> Features:
        """The features at rms ≈ 1."""
        scalars = features.scalars - features.scalars.mean(1, keepdim=True)
        total, degrees = scalars.square().mean(1), 1
        if features.tensors is not None:
            total, degrees = total + self.squares(features.tensors), degrees + self.squares.count
        if features.pseudo is not None:
            total, degrees = total + self.pseudo_squares(features.pseudo), degrees + self.pseudo_squares.count
        inverse = torch.rsqrt(total * (1 / degrees) + _EPSILON)
        return self.gains(
            scalars * inverse[:, None],
            None if features.tensors is None else features.tensors * inverse[:, None, None],
            None if features.pseudo is None else features.pseudo * inverse[:, None, None],
        )


class SeparableNorm(nn.Module):
    """The published norm (2306.12059): scalars apart, one rms over l > 0; for direct forces alone.

    Its ε is that of the paper; where tensors vanish by symmetry the curvature is of order 1/ε.

    Args:
        lmax: Highest degree.
        scalars: Channels of scalars.
        tensors: Channels of tensors.
        pseudo: Channels of pseudo features, 0 for none.
        epsilon: Guards the divisions.
    """

    def __init__(self, lmax: int, scalars: int, tensors: int, pseudo: int = 0, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.gains = _Gains(lmax, scalars, tensors, pseudo)
        self.squares = _DegreeSquares(lmax, 1)
        self.pseudo_squares = _DegreeSquares(lmax, 0)
        self.epsilon = epsilon

    def forward(self, features: Features) -> Features:
        """Scalars, and tensors, at rms ≈ 1."""
        centred = features.scalars - features.scalars.mean(1, keepdim=True)
        scalars = centred * torch.rsqrt(centred.square().mean(1, keepdim=True) + self.epsilon)
        parts = [(features.tensors, self.squares), (features.pseudo, self.pseudo_squares)]
        there = [(squares(part), squares.count) for part, squares in parts if part is not None]
        if not there:
            return self.gains(scalars, None, None)
        mean = torch.stack([total for total, _ in there]).sum(0) / sum(count for _, count in there)
        inverse = torch.rsqrt(mean + self.epsilon)[:, None, None]
        return self.gains(
            scalars,
            None if features.tensors is None else features.tensors * inverse,
            None if features.pseudo is None else features.pseudo * inverse,
        )


def make_norm(kind: bool | Literal["separable"], lmax: int, scalars: int, tensors: int, pseudo: int = 0) -> nn.Module:
    """The norm of the settings: one rms (true), none (false), or the published one."""
    if kind == "separable":
        return SeparableNorm(lmax, scalars, tensors, pseudo)
    return DegreeNorm(lmax, scalars, tensors, pseudo) if kind else nn.Identity()
