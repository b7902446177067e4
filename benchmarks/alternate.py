"""Run workers in turn and say what one costs relative to another."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

# glibc hands freed memory back to the system and faults it in again at every call; these settings let it keep it.
KEEP_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TOP_PAD_": "100000000",
}


@dataclass
class Worker:
    """One process with one model.

    Attributes:
        name: What the table calls it.
        script: The worker's file.
        options: Handed to it as JSON.
        python: Its interpreter; ours unless given.
        environment: Variables set for it beside those of one thread.
    """

    name: str
    script: str
    options: dict[str, Any]
    python: Path = Path(sys.executable)
    environment: dict[str, str] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    walls: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    peak: float | None = None

    def start(self) -> None:
        """Begin to load; `ready` waits until it is done."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **self.environment}
        command = [str(self.python), str(HERE / self.script), json.dumps(self.options)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ready(self) -> None:
        """Wait for the worker's facts."""
        self.facts = self._answer()

    def run(self) -> None:
        """One timed call."""
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        answer = self._answer()
        self.times.append(answer["cpu"])
        self.walls.append(answer["wall"])
        if answer["peak"] is not None:
            self.peak = max(self.peak or 0.0, answer["peak"])

    def stop(self) -> None:
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"the worker of '{self.name}' ended early")


def take_turns(workers: Sequence[Worker], rounds: int, restarts: int = 1) -> None:
    """Each worker runs once per round; all start afresh a few times, since a process keeps the luck of its memory."""
    for _ in range(restarts):
        started = []
        try:
            for one in workers:
                one.start()
                started.append(one)
            for one in workers:
                one.ready()
            for _ in range(rounds):
                for one in workers:
                    one.run()
        finally:
            for one in started:
                one.stop()


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def ratio(slow: Worker, fast: Worker) -> str:
    """Median of the round-by-round ratio, with its quartiles."""
    low, middle, high = quartiles([a / b for a, b in zip(slow.times, fast.times, strict=True)])
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def machine() -> str:
    """One line on where the numbers were measured."""
    model = platform.processor() or "unknown CPU"
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    return f"{os.cpu_count()}-core {platform.machine()}, {model}, Python {platform.python_version()}"
