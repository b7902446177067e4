"""Phonons of copper with any ASE calculator, here an empirical one: `python examples/phonons_any_calculator.py`."""

from ase.build import bulk
from ase.calculators.emt import EMT

from mlip.md import phonons, relax

copper = relax(bulk("Cu", a=3.6), EMT(), cell="free", keep_symmetry=True).to_atoms()
result = phonons(copper, EMT(), supercell=2, points=60, dos_mesh=[8, 8, 8])
for name, frequencies in result.special_points().items():
    print(name, " ".join(f"{value:.2f}" for value in frequencies), "THz")
result.plot().savefig("copper-phonons.png")
