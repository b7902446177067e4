"""NequIP (0.19) → this package: the same energies, to rounding, and exact phonons from the primitive cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from ase.data import chemical_symbols
from torch import Tensor

from mlip.convert.nequip_checkpoint import NequIPCheckpoint, read_checkpoint
from mlip.errors import InputError
from mlip.nn.uvu_layer import UVULayer
from mlip.nn.uvu_network import UVUNequIP
from mlip.potential import Normalization, Potential
from mlip.uvu_settings import READOUT_ACTIVATIONS, UVUSettings, uvu_settings

# The builder's arguments, with its defaults; what else it may be given is refused.
_DEFAULTS: dict[str, Any] = {
    "num_layers": 4, "l_max": 1, "parity": True, "num_features": 32, "type_embed_num_features": None,
    "radial_mlp_depth": 1, "radial_mlp_width": 128, "readout_mlp_hidden_layers_depth": 0,
    "readout_mlp_hidden_layers_width": None, "readout_mlp_nonlinearity": "silu", "num_bessels": 8,
    "bessel_trainable": False, "polynomial_cutoff_p": 6, "per_edge_type_cutoff": None, "avg_num_neighbors": None,
    "per_type_energy_scales": None, "per_type_energy_shifts": None, "per_type_energy_scales_trainable": False,
    "per_type_energy_shifts_trainable": False, "do_derivatives": True,
}  # fmt: skip
_PRESETS: dict[str, dict[str, Any]] = {
    "S": {"num_layers": 2, "l_max": 1, "num_features": [128, 64]},
    "M": {"num_layers": 4, "l_max": 2, "num_features": [128, 64, 32]},
    "L": {"num_layers": 6, "l_max": 3, "num_features": [128, 64, 32, 32]},
    "XL": {"num_layers": 6, "l_max": 4, "num_features": [320, 96, 64, 32, 32]},
}
_PRESET_COMMON = {"parity": False, "type_embed_num_features": 32, "radial_mlp_depth": 1, "radial_mlp_width": 128}
_NEEDED = {"_target_", "seed", "model_dtype", "type_names", "r_max"}
# What changes how NequIP computes, not what.
_HARMLESS = {"compile_mode": None}
_ACCELERATIONS = {"enable_OpenEquivariance", "enable_CuEquivariance"}


def convert_nequip(path: str | Path) -> Potential:
    """A NequIP checkpoint as a potential of this package.

    Args:
        path: A checkpoint that `nequip-train` 0.19 wrote, or `examples/export_nequip.py` from a package.

    Returns:
        The potential, in the precision of the checkpoint's model; of averaged weights where there are any.

    Raises:
        InputError: The file is no such checkpoint, or the model has what cannot be converted; the reason is given.
    """
    checkpoint = read_checkpoint(path)
    arguments = model_arguments(checkpoint.model, checkpoint.path)
    species = _species(arguments["type_names"], checkpoint.path)
    settings = _settings(arguments, checkpoint.path)
    normalization = Normalization(
        avg_num_neighbors=_mean_neighbors(arguments, checkpoint.path), e0=_shifts(checkpoint, species)
    )
    potential = Potential(settings, species, normalization).double()
    _fill(potential, checkpoint, arguments)
    potential.metadata |= _description(checkpoint)
    return potential.to({"float32": torch.float32, "float64": torch.float64}[arguments["model_dtype"]])


def model_arguments(model: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The builder's arguments, defaults and presets filled in.

    Raises:
        InputError: A builder or an argument that has no counterpart here.
    """
    model = _without_accelerations(dict(model), path)
    target = str(model.get("_target_", "")).rpartition(".")[2]
    if target == "PresetNequIPGNNModel":
        name = str(model.pop("preset", "")).upper()
        if name not in _PRESETS:
            raise InputError(f"preset {name!r} is unknown", file=path)
        model = {**_PRESET_COMMON, **_PRESETS[name], **model}
    elif target != "NequIPGNNModel":
        raise InputError(
            f"built by {target or 'an unknown builder'}: only NequIPGNNModel can be converted", file=path
        )
    unknown = [k for k, v in model.items() if k not in _NEEDED | set(_DEFAULTS) | set(_HARMLESS) and v is not None]
    if unknown:
        raise InputError(f"has no counterpart here: {model[unknown[0]]!r}", file=path, key=f"model.{unknown[0]}")
    missing = sorted(_NEEDED - set(model))
    if missing:
        raise InputError("is missing among the hyper-parameters", file=path, key=f"model.{missing[0]}")
    return {**_DEFAULTS, **model}


