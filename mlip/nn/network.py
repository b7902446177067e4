"""What every architecture is to the rest of the package: edge vectors and species in, energies of the nodes out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlip.exchange import Exchange
from mlip.nn.anisotropy import Breaking, Port
from mlip.nn.features import EdgeContext, Features
from mlip.nn.geometry import EdgeGeometry, Geometry
from mlip.nn.linear import Linear, normal
from mlip.nn.readout import VectorReadout
from mlip.settings import ModelSettings


class RadialEmbedding(nn.Module):
    """Hidden radial features shared by all layers: the basis, and which two species face each other."""

    def __init__(self, num_species: int, num_radial: int, width: int, rng: torch.Generator) -> None:
        super().__init__()
        self.linear = Linear(num_radial, width, rng)
        self.source = normal(rng, num_species, width)
        self.target = normal(rng, num_species, width)

    def forward(self, geometry: EdgeGeometry, source: Tensor, target: Tensor) -> Tensor:
        """The edges and the species of both ends (E,) → (E, width), without the activation's gain."""
        return self.hidden(geometry.basis, source, target)

    def hidden(self, basis: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """(E, num_radial) and the species of both ends (E,) → (E, width)."""
        num_species = self.source.shape[0]
        pairs = (self.source.unsqueeze(1) + self.target.unsqueeze(0)).flatten(0, 1) * 0.5
        return nn.functional.silu(self.linear(basis) + pairs.index_select(0, source * num_species + target))


@dataclass(frozen=True)
class NetworkOutput:
    """What a network gives.

    Attributes:
        energies: (N,), in units of the potential's energy scale.
        density: (N,), sum of the envelope over the neighbours.
        features: What enters the last layer, for further readouts.
        edges: What the layers shared, for further readouts.
        forces: (N, 3), direct forces in units of energy scale/Å; None where forces are gradients.
    """

    energies: Tensor
    density: Tensor
    features: Features
    edges: EdgeContext
    forces: Tensor | None = None


class Network(nn.Module):
    """Base of the architectures.

    Args:
        settings: What the network is.
        num_species: Species the potential knows.
        avg_num_neighbors: Mean neighbours of an atom in the training data.
        message_scale: Size of the sum of messages before anything is learnt.
    """

    geometry: Geometry
    radial: RadialEmbedding
    direct: VectorReadout | None
    port: Port | None

    def __init__(
        self, settings: ModelSettings, num_species: int, *, avg_num_neighbors: float, message_scale: float
    ) -> None:
        super().__init__()
        self.settings = settings
        self.num_species = num_species
        self.message_scale = message_scale / math.sqrt(avg_num_neighbors)

    @property
    def hops(self) -> int:
        """Edges between an atom and the farthest one that acts on its energy."""
        raise NotImplementedError

    @property
    def accepts_node_input(self) -> bool:
        """Whether there are node features, tensors included, that further input can be added to."""
        raise NotImplementedError

    def forward(
        self,
        edge_vectors: Tensor,
        species: Tensor,
        exchange: Exchange,
        structure: Tensor,
        node_input: Features | None = None,
        breaking: Breaking | None = None,
    ) -> NetworkOutput:
        """Energies of the nodes.

        Args:
            edge_vectors: (E, 3), Å.
            species: (N,), of all nodes.
            exchange: How features travel between the nodes.
            structure: (N,), the structure each node belongs to.
            node_input: Added to the first node features that have tensors.
            breaking: The tensor that breaks the symmetry; None: nothing does, whether or not there is a port.
        """
        raise NotImplementedError

    def vector_readout(self, rng: torch.Generator) -> VectorReadout:
        """A head for one vector per node, to be fed with ``features`` and ``edges`` of the output."""
        raise NotImplementedError

    def _through_port(self, breaking: Breaking | None) -> Callable[[int, Features], Features]:
        """(place, features) → features behind the port; B(b) is computed once."""
        port = self.port
        if port is None or breaking is None:
            return lambda _, features: features
        matrices = port.matrices(breaking)
        return lambda place, features: port(place, features, matrices)

    def _context(self, geometry: EdgeGeometry, species: Tensor, exchange: Exchange, structure: Tensor) -> EdgeContext:
        weight = geometry.envelope * self.message_scale
        source, target = species.index_select(0, exchange.source), species.index_select(0, exchange.target)
        return EdgeContext(
            geometry=geometry,
            radial=self.radial(geometry, source, target),
            weight=weight,
            harmonics_back=weighted_back(geometry.harmonics, weight),
            from_frame=None,
            pseudo_from_frame=None,
            species=species,
            one_hot=one_hot(species, self.num_species, weight.dtype),
            structure=structure,
            exchange=exchange,
        )


def one_hot(species: Tensor, num_species: int, dtype: torch.dtype) -> Tensor:
    """(N,) → (N, S, 1); torch's own looks at the values, which a tracer cannot."""
    kinds = torch.arange(num_species, device=species.device)
    return (species.unsqueeze(1) == kinds).to(dtype).unsqueeze(2)


def weighted_back(matrix: Tensor | None, weight: Tensor) -> Tensor | None:
    """The way back from the edge frame with the weight (E, 1) folded in; None where there is no frame."""
    return None if matrix is None else (matrix * weight.unsqueeze(1)).transpose(1, 2)


def make_direct_readout(network: Network, settings: ModelSettings, rng: torch.Generator) -> VectorReadout | None:
    """The head of direct forces, or None where forces are gradients."""
    return network.vector_readout(rng) if settings.forces == "direct" else None
