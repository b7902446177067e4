"""The model's settings: one strict schema, with presets for those who want none of the details."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mlip.errors import InputError

PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"num_layers": 2, "num_channels": (64, 32), "lmax": 2},
    "small": {"num_layers": 3, "num_channels": (64, 32), "lmax": 2},
    "medium": {"num_layers": 4, "num_channels": (64, 48), "lmax": 2},
    "large": {"num_layers": 4, "num_channels": (128, 64), "lmax": 3, "parity": True},
}


class StrictModel(BaseModel):
    """A frozen settings model in which unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSettings(StrictModel):
    """What the network is. Every field has a default; ``preset`` changes several defaults at once."""

    architecture: Literal["nequip"] = Field("nequip", description="network family")
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
    norm: bool = Field(False, description="normalise each node by one rms over all degrees")
    num_radial: int = Field(8, ge=1, le=64, description="Bessel functions")
    radial_width: int = Field(64, ge=1, le=1024, description="hidden width of the radial network")
    radial_depth: int = Field(2, ge=1, le=6, description="layers of the radial network")
    zbl: bool = Field(False, description="add the Ziegler–Biersack–Littmark repulsion at short range")
    seed: int = Field(1, ge=0, description="seed of the initial weights")

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        name = values.get("preset", "small")
        return {**PRESETS.get(name, {}), **values} if isinstance(name, str) else values

    @field_validator("num_channels", mode="before")
    @classmethod
    def _accept_one_number(cls, value: Any) -> Any:
        return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("num_channels")
    @classmethod
    def _check_channels(cls, value: tuple[int, int]) -> tuple[int, int]:
        if min(value) < 1 or max(value) > 4096:
            raise ValueError("channels must lie between 1 and 4096")
        return value


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
        raise settings_error(error, list(ModelSettings.model_fields)) from None


def settings_error(error: ValidationError, known: list[str], file: Any = None) -> InputError:
    """The first complaint of pydantic as a one-line error that names the nearest known key."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        mend = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(known)}"
        return InputError("unknown key", key=key, mend=mend, file=file)
    return InputError(f"{first['msg']}, got {first['input']!r}", key=key, file=file)
