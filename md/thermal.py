"""Density of states and harmonic thermal properties, by phonopy from force constants."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from phonopy.phonon.mesh import Mesh
from phonopy.phonon.spectrum import TetrahedronDOSAccumulator
from phonopy.phonon.thermal_properties import ThermalProperties

from mlip.files import write_text
from mlip.md.structure import PrimitiveCell
from mlip.symmetry.crystal import atom_map, symmetry_types

Array = NDArray[np.float64]


@dataclass(frozen=True)
class DensityOfStates:
    """Modes per THz in one primitive cell, tetrahedron method; its integral is 3n.

    Attributes:
        frequency: (m,) THz.
        total: (m,) 1/THz.
        by_atom: (n, m) 1/THz, the share of each atom of the primitive cell; the shares add up to the total.
        symbols: (n,) their elements.
        mesh: The q mesh.
    """

    frequency: Array
    total: Array
    by_atom: Array
    symbols: list[str]
    mesh: tuple[int, int, int]

    def by_element(self) -> dict[str, Array]:
        """The share of each element, (m,) 1/THz."""
        kinds = dict.fromkeys(self.symbols)
        return {kind: self.by_atom[[s == kind for s in self.symbols]].sum(axis=0) for kind in kinds}

    def to_csv(self, path: str | Path) -> Path:
        """Write the total and each atom's share in columns."""
        atoms = [f"{symbol}_{j}" for j, symbol in enumerate(self.symbols)]
        columns = np.column_stack([self.total, *self.by_atom])
        rows = [
            f"{f:.6f}," + ",".join(f"{d:.8f}" for d in row) for f, row in zip(self.frequency, columns, strict=True)
        ]
        head = ",".join(["frequency_THz,dos_per_THz_per_primitive_cell", *atoms])
        write_text(path, "\n".join([head, *rows]) + "\n")
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


def density_of_states(mesh: Mesh, cell: PrimitiveCell) -> DensityOfStates:
    """Density of states by atom, by phonopy's tetrahedron method on a mesh that was run.

    At an irreducible point equivalent atoms have different shares |e_j|² of a mode; over its star each has their
    mean.
    """
    low, high = float(mesh.frequencies.min()), float(mesh.frequencies.max())
    margin = 0.03 * (high - low)
    points = np.arange(min(0.0, low - margin), high + margin, (high - low) / 500)
    n = len(cell.atoms)
    shares = (np.abs(np.asarray(mesh.eigenvectors).reshape(-1, n, 3, 3 * n)) ** 2).sum(axis=2)  # (q, atom, mode)
    if len(mesh.weights) < np.prod(mesh.mesh_numbers):
        shares = np.mean([shares[:, image] for image in _images(cell)], axis=0)
    found = TetrahedronDOSAccumulator(
        mesh.frequencies,
        mesh.bz_grid,
        mode_property=shares.transpose(0, 2, 1)[None],
        ir_grid_points=mesh.ir_grid_points,
        ir_grid_weights=mesh.weights,
        ir_grid_map=mesh.grid_mapping_table,
        sampling_points=points,
    ).result
    by_atom = np.asarray(found.density)[0].T
    a, b, c = (int(n) for n in mesh.mesh_numbers)
    return DensityOfStates(points, by_atom.sum(axis=0), by_atom, cell.atoms.get_chemical_symbols(), (a, b, c))


def _images(cell: PrimitiveCell) -> list[NDArray[np.int64]]:
    """Where each operation of the space group sends each atom."""
    positions, types = cell.atoms.get_scaled_positions(wrap=False), symmetry_types(cell.atoms)
    pairs = zip(cell.rotations, cell.translations, strict=True)
    return [atom_map(positions, types, w, t, cell.atoms.cell.array)[0] for w, t in pairs]


def thermal_table(mesh: Mesh, temperatures: Sequence[float] | Array | None = None) -> ThermalTable:
    """Thermal properties on a mesh that was run; the acoustic modes at Γ and imaginary modes are left out."""
    wanted = np.arange(0.0, 1001.0, 10.0) if temperatures is None else np.asarray(temperatures, dtype=np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = ThermalProperties(mesh, exclude_gamma_acoustic=True)
        found.temperatures = wanted
        found.run()
    left = found.number_of_modes - found.number_of_integrated_modes
    acoustic = 3
    return ThermalTable(
        temperature=np.array(found.temperatures),
        free_energy=np.array(found.free_energy),
        entropy=np.array(found.entropy),
        heat_capacity=np.array(found.heat_capacity),
        atoms=len(mesh.primitive),
        left_out=max(0.0, (left - acoustic) / found.number_of_modes),
    )
