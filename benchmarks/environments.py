"""A virtual environment for each peer: peers pin versions that exclude one another, and none of them is ours.

    python benchmarks/environments.py nequip
    python benchmarks/environments.py mace sevenn --folder /somewhere/else

The folder is ``--folder``, else the environment variable MLIP_BENCHMARK_ENVIRONMENTS, else ``benchmarks/.venvs``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
CONSTRAINTS = HERE.parent / "constraints.txt"

# What is measured, as the peer's users would install it.
PEERS = {"nequip": "nequip==0.19.1", "mace": "mace-torch==0.3.16", "sevenn": "sevenn==0.13.0"}


def folder_of_environments() -> Path:
    """Where the environments live unless a command says otherwise."""
    return Path(os.environ.get("MLIP_BENCHMARK_ENVIRONMENTS", HERE / ".venvs"))


def python_of(peer: str, folder: Path | None = None) -> Path:
    """The interpreter of a peer's environment."""
    return (folder or folder_of_environments()) / peer / "bin" / "python"


def torch_requirement() -> str:
    """The torch of our own tested set: all sides compute with the same one."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith("torch=="))


def create(peer: str, folder: Path) -> Path:
    """Make the environment of a peer, unless it is there; torch first, so that nothing replaces it."""
    python = python_of(peer, folder)
    if not python.exists():
        venv.create(folder / peer, with_pip=True)
    for requirements in ([torch_requirement()], [torch_requirement(), PEERS[peer], "vesin"]):
        subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="+", choices=sorted(PEERS))
    parser.add_argument("--folder", type=Path, default=folder_of_environments())
    arguments = parser.parse_args()
    for peer in arguments.peers:
        sys.stdout.write(f"{create(peer, arguments.folder)}\n")


if __name__ == "__main__":
    main()
