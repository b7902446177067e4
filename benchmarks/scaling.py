"""Cost per atom and memory of energy, forces and stress, from 64 silicon atoms to 4096.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --presets fast small medium --repeats 2 4 8

One thread, float32, random weights, process-CPU time, what the calculator computes. Sizes take turns, each in a
process of its own; memory is what the evaluation adds to the loaded package. Targets: time per atom within 30 % of
that of the smallest, memory linear.
"""

from __future__ import annotations

import argparse
import sys

from alternate import KEEP_MEMORY, Worker, machine, quartiles, take_turns
from peers import ours


def sizes(preset: str, repeats: list[int]) -> list[Worker]:
    """One worker for each supercell."""
    workers = [ours(preset, {"structure": f"Si {8 * n**3}"}, preset=preset) for n in repeats]
    for one in workers:
        one.environment = {**one.environment, **KEEP_MEMORY}
    return workers


def rows(preset: str, repeats: list[int], workers: list[Worker]) -> list[str]:
    """A line for each size; the ratio is to the smallest, round by round."""
    lines = []
    atoms = [8 * n**3 for n in repeats]
    for count, one in zip(atoms, workers, strict=True):
        low, middle, high = (1e3 * t / count for t in quartiles(one.times))
        per_atom = [(a / count) / (b / atoms[0]) for a, b in zip(one.times, workers[0].times, strict=True)]
        memory = "?" if one.peak is None else f"{(one.peak - one.facts['loaded']) * 1024 / count:.0f}"
        cells = [preset, str(count), f"{one.facts['edges']:,}", f"{middle:.0f} ({low:.0f}–{high:.0f})"]
        lines.append("| " + " | ".join([*cells, f"{quartiles(per_atom)[1]:.2f}", memory]) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["small"])
    parser.add_argument("--repeats", type=int, nargs="+", choices=range(2, 9), default=[2, 3, 4, 6, 8])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    heads = ["preset", "atoms", "edges", "CPU µs per atom (quartiles)", "to the smallest", "KiB per atom"]
    sys.stdout.write(f"{machine()}\n\n| {' | '.join(heads)} |\n{'|---' * len(heads)}|\n")
    for preset in arguments.presets:
        workers = sizes(preset, arguments.repeats)
        take_turns(workers, arguments.rounds)
        sys.stdout.write("\n".join(rows(preset, arguments.repeats, workers)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
