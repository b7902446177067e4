"""A potential whose weights no longer change, made cheaper: the same energies and forces to rounding."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mlip.nn.depthwise_mix import PathWeights
from mlip.nn.linear import RadialNetwork
from mlip.nn.network import Network
from mlip.nn.radial_table import Addressing, Table

if TYPE_CHECKING:
    from mlip.graph import AtomicGraph
    from mlip.potential import Potential

# Tables grow with the square of the number of species; beyond this the networks stay.
MAX_TABLE_BYTES = 2**28
# Largest error of a table between its nodes, relative to its largest value: a thirtieth of float32's rounding.
TOLERANCE = 2e-9

# A table costs some 50 ms for each pair of species, and saves 2 to 3 µs for each edge of an evaluation.
_EDGES_PER_PAIR = 200


def tables_repay(potential: Potential, graph: AtomicGraph) -> bool:
    """Whether about a hundred evaluations of such a graph repay the making of tables."""
    return graph.num_edges >= _EDGES_PER_PAIR * len(potential.species) ** 2


def for_inference(potential: Potential) -> Potential:
    """A frozen copy for energies, forces and stress, whose radial networks are tables.

    Only in float32, whose rounding hides the error of the splines; on the CPU, where it was measured to pay; and
    where the tables are small and follow the networks closely. Otherwise the copy computes what the original does.
    A copy with tables has first derivatives alone: Hessians and training need the original, and raise an error; so
    does saving, which needs the weights.

    Args:
        potential: The potential; left as it is.

    Returns:
        The copy.
    """
    copy = deepcopy(potential).eval().requires_grad_(False)
    serves = potential.dtype == torch.float32 and potential.device.type == "cpu"
    network = deepcopy(potential).double().network
    if serves and isinstance(network, Network):  # converted networks keep their own radial functions
        tables = _tables(network)
        if tables is not None:
            _put(tables, copy)
    return copy


def _put(tables: dict[str, nn.Module], copy: Potential) -> None:
    """Put the tables in the place of what they hold; the radial basis is then not needed either."""
    network = copy.network
    tables |= {"radial": Addressing(copy.cutoff, network.num_species), "geometry.radial_basis": nn.Identity()}
    for name, table in tables.items():
        parent, _, own = name.rpartition(".")
        setattr(network.get_submodule(parent), own, table.to(device=copy.device, dtype=copy.dtype))


@torch.no_grad()
def _tables(network: Network) -> dict[str, nn.Module] | None:
    """A table for each radial network of a network in float64, by name; None where they do not serve."""
    found = {name: m for name, m in network.named_modules() if isinstance(m, RadialNetwork | PathWeights)}
    if _bytes(network, list(found.values())) > MAX_TABLE_BYTES:
        return None
    sampler = _Sampler(network)
    tables: dict[str, nn.Module] = {}
    for name, module in found.items():
        table = Table(sampler.coefficients(module.columns(sampler.nodes)), module.split)
        expected = module.columns(sampler.halfway)
        error = (table.columns(sampler.address) - expected).abs().max() / expected.abs().max()
        if not error <= TOLERANCE:
            return None
        tables[name] = table
    return tables


def _bytes(network: Network, modules: list[RadialNetwork | PathWeights]) -> int:
    """What the tables would take in float32."""
    rows = network.num_species**2 * Addressing(network.settings.cutoff, network.num_species).rows
    hidden = torch.zeros(1, network.settings.radial_width, dtype=torch.float64)
    return 4 * rows * sum(module.columns(hidden).shape[1] for module in modules)


class _Sampler:
    """Hidden radial features of all pairs of species, at the nodes of the tables and half-way between them."""

    def __init__(self, network: Network) -> None:
        self.network, self.pairs = network, network.num_species**2
        self.addressing = Addressing(network.settings.cutoff, network.num_species).double()
        halfway = self.addressing.centres[1:]
        self.nodes, self.halfway = self._hidden(self.addressing.nodes), self._hidden(halfway)
        self.address = self.addressing.address(*self._edges(halfway))

    def coefficients(self, columns: Tensor) -> Tensor:
        """(pairs·nodes, F) samples → (pairs·cells·6, F), the splines through them."""
        samples = columns.unflatten(0, (self.pairs, -1)).transpose(0, 1)
        return self.addressing.coefficients(samples).movedim(2, 0).flatten(0, 2)

    def _hidden(self, distances: Tensor) -> Tensor:
        length, source, target = self._edges(distances)
        return self.network.radial.hidden(self.network.geometry.radial_basis(length), source, target)

    def _edges(self, distances: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Lengths (E, 1) and species of both ends (E,): every pair at every distance, pair by pair."""
        number = torch.arange(self.pairs).repeat_interleave(len(distances))
        species = self.network.num_species
        return distances.repeat(self.pairs).unsqueeze(1), number // species, number % species
