"""Denoising as an auxiliary task (DeNS, 2403.09549): a network told the forces predicts where atoms were moved from.

Its two modules live beside the potential, not in it: the model file, and every bit of what a model says, are those
of one that was trained without.
"""

from __future__ import annotations

import math

import torch
from e3nn import o3
from torch import Tensor, nn

from mlip.derivatives import evaluate
from mlip.nn.features import Features
from mlip.nn.layout import degree_of_rows
from mlip.nn.linear import normal
from mlip.potential import Potential
from mlip.training.data import Batch
from mlip.training.loss import Prediction


class ForceEmbedding(nn.Module):
    """F ↦ W_l Y_l(F̂) |F|/√3: natural features of all degrees, zero for a force of zero.

    Y has e3nn's 'component' normalisation, F is in units of the training forces' rms.

    Args:
        lmax: Highest degree.
        scalars: Channels of scalars.
        tensors: Channels of tensors.
        rng: Source of the initial weights.
    """

    degrees: Tensor

    def __init__(self, lmax: int, scalars: int, tensors: int, rng: torch.Generator) -> None:
        super().__init__()
        self.lmax = lmax
        self.scalars, self.tensors = normal(rng, scalars), normal(rng, lmax, tensors)
        self.register_buffer("degrees", degree_of_rows(lmax), persistent=False)

    def forward(self, forces: Tensor) -> Features:
        """(N, 3) → features of the nodes."""
        size = torch.linalg.vector_norm(forces, dim=1, keepdim=True) * (1 / math.sqrt(3))
        harmonics = o3.spherical_harmonics(
            list(range(1, self.lmax + 1)), forces, normalize=True, normalization="component"
        )
        tensors = (harmonics * size).unsqueeze(2) * self.tensors.index_select(0, self.degrees)
        return Features(size * self.scalars, tensors)


class DenoisingTask(nn.Module):
    """The force embedding, and the head that reads the noise off the network's last features.

    Args:
        model: The potential that is trained.
        seed: Seed of the initial weights.
    """

    def __init__(self, model: Potential, seed: int) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.embedding = ForceEmbedding(model.settings.lmax, *model.settings.num_channels, rng)
        self.head = model.network.vector_readout(rng)
        # forces of the usual size enter with the size of the messages that they join
        self.unit = model.normalization.energy_scale / model.normalization.message_scale

    def node_input(self, batch: Batch, lone: int) -> Features:
        """The forces of the original structure, on atoms that were moved alone; the ``lone`` atoms have none."""
        known = torch.where(batch.corrupted.unsqueeze(1), batch.forces, torch.zeros_like(batch.forces))
        known = torch.cat([known, known.new_zeros(lone, 3)]) * (1 / self.unit)
        return self.embedding(known.to(self.embedding.scalars.dtype))

    def predict(self, model: Potential, batch: Batch, *, stress: bool) -> Prediction:
        """Energy, forces and, where asked for, stress of a batch with moved atoms, and the noise."""
        lone = model.num_lone_atoms(batch.graph)
        known = self.node_input(batch, lone)
        out = evaluate(model, batch.graph, stress=stress, create_graph=True, node_input=known)
        if out.output is None:
            raise RuntimeError("the evaluation kept no features")
        noise = self.head(out.output.features, out.output.edges)
        moved = noise.split([len(batch.noise), lone])[0]
        return Prediction(out.energy, out.forces, out.stress, moved, model.theta_sizes())
