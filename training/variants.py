"""Choosing among equivalent distortions: displacements from a parent and a symmetry-breaking tensor (2402.02681).

An equivariant network cannot take a cubic crystal to one of its six tetragonal states, which are all equally good:
its prediction is their average, nothing. Handed a tensor b_k of the set that tells the states apart, it can; and what
it learns of one state it knows of all, as f(g x, g b) = g f(x, b).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor, nn

from mlip.errors import InputError
from mlip.graph import AtomicGraph
from mlip.potential import Potential
from mlip.symmetry.crystal import primitive_of
from mlip.symmetry.supercell import lattice_points
from mlip.symmetry.variants import DomainVariants, domain_variants

Array = NDArray[np.float64]
_CONFIG = {"cutoff": 4.5, "num_layers": 2, "num_channels": 16, "lmax": 2, "radial_width": 16}


class DisplacementModel(nn.Module):
    """(structure, b) → a displacement of each atom, Å, without a uniform shift.

    Args:
        potential: A network with ``anisotropy: {source: variants}``; its energies are not looked at.
        seed: Of the readout's initial weights.
    """

    def __init__(self, potential: Potential, seed: int = 1) -> None:
        super().__init__()
        self.potential = potential
        readout = potential.network.vector_readout(torch.Generator().manual_seed(seed))
        self.readout = readout.to(potential.dtype)

    def forward(self, graph: AtomicGraph) -> Tensor:
        """(N, 3) Å for one structure."""
        output = self.potential.features(graph.edge_vectors(), graph)
        moves: Tensor = self.readout(output.features, output.edges)[: graph.num_atoms]
        return moves - moves.mean(0)

    def displacements(self, atoms: Atoms, tensor: Array) -> Array:
        """(N, 3) Å of a structure that is handed a tensor, (2l+1,) in e3nn's order."""
        with torch.no_grad():
            return np.asarray(self(self.graph(atoms, tensor)).numpy(), dtype=np.float64)

    def graph(self, atoms: Atoms, tensor: Array) -> AtomicGraph:
        """The graph of a structure and its tensor."""
        b = torch.as_tensor(np.asarray(tensor), dtype=self.potential.dtype)
        return replace(self.potential.graph(atoms), breaking_tensors=b.reshape(1, -1))


@dataclass(frozen=True)
class VariantTraining:
    """A network that has seen one child, and what it makes of the others.

    Attributes:
        model: The network.
        variants: Orientations, operations and tensors.
        parent: The undistorted crystal in the child's cell, sites in the order of the displacements.
        losses: Mean square error of each step, Å².
        undistorted: Mean square of the child's displacements, Å²: the loss of a network that cannot choose.
    """

    model: DisplacementModel
    variants: DomainVariants
    parent: Atoms
    losses: Array
    undistorted: float

    def structures(self) -> list[Atoms]:
        """The parent displaced to each orientation variant in turn; without the spontaneous strain."""
        found = []
        for tensor in self.variants.tensors:
            image = self.parent.copy()
            image.positions += self.model.displacements(self.parent, tensor)
            found.append(image)
        return found


def train_variants(
    parent: Atoms,
    child: Atoms,
    *,
    config: Mapping[str, Any] | None = None,
    steps: int = 200,
    learning_rate: float = 0.01,
    seed: int = 1,
    breaking: bool = True,
    symprec: float = 1e-3,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> VariantTraining:
    """Learn one known child of a parent, and with it every equivalent one.

    Args:
        parent: The crystal of higher symmetry.
        child: A distortion of it, in any cell and orientation.
        config: Settings of the network; ``anisotropy`` follows from the two structures.
        steps: Of Adam.
        learning_rate: Of Adam.
        seed: Of the weights.
        breaking: Hand the tensor over; without it the loss stays at ``undistorted``, by symmetry.
        symprec: Å, for both space groups.
        progress: Wraps the steps, for a progress bar.

    Raises:
        InputError: No single tensor tells the orientations apart, or variants differ by a translation, which no
            tensor of the whole crystal can choose.
    """
    variants = domain_variants(parent, child, symprec=symprec)
    if len(variants.translations) > 1:
        raise InputError(
            "the variants differ by lattice translations, which no tensor of the whole crystal can choose"
        )
    if variants.tensor is None:
        raise InputError("no single tensor tells these orientation variants apart")
    sites = _sites(parent, variants, symprec)
    port = {"source": "variants", "irreps": [variants.tensor.name]}
    settings = {**_CONFIG, "seed": seed, **(config or {}), "anisotropy": port}
    potential = Potential.from_config(settings, sorted(set(sites.get_chemical_symbols()))).double()
    model = DisplacementModel(potential, seed)
    target = torch.as_tensor(variants.match.displacements - variants.match.displacements.mean(0))
    graph = model.graph(sites, variants.tensors[0] * breaking)
    losses = _fit(model, graph, target, steps, learning_rate, progress)
    return VariantTraining(model, variants, sites, losses, float(target.square().mean()))


def _fit(
    model: DisplacementModel,
    graph: AtomicGraph,
    target: Tensor,
    steps: int,
    rate: float,
    progress: Callable[[Iterable[int]], Iterable[int]],
) -> Array:
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses = []
    for _ in progress(range(steps)):
        optimizer.zero_grad()
        loss = (model(graph) - target).square().mean()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return np.array(losses)


def _sites(parent: Atoms, variants: DomainVariants, symprec: float) -> Atoms:
    """The parent in the cell that the displacements are given in."""
    base, matrix = primitive_of(parent, symprec), variants.match.matrix
    shifts = lattice_points(matrix) @ base.cell.array
    positions = (base.positions[None] + shifts[:, None]).reshape(-1, 3)
    symbols = base.get_chemical_symbols() * len(shifts)
    return Atoms(symbols, positions=positions, cell=matrix @ base.cell.array, pbc=True)
