"""One attention block in the edge frame against the same block on e3nn's fully connected tensor product.

    python benchmarks/equiformer_block.py --out block

Time and memory against the degree, the channels and the edges. One thread, float32, process-CPU time; the two sides
take turns, each in a process of its own, and a ratio is the median of the ratios round by round.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from alternate import Worker, machine, quartiles, ratio, take_turns
from matplotlib.figure import Figure

from mlip.md.figures import BLUE, VERMILION, house_style

BASE = {"lmax": 2, "channels": 16, "edges": 512}
SCANS = {"lmax": [1, 2, 3, 4], "channels": [8, 16, 32], "edges": [128, 512, 2048]}
KINDS = {"edge frame": BLUE, "tensor product": VERMILION}
TICKS = {"ms": [10, 30, 100, 300], "MiB": [10, 30, 100, 300]}
LABELS = {"lmax": "highest degree", "channels": "channels", "edges": "edges"}


def measure(settings: dict[str, Any], training: bool, rounds: int, restarts: int) -> dict[str, Any]:
    """Times, ratio and memory of both sides at one size."""
    workers = [Worker(kind, "worker_block.py", {"kind": kind, "training": training, **settings}) for kind in KINDS]
    take_turns(workers, rounds, restarts)
    ours, theirs = workers
    found: dict[str, Any] = {**settings, "training": training, "ratio": ratio(theirs, ours)}
    for one in workers:
        low, middle, high = quartiles(one.times)
        memory = None if one.peak is None else one.peak - one.facts["loaded"]
        found[one.name] = {"ms": middle, "low": low, "high": high, "MiB": memory, **one.facts}
    return found


def row(found: dict[str, Any]) -> str:
    """A line of the table."""
    cells = [str(found[name]) for name in BASE] + ["training" if found["training"] else "E + F"]
    for kind in KINDS:
        one = found[kind]
        cells.append(f"{one['ms']:.0f} ({one['low']:.0f}–{one['high']:.0f})")
    cells.append(found["ratio"])
    cells += ["?" if found[kind]["MiB"] is None else f"{found[kind]['MiB']:.0f}" for kind in KINDS]
    return "| " + " | ".join(cells) + " |"


def figure(results: list[dict[str, Any]]) -> Figure:
    """Time above, memory below; against degree, channels and edges."""
    with house_style():
        drawn = Figure(figsize=(8.4, 4.8), layout="constrained")
        axes = drawn.subplots(2, 3, sharex="col", sharey="row")
        for column, (name, values) in enumerate(SCANS.items()):
            others = {key: value for key, value in BASE.items() if key != name}
            chosen = [r for r in results if r["training"] and all(r[k] == v for k, v in others.items())]
            chosen.sort(key=lambda r, name=name: r[name])
            for kind, colour in KINDS.items():
                for panel, quantity in zip(axes[:, column], ("ms", "MiB"), strict=True):
                    there = [(r[name], r[kind][quantity]) for r in chosen if r[kind][quantity] is not None]
                    panel.plot(*zip(*there, strict=True), color=colour, marker="o", ms=4, label=kind)
                    panel.set_yscale("log")
                    panel.set_yticks(TICKS[quantity], [str(tick) for tick in TICKS[quantity]])
                    panel.minorticks_off()
            fixed = ", ".join(f"{value} {LABELS[key]}" for key, value in others.items() if key != "lmax")
            fixed += f", lmax {others['lmax']}" if "lmax" in others else ""
            axes[0, column].set_title(fixed, fontsize=8.5)
            if name != "lmax":
                axes[1, column].set_xscale("log", base=2)
            axes[1, column].set_xlabel(LABELS[name])
            axes[1, column].set_xticks(values, [str(value) for value in values])
            axes[1, column].minorticks_off()
        axes[0, 0].set_ylabel("CPU time (ms)")
        axes[1, 0].set_ylabel("memory (MiB)")
        drawn.suptitle("A training step of one attention block, one thread", x=0.01, ha="left", fontsize=10)
        axes[0, 0].legend(loc="upper left")
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--restarts", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("equiformer-block"))
    arguments = parser.parse_args()
    sys.stdout.write(f"{machine()}\n\n| {' | '.join(BASE)} | step | {' | '.join(f'{k}, CPU ms' for k in KINDS)} | ")
    sys.stdout.write(f"times faster | {' | '.join(f'{k}, MiB' for k in KINDS)} |\n{'|---' * 9}|\n")
    sizes = [{**BASE, name: value} for name, values in SCANS.items() for value in values]
    sizes = [size for k, size in enumerate(sizes) if size not in sizes[:k]]
    results = []
    for training in (True, False):
        for size in sizes if training else [{**BASE, "lmax": lmax} for lmax in SCANS["lmax"]]:
            results.append(measure(size, training, arguments.rounds, arguments.restarts))
            sys.stdout.write(row(results[-1]) + "\n")
            sys.stdout.flush()
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "block.json").write_text(json.dumps(results, indent=1))
    figure(results).savefig(arguments.out / "block.png", dpi=160)


if __name__ == "__main__":
    main()
