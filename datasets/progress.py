"""A progress bar for what takes longer than two seconds, and only where somebody watches."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

T = TypeVar("T")
PATIENCE = 2.0  # s


def slowly(items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
    """The items themselves; a bar appears on the error stream when they take longer than two seconds.

    Nothing is shown when the error stream is not a terminal.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from items
        return
    count = total if total is not None else len(items) if isinstance(items, Sized) else None
    start = time.monotonic()
    with Progress(console=console, transient=True, disable=False, auto_refresh=True) as bar:
        task = bar.add_task(title, total=count, visible=False)
        for done, item in enumerate(items):
            bar.update(task, completed=done, visible=time.monotonic() - start > PATIENCE)
            yield item
