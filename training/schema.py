"""The settings as JSON schema, from which editors complete and check a configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlip.files import write_text
from mlip.training.settings import TrainingSettings

FILE = "mlip-schema.json"


def json_schema() -> dict[str, Any]:
    """The schema of a configuration file, with every field's meaning, unit, default and range."""
    schema = TrainingSettings.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "curie-mlip training run"}


def write_schema(path: Path) -> Path:
    """Write the schema, atomically; it is generated, so one that is there is replaced."""
    write_text(path, json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n")
    return path


def editor_line(schema: Path | str) -> str:
    """The comment by which editors with a YAML language server find the schema."""
    return f"# yaml-language-server: $schema={schema}"
