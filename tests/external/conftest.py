"""A trained potential, for programs of others that expect a stable crystal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def silicon_model(tmp_path_factory) -> Path:
    """A silicon potential: the file named by MLIP_SILICON_MODEL, or one trained for a minute."""
    named = os.environ.get("MLIP_SILICON_MODEL")
    if named:
        return Path(named)
    from mlip.training import load_settings, train

    folder = tmp_path_factory.mktemp("silicon")
    settings = load_settings("silicon", ["training.max_minutes=1", f"run.folder={folder}", "run.name=training"])
    return train(settings).best_path
