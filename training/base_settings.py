"""What all settings of a training run have in common: no unknown keys, no NaN, short forms of lists of files."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Settings(BaseModel):
    """Base of all settings: frozen, no unknown keys, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _only_known_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    raise ValueError(unknown_key(str(key), list(cls.model_fields)))
        return data


def unknown_key(key: str, known: list[str]) -> str:
    """The message for a key that no setting has, with the nearest one that exists."""
    near = get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
    return f"unknown key '{key}': {hint}"


def changed_fields(settings: BaseModel) -> set[str]:
    """Fields whose value is not the default."""
    fields = type(settings).model_fields
    return {name for name, field in fields.items() if getattr(settings, name) != field.default}


def as_entries(value: Any) -> Any:
    """One path or entry as a list of entries."""
    if isinstance(value, str | dict):
        value = [value]
    if isinstance(value, list):
        return [{"path": item} if isinstance(item, str) else item for item in value]
    return value
