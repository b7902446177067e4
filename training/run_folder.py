"""The folder of a run: made new, taken up again, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mlip.errors import InputError
from mlip.files import output_folder
from mlip.training.checkpoint import remove_leftovers
from mlip.training.load import save_settings
from mlip.training.settings import TrainingSettings

# What may change between the parts of a resumed run: nothing that the weights so far depend on.
_FREE = {"max_epochs", "max_minutes", "patience", "threads", "device", "validate_every", "graph_memory", "compile"}


def open_folder(settings: TrainingSettings, *, resume: bool, force: bool) -> Path:
    """The run's folder, with the resolved settings in ``config.yaml``.

    Args:
        settings: The settings.
        resume: Go on with the run that is there; start one when there is none.
        force: Replace the run that is there.

    Raises:
        InputError: There is a run already, or it had other settings.
    """
    folder = settings.folder
    if resume and force:
        raise InputError("--resume and --force exclude each other")
    if resume and (folder / "config.yaml").is_file():
        remove_leftovers(folder)
        _check_same(folder / "config.yaml", settings)
    elif _holds_results(folder) and not force:
        raise InputError("there is a run already", file=folder, mend="--resume, --force, or another run.name")
    else:
        output_folder(folder, force=True)
    save_settings(folder / "config.yaml", settings)
    return folder


def _holds_results(folder: Path) -> bool:
    """Whether there is anything but the settings of a run that never got to its first step."""
    return folder.is_dir() and any(file.name != "config.yaml" for file in folder.iterdir())


def _check_same(file: Path, settings: TrainingSettings) -> None:
    before = yaml.safe_load(file.read_text(encoding="utf-8"))
    now = yaml.safe_load(yaml.safe_dump(settings.model_dump(mode="json")))
    for key in ("seed", "model", "data", "loss", "training", "hessian", "init_from"):
        if _fixed(before.get(key)) != _fixed(now[key]):
            changed = _first_difference(_fixed(before.get(key)), _fixed(now[key]), key)
            raise InputError("differs from the run that is there", file=file, key=changed, mend="or --force")


def _fixed(section: Any) -> Any:
    """What may not change; a setting that is null and one that did not exist yet are the same."""
    if not isinstance(section, dict):
        return section
    return {k: v for k, v in section.items() if k not in _FREE and v is not None}


def _first_difference(before: Any, now: Any, key: str) -> str:
    if not isinstance(before, dict) or not isinstance(now, dict):
        return key
    names = [name for name in now if before.get(name) != now[name]] or [n for n in before if n not in now]
    return f"{key}.{names[0]}" if names else key
