"""Model files: safetensors, with a JSON header; reading one can run no code."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from mlip.errors import InputError
from mlip.files import write_bytes
from mlip.uvu_settings import AnySettings, any_settings

if TYPE_CHECKING:
    from mlip.potential import Normalization, Potential

FORMAT, SCHEMA = "curie-mlip", "1"


def write_model(potential: Potential, path: str | Path) -> None:
    """Write weights and description, atomically."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in potential.state_dict().items()}
    header = json.dumps(potential.description(), allow_nan=False)
    write_bytes(path, to_bytes(tensors, {"format": FORMAT, "schema": SCHEMA, "header": header}))


def read_model(path: str | Path) -> Potential:
    """Rebuild a potential from its file, on the CPU, in the precision it was stored in.

    Raises:
        InputError: The file is missing, damaged, from a newer version, or not a model of this package.
    """
    tensors, header = _read_file(Path(path))
    potential = _build(header, tensors, path)
    _check_weights(tensors, potential, path)
    try:
        potential.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"weights do not fit the settings: {str(error).splitlines()[-1]}", file=path) from None
    return potential


def _read_file(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    if not path.is_file():
        raise InputError("no such model file", file=path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"not a readable model file: {error}", file=path) from None
    if metadata.get("format") != FORMAT:
        raise InputError("a safetensors file, but not a model of this package", file=path)
    if metadata.get("schema") != SCHEMA:
        raise InputError(f"schema {metadata.get('schema')} is unknown", file=path, mend="update curie-mlip")
    try:
        header = json.loads(metadata.get("header", ""))
    except (json.JSONDecodeError, RecursionError):
        raise InputError("the header is not valid JSON", file=path) from None
    return tensors, header


def _build(header: Any, tensors: dict[str, torch.Tensor], path: str | Path) -> Potential:
    from mlip.potential import Normalization, Potential, resolve_dtype

    try:
        settings = any_settings(header["settings"])
        _refuse_giant(settings, tensors)
        normalization = Normalization(**header["normalization"])
        _refuse_impossible(normalization)
        potential = Potential(settings, header["species"], normalization).to(resolve_dtype(header["dtype"]))
        potential.metadata = dict(header["metadata"])
    except InputError as error:
        raise InputError(error.problem, file=path, key=error.key) from None
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise InputError(f"incomplete header: {error}", file=path) from None
    return potential


def _refuse_giant(settings: AnySettings, tensors: dict[str, torch.Tensor]) -> None:
    """Before a network is built: a few bytes in a header could ask for more memory than there is.

    Every layer mixes the channels of scalars, and of tensors, by at least one square matrix.
    """
    there = sum(tensor.numel() for tensor in tensors.values())
    if settings.num_layers * max(settings.num_channels) ** 2 > 2 * there + 1024:
        raise InputError("weights do not fit the settings: far too few", key="num_channels")


def _refuse_impossible(normalization: Normalization) -> None:
    """Sizes that no training data have."""
    sizes = ("avg_num_neighbors", "energy_scale", "message_scale")
    positive = {name: float(getattr(normalization, name)) for name in sizes}
    positive |= {f"min_distance.{pair}": float(value) for pair, value in normalization.min_distance.items()}
    others = {"energy_shift": float(normalization.energy_shift)}
    others |= {f"e0.{symbol}": float(value) for symbol, value in normalization.e0.items()}
    for name, value in (positive | others).items():
        if not math.isfinite(value) or (name in positive and value <= 0):
            raise InputError(f"{value} is no possible value", key=name)


def _check_weights(tensors: dict[str, torch.Tensor], potential: Potential, path: str | Path) -> None:
    """Numbers of the stated precision, all finite: nothing is converted in silence."""
    expected = potential.state_dict()
    for name in sorted(tensors.keys() & expected.keys()):
        if tensors[name].dtype != expected[name].dtype:
            kinds = [str(t.dtype).removeprefix("torch.") for t in (tensors[name], expected[name])]
            raise InputError(f"holds {kinds[0]} where {kinds[1]} is due", file=path, key=name)
        if not bool(torch.isfinite(tensors[name]).all()):
            raise InputError("weights that are not finite", file=path, key=name)
