"""Energy, forces, dipole, polarizability and Hessian of a molecule from PySCF; everything is analytic.

PySCF belongs to the recipe alone; nothing that reads the set imports this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import Bohr, Hartree
from numpy.typing import NDArray
from pyscf import dft, gto
from pyscf.scf import cphf

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """Kohn-Sham settings.

    Attributes:
        functional: name of the exchange-correlation functional.
        basis: name of the atomic basis set.
        grid: PySCF's level of the integration grid.
        threshold: change of the energy at which self-consistency ends, Hartree.
    """

    functional: str = "pbe"
    basis: str = "def2-svp"
    grid: int = 4
    threshold: float = 1e-11


def converged(atoms: Atoms, settings: Settings, field: FloatArray | None = None) -> Any:
    """A self-consistent restricted Kohn-Sham calculation, in a uniform electric field (V/Å) if one is given.

    Raises:
        RuntimeError: self-consistency was not reached.
    """
    geometry = list(zip(atoms.get_chemical_symbols(), atoms.positions, strict=True))
    molecule = gto.M(atom=geometry, unit="Angstrom", basis=settings.basis, verbose=0)
    calculation = dft.RKS(molecule, xc=settings.functional)
    calculation.grids.level = settings.grid
    calculation.conv_tol = settings.threshold
    if field is not None:
        core = calculation.get_hcore() + np.einsum("x,xij->ij", field * Bohr / Hartree, molecule.intor("int1e_r"))
        calculation.get_hcore = lambda *_: core
    calculation.kernel()
    if not calculation.converged:
        raise RuntimeError(f"no self-consistency for {atoms.get_chemical_formula()}")
    return calculation


def forces(calculation: Any) -> FloatArray:
    """(N, 3) eV/Å; with the response of the integration grid, so that they add up to zero."""
    gradient = calculation.nuc_grad_method()
    gradient.grid_response = True
    return np.asarray(-gradient.kernel() * Hartree / Bohr)


def dipole(calculation: Any) -> FloatArray:
    """(3,) e Å, about the origin (the molecules are neutral)."""
    return np.asarray(calculation.dip_moment(unit="AU", verbose=0) * Bohr)


def polarizability(calculation: Any) -> FloatArray:
    """(3, 3) e^2 Å^2/eV: dipole induced by a uniform field, from the coupled-perturbed equations.

    With the dipole integrals x_ai between occupied and virtual orbitals and their first-order mixing u_ai,
    alpha_xy = -4 sum_ai x_ai u^y_ai (closed shell, real orbitals).
    """
    orbitals, occupation = calculation.mo_coeff, calculation.mo_occ
    occupied, virtual = orbitals[:, occupation > 0], orbitals[:, occupation == 0]
    response = calculation.gen_response(hermi=1)

    def between(operator: FloatArray) -> FloatArray:
        return np.einsum("xpq,pa,qi->xai", operator, virtual, occupied, optimize=True)

    def induced(mixing: FloatArray) -> FloatArray:
        shaped = mixing.reshape(-1, virtual.shape[1], occupied.shape[1])
        density = 2.0 * np.einsum("xai,pa,qi->xpq", shaped, virtual, occupied, optimize=True)
        return between(response(density + density.transpose(0, 2, 1))).reshape(mixing.shape)

    field = between(calculation.mol.intor_symmetric("int1e_r", comp=3))
    mixing, _ = cphf.solve(induced, calculation.mo_energy, occupation, field, tol=1e-8)
    alpha = -4.0 * np.einsum("xai,yai->xy", field, mixing)
    return np.asarray((alpha + alpha.T) / 2 * Bohr**2 / Hartree)


def hessian(calculation: Any) -> FloatArray:
    """(3N, 3N) eV/Å^2, row 3i + a, symmetric."""
    blocks = calculation.Hessian().kernel() * Hartree / Bohr**2
    size = 3 * len(blocks)
    matrix = blocks.transpose(0, 2, 1, 3).reshape(size, size)
    return np.asarray((matrix + matrix.T) / 2)


def labels(atoms: Atoms, settings: Settings, with_hessian: bool, place: Path) -> dict[str, FloatArray]:
    """All labels of a structure, read from ``place/labels.npz`` if it holds those of this very structure.

    Args:
        atoms: the molecule; positions in Å.
        settings: Kohn-Sham settings.
        with_hessian: compute the Hessian as well.
        place: the structure's folder.
    """
    file = place / "labels.npz"
    if file.exists():
        known = dict(np.load(file))
        if np.array_equal(known["positions"], atoms.positions) and ("hessian" in known or not with_hessian):
            return known
    calculation = converged(atoms, settings)
    found = {
        "positions": atoms.get_positions(),
        "energy": np.array(calculation.e_tot * Hartree),
        "forces": forces(calculation),
        "dipole": dipole(calculation),
        "polarizability": polarizability(calculation),
    }
    if with_hessian:
        found["hessian"] = hessian(calculation)
    place.mkdir(parents=True, exist_ok=True)
    partial = place / "partial.npz"
    np.savez(partial, **found)
    partial.replace(file)
    return found
