"""Density of states and harmonic thermal properties, by phonopy from force constants."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from phonopy import Phonopy

from mlip.files import write_text

Array = NDArray[np.float64]


@dataclass(frozen=True)
class DensityOfStates:
    """Modes per THz in one primitive cell, tetrahedron method; its integral is 3n.

    Attributes:
        frequency: (m,) THz.
        total: (m,) 1/THz.
        mesh: The q mesh.
    """

    frequency: Array
    total: Array
    mesh: tuple[int, int, int]

    def to_csv(self, path: str | Path) -> Path:
        """Write two columns."""
        rows = [f"{f:.6f},{d:.8f}" for f, d in zip(self.frequency, self.total, strict=True)]
        write_text(path, "\n".join(["frequency_THz,dos_per_THz_per_primitive_cell", *rows]) + "\n")
        return Path(path)


@dataclass(frozen=True)
class ThermalTable:
    """Harmonic thermal properties at constant volume, **per mole of primitive cells**.

    Attributes:
        temperature: (t,) K.
        free_energy: (t,) kJ/mol.
        entropy: (t,) J/K/mol.
        heat_capacity: (t,) J/K/mol.
        atoms: Number of atoms in the primitive cell.
        left_out: Share of the modes that were left out as they are imaginary.
    """

    temperature: Array
    free_energy: Array
    entropy: Array
    heat_capacity: Array
    atoms: int
    left_out: float

    def at(self, temperature: float) -> dict[str, float]:
        """Interpolated values at one temperature."""
        names = ("free_energy", "entropy", "heat_capacity")
        return {name: float(np.interp(temperature, self.temperature, getattr(self, name))) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "temperature_K": self.temperature,
            "free_energy_kJ_per_mol": self.free_energy,
            "entropy_J_per_K_mol": self.entropy,
            "heat_capacity_J_per_K_mol": self.heat_capacity,
            "atoms_per_primitive_cell": self.atoms,
            "imaginary_share_left_out": self.left_out,
        }

    def to_csv(self, path: str | Path) -> Path:
        """Write the table; a mole is a mole of primitive cells."""
        head = [
            f"# harmonic, constant volume, per mole of primitive cells of {self.atoms} atoms",
            "temperature_K,free_energy_kJ_per_mol,entropy_J_per_K_mol,heat_capacity_J_per_K_mol",
        ]
        columns = zip(self.temperature, self.free_energy, self.entropy, self.heat_capacity, strict=True)
        write_text(path, "\n".join([*head, *(f"{t:g},{f:.6f},{s:.6f},{c:.6f}" for t, f, s, c in columns)]) + "\n")
        return Path(path)


def density_of_states(
    phonon: Phonopy, mesh: float | Sequence[int], *, symmetric: bool
) -> tuple[DensityOfStates, Array, Array]:
    """Run phonopy's mesh and total density of states.

    Returns:
        The density, and the mesh's irreducible q points (m, 3) and frequencies (m, 3n) in THz.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ran = phonon.run_mesh(mesh, is_mesh_symmetry=symmetric, is_gamma_center=True)
        low, high = float(ran.frequencies.min()), float(ran.frequencies.max())
        margin = 0.03 * (high - low)
        found = phonon.run_total_dos(
            freq_min=min(0.0, low - margin), freq_max=high + margin, freq_pitch=(high - low) / 500
        )
    a, b, c = (int(n) for n in ran.mesh_numbers)
    density = DensityOfStates(np.array(found.frequency_points), np.array(found.dos), (a, b, c))
    return density, np.array(ran.qpoints), np.array(ran.frequencies)


def thermal_table(phonon: Phonopy, temperatures: Sequence[float] | Array | None = None) -> ThermalTable:
    """Thermal properties on the mesh that was run; the acoustic modes at Γ and imaginary modes are left out."""
    wanted = np.arange(0.0, 1001.0, 10.0) if temperatures is None else np.asarray(temperatures, dtype=np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = phonon.run_thermal_properties(temperatures=wanted, exclude_gamma_acoustic=True)
    left = found.number_of_modes - found.number_of_integrated_modes
    acoustic = 3
    return ThermalTable(
        temperature=np.array(found.temperatures),
        free_energy=np.array(found.free_energy),
        entropy=np.array(found.entropy),
        heat_capacity=np.array(found.heat_capacity),
        atoms=len(phonon.primitive),
        left_out=max(0.0, (left - acoustic) / found.number_of_modes),
    )
