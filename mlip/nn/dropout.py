"""Noise in training that keeps every symmetry; nothing at all in evaluation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlip.nn.features import EdgeContext, Features


def scaled(features: Features, factor: Tensor) -> Features:
    """Every component of a node times its factor, (N, 1)."""
    return Features(
        features.scalars * factor,
        None if features.tensors is None else features.tensors * factor.unsqueeze(1),
        None if features.pseudo is None else features.pseudo * factor.unsqueeze(1),
    )


def _kept(like: Tensor, shape: tuple[int, ...], rate: float) -> Tensor:
    """0 with probability ``rate``, else 1/(1 − rate)."""
    drawn = torch.rand(shape, dtype=like.dtype, device=like.device)
    return (drawn >= rate).to(like.dtype) / (1 - rate)


class DropPath(nn.Module):
    """A structure skips the branch as a whole (stochastic depth), so that its atoms see one network."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Features, edges: EdgeContext) -> Features:
        """The branch, of some structures zero."""
        if not self.training or self.rate == 0:
            return branch
        structure = edges.structure
        kept = _kept(branch.scalars, (int(structure.max()) + 1, 1), self.rate)
        return scaled(branch, kept.index_select(0, structure))


class EquivariantDropout(nn.Module):
    """A node drops whole channels: all components of a tensor, or none."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, features: Features) -> Features:
        """The features, some channels of some nodes zero."""
        if not self.training or self.rate == 0:
            return features
        return Features(
            features.scalars * _kept(features.scalars, tuple(features.scalars.shape), self.rate),
            self._dropped(features.tensors),
            self._dropped(features.pseudo),
        )

    def _dropped(self, block: Tensor | None) -> Tensor | None:
        if block is None:
            return None
        return block * _kept(block, (block.shape[0], 1, block.shape[2]), self.rate)
