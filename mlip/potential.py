"""The potential: a network, its reference energies, and the description it carries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.data import atomic_numbers
from torch import Tensor, nn

from mlip.errors import InputError
from mlip.exchange import Exchange
from mlip.graph import AtomicGraph, build_graph
from mlip.nn.anisotropy import Breaking
from mlip.nn.breaking import breaking_tensors, given_tensors
from mlip.nn.closest_approach import ClosestApproach
from mlip.nn.equiformer import Equiformer
from mlip.nn.features import Features
from mlip.nn.nequip import NequIP
from mlip.nn.network import Network, NetworkOutput
from mlip.nn.uvu_network import UVUNequIP
from mlip.nn.zbl import ZBL
from mlip.surroundings import MEND_FRAME, NO_FRAME
from mlip.turning import exchange_within
from mlip.uvu_settings import AnySettings, any_settings

ARCHITECTURES: dict[str, Any] = {"nequip": NequIP, "equiformer": Equiformer, "nequip_uvu": UVUNequIP}
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Normalization:
    """What the data say about the sizes of things.

    Attributes:
        avg_num_neighbors: Mean neighbours of an atom within the cutoff.
        energy_scale: Unit of the network's energies, eV: rms force × 1 Å.
        energy_shift: Mean energy of an atom above E0, eV; fades out for an atom without neighbours.
        message_scale: Size of the sum of messages before anything is learnt: 0.25 suits molecules, where sums
            over alike neighbours are coherent; crystals, where they cancel, want more.
        e0: Energy of each isolated atom, eV; zero where not given.
        min_distance: Smallest distance by pair of species, Å, ``{"O-Si": 1.6}``: with ``zbl``, the network sees none
            much shorter. Empty, as in files from before it was kept: it sees them all.
    """

    avg_num_neighbors: float = 16.0
    energy_scale: float = 1.0
    energy_shift: float = 0.0
    message_scale: float = 0.25
    e0: Mapping[str, float] = field(default_factory=dict)
    min_distance: Mapping[str, float] = field(default_factory=dict)


class Reference(nn.Module):
    """Reference energies, scale and shift, in float64 whatever the precision of the network."""

    e0: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, species: Sequence[str], normalization: Normalization) -> None:
        super().__init__()
        e0 = [float(normalization.e0.get(symbol, 0.0)) for symbol in species]
        self.register_buffer("e0", torch.tensor(e0, dtype=torch.float64))
        self.register_buffer("scale", torch.tensor(float(normalization.energy_scale), dtype=torch.float64))
        self.register_buffer("shift", torch.tensor(float(normalization.energy_shift), dtype=torch.float64))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        kept = {name: buffer for name, buffer in self._buffers.items() if buffer is not None}
        super()._apply(fn, recurse)
        for name, buffer in kept.items():
            moved = self._buffers[name]
            if moved is not None:
                self._buffers[name] = buffer.to(device=moved.device)
        return self

    def forward(self, energies: Tensor, density: Tensor, species: Tensor) -> Tensor:
        """Network units → eV, (N,) float64: E0 + scale·e + shift·(1 − exp(−Σ envelope))."""
        bulk = self.shift * -torch.expm1(-density.to(torch.float64))
        return self.e0.index_select(0, species) + self.scale * energies.to(torch.float64) + bulk


class Potential(nn.Module):
    """Structure → energy, exactly O(3)-equivariant; everything else follows by differentiation.

    Build one with :meth:`from_config` or :meth:`load`.

    Attributes:
        settings: What the network is.
        species: Chemical symbols it knows, in its order.
        normalization: What the data say about the sizes of things.
        metadata: Free description that the model file carries: theory, training data, ranges, metrics …
    """

    def __init__(
        self, settings: AnySettings, species: Sequence[str], normalization: Normalization | None = None
    ) -> None:
        super().__init__()
        self.settings = settings
        self.species = _checked_species(species)
        self.normalization = normalization or Normalization()
        self.metadata: dict[str, Any] = _untrained(settings, self.normalization)
        rng = torch.Generator().manual_seed(settings.seed)
        self.network: Network | UVUNequIP = ARCHITECTURES[settings.architecture](
            settings,
            len(self.species),
            avg_num_neighbors=self.normalization.avg_num_neighbors,
            message_scale=self.normalization.message_scale,
            rng=rng,
        )
        self.reference = Reference(self.species, self.normalization)
        self.zbl = ZBL(self.species) if settings.zbl else None
        shortest = self.normalization.min_distance if settings.zbl else {}
        self.closest_approach = ClosestApproach(self.species, shortest) if shortest else None
        self.eval()  # dropout is for those who ask for it by train()

    @classmethod
    def from_config(
        cls,
        config: AnySettings | Mapping[str, Any],
        species: Sequence[str],
        normalization: Normalization | None = None,
    ) -> Potential:
        """A potential with random weights, in float32.

        Args:
            config: Settings, or a mapping with any of their keys.
            species: Chemical symbols it shall know.
            normalization: Statistics of the training data.

        Raises:
            InputError: An unknown setting or element.
        """
        return cls(any_settings(config), species, normalization).to(torch.float32)

    @classmethod
    def load(
        cls, path: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype | str | None = None
    ) -> Potential:
        """Read a model file; no code in it can run.

        Args:
            path: A file that :meth:`save` wrote.
            device: Where the potential shall live.
            dtype: ``"float32"``, ``"float64"``, or None: as stored.

        Raises:
            InputError: The file is missing, damaged, or not a model of this package.
        """
        from mlip.model_file import read_model

        potential = read_model(path).to(device)
        return potential if dtype is None else potential.to(resolve_dtype(dtype))

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, atomically: weights, and a JSON header that describes them."""
        from mlip.model_file import write_model

        write_model(self, path)

    @property
    def cutoff(self) -> float:
        """Radius of the neighbourhood, Å."""
        return self.settings.cutoff

    @property
    def receptive_field(self) -> float:
        """Farthest atom that can act on an atom's energy, Å."""
        return self.settings.cutoff * self.network.hops

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return next(self.network.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return next(self.network.parameters()).device

    def graph(self, atoms: Atoms) -> AtomicGraph:
        """The graph of a structure, in the potential's precision and on its device.

        Raises:
            InputError: An element it does not know, an impossible geometry, or no frame where it needs one.
        """
        graph = build_graph(atoms, self.cutoff, self.species, dtype=self.dtype, device=self.device)
        if self.settings.needs_frame and graph.frames is None:
            raise InputError(NO_FRAME, mend=MEND_FRAME)
        return graph

    def forward(self, edge_vectors: Tensor, graph: AtomicGraph, exchange: Exchange | None = None) -> Tensor:
        """Energies of the atoms, as a function of the edge vectors.

        Args:
            edge_vectors: (E, 3), Å; the leaves of every derivative.
            graph: Species and connectivity; its positions are not looked at.
            exchange: How features travel; within the graph unless given. Must leave room for the lone atoms.

        Returns:
            (N,) eV, float64.
        """
        return self.energies(self.features(edge_vectors, graph, exchange), edge_vectors, graph)

    def features(
        self,
        edge_vectors: Tensor,
        graph: AtomicGraph,
        exchange: Exchange | None = None,
        node_input: Features | None = None,
    ) -> NetworkOutput:
        """What the network says of all nodes: the atoms, and after them a lone atom of each species.

        Args:
            edge_vectors: (E, 3), Å.
            graph: Species and connectivity; its positions are not looked at.
            exchange: How features travel; within the graph unless given. Must leave room for the lone atoms.
            node_input: Features of all nodes, lone atoms included, to be added to the network's own.
        """
        lone = torch.arange(self.num_lone_atoms(graph), device=graph.species.device)
        nodes = torch.cat([graph.species, lone % len(self.species)])
        structure = torch.cat([graph.structure, lone + graph.num_structures])
        exchange = exchange or exchange_within(graph.source, graph.target, nodes.shape[0], edge_vectors)
        breaking = self._breaking(graph)
        if self.closest_approach is not None:
            edge_vectors = self.closest_approach(edge_vectors, *_ends(graph))
        output: NetworkOutput = self.network(edge_vectors, nodes, exchange, structure, node_input, breaking)
        return output

    def num_lone_atoms(self, graph: AtomicGraph) -> int:
        """How many lone atoms ride along: one of each species, and with b given one set for each structure.

        Such an atom must feel the b of the structure whose energy it is subtracted from. Where b is one constant,
        turned, the energy of a lone atom is the same in every structure.
        """
        anisotropy = self.settings.anisotropy
        given = None if anisotropy is None else given_tensors(anisotropy.source, graph)
        return len(self.species) * (1 if given is None else graph.num_structures)

    def theta_sizes(self) -> Tensor | None:
        """(irreps,), |θ_l| of relaxed weights, which a training holds down; None where there are none."""
        port = self.network.port
        return None if port is None or port.theta is None else port.sizes()

    def _breaking(self, graph: AtomicGraph) -> Breaking | None:
        """What breaks the symmetry at all nodes, lone atoms included."""
        port, anisotropy = self.network.port, self.settings.anisotropy
        if port is None or anisotropy is None:
            return None
        tensors = breaking_tensors(port, anisotropy.source, graph)
        if tensors is None or len(tensors) == 1:
            return None if tensors is None else Breaking(tensors)
        lone = torch.arange(self.num_lone_atoms(graph), device=graph.structure.device) // len(self.species)
        return Breaking(tensors, torch.cat([graph.structure, lone]))

    def energies(self, output: NetworkOutput, edge_vectors: Tensor, graph: AtomicGraph) -> Tensor:
        """The network's output → energies of the atoms, (N,) eV, float64.

        The energy of a lone atom is E0 exactly, in any field: each species' lone atom rides along in the forward,
        and its network energy is subtracted.
        """
        lone = output.energies.shape[0] - graph.num_atoms
        energies, lone_energies = output.energies.split([graph.num_atoms, lone])
        density = output.density.split([graph.num_atoms, lone])[0]
        own = graph.species if lone == len(self.species) else graph.species + graph.structure * len(self.species)
        energies = energies - lone_energies.index_select(0, own)
        # the same row may differ in its last bit elsewhere in a matrix product: without neighbours it is zero
        energies = torch.where(density > 0, energies, torch.zeros_like(energies))
        total = self.reference(energies, density, graph.species)
        return total if self.zbl is None else total + self._repulsion(self.zbl, edge_vectors, graph)

    def direct_forces(self, output: NetworkOutput, graph: AtomicGraph) -> Tensor | None:
        """The network's output → direct forces, (N, 3) eV/Å; None where forces are gradients."""
        if output.forces is None:
            return None
        forces = output.forces.split([graph.num_atoms, output.forces.shape[0] - graph.num_atoms])[0]
        return forces * self.reference.scale.to(forces.dtype)

    def _repulsion(self, zbl: ZBL, edge_vectors: Tensor, graph: AtomicGraph) -> Tensor:
        pairs = zbl(edge_vectors, *_ends(graph), self.closest_approach).to(torch.float64)
        return pairs.new_zeros(graph.num_atoms).index_add(0, graph.target, pairs)

    def evaluate(
        self,
        structures: Iterable[Atoms],
        properties: Sequence[str] = ("energy", "forces"),
        max_edges: int = 50_000,
    ) -> list[dict[str, Any]]:
        """Properties of many structures, computed in batches.

        Args:
            structures: The structures.
            properties: Any of ``energy`` (eV), ``energies`` (N,) (eV), ``forces`` (N, 3) (eV/Å), ``stress``
                (3, 3) (eV/Å³, ASE's sign; periodic structures only); of models that feel a field also
                ``polarization`` (3,) (e Å, of the molecule or cell), ``born_charges`` (N, 3, 3) (e),
                ``polarizability`` (3, 3) (e Å²/V), see `mlip.response`.
            max_edges: A batch is closed before it exceeds this number of edges.

        Returns:
            One dictionary of floats and float64 arrays per structure, in order.

        Raises:
            InputError: An unknown property, element or impossible geometry; a model that feels no field.
        """
        from mlip.evaluation import evaluate_structures

        return evaluate_structures(self, structures, properties, max_edges)

    def description(self) -> dict[str, Any]:
        """What a model file's header holds: settings, species, normalisation, units, and ``metadata``."""
        return {
            "settings": self.settings.model_dump(mode="json"),
            "species": list(self.species),
            "normalization": asdict(self.normalization),
            "dtype": str(self.dtype).removeprefix("torch."),
            "units": {"energy": "eV", "length": "Ang"},
            "metadata": self.metadata,
        }


def _ends(graph: AtomicGraph) -> tuple[Tensor, Tensor]:
    """Species of the sources and of the targets, (E,) each."""
    return graph.species.index_select(0, graph.source), graph.species.index_select(0, graph.target)


def _untrained(settings: AnySettings, normalization: Normalization) -> dict[str, Any]:
    """What a model says of itself before training says more."""
    return {
        "config": {"model": settings.model_dump(mode="json")},
        "units": {"energy": "eV", "length": "Å", "forces": "eV/Å", "stress": "eV/Å³"},
        "theory": None,
        "e0": dict(normalization.e0),
        "e0_origin": "as given" if normalization.e0 else "none: zero",
    }


def resolve_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """``"float32"`` or ``"float64"`` as a torch dtype.

    Raises:
        InputError: Anything else.
    """
    if isinstance(dtype, torch.dtype) and dtype in DTYPES.values():
        return dtype
    if isinstance(dtype, str) and dtype in DTYPES:
        return DTYPES[dtype]
    raise InputError(f"unknown dtype {dtype!r}", mend="float32 or float64")


def _checked_species(species: Sequence[str]) -> tuple[str, ...]:
    if isinstance(species, str) or not species:
        raise InputError("species must be a list of chemical symbols", mend='species=["Si"]')
    unknown = [symbol for symbol in species if symbol not in atomic_numbers or symbol == "X"]
    if unknown:
        raise InputError(f"not a chemical symbol: {', '.join(map(str, unknown))}")
    if len(set(species)) != len(species):
        raise InputError("a species is listed twice")
    return tuple(species)
