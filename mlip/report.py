"""What every command says at its end: results, checks with their limits, the files it wrote."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import mlip
from mlip.files import write_text


@dataclass(frozen=True)
class Check:
    """A measured value against its limit; passed when |value| ≤ limit."""

    name: str
    value: float
    limit: float
    unit: str = ""

    @property
    def passed(self) -> bool:
        """Whether |value| ≤ limit; a value that is not finite never passes."""
        return math.isfinite(self.value) and abs(self.value) <= self.limit

    def to_dict(self) -> dict[str, Any]:
        """The check as the JSON of every command holds it."""
        return {**asdict(self), "passed": self.passed}


@dataclass
class CommandReport:
    """The JSON that each command writes with ``--json``, and the table it prints."""

    command: str
    inputs: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """``{"command", "version", "inputs", "results", "checks", "files"}``, of plain Python values."""
        return {
            "command": self.command,
            "version": mlip.__version__,
            "inputs": plain(self.inputs),
            "results": plain(self.results),
            "checks": [plain(check.to_dict()) for check in self.checks],
            "files": [str(file) for file in self.files],
        }

    def write_json(self, path: str | Path) -> None:
        """Write the report, atomically."""
        write_text(path, json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n")

    def print_checks(self, console: Console | None = None) -> None:
        """Print the table of checks; nothing when there are none."""
        if not self.checks:
            return
        table = Table("check", "value", "limit", "unit", "")
        for c in self.checks:
            mark = "[green]pass" if c.passed else "[red]FAIL"
            table.add_row(c.name, f"{c.value:.3g}", f"{c.limit:.3g}", c.unit, mark)
        (console or Console()).print(table)


def plain(value: Any) -> Any:
    """NumPy arrays, paths and NaN turned into what strict JSON can hold (NaN and Inf become null)."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value
