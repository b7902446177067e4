"""Peak memory of a training run against the number of frames: 8-atom silicon, labelled by Stillinger and Weber.

Usage: ``python benchmarks/large_set.py --frames 1000 10000 100000 --minutes 1``. Each run is a process of its own and
reads an HDF5 cache; ``--format extxyz`` shows what the same frames cost in memory.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mlip.datasets.frame import LabelledFrame
from mlip.datasets.silicon.recipe.structures import build, stillinger_weber
from mlip.datasets.writing import write_frames

OVERRIDES = [
    "data.validation=0.02",
    "data.test=[]",
    "loss=[{target: energy, weight: 100}, {target: forces, weight: 100}]",
    "model.preset=fast",
    "model.cutoff=4.0",
    "training.batch_size=32",
    "training.graph_memory=0.1",
    "training.max_epochs=1",
]


def rattled(count: int) -> Iterator[LabelledFrame]:
    """Frames with random displacements and strains, one after another."""
    rng, perfect = np.random.default_rng(0), build("cubic8")
    calculator = stillinger_weber()
    for index in range(count):
        atoms = perfect.copy()
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(0.0, 0.08, (8, 3))
        atoms.calc = calculator
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = None
        yield LabelledFrame(atoms, energy=energy, forces=forces, file=Path("rattled"), index=index)


def measure(path: Path, minutes: float, folder: Path) -> None:
    """Train on a file in this process, and print its peak memory and time."""
    from rich.console import Console

    from mlip.training import train
    from mlip.training.forecast import peak_memory
    from mlip.training.state import Clock

    import_cost, start = peak_memory(), time.perf_counter()
    options = [f"data.train={path}", f"training.max_minutes={minutes}", f"run.folder={folder}", *OVERRIDES]
    clock = Clock(time.process_time)  # so that the minutes are steps, whatever else runs
    result = train("silicon", options, force=True, console=Console(quiet=True), clock=clock)
    steps = result.rows[-1]["step"] if result.rows else float("nan")  # nan: the minutes ended before a validation
    seconds = time.perf_counter() - start
    print(f"{peak_memory() / 2**20:.1f} {import_cost / 2**20:.1f} {seconds:.0f} {steps:.0f}")


def main() -> None:
    """Write each set, train on it, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[1000, 10000, 100000])
    parser.add_argument("--minutes", type=float, default=1.0, help="of training, at most one epoch")
    parser.add_argument("--format", choices=["h5", "extxyz"], default="h5")
    parser.add_argument("--folder", type=Path, default=None, help="keeps the sets; default: a temporary folder")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        if given.measure is not None:
            measure(given.measure, given.minutes, folder / "runs")
            return
        print("| frames | file (MB) | peak memory (MiB) | above the imports (MiB) | bytes/frame | s | steps |")
        print("|---|---|---|---|---|---|---|", flush=True)
        first: tuple[int, float] | None = None
        for count in given.frames:
            path = folder / f"rattled-{count}.{given.format}"
            if not path.exists():
                write_frames(rattled(count), path)
            program = [sys.executable, __file__, "--measure", str(path), "--minutes", str(given.minutes)]
            done = subprocess.run([*program, "--folder", str(folder)], check=True, stdout=subprocess.PIPE, text=True)
            peak, imports, seconds, steps = (float(text) for text in done.stdout.split()[-4:])
            slope = "" if first is None else f"{(peak - first[1]) * 2**20 / (count - first[0]):.0f}"
            first = first or (count, peak)
            size = path.stat().st_size / 1e6
            cells = (
                f"{count} | {size:.1f} | {peak:.0f} | {peak - imports:.0f} | {slope} | {seconds:.0f} | {steps:.0f}"
            )
            print(f"| {cells} |", flush=True)


if __name__ == "__main__":
    main()
