"""The size of the first forces: neither so small that training idles, nor so large that it must first unlearn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mlip.derivatives import evaluate
from mlip.potential import Normalization, Potential
from mlip.settings import ModelSettings
from mlip.training.data import FrameSet
from mlip.training.normalization import rms_force

# Initial rms force over that of the labels.
_LOWEST = 0.03
_LARGEST_SCALE = 8.0
_FRAMES = 16


def initial_ratio(model: Potential, frames: FrameSet) -> float | None:
    """Rms of the predicted forces over that of the labels on a few frames; None without force labels."""
    stride = max(1, len(frames) // _FRAMES)
    chosen = list(range(0, len(frames), stride))[:_FRAMES]
    wanted = rms_force([frames.frames[i] for i in chosen])
    if wanted is None or wanted < 1e-6:
        return None
    graph = frames.batch(chosen, model.device).graph.to(dtype=model.dtype)
    return float(evaluate(model, graph).forces.square().mean().sqrt()) / wanted


def with_message_scale(
    settings: ModelSettings, species: Sequence[str], normalization: Normalization, frames: FrameSet
) -> Normalization:
    """Double the size of messages until random weights give forces that are a few per cent of the labels.

    In molecules the default does. In crystals near equilibrium all neighbours look alike and what they send
    cancels, so that the first forces would be a hundred times smaller, and the nonlinearities idle.

    Args:
        settings: What the network is.
        species: Chemical symbols in the order of the potential.
        normalization: The other statistics.
        frames: Training frames.

    Returns:
        The statistics with the message scale found.
    """
    while normalization.message_scale < _LARGEST_SCALE:
        ratio = initial_ratio(Potential.from_config(settings, species, normalization), frames)
        if ratio is None or ratio >= _LOWEST:
            break
        normalization = replace(normalization, message_scale=2 * normalization.message_scale)
    return normalization
