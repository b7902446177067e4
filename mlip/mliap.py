"""LAMMPS's ML-IAP unified interface: many processes, each with the atoms of its domain.

write_mliap("silicon.mlip", "silicon.mliap.pt")
# in LAMMPS, built with ML-IAP and its Python support:
# pair_style mliap unified silicon.mliap.pt 0
# pair_coeff * * Si
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlip.derivatives import first_derivative
from mlip.errors import InputError
from mlip.files import atomic_path
from mlip.ghosts import GhostExchange
from mlip.graph import AtomicGraph
from mlip.potential import Potential


class MLIAPPotential:
    """What LAMMPS calls: energies of its own atoms and forces of its pairs, eV and eV/Å.

    Attributes:
        element_types: Chemical symbols, in the order of LAMMPS's element indices.
        rcutfac: Half the cutoff: LAMMPS doubles it.
        ndescriptors: 1, of no meaning here.
        nparams: 1, of no meaning here.

    Args:
        model: A model file, or a potential.
        dtype: ``"float32"``, ``"float64"``, or None: as stored.

    Raises:
        InputError: The model cannot be read, or its forces are a second readout.
    """

    def __init__(self, model: str | Path | Potential, dtype: str | None = None) -> None:
        potential = model if isinstance(model, Potential) else Potential.load(model, dtype=dtype)
        if potential.settings.forces == "direct":
            raise InputError("direct forces are no pair forces", key="model.forces", mend="train forces: gradient")
        self.potential = potential.eval().requires_grad_(False)
        self.element_types = list(potential.species)
        self.rcutfac = potential.cutoff / 2
        self.ndescriptors = self.nparams = 1
        self.interface: Any = None

    def compute_forces(self, data: Any) -> None:
        """Energies of LAMMPS's own atoms, and ∂E/∂r_ij of its pairs; called by LAMMPS at every step."""
        graph = self._graph(data)
        edges = torch.as_tensor(data.rij).to(graph.positions).reshape(-1, 3).requires_grad_(True)
        nodes = data.ntotal + len(self.element_types)
        exchange = GhostExchange(graph.source, graph.target, nodes, data)
        with torch.enable_grad():
            energies = self.potential(edges, graph, exchange)[: data.nlocal]
            pair_forces = first_derivative(energies, edges, False)
        torch.as_tensor(data.eatoms).copy_(energies.detach())
        data.energy = float(energies.detach().sum())
        kokkos = "kokkos" in type(data).__module__.lower()
        update = data.update_pair_forces_gpu if kokkos else data.update_pair_forces
        update(pair_forces.double() if kokkos else pair_forces.double().cpu().numpy())

    def compute_descriptors(self, data: Any) -> None:
        """Nothing: energies and forces come together."""

    def compute_gradients(self, data: Any) -> None:
        """Nothing: energies and forces come together."""

    def _graph(self, data: Any) -> AtomicGraph:
        """Own atoms and ghosts; a pair (i, j), r_ij = x_j − x_i, is an edge from j to i. Positions do not matter."""
        device, dtype = self.potential.device, self.potential.dtype

        def index(values: Any) -> Tensor:
            return torch.as_tensor(values).to(device=device, dtype=torch.int64).flatten()

        source, target = index(data.pair_j), index(data.pair_i)
        return AtomicGraph(
            positions=torch.zeros(data.ntotal, 3, dtype=dtype, device=device),
            species=index(data.elems),
            source=source,
            target=target,
            shifts=torch.zeros(len(source), 3, dtype=dtype, device=device),
            cells=torch.zeros(1, 3, 3, dtype=dtype, device=device),
            structure=torch.zeros(data.ntotal, dtype=torch.int64, device=device),
        )


def write_mliap(model: str | Path, path: str | Path, dtype: str | None = None) -> None:
    """Write the file that ``pair_style mliap unified`` loads; LAMMPS unpickles it, so give away the model instead.

    Args:
        model: A model file.
        path: The file to write.
        dtype: ``"float32"``, ``"float64"``, or None: as stored.
    """
    with atomic_path(path) as temporary:
        torch.save(MLIAPPotential(model, dtype), temporary)
