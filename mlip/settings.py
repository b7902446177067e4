"""The model's settings: one strict schema, with presets for those who want none of the details."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mlip.errors import InputError

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "nequip": {
        "fast": {"num_layers": 2, "num_channels": (64, 32), "lmax": 2},
        "small": {"num_layers": 3, "num_channels": (64, 32), "lmax": 2},
        "medium": {"num_layers": 3, "num_channels": (64, 32), "lmax": 3},
        "large": {"num_layers": 4, "num_channels": (128, 64), "lmax": 3, "parity": True},
    },
    "equiformer": {
        "fast": {"num_layers": 1, "num_channels": (64, 32), "lmax": 2},
        "small": {"num_layers": 2, "num_channels": (64, 32), "lmax": 2},
        "medium": {"num_layers": 3, "num_channels": (64, 48), "lmax": 2},
        "large": {"num_layers": 4, "num_channels": (128, 64), "lmax": 3, "mmax": 2, "parity": True},
    },
}
# Keys that mean something to one architecture alone.
_OWN_KEYS: dict[str, set[str]] = {
    "nequip": {"mixing", "max_filter_degree"},
    "equiformer": {
        *("mmax", "attention", "num_heads", "attention_channels", "activation"),
        *("drop_path", "attention_dropout", "dropout"),
    },
}


class StrictModel(BaseModel):
    """A frozen settings model in which unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Irrep:
    """An irrep of O(3): degree l and parity ±1."""

    l: int
    parity: int

    @property
    def dim(self) -> int:
        """2l + 1."""
        return 2 * self.l + 1

    @property
    def eta(self) -> int:
        """Natural parity: +1 where the parity is (−1)^l."""
        return int(self.parity * (-1) ** self.l)

    @property
    def name(self) -> str:
        """Such as ``2e``."""
        return f"{self.l}{'e' if self.parity > 0 else 'o'}"

    @classmethod
    def natural(cls, l: int) -> Irrep:
        """The irrep of |v|^l Y_l(v) of a vector."""
        return cls(l, (-1) ** l)


