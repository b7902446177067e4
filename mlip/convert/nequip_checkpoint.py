"""What a NequIP checkpoint holds, read without NequIP and without running any code in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from mlip.errors import InputError

_PREFIX = "model.sole_model.model.func."
_EXPORT = "run examples/export_nequip.py in NequIP's environment and convert what it writes"


@dataclass(frozen=True)
class NequIPCheckpoint:
    """Plain contents of a checkpoint.

    Attributes:
        path: The file.
        model: The arguments of NequIP's model builder.
        state: Parameters and buffers of the model by their names within it; averaged weights where there are any.
        versions: Of the packages that wrote it.
    """

    path: Path
    model: Mapping[str, Any]
    state: Mapping[str, Tensor]
    versions: Mapping[str, str]


def read_checkpoint(path: str | Path) -> NequIPCheckpoint:
    """Read a checkpoint of `nequip-train`, or what the exporter made of a package.

    Args:
        path: A ``.ckpt`` file.

    Returns:
        Plain values and tensors; nothing in the file is executed.

    Raises:
        InputError: The file is missing, is no checkpoint, or holds more than plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("no such checkpoint", file=path)
    if path.name.endswith((".nequip.zip", ".nequip.pt2", ".nequip.pth")):
        raise InputError("a NequIP package or compiled model is code, not weights", file=path, mend=_EXPORT)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        raise InputError("holds more than weights and plain values", file=path, mend=_EXPORT) from None
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise InputError(f"not a checkpoint: {error or 'empty'}", file=path) from None
    return _checked(content, path)


def _checked(content: Any, path: Path) -> NequIPCheckpoint:
    try:
        hyper, weights = content["hyper_parameters"], content["state_dict"]
        model, versions = hyper["model"], hyper["info_dict"]["versions"]
        state = {k: v for k, v in weights.items() if isinstance(v, Tensor)}
        if not isinstance(model, Mapping):
            raise TypeError("hyper-parameters")
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"not a checkpoint of nequip-train: no {error}", file=path) from None
    names = [name for name in state if name.startswith("model.")]
    foreign = [name for name in names if not name.startswith((_PREFIX, "model.sole_model.model._empty"))]
    if foreign or not names:
        raise InputError("does not hold a single NequIP model", file=path)
    own = {name.removeprefix(_PREFIX): state[name] for name in names if name.startswith(_PREFIX)}
    averaged = [
        state[f"ema.ema_weight_{k}"] for k in range(sum(name.startswith("ema.ema_weight_") for name in state))
    ]
    if averaged:
        own |= _averaged(own, averaged, bool(model.get("bessel_trainable")), model, path)
    return NequIPCheckpoint(path, model, own, dict(versions))


def _averaged(
    own: Mapping[str, Tensor], averaged: list[Tensor], roots: bool, model: Mapping[str, Any], path: Path
) -> dict[str, Tensor]:
    """Averaged weights by name: they are stored in the order of the model's parameters, without names."""
    trained = {
        "bessel_encode.bessel_weights": roots,
        "per_type_energy_scale_shift.scales": bool(model.get("per_type_energy_scales_trainable")),
        "per_type_energy_scale_shift.shifts": bool(model.get("per_type_energy_shifts_trainable")),
    }
    names = [name for name, x in own.items() if trained.get(name, name.endswith(".weight") and x.numel() > 0)]
    shapes = [tuple(own[name].shape) for name in names]
    if shapes != [tuple(x.shape) for x in averaged]:
        raise InputError("the averaged weights do not match the model's parameters", file=path)
    return dict(zip(names, averaged, strict=True))
