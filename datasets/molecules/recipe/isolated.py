"""Write ``atoms.xyz``: energies of the free atoms in their ground states, which a potential's energies start from.

Usage: ``python -m mlip.datasets.molecules.recipe.isolated``.
"""

from __future__ import annotations

from pathlib import Path

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import Hartree
from pyscf import dft, gto

from mlip.datasets.molecules.recipe.quantum import Settings
from mlip.datasets.recipes.frames import write_frames

DESTINATION = Path(__file__).resolve().parent.parent
UNPAIRED = {"H": 1, "C": 2, "O": 2}  # electrons of the ground states 2S, 3P, 3P


def atom(symbol: str, settings: Settings) -> Atoms:
    """A free atom with its unrestricted Kohn-Sham energy, in the functional and basis of the molecules."""
    alone = gto.M(atom=[(symbol, (0, 0, 0))], spin=UNPAIRED[symbol], basis=settings.basis, verbose=0)
    calculation = dft.UKS(alone, xc=settings.functional)
    calculation.grids.level, calculation.conv_tol = settings.grid, settings.threshold
    energy = calculation.kernel() * Hartree
    if not calculation.converged:
        raise RuntimeError(f"no self-consistency for {symbol}")
    frame = Atoms(symbol, positions=[[0.0, 0.0, 0.0]], info={"config_type": "IsolatedAtom"})
    frame.calc = SinglePointCalculator(frame, energy=round(float(energy), 6))
    return frame


def main() -> None:
    """Three atoms, a few seconds."""
    write_frames(DESTINATION / "atoms.xyz", [atom(symbol, Settings()) for symbol in UNPAIRED])


if __name__ == "__main__":
    main()
