"""Structures with noise on some of their atoms, drawn anew in every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from mlip.errors import InputError
from mlip.training.data import Batch, FrameSet, collate
from mlip.training.task_settings import DensSettings

# Above this share of moved atoms too little of the structure is left to tell where they were.
_LARGEST_SHARE = 0.75
LADDER = np.geomspace(0.01, 0.5, 50)


class Corruption:
    """x_i ← x_i + σ ε_i with ε_i ~ N(0, 1₃), for some atoms of some frames (DeNS, 2403.09549).

    The noise follows from the seed, the step and the frame's index alone: a resumed run and any number of
    processes see the same. The energy label stays that of the original structure; atoms that were moved lose their
    force label to the noise, and their structure its stress.

    Args:
        frames: The training frames.
        settings: How much noise.
        seed: Seed of the run.

    Raises:
        InputError: No frame has the forces that tell the network where the structure came from.
    """

    def __init__(self, frames: FrameSet, settings: DensSettings, seed: int) -> None:
        self.frames, self.settings, self.seed = frames, settings, seed
        if not any(_has_all_forces(sample) for sample in frames.samples):
            raise InputError("denoising needs the forces of a frame, and no frame has them", key="dens")

    def batch(self, indices: Sequence[int], step: int) -> Batch:
        """The frames of these indices, as they are in this step."""
        return collate([self.sample(index, step) for index in indices])

    def sample(self, index: int, step: int) -> Batch:
        """One frame, corrupted or as it is."""
        sample, s = self.frames.samples[index], self.settings
        rng = np.random.default_rng([self.seed, step, index])
        if rng.random() >= s.probability or not _has_all_forces(sample):
            return sample
        moved = rng.random(sample.graph.num_atoms) < s.ratio
        largest = float(torch.linalg.vector_norm(sample.forces, dim=1).max())
        if not moved.any() or moved.mean() > _LARGEST_SHARE or largest > s.max_force:
            return sample
        sigma = float(rng.choice(LADDER)) if s.ladder else s.sigma
        noise = rng.normal(size=(len(moved), 3)) * moved[:, None]
        return self._displaced(sample, index, torch.from_numpy(moved), torch.from_numpy(noise), sigma)

    def _displaced(self, sample: Batch, index: int, moved: torch.Tensor, noise: torch.Tensor, sigma: float) -> Batch:
        atoms = self.frames.frames[index].atoms.copy()
        atoms.positions += sigma * noise.numpy()
        count = int(moved.sum())
        labels = {"forces": sample.labels["forces"] - count, "stress": 0, "noise": count}
        return replace(
            sample,
            graph=self.frames.graph(atoms),
            has_forces=sample.has_forces & ~moved,
            has_stress=torch.zeros_like(sample.has_stress),
            corrupted=moved,
            noise=noise,
            labels={**sample.labels, **labels},
        )


def _has_all_forces(sample: Batch) -> bool:
    return bool(sample.has_forces.all())
