"""The figures of docs/symmetry-distortions.md.

python docs/make_symmetry_figures.py MODEL [MODEL …] STRUCTURE [--out docs/figures] [--max-candidates 40]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ase.io

from mlip import MLIPCalculator
from mlip.md import SearchSettings, find_distortions


def main() -> None:
    """Search for the phases of a crystal and draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    parser.add_argument("--max-candidates", type=int, default=40)
    arguments = parser.parse_args()
    *models, structure = arguments.files
    calculator = MLIPCalculator(models, dtype="float64")
    settings = SearchSettings(max_candidates=arguments.max_candidates)
    result = find_distortions(ase.io.read(structure), calculator, settings=settings)
    for line in result.lines:
        print(line)
    result.plot().savefig(arguments.out / "symmetry-landscape.png", dpi=200)
    result.plot_tree().savefig(arguments.out / "symmetry-tree.png", dpi=200)


if __name__ == "__main__":
    main()
