"""Named recipes: ``mlip train silicon`` finds ``silicon.yaml`` here."""

from __future__ import annotations

from pathlib import Path

from mlip.errors import InputError

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The recipes' names."""
    return sorted(file.stem for file in _FOLDER.glob("*.yaml"))


def find(name: str) -> Path:
    """The file of a recipe.

    Raises:
        InputError: There is no recipe of that name.
    """
    path = _FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise InputError(f"no such file or recipe: '{name}'", mend=f"recipes: {', '.join(names())}")
    return path
