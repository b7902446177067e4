"""The NequIP-style network: geometry, embedding, interaction layers, readout."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from mlip.exchange import Exchange
from mlip.nn.depthwise_mix import DepthwiseMix, FinalDepthwiseMix, ScalarDepthwiseMix
from mlip.nn.features import EdgeContext, EdgeMix, Features
from mlip.nn.geometry import EdgeGeometry, Geometry
from mlip.nn.linear import Linear, SpeciesLinear, normal, silu
from mlip.nn.linear_mix import FinalLinearMix, LinearMix, ScalarLinearMix
from mlip.nn.node import NodeUpdate, RMSNorm
from mlip.settings import ModelSettings


class RadialEmbedding(nn.Module):
    """Hidden radial features shared by all layers: the basis, and which two species face each other."""

    def __init__(self, num_species: int, num_radial: int, width: int, rng: torch.Generator) -> None:
        super().__init__()
        self.linear = Linear(num_radial, width, rng)
        self.source = normal(rng, num_species, width)
        self.target = normal(rng, num_species, width)

    def forward(self, basis: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """(E, num_radial) and the species of both ends (E,) → (E, width), without the activation's gain."""
        num_species = self.source.shape[0]
        pairs = (self.source.unsqueeze(1) + self.target.unsqueeze(0)).flatten(0, 1) * 0.5
        return nn.functional.silu(self.linear(basis) + pairs.index_select(0, source * num_species + target))


class ScalarReadout(nn.Module):
    """Last messages and scalars → one number per node."""

    def __init__(self, num_species: int, messages: int, scalars: int, rng: torch.Generator) -> None:
        super().__init__()
        self.linear = Linear(messages, scalars, rng)
        self.connect = SpeciesLinear(num_species, scalars, scalars, rng)
        self.hidden = Linear(scalars, scalars, rng)
        self.last = Linear(scalars, 1, rng)

    def forward(self, messages: Tensor, scalars: Tensor, one_hot: Tensor) -> Tensor:
        """(N, messages), (N, scalars) → (N,)."""
        total = (self.linear(messages) + self.connect(scalars, one_hot)) * (1 / math.sqrt(2))
        return self.last(silu(self.hidden(silu(total)))).squeeze(1)


class NequIP(nn.Module):
    """Equivariant message passing with gates (2101.03164) on the edge-frame kernel.

    Pseudo features (parity on) exist only where they can still reach the energy: they need one layer to arise
    and one to return, so they are outputs of layers 2 … n−2 alone.

    Args:
        settings: What the network is.
        num_species: Species the potential knows.
        avg_num_neighbors: Mean neighbours of an atom in the training data.
        message_scale: Size of the sum of messages before anything is learnt.
        rng: Source of the initial weights.
    """

    def __init__(
        self,
        settings: ModelSettings,
        num_species: int,
        *,
        avg_num_neighbors: float,
        message_scale: float,
        rng: torch.Generator,
    ) -> None:
        super().__init__()
        s, n = settings, settings.num_layers
        scalars, tensors = s.num_channels
        pseudo_out = [tensors if s.parity and s.lmax and 1 <= k <= n - 3 else 0 for k in range(n)]
        pseudo_in = [0, *pseudo_out[:-1]]
        self.num_species = num_species
        self.message_scale = message_scale / math.sqrt(avg_num_neighbors)
        self.geometry = Geometry(s.lmax, s.cutoff, s.num_radial, frames=n > 2, pseudo=any(pseudo_out))
        self.embedding = normal(rng, num_species, scalars)
        self.radial = RadialEmbedding(num_species, s.num_radial, s.radial_width, rng)
        mixes = [_mix(s, k, pseudo_in[k], pseudo_out[k], rng) for k in range(n)]
        self.mixes = nn.ModuleList(mixes)
        self.updates = nn.ModuleList(
            NodeUpdate(
                num_species=num_species,
                lmax=s.lmax,
                scalars_in=mixes[k].out_scalars,
                scalars=scalars,
                tensors=tensors,
                pseudo_in=pseudo_in[k],
                pseudo_out=pseudo_out[k],
                has_tensors=k > 0 and s.lmax > 0,
                square=s.node_square,
                message_scale=message_scale,
                rng=rng,
            )
            for k in range(n - 1)
        )
        self.norm = RMSNorm() if s.norm else None
        self.readout = ScalarReadout(num_species, mixes[-1].out_scalars, scalars, rng)

    def forward(self, edge_vectors: Tensor, species: Tensor, exchange: Exchange) -> tuple[Tensor, Tensor]:
        """Energies of the nodes, and how full their neighbourhoods are.

        Args:
            edge_vectors: (E, 3), Å.
            species: (N,), of all nodes.
            exchange: How features travel between the nodes.

        Returns:
            (N,) energies in units of the potential's energy scale, and (N,) sums of the envelope over neighbours.
        """
        geometry = self.geometry(edge_vectors)
        edges = self._context(geometry, species, exchange)
        features = Features(self.embedding.index_select(0, species))
        for mix, update in zip(self.mixes, self.updates, strict=False):
            features = update(mix(features, edges), features, edges)
            features = features if self.norm is None else self.norm(features)
        messages = self.mixes[-1](features, edges)
        energies = self.readout(messages.scalars, features.scalars, edges.one_hot)
        return energies, exchange.collect(geometry.envelope).squeeze(1)

    def _context(self, geometry: EdgeGeometry, species: Tensor, exchange: Exchange) -> EdgeContext:
        weight = geometry.envelope * self.message_scale
        source = species.index_select(0, exchange.source)
        target = species.index_select(0, exchange.target)

        def back(matrix: Tensor | None) -> Tensor | None:
            return None if matrix is None else (matrix * weight.unsqueeze(1)).transpose(1, 2)

        return EdgeContext(
            geometry=geometry,
            radial=self.radial(geometry.basis, source, target),
            weight=weight,
            harmonics_back=back(geometry.harmonics),
            from_frame=back(geometry.to_frame),
            pseudo_from_frame=back(geometry.pseudo_to_frame),
            species=species,
            one_hot=nn.functional.one_hot(species, self.num_species).to(weight.dtype).unsqueeze(2),
            exchange=exchange,
        )


def _mix(s: ModelSettings, layer: int, pseudo_in: int, pseudo_out: int, rng: torch.Generator) -> EdgeMix:
    """The edge mixing of one layer: first, last, and those between are different classes."""
    scalars, tensors = s.num_channels
    first, last = layer == 0, layer == s.num_layers - 1
    common: dict[str, Any] = {
        "lmax": 0 if first and last else s.lmax,
        "scalars": scalars,
        "width": s.radial_width,
        "depth": s.radial_depth,
        "rng": rng,
    }
    if s.mixing == "linear":
        if first or s.lmax == 0:
            return ScalarLinearMix(tensors=tensors, **common)
        if last:
            return FinalLinearMix(tensors=tensors, **common)
        return LinearMix(tensors=tensors, pseudo_in=pseudo_in, pseudo_out=pseudo_out, **common)
    common |= {"lf_max": s.lmax if s.max_filter_degree is None else s.max_filter_degree, "channels": tensors}
    if first or s.lmax == 0:
        return ScalarDepthwiseMix(**common)
    if last:
        return FinalDepthwiseMix(**common)
    return DepthwiseMix(pseudo_in=bool(pseudo_in), pseudo_out=bool(pseudo_out), **common)