class AnisotropySettings(StrictModel):
    """What may break the symmetry: a tensor b that the network is handed beside the structure.

    ``learned``: a constant of the laboratory, which training finds (relaxed weights); each structure carries its
    frame. ``field``: the electric field of each structure (V/Å). ``variants``: a tensor of each structure, one of a
    symmetry-breaking set.
    """

    source: Literal["learned", "field", "variants"] = Field(
        "learned",
        description="where b comes from: a constant that is learnt, atoms.info['electric_field'] (V/Å), or "
        "atoms.info['breaking_tensor']",
    )
    irreps: tuple[str, ...] | None = Field(
        None,
        description="such as '2e + 4e'; null: learned 1o, 2e, 3o, 4e as far as the features couple to them (what "
        "depends on positions alone shows natural parity first, and 4e is the lowest that cubic order has); field "
        "0e, 1o, 2e (all of first and second order); variants 1o",
    )
    layers: tuple[int, ...] | None = Field(
        None, description="places of the port, from 0: after which layers' features; null: after every one"
    )
    penalty: float = Field(
        1e-3, ge=0, description="learned: weight of Σ|θ_l| in the loss, which lets go what the data do not ask for"
    )
    anneal: bool = Field(
        False, description="learned: let θ go to zero during the training; the model file is then strict"
    )

    @field_validator("irreps", mode="before", json_schema_input_type=str | tuple[str, ...] | None)
    @classmethod
    def _accept_a_sum(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split("+")) if isinstance(value, str) else value

    @field_validator("irreps")
    @classmethod
    def _check_irreps(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in value or ():
            if not re.fullmatch(r"[0-9][eo]", name):
                raise ValueError(f"'{name}' is not an irrep such as 2e")
        if value is not None and (not value or len(set(value)) < len(value)):
            raise ValueError("irreps must be there, and each once")
        return value

    @field_validator("layers", mode="before", json_schema_input_type=int | tuple[int, ...] | None)
    @classmethod
    def _accept_one_layer(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _options_belong_to_the_source(self) -> Self:
        if self.source != "learned" and self.anneal:
            raise ValueError(f"'anneal' belongs to source: learned, not to {self.source}")
        if self.source == "field" and any(irrep.eta < 0 for irrep in self.named):
            raise ValueError("a field has irreps of natural parity: 0e, 1o, 2e, 3o, …")
        if self.source == "learned" and any(irrep.l == 0 and irrep.eta > 0 for irrep in self.named):
            raise ValueError("0e breaks no symmetry: a constant of that kind is part of the weights already")
        return self

    @property
    def named(self) -> tuple[Irrep, ...]:
        """The irreps that were asked for; none by default."""
        return tuple(Irrep(int(name[0]), 1 if name[1] == "e" else -1) for name in self.irreps or ())


class ModelSettings(StrictModel):
    """What the network is. Every field has a default; ``preset`` changes several defaults at once."""

    architecture: Literal["nequip", "equiformer"] = Field(
        "nequip",
        description="network family: convolutions with gates (nequip) or equivariant graph attention (equiformer)",
    )
    preset: Literal["fast", "small", "medium", "large"] = Field("small", description="set of defaults")
    cutoff: float = Field(5.0, gt=0.5, le=20.0, description="radius of the neighbourhood, Å")
    num_layers: int = Field(3, ge=1, le=12, description="interaction layers")
    num_channels: tuple[int, int] = Field(
        (64, 32), description="channels of scalars and of tensors; one number sets both"
    )
    lmax: int = Field(2, ge=0, le=6, description="highest degree of the features")
    parity: bool = Field(False, description="natural and pseudo features (true) or natural alone (false)")
    mixing: Literal["linear", "depthwise"] = Field("linear", description="how the edge kernel mixes channels")
    max_filter_degree: int | None = Field(
        None, ge=0, le=12, description="depthwise: highest degree of the filter; null: lmax"
    )
    node_square: bool = Field(True, description="self-product of the aggregated tensors (many-body term)")
    norm: bool | Literal["separable"] = Field(
        False,
        description="normalise each node by one rms over all degrees (true; equiformer's default); 'separable': "
        "scalars and tensors apart, as published, with forces: direct alone",
    )
    forces: Literal["gradient", "direct"] = Field(
        "gradient",
        description="gradient: −dE/dx, exact; direct: a second readout, cheaper, not conservative (pre-training)",
    )
    num_radial: int = Field(8, ge=1, le=64, description="Bessel functions")
    radial_width: int = Field(64, ge=1, le=1024, description="hidden width of the radial network")
    radial_depth: int = Field(2, ge=1, le=6, description="layers of the radial network")
    mmax: int | None = Field(
        None, ge=0, le=6, description="equiformer: highest order m in the edge frame; null: all, up to lmax"
    )
    attention: Literal["renormalised", "plain", "sum"] = Field(
        "renormalised",
        description="equiformer: softmax of logits after a LayerNorm (renormalised) or without (plain), or every "
        "neighbour alike (sum)",
    )
    num_heads: int = Field(4, ge=1, le=64, description="equiformer: attention heads")
    attention_channels: int = Field(16, ge=2, le=256, description="equiformer: channels of a head's logit")
    activation: Literal["gate", "s2_product"] = Field(
        "gate",
        description="equiformer: gates, or a quadratic of the features as functions on the sphere, which a grid "
        "resolves exactly (a SiLU there is not, and breaks equivariance)",
    )
    drop_path: float = Field(
        0.0, ge=0, lt=1, description="equiformer: how often a structure skips a branch of a block, in training"
    )
    attention_dropout: float = Field(
        0.0, ge=0, lt=1, description="equiformer: share of attention weights dropped, in training"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="equiformer: share of a node's channels dropped, in training")
    anisotropy: AnisotropySettings | None = Field(
        None, description="what may break the symmetry: relaxed weights, an electric field, or domain variants"
    )
    zbl: bool = Field(
        False, description="nuclear repulsion (ZBL); the network sees no atoms much closer than its training data"
    )
    seed: int = Field(1, ge=0, description="seed of the initial weights")

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        name, architecture = values.get("preset", "small"), values.get("architecture", "nequip")
        if not isinstance(name, str) or not isinstance(architecture, str):
            return values
        own = {"norm": True} if architecture == "equiformer" else {}
        return {**own, **PRESETS.get(architecture, {}).get(name, {}), **values}

    @field_validator("num_channels", mode="before", json_schema_input_type=int | tuple[int, int])
    @classmethod
    def _accept_one_number(cls, value: Any) -> Any:
        return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("num_channels")
    @classmethod
    def _check_channels(cls, value: tuple[int, int]) -> tuple[int, int]:
        if min(value) < 1 or max(value) > 4096:
            raise ValueError("channels must lie between 1 and 4096")
        return value

    @model_validator(mode="after")
    def _keys_belong_to_the_architecture(self) -> Self:
        for architecture, keys in _OWN_KEYS.items():
            foreign = sorted(keys & self._changed()) if architecture != self.architecture else []
            if foreign:
                raise ValueError(
                    f"'{foreign[0]}' belongs to architecture: {architecture}, not to {self.architecture}"
                )
        return self

    @model_validator(mode="after")
    def _options_are_smooth(self) -> Self:
        if self.norm == "separable" and self.architecture != "equiformer":
            raise ValueError("norm: separable belongs to architecture: equiformer, not to nequip")
        if self.norm == "separable" and self.forces != "direct":
            raise ValueError(
                "norm: separable has a kink where tensors vanish by symmetry, which ruins phonons: "
                "use norm: true, or forces: direct"
            )
        if self.norm is False and self.architecture == "equiformer":
            raise ValueError("norm: false would let the sums of an equiformer grow without limit: true or separable")
        if self.forces == "direct" and self.zbl:
            raise ValueError("zbl is an energy and needs forces: gradient")
        return self

    @model_validator(mode="after")
    def _port_has_a_place(self) -> Self:
        if self.anisotropy is None:
            return self
        if self.lmax < 1 or self.num_port_places < 1:
            raise ValueError("anisotropy needs vectors in the network: lmax ≥ 1 (and for nequip num_layers ≥ 2)")
        for place in self.anisotropy.layers or ():
            if not 0 <= place < self.num_port_places:
                raise ValueError(f"anisotropy.layers: there is no place {place}, but 0 … {self.num_port_places - 1}")
        if any(irrep.l > 2 * self.lmax for irrep in self.breaking_irreps):
            raise ValueError(f"anisotropy.irreps: features of lmax {self.lmax} couple to l ≤ {2 * self.lmax}")
        return self

    @property
    def num_port_places(self) -> int:
        """Places where features with tensors stand between two layers."""
        return self.num_layers - (self.architecture == "nequip")

    @property
    def breaking_irreps(self) -> tuple[Irrep, ...]:
        """The irreps of b, those asked for or the default; none without a port."""
        if self.anisotropy is None or self.anisotropy.named:
            return () if self.anisotropy is None else self.anisotropy.named
        degrees = {"learned": range(1, min(4, 2 * self.lmax) + 1), "field": range(3), "variants": range(1, 2)}
        return tuple(Irrep.natural(l) for l in degrees[self.anisotropy.source])

    @property
    def needs_frame(self) -> bool:
        """Whether the energy depends on how the structure lies in the laboratory."""
        return self.anisotropy is not None and self.anisotropy.source == "learned"

    def _changed(self) -> set[str]:
        fields = type(self).model_fields
        return {name for name, field in fields.items() if getattr(self, name) != field.default}


def model_settings(config: ModelSettings | Mapping[str, Any]) -> ModelSettings:
    """Validate a mapping of settings.

    Args:
        config: Settings, or a mapping with any of their keys.

    Returns:
        The complete settings.

    Raises:
        InputError: An unknown key (with the nearest known one) or a value out of range.
    """
    if isinstance(config, ModelSettings):
        return config
    try:
        return ModelSettings.model_validate(dict(config))
    except ValidationError as error:
        raise settings_error(error, _known_keys(error)) from None


def _known_keys(error: ValidationError) -> list[str]:
    """The keys of the section that the first complaint is about."""
    section = AnisotropySettings if error.errors()[0]["loc"][:1] == ("anisotropy",) else ModelSettings
    return list(section.model_fields)


def settings_error(error: ValidationError, known: list[str], file: Any = None) -> InputError:
    """The first complaint of pydantic as a one-line error that names the nearest known key."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        mend = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(known)}"
        return InputError("unknown key", key=key, mend=mend, file=file)
    if first["type"] == "value_error" and isinstance(first["input"], Mapping):  # a rule between several keys
        return InputError(str(first["ctx"]["error"]), key=key or None, file=file)
    return InputError(f"{first['msg']}, got {first['input']!r}", key=key, file=file)