def _without_accelerations(model: dict[str, Any], path: Path) -> dict[str, Any]:
    """What `nequip.model.modify` wraps, when all it does is to choose another kernel."""
    if str(model.get("_target_", "")).rpartition(".")[2] != "modify":
        return model
    names = {str(modifier.get("modifier")) for modifier in model.get("modifiers", [])}
    if names - _ACCELERATIONS or not isinstance(model.get("model"), Mapping):
        raise InputError(f"modified by {', '.join(sorted(names))}, which has no counterpart here", file=path)
    return dict(model["model"])


def _species(names: Sequence[str], path: Path) -> list[str]:
    unknown = [name for name in names if name not in chemical_symbols[1:]]
    if unknown:
        raise InputError(f"type {unknown[0]!r} is not a chemical symbol", file=path, key="model.type_names")
    return list(names)


def _settings(a: Mapping[str, Any], path: Path) -> UVUSettings:
    channels = a["num_features"]
    channels = [channels] * (a["l_max"] + 1) if isinstance(channels, int) else list(channels)
    power, depth, activation = (
        a["polynomial_cutoff_p"],
        a["readout_mlp_hidden_layers_depth"],
        a["readout_mlp_nonlinearity"],
    )
    if power != int(power):
        raise InputError(
            f"the envelope's power {power} is not an integer", file=path, key="model.polynomial_cutoff_p"
        )
    if depth and activation not in READOUT_ACTIVATIONS:
        raise InputError(
            f"{activation!r} is not among the activations", file=path, key="model.readout_mlp_nonlinearity"
        )
    config = {
        "cutoff": float(a["r_max"]),
        "num_layers": a["num_layers"],
        "num_channels": channels,
        "parity": a["parity"],
        "type_channels": a["type_embed_num_features"] or channels[0],
        "num_radial": a["num_bessels"],
        "radial_width": a["radial_mlp_width"],
        "radial_depth": a["radial_mlp_depth"],
        "envelope_power": int(power),
        "readout": activation if depth else "silu",
        "readout_width": a["readout_mlp_hidden_layers_width"] or channels[0],
        "readout_depth": depth,
        "seed": int(a["seed"]),
    }
    return uvu_settings(config)


def _mean_neighbors(a: Mapping[str, Any], path: Path) -> float:
    """One number; where there is one per type it is set later, and this is their mean."""
    value = a["avg_num_neighbors"]
    if isinstance(value, Mapping):
        return float(sum(value.values()) / len(value))
    if not isinstance(value, int | float):
        raise InputError(f"is not a number: {value!r}", file=path, key="model.avg_num_neighbors")
    return float(value)


def _shifts(checkpoint: NequIPCheckpoint, species: Sequence[str]) -> dict[str, float]:
    """NequIP's lone atom has its shift as energy."""
    shifts = _per_species(checkpoint, "per_type_energy_scale_shift.shifts", len(species), default=0.0)
    return dict(zip(species, shifts.tolist(), strict=True))


def _per_species(checkpoint: NequIPCheckpoint, name: str, count: int, default: float) -> Tensor:
    found = checkpoint.state.get(name, torch.tensor([])).double().flatten()
    return (
        found.expand(count)
        if found.numel() == 1
        else found
        if found.numel()
        else torch.full((count,), default).double()
    )


