"""Mean square displacements of the atoms: anisotropic displacement parameters as a function of temperature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from phonopy.phonon.mesh import Mesh
from scipy.constants import angstrom, atomic_mass, hbar
from scipy.constants import k as boltzmann

from mlip.files import write_text
from mlip.md.dynamical import operations
from mlip.md.structure import PrimitiveCell

Array = NDArray[np.float64]
COMPONENTS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


@dataclass(frozen=True)
class ThermalDisplacements:
    """⟨u u^T⟩ of each atom of the primitive cell, harmonic, quantum.

    Attributes:
        temperature: (t,) K.
        cartesian: (t, n, 3, 3) Å².
        cif: (t, n, 3, 3) Å², U_ij as CIF files have them, on the axes of the primitive cell.
        symbols: (n,).
    """

    temperature: Array
    cartesian: Array
    cif: Array
    symbols: list[str]

    @property
    def isotropic(self) -> Array:
        """U_iso = tr U / 3, (t, n) Å²."""
        return np.asarray(np.trace(self.cartesian, axis1=2, axis2=3) / 3)

    def at(self, temperature: float) -> Array:
        """(n, 3, 3) Å², Cartesian, interpolated between the temperatures."""
        flat = self.cartesian.reshape(len(self.temperature), -1)
        values = [np.interp(temperature, self.temperature, column) for column in flat.T]
        return np.reshape(values, self.cartesian.shape[1:])

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "temperature_K": self.temperature,
            "symbols": self.symbols,
            "U_iso_A2": self.isotropic,
            "U_cif_A2": self.cif,
            "U_cartesian_A2": self.cartesian,
        }

    def to_csv(self, path: str | Path) -> Path:
        """One row per temperature and atom: U_iso and the six U_ij of CIF files, Å²."""
        head = "temperature_K,atom,symbol,U_iso,U11,U22,U33,U23,U13,U12"
        rows = [
            f"{t:g},{j},{symbol},{iso:.8f}," + ",".join(f"{u[a, b]:.8f}" for a, b in COMPONENTS)
            for t, isos, us in zip(self.temperature, self.isotropic, self.cif, strict=True)
            for j, (symbol, iso, u) in enumerate(zip(self.symbols, isos, us, strict=True))
        ]
        write_text(path, "\n".join(["# Å², axes of the primitive cell", head, *rows]) + "\n")
        return Path(path)

    def plot(self) -> Figure:
        """U_iso and the principal values of each kind of atom against temperature."""
        from mlip.md.phonon_analysis_figures import displacement_figure

        return displacement_figure(self)


def thermal_displacements(
    mesh: Mesh, cell: PrimitiveCell, temperatures: Sequence[float] | Array, *, symmetric: bool
) -> ThermalDisplacements:
    """Mean square displacements from phonons on a mesh.

    U_j = Σ_qν w_q Q²(ω) Re e_j e_j† / m_j with Q² = ħ/(2ω) coth(ħω/2kT); an irreducible mesh stands for the whole
    after averaging over the space group. Acoustic modes at Γ and imaginary modes are left out.

    Args:
        mesh: A mesh that was run, with eigenvectors.
        cell: The primitive cell.
        temperatures: K.
        symmetric: Whether the mesh holds irreducible points only.
    """
    wanted = np.asarray(temperatures, dtype=np.float64)
    vectors = mesh.eigenvectors
    n, omega = len(cell.atoms), 2e12 * np.pi * _counted(mesh)
    parts = np.asarray(vectors).reshape(len(omega), n, 3, 3 * n)
    weights = mesh.weights / mesh.weights.sum()
    square = np.array([_amplitudes(omega, t) for t in wanted]) * weights[:, None]  # (t, q, ν)
    tensor = np.empty((len(wanted), n, 3, 3))
    for j, mass in enumerate(cell.atoms.get_masses()):
        outer = np.einsum("qav,qbv->qvab", parts[:, j], parts[:, j].conj()).real
        tensor[:, j] = np.einsum("tqv,qvab->tab", square, outer, optimize=True) / (mass * atomic_mass * angstrom**2)
    if symmetric:
        tensor = _averaged(tensor, cell)
    return ThermalDisplacements(wanted, tensor, _as_cif(tensor, cell), cell.atoms.get_chemical_symbols())


def _counted(mesh: Mesh) -> Array:
    """Frequencies in THz; infinite, so that they do not count, where imaginary or acoustic at Γ."""
    frequencies = np.array(mesh.frequencies)
    if mesh.gamma_index is not None:
        row = frequencies[mesh.gamma_index]
        row[np.argsort(np.abs(row))[:3]] = np.inf
    frequencies[frequencies <= 0] = np.inf
    return frequencies


def _amplitudes(omega: Array, temperature: float) -> Array:
    """Q² = ħ/(2ω) coth(ħω/2kT) in kg m²."""
    with np.errstate(over="ignore", divide="ignore"):
        coth = 1.0 if temperature <= 0 else 1 / np.tanh(hbar * omega / (2 * boltzmann * temperature))
    return np.asarray(hbar / (2 * omega) * coth)


def _averaged(tensor: Array, cell: PrimitiveCell) -> Array:
    """⟨R U_j R^T⟩ placed where the operation sends atom j."""
    n = len(cell.atoms)
    group = [matrix for _, matrix in operations(cell)]
    total = np.zeros_like(tensor)
    for matrix in group:
        blocks = matrix.reshape(n, 3, n, 3)
        total += np.einsum("kajc,tjcd,kbjd->tkab", blocks, tensor, blocks, optimize=True)
    return total / len(group)


def _as_cif(tensor: Array, cell: PrimitiveCell) -> Array:
    """U on axes a*/|a*|…: (A N)⁻¹ U (A N)⁻ᵀ, A with lattice vectors in columns and N the lengths of a*, b*, c*."""
    lattice = cell.atoms.cell.array.T
    lengths = np.linalg.norm(np.linalg.inv(lattice), axis=1)
    change = np.linalg.inv(lattice * lengths)
    return np.asarray(change @ tensor @ change.T)
