"""Relaxed weights that are let go of again.

With ``anneal`` the constant θ helps the network over barriers of an exactly symmetric landscape and is gone at the
end: what is validated, chosen and saved at any time is the strict part of the model, without a port.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from mlip.errors import MLIPError
from mlip.potential import Potential
from mlip.settings import ModelSettings
from mlip.training.state import TrainingState

END = 0.7  # of the run: afterwards the weights settle in the strict model


@dataclass(frozen=True)
class Annealing:
    """θ fades as ½(1 + cos πt/t₁), reaches zero at t₁ = 0.7 of the run, and is zero from then on."""

    @classmethod
    def of(cls, settings: ModelSettings) -> Annealing | None:
        """The annealing of the settings, or None."""
        return cls() if settings.anisotropy is not None and settings.anisotropy.anneal else None

    @staticmethod
    def strength(progress: float) -> float:
        """Factor on θ when this share of the run is over."""
        return 0.5 * (1 + math.cos(math.pi * progress / END)) if progress < END else 0.0

    def __call__(self, state: TrainingState, progress: float) -> None:
        """Set the strength before a step; once it is zero, θ itself is."""
        strength = self.strength(progress)
        for model in (state.model, state.averaged_model):
            port = model.network.port
            if port is None or port.theta is None:
                raise RuntimeError("there is no θ to anneal")
            port.strength = strength
            if strength == 0.0:
                port.theta.requires_grad_(False)
                port.theta.zero_()

    def require_strict(self, model: Potential, path: Path) -> None:
        """See that nothing is left of the relaxation.

        Raises:
            MLIPError: θ of the trained model is not zero, or the best model has a port.
        """
        port = model.network.port
        left = 0.0 if port is None or port.theta is None else float(port.theta.abs().max())
        if left != 0.0:
            raise MLIPError(
                f"annealing left |θ| = {left:.3g}: the run ended before θ was let go of; give it more time"
            )
        if path.is_file() and Potential.load(path).network.port is not None:
            raise MLIPError(f"{path}: the annealed model still has relaxed weights")


def strict_part(model: Potential) -> Potential:
    """The model at θ = 0, as one that never had a port: a copy with the same weights.

    Of a model with fields or variants: what it is without them.
    """
    settings = model.settings.model_copy(update={"anisotropy": None})
    copy = Potential(settings, model.species, model.normalization).to(device=model.device, dtype=model.dtype)
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith("network.port.")}
    copy.load_state_dict(weights)
    copy.metadata = dict(model.metadata)
    return copy.eval()
