"""Threads that wait without working, so that a busy machine does not make a small computation long."""

from __future__ import annotations

import os

_POLICY = "OMP_WAIT_POLICY"


def wait_passively() -> None:
    """Let OpenMP's threads sleep between the parallel parts of a computation, instead of spinning.

    Where other programs hold the cores, a spinning thread keeps the one that it waits for from running: the same
    ``mlip check`` took 16 s of processor time asleep, and more than 150 s spinning, on two cores with ten other
    programs. It is read when torch is loaded. The command line calls it; ``OMP_WAIT_POLICY=ACTIVE`` wins.
    """
    os.environ.setdefault(_POLICY, "PASSIVE")
