"""One command over many structures: a line for each in ``results.jsonl``, no failure stops the others, and resuming.

A list of structures is divided among machines by a `Shard`: each has its part of the list and a `Ledger` of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

import mlip
from mlip.errors import InputError, MLIPError
from mlip.files import output_folder, write_text
from mlip.md.session import console, merge, named
from mlip.md.shards import Shard
from mlip.report import Check, CommandReport, plain

# Options that say where results go, not what they are.
NOT_SETTINGS = {"files", "out", "force", "json", "resume", "device", "shards", "shard_index"}


@dataclass(frozen=True)
class Outcome:
    """What one structure came to.

    Attributes:
        results: Plain values for the report.
        checks: Measured values against their limits.
        files: What was written.
        lines: What to tell people.
    """

    results: dict[str, Any]
    checks: list[Check] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Origin:
    """What a result depends on besides the structure: the command, its settings, and the models' contents."""

    command: str
    settings: dict[str, Any]
    models: dict[str, str]

    @classmethod
    def of(cls, context: typer.Context, command: str, models: Iterable[Path]) -> Origin:
        """From the options a command was called with; files among them count by their contents."""
        settings = {name: _setting(v) for name, v in context.params.items() if name not in NOT_SETTINGS}
        return cls(command, settings, {str(path): digest(path) for path in models})

    def refuse_unless_equal(self, record: dict[str, Any], path: Path) -> None:
        """Stop when an earlier line was made otherwise.

        Raises:
            InputError: Another command, other settings or other models.
        """
        mend = "use the same, or another --out"
        if record["command"] != self.command:
            raise InputError(f"holds results of mlip {record['command']}", file=path, mend=mend)
        if sorted(record["models"].values()) != sorted(self.models.values()):
            raise InputError("was made with another model", file=path, mend=mend)
        for name in sorted(record["settings"].keys() | self.settings.keys()):
            before, now = record["settings"].get(name), self.settings.get(name)
            if before != now:
                raise InputError(f"was made with {name} = {before}, not {now}", file=path, key=name, mend=mend)


class Ledger:
    """A file of one JSON line per structure, appended to as each is done.

    A line is one write to a file opened for appending, flushed to disk: after a crash every line but the last is
    whole, and the last one is dropped by `resume` when it is not.

    Args:
        path: The file.
        origin: What its results depend on.
    """

    def __init__(self, path: Path, origin: Origin) -> None:
        self.path, self.origin = path, origin

    def start(self, *, force: bool) -> None:
        """Begin afresh.

        Raises:
            InputError: There are results, and ``force`` is false.
        """
        if self.path.exists() and not force:
            raise InputError("already holds results", file=self.path, mend="--resume to go on, --force to replace")
        self.path.unlink(missing_ok=True)

    def resume(self, structures: Iterable[Path]) -> dict[str, dict[str, Any]]:
        """What is done: the record of each structure whose file is as it was.

        Errors are forgotten, to be tried again.

        Raises:
            InputError: The results there were made otherwise, or the file is damaged.
        """
        records = self._records()
        for record in records:
            self.origin.refuse_unless_equal(record, self.path)
        now = {str(path): digest(path) for path in structures if path.is_file()}
        kept = {
            r["structure"]: r
            for r in records
            if r["status"] != "error" and now.get(r["structure"], r["digest"]) == r["digest"]
        }
        if self.path.exists():
            write_text(self.path, "".join(_line(record) for record in kept.values()))
        return kept

    def append(self, record: dict[str, Any]) -> None:
        """Add one line, whole and on disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = _line(record).encode()
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            if os.write(handle, line) != len(line):
                raise OSError(f"{self.path}: the disk is full")
            os.fsync(handle)
        finally:
            os.close(handle)

    def _records(self) -> list[dict[str, Any]]:
        """All whole lines; a last line without its end was being written when the run was cut off."""
        if not self.path.exists():
            return []
        *whole, _ = self.path.read_text(encoding="utf-8").split("\n")
        try:
            return [json.loads(line) for line in whole]
        except json.JSONDecodeError as error:
            raise InputError(f"a damaged line: {error}", file=self.path, mend="use another --out") from error


def for_each(
    structures: Sequence[Path],
    work: Callable[[Path, Path], Outcome],
    origin: Origin,
    report: CommandReport,
    *,
    out: Path | None,
    force: bool,
    resume: bool = False,
    shard: Shard | None = None,
) -> int:
    """Do the same with every structure, and put what comes out into the report.

    A single structure raises what goes wrong. Of several, each has its own folder below ``out``, its line in
    ``out/results.jsonl``, and the others go on when one fails.

    Args:
        structures: Files, each one once.
        work: From a structure and an empty folder to its outcome.
        origin: What results depend on besides the structure.
        report: Filled with results, checks and files.
        out: Folder for everything; None: ``STRUCTURE-COMMAND`` for each, and no ledger.
        force: Replace what is there.
        resume: Skip what the ledger in ``out`` has.
        shard: Do only this part of the list; ``out`` is shared with the other parts.

    Returns:
        How many structures ended with an error.

    Raises:
        InputError: A structure given twice, results in the way, or results that cannot be gone on with.
    """
    _refuse_twice(structures)
    several = len(structures) > 1 or resume or shard is not None
    if out is None and (resume or shard is not None):
        raise InputError("--resume and --shards need the --out of the run")
    if shard is not None and out is not None:
        shard.join(out, structures, force=force)
    mine = structures if shard is None else shard.part(structures)
    name = "results.jsonl" if shard is None else shard.ledger
    ledger = Ledger(out / name, origin) if out is not None and several else None
    done: dict[str, dict[str, Any]] = {}
    if ledger is not None:
        done = ledger.resume(mine) if resume else {}
        if not resume:
            ledger.start(force=force)
    names = folder_names(structures, origin.command, taken=done)
    outcomes: Counter[str] = Counter()
    for path in mine:
        record = done.get(str(path))
        if record is None:
            place = _place(names[path], out, several=several)
            record = _record(path, place, work, origin, several=several, force=force or resume)
            if ledger is not None:
                ledger.append(record)
            outcomes[record["status"]] += 1
        else:
            outcomes["done before"] += 1
        _report(record, path, report, several=several)
    if several:
        console.print(f"{len(mine)} structures: " + ", ".join(f"{n} {what}" for what, n in outcomes.items()))
    return outcomes["error"]


def folder_names(structures: Sequence[Path], command: str, taken: dict[str, dict[str, Any]]) -> dict[Path, str]:
    """A name of its own for every structure's folder: its stem, with its folder's name where stems are equal.

    Args:
        structures: Files.
        command: Ends the name.
        taken: Records of finished structures, whose folders keep their names.
    """
    used = {Path(record["folder"]).name for record in taken.values()}
    stems = Counter(path.stem for path in structures)
    names: dict[Path, str] = {}
    for path in structures:
        if str(path) in taken:
            names[path] = Path(taken[str(path)]["folder"]).name
            continue
        stem = path.stem if stems[path.stem] == 1 else f"{path.resolve().parent.name}-{path.stem}"
        name, number = f"{stem}-{command}", 2
        while name in used:
            name, number = f"{stem}-{number}-{command}", number + 1
        used.add(name)
        names[path] = name
    return names


def digest(path: Path) -> str:
    """SHA-256 of a file's contents."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _place(name: str, out: Path | None, *, several: bool) -> Path:
    if out is None:
        return Path(name)
    return out / name if several else out


