"""Settings of converted networks, and the one place that knows which settings belong to which architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from mlip.settings import ModelSettings, StrictModel, model_settings, settings_error

READOUT_ACTIVATIONS = {"silu": "silu", "mish": "mish", "gelu": "gelu"}


class UVUSettings(StrictModel):
    """NequIP as its own package builds it: what `mlip convert nequip` makes."""

    architecture: Literal["nequip_uvu"] = Field("nequip_uvu", description="NequIP with its own tensor products")
    cutoff: float = Field(5.0, gt=0.5, le=20.0, description="radius of the neighbourhood, Å")
    num_layers: int = Field(4, ge=1, le=12, description="interaction layers")
    num_channels: tuple[int, ...] = Field((32, 32), description="channels of each degree 0 … lmax")
    parity: bool = Field(True, description="both parities of each degree, or natural ones alone")
    type_channels: int = Field(32, ge=1, description="width of the embedding of the species")
    num_radial: int = Field(8, ge=1, le=64, description="Bessel functions")
    radial_width: int = Field(128, ge=1, description="hidden width of the radial network")
    radial_depth: int = Field(1, ge=0, le=6, description="hidden layers of the radial network")
    envelope_power: int = Field(6, ge=2, le=100, description="p of the polynomial envelope")
    readout: Literal["silu", "mish", "gelu"] = Field("silu", description="activation of the readout's hidden layers")
    readout_width: int = Field(32, ge=1, description="hidden width of the readout")
    readout_depth: int = Field(0, ge=0, le=6, description="hidden layers of the readout")
    forces: Literal["gradient"] = Field("gradient", description="−dE/dx")
    anisotropy: Literal[None] = Field(None, description="nothing breaks the symmetry")
    zbl: Literal[False] = Field(False, description="no further repulsion")
    seed: int = Field(1, ge=0, description="seed of the initial weights")

    @property
    def lmax(self) -> int:
        """Highest degree of the features."""
        return len(self.num_channels) - 1

    @property
    def needs_frame(self) -> bool:
        """No: its energy does not depend on the orientation."""
        return False

    @field_validator("num_channels")
    @classmethod
    def _check_channels(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not 1 <= len(value) <= 7 or min(value) < 1 or max(value) > 4096:
            raise ValueError("one number of channels between 1 and 4096 for each degree 0 … lmax, lmax ≤ 6")
        return value


AnySettings = ModelSettings | UVUSettings


def any_settings(config: AnySettings | Mapping[str, Any]) -> AnySettings:
    """Validate the settings of any architecture.

    Args:
        config: Settings, or a mapping with any of their keys.

    Raises:
        InputError: An unknown key or a value out of range.
    """
    if isinstance(config, UVUSettings):
        return config
    if isinstance(config, ModelSettings) or config.get("architecture") != "nequip_uvu":
        return model_settings(config)
    return uvu_settings(config)


def uvu_settings(config: Mapping[str, Any]) -> UVUSettings:
    """Validate the settings of a converted network.

    Args:
        config: A mapping with any of their keys.

    Raises:
        InputError: An unknown key or a value out of range.
    """
    try:
        return UVUSettings.model_validate(dict(config))
    except ValidationError as error:
        raise settings_error(error, list(UVUSettings.model_fields)) from None
