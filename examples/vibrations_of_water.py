"""Normal modes of a water molecule: `python examples/vibrations_of_water.py`."""

from ase.build import molecule
from ase.calculators.emt import EMT

from mlip.md import vibrations

result = vibrations(molecule("H2O"), EMT())
for line in result.lines:
    print(line)
result.plot().savefig("water.png")