def _record(
    path: Path, place: Path, work: Callable[[Path, Path], Outcome], origin: Origin, *, several: bool, force: bool
) -> dict[str, Any]:
    """Work on one structure; of several, what goes wrong becomes part of the record."""
    record: dict[str, Any] = {
        "command": origin.command,
        "version": mlip.__version__,
        "structure": str(path),
        "digest": digest(path) if path.is_file() else None,
        "models": origin.models,
        "settings": origin.settings,
        "folder": str(place),
    }
    try:
        outcome = _worked(path, place, work, force=force)
    except MLIPError as error:
        if not several:
            raise
        return record | {"status": "error", "error": str(error)}
    except Exception as error:
        if not several:
            raise
        message = f"{path}: {type(error).__name__}: {error}"
        return record | {"status": "error", "error": message, "traceback": traceback.format_exc()}
    passed = all(check.passed for check in outcome.checks)
    for line in outcome.lines:
        console.print(f"{path}: {line}", highlight=False, soft_wrap=True)
    return record | {
        "status": "passed" if passed else "failed a check",
        "results": plain(outcome.results),
        "checks": [plain(check.to_dict()) for check in outcome.checks],
        "files": [str(file) for file in outcome.files],
    }


def _worked(path: Path, place: Path, work: Callable[[Path, Path], Outcome], *, force: bool) -> Outcome:
    """The work in its folder, which does not stay when nothing came of it."""
    folder = output_folder(place, force=force)
    try:
        return work(path, folder)
    finally:
        if not any(folder.iterdir()):
            folder.rmdir()


def _report(record: dict[str, Any], path: Path, report: CommandReport, *, several: bool) -> None:
    if record["status"] == "error":
        report.results.setdefault("errors", {})[str(path)] = record["error"]
        typer.echo(f"error: {record['error']}", err=True)
        return
    checks = [Check(**{key: v for key, v in row.items() if key != "passed"}) for row in record["checks"]]
    report.checks += named([_finite(check) for check in checks], path, several=several)
    report.files += [Path(file) for file in record["files"]]
    merge(report, path, record["results"], several=several)


def _finite(check: Check) -> Check:
    """JSON has no NaN; what was not finite is so again."""
    return check if check.value is not None else Check(check.name, float("nan"), check.limit, check.unit)


def _refuse_twice(structures: Sequence[Path]) -> None:
    twice = [path for path, n in Counter(path.resolve() for path in structures).items() if n > 1]
    if twice:
        raise InputError("is given twice", file=twice[0])


def _setting(value: Any) -> Any:
    if isinstance(value, Path) and value.is_file():
        return f"{value} sha256:{digest(value)}"
    if isinstance(value, list | tuple):
        return [_setting(v) for v in value]
    return plain(value)


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