def _fill(potential: Potential, checkpoint: NequIPCheckpoint, arguments: Mapping[str, Any]) -> None:
    """Put the weights where they belong; every one of them must fit and be used.

    Raises:
        InputError: The weights are not those of the model that the hyper-parameters describe.
    """
    network, taker = potential.network, _Taker(checkpoint)
    if not isinstance(network, UVUNequIP):
        raise TypeError("not a uvu network")
    with torch.no_grad():
        taker.copy("type_embed.embed_module.weight", [network.embedding])
        for k, layer in enumerate(network.layers):
            _fill_layer(cast("UVULayer", layer), f"layer{k}_convnet.conv", taker)
        readout = network.readout.weights
        for k, weight in enumerate(readout):
            taker.copy(f"per_atom_energy_readout.mlp_module.mlp.{2 * k}.weight", [weight])
        _fill_numbers(network, potential.species, checkpoint, arguments)
    taker.finish()


def _fill_layer(layer: UVULayer, name: str, taker: _Taker) -> None:
    convolution = layer.convolution
    taker.copy(f"{name}.linear_1.weight", convolution.up)
    for k, weight in enumerate(convolution.radial.weights):
        taker.copy(f"{name}.edge_mlp.mlp.{2 * k}.weight", [weight])
    taker.copy(f"{name}.linear_2.weight", convolution.down)
    if layer.connect:
        taker.copy(f"{name}.sc.weight", [cast("Tensor", connect.weight) for connect in layer.connect])


def _fill_numbers(
    network: UVUNequIP, species: Sequence[str], checkpoint: NequIPCheckpoint, arguments: Mapping[str, Any]
) -> None:
    numbers, state, count = network.numbers, checkpoint.state, len(species)
    numbers.assign("roots", state["bessel_encode.bessel_weights"].flatten())
    cutoffs = state["edge_norm._rmax_recip"]
    numbers.assign("inverse_cutoffs", cutoffs.view(count, count) if cutoffs.numel() > 1 else cutoffs)
    numbers.assign("scales", _per_species(checkpoint, "per_type_energy_scale_shift.scales", count, default=1.0))
    neighbors = arguments["avg_num_neighbors"]
    if isinstance(neighbors, Mapping):
        numbers.assign("norms", torch.tensor([neighbors[s] ** -0.5 for s in species], dtype=torch.float64))


class _Taker:
    """Hands out the flat weights of a checkpoint piece by piece, and knows what is left."""

    def __init__(self, checkpoint: NequIPCheckpoint) -> None:
        self.path, self.state = checkpoint.path, checkpoint.state
        self.left = {name for name, x in self.state.items() if name.endswith("weight") and x.numel()}

    def copy(self, name: str, pieces: Iterable[Tensor]) -> None:
        """One stored tensor into one or several of ours, in order."""
        targets = list(pieces)
        flat = self.state.get(name, torch.tensor([])).flatten()
        sizes = [target.numel() for target in targets]
        if flat.numel() != sum(sizes):
            raise InputError(f"{name} has {flat.numel()} numbers, not {sum(sizes)}", file=self.path)
        for target, part in zip(targets, flat.split(sizes), strict=True):
            target.copy_(part.view_as(target))
        self.left.discard(name)

    def finish(self) -> None:
        """Refuse a checkpoint with weights that nothing here uses."""
        if self.left:
            raise InputError(f"weights without a counterpart here: {min(self.left)}", file=self.path)


def _description(checkpoint: NequIPCheckpoint) -> dict[str, Any]:
    versions = {k: str(v) for k, v in checkpoint.versions.items()}
    return {
        "converted_from": {"package": "nequip", "file": checkpoint.path.name, "versions": versions},
        "e0_origin": "NequIP's energy shifts: its lone atoms have these energies",
    }
