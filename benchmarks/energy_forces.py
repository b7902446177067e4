"""Energy, forces and stress of 216 silicon atoms: ours against NequIP with the same hyper-parameters.

    python benchmarks/environments.py nequip
    python benchmarks/energy_forces.py

One thread, float32, random weights, process-CPU time; the packages take turns, each in a process of its own.
With ``--keep-memory`` the C library of both sides keeps the memory it frees (see ``alternate.KEEP_MEMORY``).
"""

from __future__ import annotations

import argparse
import sys

from alternate import KEEP_MEMORY, Worker, machine, quartiles, ratio, take_turns
from environments import python_of

OURS = {"num_layers": 4, "num_channels": 32, "lmax": 2, "cutoff": 5.0}
NEQUIP = {"num_layers": 4, "num_features": 32, "l_max": 2}
# NequIP's own radial network, and one of the shape of ours.
RADIAL = {
    "1×128": {"radial_mlp_depth": 1, "radial_mlp_width": 128},
    "2×64": {"radial_mlp_depth": 2, "radial_mlp_width": 64},
}


def ours(parity: bool) -> list[Worker]:
    """Both mixings, without and with the node square."""
    return [
        Worker(
            f"{mixing}{' + node square' if square else ''}",
            "worker_mlip.py",
            {**OURS, "mixing": mixing, "parity": parity, "node_square": square},
        )
        for mixing in ("linear", "depthwise")
        for square in (False, True)
    ]


def nequip(parity: bool) -> list[Worker]:
    """NequIP with either radial network."""
    return [
        Worker(
            f"NequIP, radial {name}",
            "worker_nequip.py",
            {**NEQUIP, "parity": parity, **radial},
            python_of("nequip"),
        )
        for name, radial in RADIAL.items()
    ]


def presets() -> list[Worker]:
    return [Worker(f"preset {name}", "worker_mlip.py", {"preset": name}) for name in ("fast", "small", "medium")]


def table(peers: list[Worker], own: list[Worker]) -> list[str]:
    heads = ["model", "parameters", "CPU ms (quartiles)", *(f"× faster than {p.name}" for p in peers)]
    heads += ["peak MiB", "of it by the evaluation"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for one in [*peers, *own]:
        low, middle, high = quartiles(one.times)
        cells = [one.name, f"{one.facts['parameters']:,}", f"{middle:.0f} ({low:.0f}–{high:.0f})"]
        cells += [ratio(peer, one) if peer is not one else "1" for peer in peers]
        cells += [f"{one.peak:.0f}", f"{one.peak - one.facts['loaded']:.0f}"] if one.peak else ["?", "?"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--restarts", type=int, default=3)
    parser.add_argument("--keep-memory", action="store_true")
    parser.add_argument("--parity", choices=("on", "off", "both"), default="both")
    arguments = parser.parse_args()
    sys.stdout.write(f"{machine()}\n")
    for parity in (True, False):
        if arguments.parity != "both" and parity != (arguments.parity == "on"):
            continue
        peers, own = nequip(parity), ours(parity) + ([] if parity else presets())
        for one in [*peers, *own] if arguments.keep_memory else []:
            one.environment = KEEP_MEMORY
        take_turns([*peers, *own], arguments.rounds, arguments.restarts)
        title = f"parity {'on' if parity else 'off'}; {peers[0].facts['edges']} edges; {peers[0].facts['package']}"
        sys.stdout.write("\n".join([f"\n{title}", "", *table(peers, own)]) + "\n")


if __name__ == "__main__":
    main()
