"""Run in an environment of its own, with matcalc and our wheel: PhononCalc and ElasticityCalc on our calculator.

Usage: python matcalc_worker.py MODEL CELL SUPERCELL TEMPERATURE; prints one line of JSON. Not a test.
"""

from __future__ import annotations

import json
import sys

import ase.io
import numpy as np
from matcalc import ElasticityCalc, PhononCalc

from mlip import MLIPCalculator

Q = [[0.5, 0.0, 0.5], [0.5, 0.5, 0.5], [0.25, 0.0, 0.25], [0.0, 0.0, 0.0]]


def main(model: str, cell: str, supercell: str, temperature: str) -> None:
    atoms, calculator, kelvin = ase.io.read(cell), MLIPCalculator(model, dtype="float64"), float(temperature)
    phonon = PhononCalc(
        calculator,
        atom_disp=1e-3,
        supercell_matrix=int(supercell) * np.eye(3, dtype=int),
        relax_structure=False,
        t_min=kelvin,
        t_max=kelvin,
        t_step=1,
        write_phonon=False,
    ).calc(atoms)
    elastic = ElasticityCalc(
        calculator, fmax=1e-4, norm_strains=(-0.002, -0.001, 0.001, 0.002),
        shear_strains=(-0.002, -0.001, 0.001, 0.002), relax_structure=False, relax_deformed_structures=True,
        units_GPa=True,
    ).calc(atoms)  # fmt: skip
    thermal = phonon["thermal_properties"]
    found = {
        "q": Q,
        "frequencies": phonon["phonon"].run_qpoints(Q).frequencies.tolist(),
        "mesh": [int(n) for n in phonon["phonon"].mesh.mesh_numbers],
        "free_energy": float(thermal["free_energy"][0]),
        "entropy": float(thermal["entropy"][0]),
        "heat_capacity": float(thermal["heat_capacity"][0]),
        "bulk": float(elastic["bulk_modulus_vrh"]),
        "shear": float(elastic["shear_modulus_vrh"]),
        "tensor": np.asarray(elastic["elastic_tensor"].voigt).tolist(),
    }
    print("RESULT " + json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
