"""Fine-tuning: start from the weights of a trained model, also when the data bring new species."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mlip.errors import InputError
from mlip.potential import Potential
from mlip.settings import ModelSettings


@dataclass
class Transfer:
    """What was loaded: parameters taken over whole, by the rows of known species, or not at all."""

    whole: list[str] = field(default_factory=list)
    by_species: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What to print."""
        said = [
            ("loaded", self.whole),
            ("loaded for the known species", self.by_species),
            ("NOT loaded, random", self.left),
            ("in the file, not used", self.unused),
        ]
        return [f"{text}: {len(names)} ({_short(names)})" for text, names in said if names]


def _short(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])}, …"


def check_compatible(settings: ModelSettings, old: Potential) -> None:
    """Refuse to load weights that mean something else in the new network.

    Raises:
        InputError: Architecture or cutoff differ.
    """
    for key in ("architecture", "cutoff"):
        mine, theirs = getattr(settings, key), getattr(old.settings, key)
        if mine != theirs:
            raise InputError(f"{mine} differs from {theirs} in init_from", key=f"model.{key}", mend="use the same")


def transfer_weights(old: Potential, new: Potential) -> Transfer:
    """Copy every parameter that fits; where rows belong to species, those of the species both know.

    Args:
        old: The trained model.
        new: Changed in place.

    Returns:
        What was and what was not loaded.

    Raises:
        InputError: Nothing fits.
    """
    source, target = dict(old.named_parameters()), dict(new.named_parameters())
    axes = species_axes(new)
    report = Transfer(unused=[name for name in source if name not in target])
    for name, parameter in target.items():
        if name not in source:
            report.left.append(name)
        elif axes[name] and old.species != new.species:
            fits = _copy_rows(source[name], parameter, axes[name], old.species, new.species)
            (report.by_species if fits else report.left).append(name)
        elif source[name].shape == parameter.shape:
            _assign(parameter, source[name].detach())
            report.whole.append(name)
        else:
            report.left.append(name)
    if not report.whole and not report.by_species:
        raise InputError("no weight of this model fits the network", key="init_from", mend="use its settings")
    return report


def species_axes(model: Potential) -> dict[str, tuple[int, ...]]:
    """Which axes of each parameter count species: those that grow when the model knows one element more."""
    extra = next(symbol for symbol in ("He", "Ne") if symbol not in model.species)
    larger = Potential(model.settings, [*model.species, extra])
    grown = dict(larger.named_parameters())
    return {
        name: tuple(k for k, (a, b) in enumerate(zip(p.shape, grown[name].shape, strict=True)) if a != b)
        for name, p in model.named_parameters()
    }


def _copy_rows(
    source: Tensor, target: Tensor, axes: tuple[int, ...], old: tuple[str, ...], new: tuple[str, ...]
) -> bool:
    shared = [symbol for symbol in new if symbol in old]
    expected = [len(old) if k in axes else size for k, size in enumerate(target.shape)]
    counts_species = all(target.shape[k] == len(new) for k in axes)
    if not shared or list(source.shape) != expected or not counts_species:
        return False
    there = [[new.index(s) for s in shared] if k in axes else range(n) for k, n in enumerate(target.shape)]
    here = [[old.index(s) for s in shared] if k in axes else range(n) for k, n in enumerate(source.shape)]
    values = target.detach().cpu().numpy().copy()
    values[np.ix_(*there)] = source.detach().cpu().numpy()[np.ix_(*here)]
    _assign(target, torch.from_numpy(values))
    return True


def _assign(parameter: Tensor, values: Tensor) -> None:
    with torch.no_grad():
        parameter.copy_(values.to(device=parameter.device, dtype=parameter.dtype))
