"""From a YAML file and ``key.path=value`` overrides to settings; every fault is one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mlip import configs
from mlip.datasets.entry import DatasetEntry
from mlip.errors import InputError
from mlip.files import write_text
from mlip.settings import AnisotropySettings, ModelSettings
from mlip.training.base_settings import unknown_key
from mlip.training.settings import TrainingSettings
from mlip.training.task_settings import CurvatureEntry


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key given twice is an error instead of the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a dictionary, refusing duplicate keys."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    problem=f"key '{key}' is given twice", problem_mark=node.start_mark
                )
        return super().construct_mapping(node, deep)


def load_settings(config: str | Path, overrides: Sequence[str] = ()) -> TrainingSettings:
    """Read a configuration file, apply overrides, check everything once.

    Args:
        config: A YAML file, or the name of a shipped recipe.
        overrides: ``"training.max_epochs=20"``, ``"data.train.0.weight=2"``; values are YAML.

    Raises:
        InputError: One line that names the file, the key and what to do.
    """
    file = _find(config)
    values = _read(file)
    for override in overrides:
        _apply(values, override)
    settings = validate(values, file=file)
    if settings.run.name is None:
        settings = settings.model_copy(update={"run": settings.run.model_copy(update={"name": file.stem})})
    return settings


def validate(values: dict[str, Any], *, file: Path | None = None) -> TrainingSettings:
    """Settings from plain values; a ValidationError becomes a one-line InputError."""
    try:
        return TrainingSettings.model_validate(_model_of_start(values))
    except ValidationError as error:
        raise _one_line(error, file) from None


def _model_of_start(values: dict[str, Any]) -> dict[str, Any]:
    """Fine-tuning needs no model section, or one that adds a port alone: the network is that of the file."""
    given = values.get("model")
    only_port = isinstance(given, dict) and set(given) == {"anisotropy"}
    if values.get("init_from") is None or not (given is None or only_port):
        return values
    from mlip.potential import Potential

    found = Potential.load(values["init_from"]).settings.model_dump(mode="json")
    return {**values, "model": {**found, **(given or {})}}


def save_settings(path: Path, settings: TrainingSettings) -> None:
    """Write the resolved settings as YAML."""
    write_text(path, yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def _find(config: str | Path) -> Path:
    file = Path(config)
    if file.is_file():
        return file
    if file.is_dir():
        raise InputError("is a folder, not a configuration file", file=file)
    if file.suffix in {".yaml", ".yml"} or len(file.parts) > 1:
        raise InputError("no such file", file=file)
    return configs.find(str(config))


def _read(file: Path) -> dict[str, Any]:
    try:
        values = yaml.load(file.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=file) from None
    except UnicodeDecodeError:
        raise InputError("is not a text file in UTF-8", file=file) from None
    except yaml.YAMLError as error:
        raise InputError(f"is not valid YAML: {_yaml_problem(error)}", file=file) from None
    if not isinstance(values, dict):
        raise InputError("is not a list of 'key: value' settings", file=file)
    return values


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return problem if mark is None else f"{problem}, line {mark.line + 1}, column {mark.column + 1}"


def _apply(values: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise InputError(f"'{override}' is not key.path=value", mend="for example training.max_epochs=20")
    try:
        value = yaml.load(text, Loader=_StrictLoader)  # noqa: S506
    except yaml.YAMLError as error:
        raise InputError(f"'{text}' is not valid YAML: {_yaml_problem(error)}", key=path) from None
    *parents, last = path.split(".")
    place: Any = values
    for name in parents:
        place = _child(place, name, path)
    if isinstance(place, list):
        place[_position(place, last, path)] = value
    else:
        place[last] = value


def _child(place: Any, name: str, path: str) -> Any:
    if isinstance(place, list):
        child = place[_position(place, name, path)]
    else:
        if place.get(name) is None:
            place[name] = {}
        child = place[name]
    if not isinstance(child, dict | list):
        raise InputError(f"'{name}' holds a value, not a section", key=path)
    return child


def _position(place: list[Any], name: str, path: str) -> int:
    if not name.isdigit() or int(name) >= len(place):
        raise InputError(f"'{name}' is not a position in a list of {len(place)}", key=path)
    return int(name)


def _one_line(error: ValidationError, file: Path | None) -> InputError:
    faults = error.errors(include_url=False)
    first = faults[0]
    key, problem = ".".join(str(part) for part in _without_tags(first["loc"])), _problem(first)
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return InputError(f"{problem}{more}", file=file, key=key or None)


def _without_tags(location: tuple[int | str, ...]) -> list[int | str]:
    """Pydantic adds the names of a union's members to the location; users have never seen them."""
    return [part for part in location if isinstance(part, int) or not ("[" in part or part in {"float", "str"})]


def _problem(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":  # the model section has its own base class
        known = _fields_of(fault["loc"][:-1])
        return unknown_key(str(fault["loc"][-1]), known) if known else f"unknown key '{fault['loc'][-1]}'"
    if fault["type"] == "missing":
        return "is needed"
    message: str = fault["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    given = fault.get("input")
    shown = fault["type"] != "value_error" and isinstance(given, str | int | float | bool | None)
    return f"{message[0].lower()}{message[1:]}" + (f", not {given!r}" if shown else "")


def _fields_of(location: tuple[int | str, ...]) -> list[str]:
    """Known keys of the sections whose schema other rooms own."""
    if location[:2] == ("model", "anisotropy"):
        return list(AnisotropySettings.model_fields)
    if location[:1] == ("model",):
        return list(ModelSettings.model_fields)
    if location[:1] == ("data",):
        return list(DatasetEntry.model_fields)
    if location[:1] == ("hessian",):
        return list(CurvatureEntry.model_fields)
    return []
