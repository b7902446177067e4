"""What the quasi-harmonic approximation comes to: everything against temperature, figure, files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlip.files import atomic_path, write_text
from mlip.md.dynamical import frequencies_thz
from mlip.md.harmonic import QMesh, heat_capacity
from mlip.md.structure import PrimitiveCell
from mlip.report import Check, plain

Array = NDArray[np.float64]
_GPA_A3_PER_J_MOL = 1e9 * 1e-30 * 6.02214076e23  # GPa Å³ → J/mol


@dataclass(frozen=True)
class VolumePhonons:
    """Phonons at one volume.

    Attributes:
        atoms: The relaxed crystal.
        volume: Å³ per primitive cell.
        energy: Static energy, eV.
        matrices: (m, 3n, 3n) D(q) on the mesh.
        frequencies: (m, 3n) THz; infinite for the acoustic modes at Γ.
    """

    atoms: Atoms
    volume: float
    energy: float
    matrices: NDArray[np.complex128]
    frequencies: Array


@dataclass(frozen=True)
class Expansion:
    """Everything against temperature, per primitive cell or per mole of primitive cells.

    Attributes:
        temperature: (t,) K.
        volume: (t,) Å³.
        expansion: (t,) volumetric thermal expansion, 1/K; the linear one of a cubic crystal is a third of it.
        bulk: (t,) isothermal bulk modulus, GPa.
        heat_capacity: (t,) at constant pressure, J/K/mol.
        gibbs: (t,) Gibbs energy, eV.
        free_energies: (t, v) Helmholtz energy at each volume, eV.
        constant_volume: (t, v) heat capacity at each volume, J/K/mol.
        fit: Equation of state of the fits.
    """

    temperature: Array
    volume: Array
    expansion: Array
    bulk: Array
    heat_capacity: Array
    gibbs: Array
    free_energies: Array
    constant_volume: Array
    fit: str

    def at(self, temperature: float) -> dict[str, float]:
        """Interpolated values at one temperature."""
        names = ("volume", "expansion", "bulk", "heat_capacity", "gibbs")
        return {name: float(np.interp(temperature, self.temperature, getattr(self, name))) for name in names}


@dataclass(frozen=True)
class QuasiHarmonicResult:
    """Quasi-harmonic properties of one crystal.

    Attributes:
        cell: The primitive cell at the static minimum.
        mesh: The q mesh.
        volumes: Phonons at each volume.
        expansion: Everything against temperature.
        pressure: GPa.
        exact: Whether D(q) is exact; else it comes from finite displacements.
    """

    cell: PrimitiveCell
    mesh: QMesh
    volumes: list[VolumePhonons]
    expansion: Expansion
    pressure: float
    exact: bool
    checks: list[Check] = field(default_factory=list)

    def checked(self, checks: list[Check]) -> QuasiHarmonicResult:
        """The same with these checks."""
        return replace(self, checks=checks)

    def grueneisen_expansion(self, count: int = 8) -> tuple[Array, Array] | None:
        """β = Σ γ_s c_s / (B V) at the volume of each of ``count`` temperatures, from D(q) as a polynomial in V.

        γ_s = −(V/2ω²) e†(dD/dV)e needs no sorting of branches. With B(T) and V(T) of the fits; an independent road to
        the same expansion, since ∂S/∂V = Σ γ c / V.

        Returns:
            Temperatures (K) and volumetric expansion (1/K); None where V(T) is nowhere within the scan.
        """
        found = self.expansion
        low, high = self.volumes[0].volume, self.volumes[-1].volume
        inside = np.flatnonzero((found.volume > low) & (found.volume < high) & (found.temperature > 0))
        if not len(inside):
            return None
        chosen = inside[np.unique(np.linspace(0, len(inside) - 1, count).astype(int))]
        values = [self._mode_sum(found.volume[i], found.temperature[i]) / found.bulk[i] for i in chosen]
        return found.temperature[chosen], np.array(values)

    def _mode_sum(self, volume: float, temperature: float) -> float:
        """Σ γ_s c_s / V in GPa/K."""
        scale = np.array([v.volume for v in self.volumes]) / volume - 1
        stack = np.array([v.matrices for v in self.volumes])
        power = np.vander(scale, min(4, len(scale) - 1) + 1, increasing=True)
        terms, *_ = np.linalg.lstsq(power.astype(complex), stack.reshape(len(scale), -1), rcond=None)
        here, slope = (terms[k].reshape(stack.shape[1:]) for k in (0, 1))  # D and V dD/dV
        values, vectors = np.linalg.eigh((here + here.conj().swapaxes(-1, -2)) / 2)
        shifts = np.einsum("qas,qab,qbs->qs", vectors.conj(), slope, vectors).real
        keep = np.isfinite(self.volumes[0].frequencies)
        keep[~keep.all(axis=1)] = np.argsort(np.argsort(np.abs(values[~keep.all(axis=1)]), axis=1), axis=1) >= 3
        safe = np.where(keep, np.maximum(values, 1e-9), 1.0)
        gamma = np.where(keep, -shifts / (2 * safe), 0.0)
        capacity = heat_capacity(frequencies_thz(safe), temperature)
        return float(self.mesh.weights @ (gamma * capacity).sum(axis=1)) / (volume * _GPA_A3_PER_J_MOL)

    @property
    def lines(self) -> list[str]:
        """What was found, for people."""
        n, found = len(self.cell.atoms), self.expansion
        mesh = "×".join(map(str, self.mesh.numbers))
        how = "exact D(q)" if self.exact else "finite displacements"
        lines = [
            self.cell.line,
            (
                f"{how} on a {mesh} mesh ({len(self.mesh.q)} irreducible q) at {len(self.volumes)} volumes, "
                f"{found.fit} fit, {self.pressure:g} GPa"
            ),
            f"static V₀ {self.cell.atoms.get_volume() / n:.4f} Å³/atom",
        ]
        for t in (0.0, 300.0, 1000.0):
            if found.temperature[0] <= t <= found.temperature[-1]:
                v = found.at(t)
                lines.append(
                    f"{t:g} K: V {v['volume'] / n:.4f} Å³/atom, expansion {v['expansion'] * 1e6:.2f}e-6 /K, "
                    f"B {v['bulk']:.2f} GPa, C_p {v['heat_capacity'] / n:.2f} J/K per mole of atoms"
                )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Plain values, per primitive cell."""
        found = self.expansion
        grueneisen = self.grueneisen_expansion()
        return {
            "formula": self.cell.atoms.get_chemical_formula(),
            "space_group": self.cell.space_group,
            "atoms": len(self.cell.atoms),
            "mesh": self.mesh.numbers,
            "pressure_GPa": self.pressure,
            "fit": found.fit,
            "volumes_A3": [v.volume for v in self.volumes],
            "static_energies_eV": [v.energy for v in self.volumes],
            "temperature_K": found.temperature,
            "volume_A3": found.volume,
            "volumetric_expansion_per_K": found.expansion,
            "bulk_GPa": found.bulk,
            "heat_capacity_P_J_per_K_mol": found.heat_capacity,
            "gibbs_eV": found.gibbs,
            "grueneisen_expansion": None
            if grueneisen is None
            else {"temperature_K": grueneisen[0], "volumetric_expansion_per_K": grueneisen[1]},
        }

    def plot(self) -> Figure:
        """F(V) at some temperatures, volume, expansion, bulk modulus and heat capacity against temperature."""
        from mlip.md.volume_figures import quasi_harmonic_figure

        return quasi_harmonic_figure(self)

    def write(self, folder: str | Path) -> list[Path]:
        """Write ``qha.json``, ``qha.csv`` and ``qha.png``; return the files."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "qha.json", json.dumps(plain(self.to_dict()), indent=2) + "\n")
        found = self.expansion
        columns = (found.temperature, found.volume, found.expansion, found.bulk, found.heat_capacity, found.gibbs)
        head = [
            f"# quasi-harmonic, {self.pressure:g} GPa, per primitive cell of {len(self.cell.atoms)} atoms",
            "temperature_K,volume_A3,volumetric_expansion_per_K,bulk_GPa,heat_capacity_P_J_per_K_mol,gibbs_eV",
        ]
        rows = [",".join(f"{x:.10g}" for x in row) for row in zip(*columns, strict=True)]
        write_text(folder / "qha.csv", "\n".join([*head, *rows]) + "\n")
        with atomic_path(folder / "qha.png") as temporary:
            self.plot().savefig(temporary, dpi=200)
        return [folder / name for name in ("qha.json", "qha.csv", "qha.png")]
