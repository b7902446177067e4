"""One list of structures divided among machines: who does which, and a merge that refuses duplicates and holes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlip.errors import InputError
from mlip.files import write_text

PLAN = "shards.json"


@dataclass(frozen=True)
class Shard:
    """One of several equal parts of a list, every ``count``-th structure from ``index`` on.

    Attributes:
        index: From 0.
        count: Number of shards.
    """

    index: int
    count: int

    @property
    def ledger(self) -> str:
        """Name of the file of its results."""
        return f"results-{self.index}-of-{self.count}.jsonl"

    def part(self, structures: Sequence[Path]) -> list[Path]:
        """The structures of this shard."""
        return list(structures[self.index :: self.count])

    def join(self, out: Path, structures: Sequence[Path], *, force: bool) -> None:
        """Write the plan that all shards share, or hold this call against the one that is there.

        Raises:
            InputError: The other shards were started with other structures, or another number of shards.
        """
        path = out / PLAN
        plan = {"shards": self.count, "structures": [str(structure) for structure in structures]}
        if path.exists() and not force:
            before = read_plan(out)
            if before["shards"] != self.count:
                raise InputError(f"was started with {before['shards']} shards, not {self.count}", file=path)
            if before["structures"] != plan["structures"]:
                raise InputError("was started with other structures, or in another order", file=path)
        else:
            write_text(path, json.dumps(plan, indent=1) + "\n")


def shard_from(shards: int | None, shard_index: int | None) -> Shard | None:
    """The shard that a command line names; None where there is none.

    Raises:
        InputError: One option without the other, or an index that is out of range.
    """
    if shards is None and shard_index is None:
        return None
    if shards is None or shard_index is None:
        raise InputError("--shards and --shard-index go together", mend="--shards 8 --shard-index 0")
    if not 0 <= shard_index < shards:
        raise InputError(f"{shard_index} is not one of 0 … {shards - 1}", key="--shard-index")
    return Shard(shard_index, shards)


def read_plan(out: Path) -> dict[str, Any]:
    """The list of structures and the number of shards.

    Raises:
        InputError: There is none, or it is damaged.
    """
    path = out / PLAN
    if not path.is_file():
        raise InputError("no such file: nothing was run with --shards here", file=path)
    try:
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not (isinstance(plan["shards"], int) and plan["shards"] > 0 and isinstance(plan["structures"], list)):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise InputError("is damaged", file=path, mend="run a shard with --force") from None
    return plan


def merged(out: Path, *, keep_errors: bool = False) -> list[dict[str, Any]]:
    """The records of all shards, one for each structure, in the order of the list.

    Args:
        out: The folder that the shards share.
        keep_errors: Accept structures that ended with an error; without it they are holes.

    Raises:
        InputError: A structure is missing, there twice, or in a shard that is not its own; a ledger is missing, or
            damaged, or was made with other settings or models than the first.
    """
    plan = read_plan(out)
    shards = [Shard(index, plan["shards"]) for index in range(plan["shards"])]
    _refuse_strangers(out, {shard.ledger for shard in shards})
    found: dict[str, dict[str, Any]] = {}
    for shard in shards:
        own = {str(path) for path in shard.part(plan["structures"])}
        for record in _read(out / shard.ledger, expected=bool(own)):
            _refuse(record, out / shard.ledger, own, found)
            found[record["structure"]] = record
    _refuse_mixture(list(found.values()), out)
    _refuse_holes(plan, found, out, keep_errors=keep_errors)
    return [found[name] for name in plan["structures"]]


def _read(path: Path, *, expected: bool) -> list[dict[str, Any]]:
    if not path.exists():
        if expected:
            raise InputError("no such file: this shard has not run", file=path)
        return []
    *whole, last = path.read_text(encoding="utf-8").split("\n")
    if last:
        raise InputError("its last line is cut off", file=path, mend="run this shard with --resume")
    try:
        records = [json.loads(line) for line in whole]
        if not all({"structure", "status", "command", "models", "settings"} <= record.keys() for record in records):
            raise ValueError
    except (ValueError, AttributeError):
        raise InputError("a damaged line", file=path, mend="run this shard with --force") from None
    return records


def _refuse(record: dict[str, Any], path: Path, own: set[str], found: dict[str, dict[str, Any]]) -> None:
    name = record["structure"]
    if name in found:
        raise InputError(f"{name} is there twice", file=path, mend="run this shard with --force")
    if name not in own:
        raise InputError(f"{name} does not belong to this shard", file=path, mend="run this shard with --force")


def _refuse_strangers(out: Path, known: set[str]) -> None:
    strangers = sorted({path.name for path in out.glob("results-*-of-*.jsonl")} - known)
    if strangers:
        raise InputError(
            "is of another number of shards", file=out / strangers[0], mend="remove it, or another --out"
        )


def _refuse_mixture(records: list[dict[str, Any]], out: Path) -> None:
    """All records were made by the same command with the same settings and models."""
    for record in records[1:]:
        for name in ("command", "version", "settings"):
            if record.get(name) != records[0].get(name):
                raise InputError(f"{record['structure']} was made with another {name}", file=out)
        if sorted(record["models"].values()) != sorted(records[0]["models"].values()):
            raise InputError(f"{record['structure']} was made with another model", file=out)


def _refuse_holes(plan: dict[str, Any], found: dict[str, dict[str, Any]], out: Path, *, keep_errors: bool) -> None:
    missing = [name for name in plan["structures"] if name not in found]
    if missing:
        where = Counter(plan["structures"].index(name) % plan["shards"] for name in missing)
        shards = ", ".join(str(index) for index in sorted(where))
        problem = f"{len(missing)} structures are missing, the first {missing[0]}"
        raise InputError(problem, file=out, mend=f"run shard {shards} with --resume")
    failed = [name for name in plan["structures"] if found[name]["status"] == "error"]
    if failed and not keep_errors:
        problem = f"{len(failed)} structures ended with an error, the first {failed[0]}"
        raise InputError(problem, file=out, mend="run their shards with --resume, or --keep-errors")
