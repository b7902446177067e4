"""A training step on energies and forces: ours against NequIP with the same hyper-parameters, and MACE.

    python benchmarks/environments.py nequip mace
    python benchmarks/training_step.py

Five frames of 3BPA (27 atoms each), cutoff 5 Å, float32, one thread; forward, backward and Adam. Eager, unless the
rows that are compiled are asked for (minutes each; the first call tells how many):

    python benchmarks/training_step.py --peers "NequIP, parity off, compiled" --models "linear, parity off, compiled"
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import Any

from alternate import Worker, machine, take_turns
from peers import mace, nequip, ours, table

TASK = {"structure": "3BPA, batch of 5", "call": "train"}
PEERS: dict[str, Callable[[dict[str, str]], Worker]] = {
    "NequIP, parity on": lambda task: nequip(task, True),
    "NequIP, parity off": lambda task: nequip(task, False),
    "MACE": mace,
    "NequIP, parity on, compiled": lambda task: nequip(task, True, compiled=True),
    "NequIP, parity off, compiled": lambda task: nequip(task, False, compiled=True),
}
MODELS: dict[str, dict[str, Any]] = {
    "linear, parity on": {"parity": True},
    "linear, parity off": {"parity": False},
    "depthwise, parity on": {"mixing": "depthwise", "parity": True},
    "depthwise, parity off": {"mixing": "depthwise", "parity": False},
    "preset small": {"preset": "small"},
    "linear, parity on, compiled": {"parity": True, "compiled": True},
    "linear, parity off, compiled": {"parity": False, "compiled": True},
    "preset small, compiled": {"preset": "small", "compiled": True},
}


def eager(names: Iterable[str]) -> list[str]:
    """Those that do not take minutes to compile."""
    return [name for name in names if "compiled" not in name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--restarts", type=int, default=2)
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=eager(PEERS))
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=eager(MODELS))
    arguments = parser.parse_args()
    peers = [PEERS[name](TASK) for name in arguments.peers]
    mine = [ours(name, TASK, **MODELS[name]) for name in arguments.models]
    for name, peer in zip(arguments.peers, peers, strict=True):
        peer.name = name
    take_turns([*peers, *mine], arguments.rounds, arguments.restarts)
    sys.stdout.write("\n".join([machine(), f"{peers[0].facts['edges']} edges", "", *table(peers, mine)]) + "\n")


if __name__ == "__main__":
    main()
