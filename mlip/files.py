"""Files that are either whole or not there: atomic writes, and output folders that are kept."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlip.errors import InputError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path in the same folder, moved onto ``path`` when the block ends without an error.

    The contents are flushed to disk before the move, so that after a crash or a full disk the old file is
    still whole.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        # mkstemp makes private files; give the result the mode an ordinary write would have had.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, as UTF-8."""
    write_bytes(path, text.encode())


def output_folder(path: str | Path, *, force: bool = False) -> Path:
    """Create an empty folder for a command's results.

    Args:
        path: The folder.
        force: Remove what is there from an earlier run.

    Returns:
        The folder.

    Raises:
        InputError: It exists, is not empty, and ``force`` is false; or it is a file.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise InputError("is a file, not a folder", file=path, mend="choose another --out")
    if path.is_dir() and any(path.iterdir()):
        if not force:
            raise InputError(
                "already holds results",
                file=path,
                mend="use --force to replace it or another --out",
            )
        if path.resolve() in (Path.cwd().resolve(), Path.home().resolve(), Path("/")):
            raise InputError("refusing to empty this folder", file=path, mend="choose another --out")
        shutil.rmtree(path)
    path.mkdir(parents=True, exist_ok=True)
    return path
