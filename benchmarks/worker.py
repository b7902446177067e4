"""A worker: one process that holds one model and times one call per line it reads.

Long-lived processes let two packages take turns within a second, so that whatever else the machine does disturbs
both alike.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch


def peak_memory() -> float | None:
    """The largest resident size this process has had, MiB; None where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def resident_memory() -> float | None:
    """The resident size now, MiB."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20 if statm.exists() else None


def timed(call: Callable[[], object]) -> dict[str, float]:
    """CPU time of the process and of compilers it waits for, and wall time, of one call, ms."""
    wall, cpu = time.perf_counter(), time.process_time() + children_time()
    call()
    cpu, wall = time.process_time() + children_time() - cpu, time.perf_counter() - wall
    return {"cpu": 1e3 * cpu, "wall": 1e3 * wall}


def children_time() -> float:
    """CPU seconds of processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def serve(call: Callable[[], object], facts: dict[str, object], warm_up: int = 3) -> None:
    """Announce the facts, then answer every line on standard input with one timed call."""
    torch.set_num_threads(1)
    before = resident_memory()
    first = timed(call)["cpu"] if warm_up else None
    for _ in range(warm_up - 1):
        call()
    _say({**facts, "loaded": before, "first": first})
    for _ in sys.stdin:
        _say({**timed(call), "peak": peak_memory()})


def _say(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()
