"""NequIP as its own package builds it (0.19), layer by layer: what `mlip convert nequip` puts weights into."""

from __future__ import annotations

import itertools
import math
from functools import cache

import torch
from e3nn.math import normalize2mom
from torch import Tensor, nn

from mlip.errors import InputError
from mlip.exchange import Exchange
from mlip.nn.anisotropy import Breaking
from mlip.nn.constants import Float64Buffers
from mlip.nn.features import EdgeContext, Features
from mlip.nn.geometry import EdgeGeometry
from mlip.nn.linear import normal
from mlip.nn.network import NetworkOutput
from mlip.nn.readout import VectorReadout
from mlip.nn.uvu import Coupling, CouplingMatrices, UVUEdges, plan_layers
from mlip.nn.uvu_layer import UVULayer
from mlip.uvu_settings import READOUT_ACTIVATIONS, UVUSettings


def polynomial_envelope(x: Tensor, power: int) -> Tensor:
    """(1−x)³ Σ_{k<p} ½(k+1)(k+2) x^k, zero from x = 1 on: two continuous derivatives (2003.03123, eq. 8).

    The published form 1 − ½(p+1)(p+2)x^p + p(p+2)x^(p+1) − ½p(p+1)x^(p+2), without its cancellation near x = 1.
    """
    total = torch.zeros_like(x)
    for k in reversed(range(power)):
        total = total * x + (k + 1) * (k + 2) / 2
    return (1 - x).clamp(min=0).pow(3) * total


class ReadoutNetwork(nn.Module):
    """Scalars → one number, through hidden layers of NequIP's gains."""

    def __init__(self, sizes: list[int], activation: str, rng: torch.Generator) -> None:
        super().__init__()
        self.weights = nn.ParameterList(normal(rng, a, b) for a, b in itertools.pairwise(sizes))
        self.activation = getattr(nn.functional, READOUT_ACTIVATIONS[activation])

    def forward(self, x: Tensor) -> Tensor:
        """(N, sizes[0]) → (N,)."""
        for k, weight in enumerate(self.weights):
            x = self.activation(x) if k else x
            x = x @ (weight * math.sqrt((2 if k else 1) / weight.shape[0]))
        return x.squeeze(1)


class UVUNequIP(nn.Module):
    """Equivariant message passing with `uvu` tensor products, every constant where NequIP has it.

    A lone atom has no energy: nothing has a bias, and the first layer no self-connection.

    Args:
        settings: What the network is.
        num_species: Species the potential knows.
        avg_num_neighbors: Mean neighbours of an atom in the training data.
        message_scale: Not used: NequIP's messages have none.
        rng: Source of the initial weights.
    """

    def __init__(
        self,
        settings: UVUSettings,
        num_species: int,
        *,
        avg_num_neighbors: float,
        message_scale: float,  # noqa: ARG002
        rng: torch.Generator,
    ) -> None:
        super().__init__()
        s = self.settings = settings
        self.num_species = num_species
        plans = plan_layers(s.num_layers, s.num_channels, s.parity, s.type_channels)
        self.embedding = normal(rng, num_species, s.type_channels)
        self.layers = nn.ModuleList(
            UVULayer(plan, s.type_channels if k else 0, s.num_radial, s.radial_width, s.radial_depth, rng)
            for k, plan in enumerate(plans)
        )
        couplings = [Coupling(kind[0], plan.paths(kind)) for plan in plans for kind in plan.inputs.kinds]
        self.matrices = CouplingMatrices(s.lmax, [c for c in couplings if c.paths])
        self.readout = ReadoutNetwork([s.num_channels[0], *[s.readout_width] * s.readout_depth, 1], s.readout, rng)
        self.numbers = Float64Buffers(
            roots=torch.arange(1, s.num_radial + 1),
            gains=torch.tensor(_gains(), dtype=torch.float64),
            inverse_cutoffs=torch.full((num_species, num_species), 1 / s.cutoff, dtype=torch.float64),
            norms=torch.full((num_species,), avg_num_neighbors**-0.5, dtype=torch.float64),
            scales=torch.ones(num_species),
        )

    @property
    def hops(self) -> int:
        """Edges between an atom and the farthest one that acts on its energy: one per layer."""
        return self.settings.num_layers

    @property
    def port(self) -> None:
        """None: nothing breaks the symmetry."""
        return None

    @property
    def accepts_node_input(self) -> bool:
        """No: denoising needs the features of this package's own networks."""
        return False

    def forward(
        self,
        edge_vectors: Tensor,
        species: Tensor,
        exchange: Exchange,
        structure: Tensor,
        node_input: Features | None = None,  # noqa: ARG002
        breaking: Breaking | None = None,  # noqa: ARG002
    ) -> NetworkOutput:
        """Energies of the nodes; see :class:`mlip.nn.network.Network`."""
        length = edge_vectors.square().sum(1, keepdim=True).sqrt()
        direction, envelope, basis = edge_vectors / length, *self._radial(length, species, exchange)
        one_hot = nn.functional.one_hot(species, self.num_species).to(length.dtype)
        numbers, couplings = self.numbers, self.matrices(direction)
        norm = numbers("norms", length).index_select(0, species).view(-1, 1, 1)
        edges = UVUEdges(basis * envelope, couplings, norm, one_hot.unsqueeze(1), self.embedding, exchange)
        features = [self.embedding.index_select(0, species).unsqueeze(1)]
        for layer in self.layers:
            features = layer(features, edges, numbers("gains", length))
        scalars = features[0].squeeze(1)
        energies = self.readout(scalars) * numbers("scales", length).index_select(0, species)
        geometry = EdgeGeometry(length, direction, envelope, basis, None, None, None)
        context = EdgeContext(
            geometry, edges.radial, envelope, None, None, None, species, one_hot.unsqueeze(2), structure, exchange
        )
        return NetworkOutput(energies, exchange.collect(envelope).squeeze(1), Features(scalars), context)

    def _radial(self, length: Tensor, species: Tensor, exchange: Exchange) -> tuple[Tensor, Tensor]:
        """Envelope (E, 1), and 2 sin(kπx)/(x r_c²) (E, num_radial), with x in units of the pair's own cutoff."""
        source, target = species.index_select(0, exchange.source), species.index_select(0, exchange.target)
        x = length * self.numbers("inverse_cutoffs", length)[target, source].unsqueeze(1)
        basis = torch.sin(x * (self.numbers("roots", length) * math.pi)) * (2 / (self.settings.cutoff**2 * x))
        return polynomial_envelope(x, self.settings.envelope_power), basis

    def vector_readout(self, rng: torch.Generator) -> VectorReadout:  # noqa: ARG002
        """Not for this network.

        Raises:
            InputError: Always.
        """
        raise InputError("a converted network has no second readout", mend="train architecture: nequip")


@cache
def _gains() -> tuple[float, float]:
    """e3nn's factors of SiLU and tanh, which it finds by sampling with a seed of its own."""
    silu, tanh = (normalize2mom(f, dtype=torch.float64) for f in (nn.functional.silu, torch.tanh))
    return float(silu.cst), float(tanh.cst)
