"""Energy, forces and stress of one structure: ours against NequIP, SevenNet and MACE.

    python benchmarks/environments.py nequip mace sevenn
    python benchmarks/energy_forces.py --structures "Si 64" "Si 216" "Si 512"
    python benchmarks/energy_forces.py --peers nequip --models linear --presets fast small medium --parity off

One thread, float32 unless ``--dtype`` says otherwise, random weights, process-CPU time; the packages take turns, each
in a process of its own. NequIP and SevenNet have the hyper-parameters of ours, MACE its own. Ours computes what its
calculator does, with tables for the radial networks where those repay their making; a row without them stands beside
it. With ``--keep-memory`` the C library of all sides keeps the memory it frees (see ``alternate.KEEP_MEMORY``).
What is compiled (NequIP's by AOTInductor) takes minutes. A preset of either side has its own size and no parity.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from alternate import KEEP_MEMORY, Worker, machine, take_turns
from peers import mace, nequip, ours, sevenn, table
from structures import NAMED

PEERS: dict[str, Callable[[dict[str, str], bool], Worker]] = {
    "nequip": nequip,
    "nequip compiled": partial(nequip, compiled=True),
    "nequip S": partial(nequip, preset="S"),
    "nequip S compiled": partial(nequip, preset="S", compiled=True),
    "sevenn": sevenn,
    "mace": lambda task, _: mace(task),
    "mace compiled": lambda task, _: mace(task, compiled=True),
}
MODELS: dict[str, dict[str, Any]] = {
    "linear": {},
    "linear, no tables": {"tables": False},
    "depthwise": {"mixing": "depthwise"},
    "linear, compiled": {"compiled": True},
    "preset fast, lmax 1": {"preset": "fast", "lmax": 1},
    "preset fast, compiled": {"preset": "fast", "compiled": True},
    "preset fast, lmax 1, compiled": {"preset": "fast", "lmax": 1, "compiled": True},
}


def compare(structure: str, parity: bool, arguments: argparse.Namespace) -> str:
    """One table; presets have hyper-parameters of their own and need no parity."""
    task = {"structure": structure, "dtype": arguments.dtype}
    peers = [PEERS[name](task, parity) for name in arguments.peers]
    mine = [ours(name, task, parity=parity, **MODELS[name]) for name in arguments.models]
    mine += [ours(f"preset {name}", task, preset=name) for name in arguments.presets if not parity]
    for one in [*peers, *mine] if arguments.keep_memory else []:
        one.environment = {**one.environment, **KEEP_MEMORY}
    take_turns([*peers, *mine], arguments.rounds, arguments.restarts)
    packages = ", ".join(str(peer.facts["package"]) for peer in peers)
    kind = f"parity {'on' if parity else 'off'}, {arguments.dtype}"
    title = f"{structure}, {kind}; {peers[0].facts['edges']} edges; {packages}"
    return "\n".join([f"\n{title}", "", *table(peers, mine)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", nargs="+", choices=sorted(NAMED), default=["Si 216"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--restarts", type=int, default=3)
    parser.add_argument("--keep-memory", action="store_true")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=["nequip", "sevenn", "mace"])
    parser.add_argument(
        "--models", nargs="+", choices=list(MODELS), default=["linear", "linear, no tables", "depthwise"]
    )
    parser.add_argument("--presets", nargs="*", default=[], help="our presets too, beside the peers with parity off")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--parity", choices=("on", "off", "both"), default="both")
    arguments = parser.parse_args()
    sys.stdout.write(f"{machine()}\n")
    for structure in arguments.structures:
        for parity in (True, False):
            if arguments.parity == "both" or parity == (arguments.parity == "on"):
                sys.stdout.write(compare(structure, parity, arguments))
                sys.stdout.flush()


if __name__ == "__main__":
    main()
