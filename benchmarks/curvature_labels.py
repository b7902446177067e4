"""Force constants fitted by symfc to training frames: labels of the curvature that hold nothing the forces do not.

    python benchmarks/curvature_labels.py --out study-hessian/labels

Writes ``diamond.yaml``, ``si.yaml`` and ``nacl.yaml`` in phonopy's format, from the frames that the recipes in
``studies/recipes`` train on.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import ase.io
from ase import Atoms
from ase.build import bulk
from ase.io.formats import string2index
from real_phonons import DIAMOND, NACL, harmonic
from structures import DATA

SILICON = 5.433560


@dataclass(frozen=True)
class Source:
    """Frames of displaced atoms in one cell."""

    file: str
    index: str
    unit: Atoms
    repeat: int = 1

    def frames(self, index: str | None = None) -> list[Atoms]:
        """Those of the recipe, or others."""
        return list(ase.io.read(DATA / self.file, string2index(index or self.index)))


SOURCES = {
    "diamond": Source(
        "diamond/C_diamond_111_rd100.extxyz", "0:75", bulk("C", "diamond", DIAMOND, cubic=True)
    ),
    "si": Source("si/Si_111_rd1000.extxyz", "0:200", bulk("Si", "diamond", SILICON, cubic=True)),
    "nacl": Source("nacl/NaCl_rd.extxyz", "0:75", bulk("NaCl", "rocksalt", NACL, cubic=True), 2),
}  # fmt: skip


def main() -> None:
    """Fit and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in SOURCES.items():
        phonon = harmonic(source.unit, source.repeat, source.frames())
        phonon.save(folder / f"{name}.yaml", settings={"force_constants": True, "displacements": False})
        sys.stdout.write(f"wrote {folder / name}.yaml\n")


if __name__ == "__main__":
    main()
