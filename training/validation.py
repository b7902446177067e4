"""Loss and errors of a model on a set of frames."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mlip.potential import Potential
from mlip.training.data import FrameSet
from mlip.training.loss import Loss
from mlip.training.metrics import ErrorSums, error_metrics
from mlip.training.step import predict


@dataclass(frozen=True)
class Validation:
    """Loss on the whole set, and ``metrics.error_metrics``."""

    loss: float
    errors: dict[str, float]


def validate(model: Potential, frames: FrameSet, loss: Loss, max_edges: int) -> Validation:
    """Evaluate a model; sums are over the whole set, so the result does not depend on the batches.

    Args:
        model: The model.
        frames: The frames.
        loss: The loss.
        max_edges: Size of the batches it is computed in.
    """
    model.eval()
    errors = ErrorSums(model.device)
    sums = torch.zeros(len(loss.terms), dtype=torch.float64, device=model.device)
    counts = torch.zeros(len(loss.terms), dtype=torch.float64)
    for pack in frames.packs(max_edges):
        batch = frames.batch(pack, model.device)
        prediction = predict(model, batch, loss.targets)
        sums += torch.stack([value.detach() for value in loss.sums(prediction, batch)])
        counts += torch.tensor(loss.counts(batch), dtype=torch.float64)
        errors.add(prediction, batch)
    total = loss.total(list(sums), counts.tolist())
    return Validation(float(total), error_metrics(errors.to_list()))
