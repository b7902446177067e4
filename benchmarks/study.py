"""A study: every variant × data × seed × budget of a plan, trained two at a time; goes on where it was stopped.

    python benchmarks/study.py benchmarks/studies/architectures-ethanol.yaml --out study-nets

A plan is YAML: ``recipes`` (names or files), ``variants`` (name → overrides), ``seeds``, ``minutes`` and ``epochs``
(each a list of budgets), and overrides ``common`` to all. Each run has one thread, minutes are of its own processor
time, and its errors are appended to ``results.jsonl`` as it ends; what stands there is not run again, and a run that
was interrupted resumes from its checkpoint.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlip.errors import InputError

HERE = Path(__file__).parent
KEYS = {"recipes", "variants", "seeds", "minutes", "epochs", "common"}
LIMITS = {"min": "training.max_minutes", "epochs": "training.max_epochs"}


@dataclass(frozen=True)
class Job:
    """One run; its budget is a number and its unit, ``min`` or ``epochs``."""

    recipe: str
    variant: str
    seed: int
    budget: tuple[float, str]
    overrides: tuple[str, ...]

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return f"{Path(self.recipe).stem}-{self.variant}-seed{self.seed}-{self.budget[0]:g}{self.budget[1]}"

    def command(self, folder: Path) -> list[str]:
        """The process that trains it and prints its results."""
        amount, unit = self.budget
        limits = [f"{key}={f'{amount:g}' if name == unit else 'null'}" for name, key in LIMITS.items()]
        overrides = [
            *self.overrides,
            *(f"seed={self.seed}", *limits),
            *("training.threads=1", f"run.name={self.name}", f"run.folder={folder}"),
        ]
        return [sys.executable, str(HERE / "study_job.py"), json.dumps([self.recipe, overrides])]


def jobs(plan: dict[str, Any]) -> Iterator[Job]:
    """All runs of a plan; those of one seed and budget beside each other, so that they share the machine's mood."""
    unknown = sorted(set(plan) - KEYS)
    if unknown or not {"recipes", "variants"} <= set(plan):
        raise InputError(f"a plan has {', '.join(sorted(KEYS))}", mend=f"unknown: {unknown}" if unknown else None)
    budgets = [(m, "min") for m in plan.get("minutes", [])] + [(e, "epochs") for e in plan.get("epochs", [])]
    if not budgets:
        raise InputError("a plan has minutes or epochs, a list of budgets")
    grid = itertools.product(budgets, plan.get("seeds", [1]), plan["recipes"], plan["variants"])
    for budget, seed, recipe, variant in grid:
        overrides = [*plan.get("common", []), *plan["variants"][variant]]
        yield Job(recipe, variant, seed, budget, tuple(overrides))


def finished(results: Path) -> set[str]:
    """Names of the runs whose results are there; a last line that was cut off does not count."""
    names = set()
    for line in results.read_text().splitlines() if results.is_file() else []:
        try:
            names.add(json.loads(line)["name"])
        except (json.JSONDecodeError, KeyError):
            continue
    return names


def work(todo: list[Job], folder: Path, at_once: int) -> int:
    """Run the jobs, a few at a time; return how many failed."""
    running: dict[str, tuple[Job, subprocess.Popen]] = {}
    failed, waiting = 0, list(todo)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    while waiting or running:
        while waiting and len(running) < at_once:
            job = waiting.pop(0)
            log = (folder / f"{job.name}.log").open("a")
            options = {"stdout": subprocess.PIPE, "stderr": log, "text": True, "env": environment}
            running[job.name] = job, subprocess.Popen(job.command(folder), **options)
            _say(f"started {job.name}")
        for name in [name for name, (_, process) in running.items() if process.poll() is not None]:
            failed += not _collect(*running.pop(name), folder)
        time.sleep(0.2)
    return failed


def _collect(job: Job, process: subprocess.Popen, folder: Path) -> bool:
    """Append the results of a run that ended."""
    output, _ = process.communicate()
    if process.returncode:
        _say(f"FAILED {job.name}: see {folder / job.name}.log")
        return False
    amount, unit = job.budget
    row = {"name": job.name, "recipe": job.recipe, "variant": job.variant, "seed": job.seed, unit: amount}
    with (folder / "results.jsonl").open("a") as file:
        file.write(json.dumps({**row, **json.loads(output.splitlines()[-1])}) + "\n")
    _say(f"finished {job.name}")
    return True


def _say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--at-once", type=int, default=2)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    everything = list(jobs(yaml.safe_load(arguments.plan.read_text())))
    done = finished(arguments.out / "results.jsonl")
    todo = [job for job in everything if job.name not in done]
    _say(f"{len(everything)} runs, {len(everything) - len(todo)} done")
    sys.exit(1 if work(todo, arguments.out, arguments.at_once) else 0)


if __name__ == "__main__":
    main()
