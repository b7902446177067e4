"""Any ASE calculator by the name of what makes it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from mlip.errors import InputError


def made_by(factory: str) -> Any:
    """The calculator that ``"package.module:callable"`` makes, called without arguments.

    Raises:
        InputError: It is no such name, or cannot be imported.
    """
    module, _, name = factory.partition(":")
    if not name:
        raise InputError(f"'{factory}' is not module:factory", key="calculator", mend="as in ase.calculators.emt:EMT")
    try:
        make = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"cannot import '{factory}': {error}", key="calculator") from error
    return make()
