"""Files of a run: always whole, never lost to a signal or a full disk."""

from __future__ import annotations

import io
import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mlip.errors import InputError
from mlip.files import write_bytes

FORMAT = "curie-mlip-checkpoint"


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically; the previous one stays until the new one is whole on the disk.

    Raises:
        InputError: It cannot be written; the previous file is intact.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "schema": 1, **state}, buffer)
    with explained(path):
        write_bytes(path, buffer.getvalue())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; nothing in it is executed (``weights_only=True``).

    Raises:
        InputError: It is not a checkpoint of this package.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError):
        raise InputError("is not a readable checkpoint", file=path, mend="start again with --force") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT or state.get("schema") != 1:
        raise InputError("is not a checkpoint of this version", file=path, mend="start again with --force")
    return state


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn a failing write into one line that says what is still there."""
    try:
        yield
    except OSError as error:
        kept = "the previous file is intact" if path.exists() else "no earlier file exists"
        raise InputError(
            f"cannot be written: {error.strerror or error}; {kept}",
            file=path,
            mend="make room, then --resume",
        ) from None


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that a killed process left behind."""
    for name in ("last.ckpt", "best.mlip", "metrics.csv", "config.yaml"):
        for file in folder.glob(f".{name}.*"):
            file.unlink(missing_ok=True)


class CheckpointClock:
    """When a checkpoint is due: often enough to lose little, seldom enough to cost less than 5 % of the time."""

    def __init__(self) -> None:
        self._last, self._cost = time.monotonic(), 0.0

    def due(self, *, epoch_ends: bool) -> bool:
        """At the end of an epoch after half a second, within one after a minute; never at over 5 % cost."""
        waited = time.monotonic() - self._last
        return waited > max(20.0 * self._cost, 0.5 if epoch_ends else 60.0)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Measure what a checkpoint costs."""
        start = time.monotonic()
        yield
        self._last = time.monotonic()
        self._cost = self._last - start
