"""Elastic constants and equation of state of gold: `python examples/elastic_and_eos.py`."""

from ase.build import bulk
from ase.calculators.emt import EMT

from mlip.md import elastic, eos, relax

gold = relax(bulk("Au", a=4.06), EMT(), cell="free", keep_symmetry=True).to_atoms()
curve = eos(gold, EMT(), points=7)
constants = elastic(gold, EMT())
for line in [*curve.lines, *constants.lines]:
    print(line)
curve.plot().savefig("gold-eos.png")
