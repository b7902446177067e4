"""The Hessian of a molecule of 27 atoms and of 64 silicon atoms: ours against MACE's ``get_hessian``.

    python benchmarks/environments.py mace
    python benchmarks/hessian_peers.py

float64, one thread; MACE with its default of vectorised rows, and with its own loop over rows, which is faster.
"""

from __future__ import annotations

import argparse
import sys

from alternate import machine, take_turns
from peers import mace, mace_by_rows, ours, table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", nargs="+", default=["3BPA 27", "Si 64"])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    sys.stdout.write(f"{machine()}\n")
    for structure in arguments.structures:
        task = {"structure": structure, "call": "hessian", "dtype": "float64"}
        peers = [mace(task), mace_by_rows(task)]
        mine = [ours("preset small", task, preset="small"), ours("4×32 linear", task)]
        take_turns([*peers, *mine], arguments.rounds)
        sys.stdout.write(
            "\n".join([f"\n{structure}; {peers[0].facts['edges']} edges", "", *table(peers, mine)]) + "\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
