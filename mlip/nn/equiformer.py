"""The EquiformerV2-style network (2306.12059): geometry, embeddings, attention blocks, readout."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlip.exchange import Exchange
from mlip.nn.anisotropy import Breaking, make_port
from mlip.nn.attention import GraphAttention
from mlip.nn.dropout import DropPath, EquivariantDropout
from mlip.nn.features import EdgeContext, Features, added
from mlip.nn.feed_forward import FeedForward
from mlip.nn.geometry import Geometry
from mlip.nn.linear import normal
from mlip.nn.linear_mix import ScalarLinearMix
from mlip.nn.network import Network, NetworkOutput, RadialEmbedding, make_direct_readout
from mlip.nn.norm import make_norm
from mlip.nn.readout import ScalarReadout, VectorReadout
from mlip.settings import ModelSettings


class Block(nn.Module):
    """x ← x + attention(norm x);  x ← x + feed-forward(norm x)."""

    def __init__(
        self,
        settings: ModelSettings,
        *,
        pseudo_in: int,
        pseudo_out: int,
        avg_num_neighbors: float,
        message_scale: float,
        rng: torch.Generator,
    ) -> None:
        super().__init__()
        scalars, tensors = settings.num_channels
        self.pseudo_out = pseudo_out
        self.first_norm = make_norm(settings.norm, settings.lmax, scalars, tensors, pseudo_in)
        self.attention = GraphAttention(
            settings,
            pseudo_in=pseudo_in,
            pseudo_out=pseudo_out,
            last=False,
            avg_num_neighbors=avg_num_neighbors,
            message_scale=message_scale,
            rng=rng,
        )
        self.second_norm = make_norm(settings.norm, settings.lmax, scalars, tensors, pseudo_out)
        self.feed_forward = FeedForward(settings, pseudo=pseudo_out, rng=rng)
        self.dropout = EquivariantDropout(settings.dropout)
        self.drop_path = DropPath(settings.drop_path)

    def forward(self, x: Features, edges: EdgeContext) -> Features:
        """The new features of the nodes."""
        attended = self._branch(self.attention(self.first_norm(x), edges), edges)
        old = x if self.pseudo_out else Features(x.scalars, x.tensors)
        x = added(old, attended)
        return added(x, self._branch(self.feed_forward(self.second_norm(x)), edges))

    def _branch(self, branch: Features, edges: EdgeContext) -> Features:
        return self.drop_path(self.dropout(branch), edges)


class Equiformer(Network):
    """Equivariant graph attention on the edge-frame kernel.

    The last layer is attention to scalars alone, for which m = 0 suffices. Pseudo features (parity on) arise within
    each attention; between blocks they are kept where a later block can still turn them back.

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
        self.energy_scale = message_scale  # normalised features would else give forces larger than those of the data
        mmax = s.lmax if s.mmax is None else min(s.mmax, s.lmax)
        pseudo_out = [tensors if s.parity and mmax and k <= n - 3 else 0 for k in range(n - 1)]
        pseudo_in = [0, *pseudo_out]
        frames, pseudo = n > 1 and mmax > 0, any(pseudo_out)
        self.geometry = Geometry(s.lmax, s.cutoff, s.num_radial, frames=frames, pseudo=pseudo, mmax=mmax)
        self.embedding = normal(rng, num_species, scalars)
        self.radial = RadialEmbedding(num_species, s.num_radial, s.radial_width, rng)
        self.edge_degree = ScalarLinearMix(s.lmax, scalars, tensors, s.radial_width, s.radial_depth, rng)
        self.blocks = nn.ModuleList(
            Block(
                s,
                pseudo_in=pseudo_in[k],
                pseudo_out=pseudo_out[k],
                avg_num_neighbors=avg_num_neighbors,
                message_scale=message_scale,
                rng=rng,
            )
            for k in range(n - 1)
        )
        self.last_norm = make_norm(s.norm, s.lmax, scalars, tensors)
        self.last = GraphAttention(
            s,
            pseudo_in=0,
            pseudo_out=0,
            last=True,
            avg_num_neighbors=avg_num_neighbors,
            message_scale=message_scale,
            rng=rng,
        )
        self.readout = ScalarReadout(num_species, scalars, scalars, rng)
        self.direct = make_direct_readout(self, s, rng)
        self.port = make_port(s, pseudo_in)

    @property
    def hops(self) -> int:
        """Edges between an atom and the farthest one that acts on its energy: one for the edge-degree embedding."""
        return self.settings.num_layers + 1

    @property
    def accepts_node_input(self) -> bool:
        """Whether there are tensors that further input can be added to."""
        return self.settings.lmax > 0

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
        x = Features(self.embedding.index_select(0, species))
        x = added(x, self.edge_degree(x, edges))
        x = x if node_input is None else added(x, node_input)
        through = self._through_port(breaking)
        x = through(0, x)
        for k, block in enumerate(self.blocks):
            x = through(k + 1, block(x, edges))
        x = self.last_norm(x)
        energies = self.readout(self.last(x, edges).scalars, x.scalars, edges.one_hot) * self.energy_scale
        density = exchange.collect(geometry.envelope).squeeze(1)
        forces = None if self.direct is None else self.direct(x, edges)
        return NetworkOutput(energies, density, x, edges, forces)

    def vector_readout(self, rng: torch.Generator) -> VectorReadout:
        """A head for one vector per node."""
        s = self.settings
        return VectorReadout(s.lmax, *s.num_channels, s.radial_width, s.radial_depth, rng)
