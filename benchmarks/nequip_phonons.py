"""Phonons of a NequIP model: exact D(q) of its conversion from two atoms, against NequIP's own autograd Hessian.

    python benchmarks/environments.py nequip                  # once
    python benchmarks/nequip_phonons.py [--size 4] [--minutes 2] [--checkpoint last.ckpt] [--rows 6]

A model of three layers, lmax 2, both parities, 16 channels is trained by `nequip-train` on the embedded silicon
unless a checkpoint is given. NequIP's Hessian of the n×n×n supercell and our D(q) at the n³ commensurate wavevectors
hold the same numbers; each is computed in a process of its own, in float64 on one thread. Times are process-CPU
seconds, memory is what came on top of the loaded model (largest resident size). With ``--rows`` NequIP computes only
so many rows of its Hessian, and the time of all is the first pass and so many times the time of a row.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, make_supercell
from environments import HERE, folder_of_environments, python_of

from mlip.bloch import dynamical_matrix
from mlip.convert.nequip import convert_nequip

WORKER = HERE.parent / "tests" / "external" / "nequip_worker.py"
MODEL = {
    "num_layers": 3,
    "l_max": 2,
    "parity": True,
    "num_features": 16,
    "radial_mlp_depth": 1,
    "radial_mlp_width": 32,
}
CELL = bulk("Si", a=5.43)


def mesh(size: int) -> np.ndarray:
    """(size³, 3), the wavevectors that fit the supercell."""
    return np.stack(np.meshgrid(*3 * [np.arange(size) / size], indexing="ij"), -1).reshape(-1, 3)


def from_supercell(hessian: np.ndarray, supercell: Atoms, q: np.ndarray) -> np.ndarray:
    """Hessian of a supercell → D(q), (nq, 6, 6), by lattice sums over the rows of its first two atoms."""
    rows = hessian[:6].reshape(2, 3, len(supercell), 3)
    fractional = supercell.positions @ np.linalg.inv(CELL.cell.array)
    offsets = fractional[:, None] - fractional[None, :2]
    member = np.abs(offsets - np.rint(offsets)).max(2).argmin(1)
    result = np.zeros((len(q), 2, 3, 2, 3), dtype=complex)
    for k, offset in enumerate(offsets):
        phases = np.exp(2j * np.pi * q @ offset.T)
        result[:, :, :, member[k]] += rows[None, :, :, k] * phases[:, :, None, None]
    return result.reshape(len(q), 6, 6) / CELL.get_masses()[0]


def ours(checkpoint: str, size: str, out: str) -> None:
    """Run in a process of its own: D(q) on the mesh, and what it cost."""
    potential = convert_nequip(checkpoint).double().requires_grad_(False)
    graph, q = potential.graph(CELL), torch.as_tensor(mesh(int(size)))
    masses = torch.as_tensor(CELL.get_masses())
    dynamical_matrix(potential, graph, q[:1], masses)  # libraries load what they load
    before, memory = time.process_time(), peak_memory()
    matrices = torch.cat([dynamical_matrix(potential, graph, some, masses) for some in q.split(2)])
    cost = {"seconds": time.process_time() - before, "megabytes": peak_memory() - memory}
    np.save(out, matrices.numpy())
    sys.stdout.write("RESULT " + json.dumps(cost) + "\n")


def peak_memory() -> float:
    """Largest resident size so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def result_of(command: list[str]) -> dict[str, float]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))[7:])


def train(python: Path, minutes: int, target: Path) -> None:
    """By NequIP's own trainer; see the recipe of the tests' checkpoints."""
    code = f"import nequip_recipe as r; r.train({MODEL!r}, {60 * minutes}, {str(target)!r})"
    subprocess.run([python, "-c", code], check=True, cwd=WORKER.parent, env=os.environ | {"OMP_NUM_THREADS": "1"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=4)
    parser.add_argument("--minutes", type=int, default=2)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--rows", type=int, help="rows of NequIP's Hessian, at least 6; all unless given")
    parser.add_argument("--folder", type=Path, default=folder_of_environments())
    arguments = parser.parse_args()
    python = python_of("nequip", arguments.folder)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = arguments.checkpoint or folder / "model.ckpt"
        if arguments.checkpoint is None:
            train(python, arguments.minutes, checkpoint)
        supercell = make_supercell(CELL, arguments.size * np.eye(3))
        ase.io.write(folder / "supercell.xyz", supercell)
        count = arguments.rows or 3 * len(supercell)
        files = [folder / "supercell.xyz", folder / "hessian.npy"]
        theirs = result_of([python, WORKER, "hessian", checkpoint, *files, str(count)])
        row = (theirs["seconds"] - theirs["first_pass"]) / count
        theirs = {"seconds": theirs["first_pass"] + 3 * len(supercell) * row, "megabytes": theirs["megabytes"]}
        mine = result_of([sys.executable, __file__, "ours", checkpoint, str(arguments.size), folder / "ours.npy"])
        reference = from_supercell(np.load(folder / "hessian.npy"), supercell, mesh(arguments.size))
        gap = np.abs(np.load(folder / "ours.npy") - reference).max()
    ratio = {name: theirs[name] / max(mine[name], 1e-9) for name in theirs}
    rows = {
        "| ": {"seconds": "CPU s", "megabytes": "MB"},
        "|---": dict.fromkeys(theirs, "---"),
        f"| NequIP, autograd Hessian of {len(supercell)} atoms ": theirs,
        f"| converted, D(q) at {arguments.size**3} q from 2 atoms ": mine,
        "| ratio ": ratio,
    }
    for title, row in rows.items():
        cells = [x if isinstance(x, str) else f"{x:.3g}" for x in (row["seconds"], row["megabytes"])]
        sys.stdout.write(f"{title}| {' | '.join(cells)} |\n")
    sys.stdout.write(f"largest |ΔD| {gap:.1e} of {np.abs(reference).max():.2f} eV/Å²/amu\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["ours"]:
        ours(*sys.argv[2:])
    else:
        main()
