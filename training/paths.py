"""Embedded data sets by name: ``silicon:train`` is a split of ``mlip.datasets.silicon``."""

from __future__ import annotations

import re
from importlib import import_module

from mlip.datasets.entry import DatasetEntry
from mlip.errors import InputError

_EMBEDDED = re.compile(r"^([a-z][a-z0-9_]*):([a-z][a-z0-9_]*)$")


def resolve(entry: DatasetEntry) -> DatasetEntry:
    """The same entry with the file that ``set:split`` stands for; ordinary paths are left alone.

    Raises:
        InputError: There is no such embedded set.
    """
    embedded = _EMBEDDED.match(entry.path)
    if embedded is None:
        return entry
    name, split = embedded.groups()
    try:
        module = import_module(f"mlip.datasets.{name}")
        path = module.path(split)
    except (ModuleNotFoundError, AttributeError):
        raise InputError(f"no embedded set '{name}'", file=entry.path, mend="such as silicon:train") from None
    return entry.model_copy(update={"path": str(path)})
