"""The NequIP-style network: geometry, embedding, interaction layers, readout."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mlip.exchange import Exchange
from mlip.nn.anisotropy import Breaking, make_port
from mlip.nn.depthwise_mix import DepthwiseMix, FinalDepthwiseMix, ScalarDepthwiseMix
from mlip.nn.features import EdgeContext, EdgeMix, Features, added
from mlip.nn.geometry import EdgeGeometry, Geometry
from mlip.nn.linear import normal
from mlip.nn.linear_mix import FinalLinearMix, LinearMix, ScalarLinearMix
from mlip.nn.network import Network, NetworkOutput, RadialEmbedding, make_direct_readout, weighted_back
from mlip.nn.node import NodeUpdate, RMSNorm
from mlip.nn.readout import ScalarReadout, VectorReadout
from mlip.settings import ModelSettings


class NequIP(Network):
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
        super().__init__(settings, num_species, avg_num_neighbors=avg_num_neighbors, message_scale=message_scale)
        s, n = settings, settings.num_layers
        scalars, tensors = s.num_channels
        pseudo_out = [tensors if s.parity and s.lmax and 1 <= k <= n - 3 else 0 for k in range(n)]
        pseudo_in = [0, *pseudo_out[:-1]]
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
        self.direct = make_direct_readout(self, s, rng)
        self.port = make_port(s, pseudo_out[:-1])

    @property
    def hops(self) -> int:
        """Edges between an atom and the farthest one that acts on its energy: one per layer."""
        return self.settings.num_layers

    @property
    def accepts_node_input(self) -> bool:
        """Whether a layer sees tensors that further input can be added to."""
        return self.settings.lmax > 0 and self.settings.num_layers > 1

    def forward(
        self,
        edge_vectors: Tensor,
        species: Tensor,
        exchange: Exchange,
        structure: Tensor,
        node_input: Features | None = None,
        breaking: Breaking | None = None,
    ) -> NetworkOutput:
        """Energies of the nodes; see :class:`mlip.nn.network.Network`."""
        geometry = self.geometry(edge_vectors)
        edges = self._context(geometry, species, exchange, structure)
        features = Features(self.embedding.index_select(0, species))
        through = self._through_port(breaking)
        for k, (mix, update) in enumerate(zip(self.mixes, self.updates, strict=False)):
            features = update(mix(features, edges), features, edges)
            features = features if self.norm is None else self.norm(features)
            features = features if node_input is None or k > 0 else added(features, node_input)
            features = through(k, features)
        messages = self.mixes[-1](features, edges)
        energies = self.readout(messages.scalars, features.scalars, edges.one_hot)
        density = exchange.collect(geometry.envelope).squeeze(1)
        forces = None if self.direct is None else self.direct(features, edges)
        return NetworkOutput(energies, density, features, edges, forces)

    def vector_readout(self, rng: torch.Generator) -> VectorReadout:
        """A head for one vector per node."""
        s = self.settings
        scalars, tensors = s.num_channels
        tensors = tensors if s.num_layers > 1 else 0
        return VectorReadout(s.lmax, scalars, tensors, s.radial_width, s.radial_depth, rng)

    def _context(self, geometry: EdgeGeometry, species: Tensor, exchange: Exchange, structure: Tensor) -> EdgeContext:
        edges = super()._context(geometry, species, exchange, structure)
        return replace(
            edges,
            from_frame=weighted_back(geometry.to_frame, edges.weight),
            pseudo_from_frame=weighted_back(geometry.pseudo_to_frame, edges.weight),
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
