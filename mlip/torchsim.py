"""A potential as a model of torch-sim (torch-sim-atomistic ≥ 0.3), which is not installed with this package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch_sim
from ase import Atoms
from torch import Tensor
from torch_sim.models.interface import ModelInterface

from mlip.derivatives import evaluate
from mlip.graph import AtomicGraph, batch_graphs
from mlip.potential import Potential, resolve_dtype


class TorchSimModel(ModelInterface):
    """Energies, forces and stresses of many systems at once, as torch-sim wants them.

    Args:
        model: A model file, or a potential, which is moved.
        device: Where to compute.
        dtype: ``"float32"``, ``"float64"``, or None: as stored. States must have the same.
        compute_stress: Whether to compute stresses, eV/Å³, in ASE's sign.

    Raises:
        InputError: The model cannot be read.
    """

    def __init__(
        self,
        model: str | Path | Potential,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype | None = None,
        *,
        compute_stress: bool = True,
    ) -> None:
        super().__init__()
        potential = model if isinstance(model, Potential) else Potential.load(model, device, dtype)
        potential = potential.to(device) if dtype is None else potential.to(device, resolve_dtype(dtype))
        self.potential = potential.eval().requires_grad_(False)
        self._device, self._dtype = torch.device(device), potential.dtype
        self._compute_stress, self._compute_forces = compute_stress, True
        self._memory_scales_with = "n_atoms_x_density"

    @property
    def compute_stress(self) -> bool:
        """Whether stresses are computed."""
        return self._compute_stress

    @compute_stress.setter
    def compute_stress(self, value: bool) -> None:
        self._compute_stress = value

    @property
    def compute_forces(self) -> bool:
        """Forces are always computed."""
        return True

    @compute_forces.setter
    def compute_forces(self, value: bool) -> None:
        self._compute_forces = value

    def forward(self, state: Any, **kwargs: Any) -> dict[str, Tensor]:  # noqa: ARG002
        """Properties of all systems.

        Args:
            state: A ``SimState``, or a mapping with its fields.
            kwargs: Nothing; for torch-sim's sake.

        Returns:
            ``energy`` (B,) eV, ``forces`` (N, 3) eV/Å and, if asked for, ``stress`` (B, 3, 3) eV/Å³.

        Raises:
            InputError: An element the potential does not know, or an impossible geometry.
        """
        state = torch_sim.SimState(**state) if isinstance(state, dict) else state
        result = evaluate(self.potential, self._graph(state), stress=self._compute_stress)
        found = {"energy": result.energy.to(self._dtype), "forces": result.forces}
        return found if result.stress is None else found | {"stress": result.stress}

    def _graph(self, state: Any) -> AtomicGraph:
        """Neighbours of each system; torch-sim's cells hold lattice vectors as columns."""
        system = state.system_idx.cpu().numpy()
        positions, numbers = state.positions.detach().cpu().numpy(), state.atomic_numbers.cpu().numpy()
        cells = state.cell.detach().transpose(1, 2).cpu().numpy()
        pbc = state.pbc.tolist() if isinstance(state.pbc, Tensor) else state.pbc
        chosen = [system == k for k in range(len(cells))]
        systems = [Atoms(numbers[c], positions[c], cell=cells[k], pbc=pbc) for k, c in enumerate(chosen)]
        return batch_graphs([self.potential.graph(atoms) for atoms in systems])
