"""What a calculation of vibrations comes to: frequencies and their symmetry, thermochemistry, files."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase.io
import ase.units
import numpy as np
from ase import Atoms
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlip.errors import InputError
from mlip.files import write_bytes
from mlip.md.mode_symmetry import ModeSymmetry
from mlip.md.point_group import PointGroup
from mlip.md.relaxation import RelaxResult
from mlip.md.thermochemistry import Thermochemistry, held_atoms, ideal_gas
from mlip.report import Check, plain

Array = NDArray[np.float64]
IMAGINARY = 1.0  # cm⁻¹: a frequency below minus this is called imaginary


@dataclass(frozen=True, eq=False)
class VibrationResult:
    """Harmonic vibrations of one structure.

    Attributes:
        atoms: The structure at which the Hessian was taken.
        indices: Atoms that vibrate.
        energy: Potential energy, eV.
        hessian: (3n, 3n) of those atoms, eV/Å², as computed.
        frequencies: (k,) rising, cm⁻¹; imaginary ones negative.
        modes: (k, N, 3) orthonormal mass-weighted modes.
        symmetries: Irreducible representation and activity of each.
        group: Point group of a free molecule, else None.
        held: Whether fixed atoms, or atoms left out, hold what vibrates.
        analytic: Whether the Hessian is analytic.
        rigid: Number of rigid motions that were projected out.
        relaxation: The relaxation that came first, or None.
    """

    atoms: Atoms
    indices: NDArray[np.int64]
    energy: float
    hessian: Array
    frequencies: Array
    modes: Array
    symmetries: list[ModeSymmetry]
    group: PointGroup | None
    held: bool
    analytic: bool
    rigid: int
    relaxation: RelaxResult | None
    checks: list[Check] = field(default_factory=list)

    @property
    def imaginary(self) -> int:
        """Number of imaginary modes."""
        return int((self.frequencies < -IMAGINARY).sum())

    @property
    def verdict(self) -> str:
        """Minimum, transition state (one imaginary mode) or saddle of higher order."""
        count = self.imaginary
        if count == 0:
            return "minimum"
        shown = ", ".join(f"{-v:.1f}i" for v in self.frequencies[:count])
        return f"{'transition state' if count == 1 else f'saddle of order {count}'}, imaginary: {shown} cm⁻¹"

    @property
    def zero_point_energy(self) -> float:
        """½ Σ hν over the real modes, eV."""
        return float(self.frequencies[self.frequencies > 0].sum()) * ase.units.invcm / 2

    @property
    def reduced_masses(self) -> Array:
        """(k,) amu: 1 / Σ l², with l the Cartesian displacements of the normalised mode."""
        return np.asarray(1 / (self.displacements**2).sum(axis=(1, 2)))

    @property
    def displacements(self) -> Array:
        """(k, N, 3) Cartesian displacements, m^−½ times the mass-weighted modes, amu^−½."""
        return np.asarray(self.modes / np.sqrt(self.atoms.get_masses())[:, None])

    def thermochemistry(self, temperature: float = 298.15, **options: Any) -> Thermochemistry:
        """Thermochemistry: an ideal gas, or oscillators alone where something holds the atoms.

        Args:
            temperature: K.
            options: Of `mlip.md.thermochemistry.ideal_gas`: ``pressure`` (Pa), ``multiplicity``,
                ``symmetry_number``, ``low_modes``, ``cutoff`` (cm⁻¹).
        """
        if self.group is None:
            return held_atoms(self.energy, self.frequencies, temperature=temperature)
        return ideal_gas(self.atoms, self.energy, self.frequencies, self.group, temperature=temperature, **options)

    def animation(self, mode: int, *, frames: int = 24, amplitude: float = 0.4) -> list[Atoms]:
        """One period of a mode.

        Args:
            mode: Its number, from 0.
            frames: Images.
            amplitude: Å, of the atom that moves most.

        Raises:
            InputError: There is no such mode.
        """
        if not 0 <= mode < len(self.frequencies):
            raise InputError(f"there is no mode {mode} among {len(self.frequencies)}", key="mode")
        arrows = self._arrows(mode, amplitude)
        images = []
        for phase in 2 * np.pi * np.arange(frames) / frames:
            image = self.atoms.copy()
            image.set_constraint()
            image.positions += np.sin(phase) * arrows
            image.set_array("displacement", arrows)
            image.info = self._about(mode)
            images.append(image)
        return images

    def _arrows(self, mode: int, amplitude: float) -> Array:
        shape = self.displacements[mode]
        return np.asarray(amplitude * shape / np.linalg.norm(shape, axis=1).max())

    def _about(self, mode: int) -> dict[str, Any]:
        symmetry = self.symmetries[mode]
        return {"mode": mode, "frequency_cm": float(self.frequencies[mode]), "symmetry": symmetry.label}

    def plot(self) -> Figure:
        """Sticks at the frequencies, coloured by activity, with their symmetries."""
        from mlip.md.vibration_figures import spectrum_figure

        return spectrum_figure(self)

    @property
    def lines(self) -> list[str]:
        """What was found, for people."""
        kind = "analytic Hessian" if self.analytic else "finite differences of forces"
        who = f"{len(self.indices)} of {len(self.atoms)} atoms" if self.held else f"{len(self.atoms)} atoms"
        lines = [f"{self.atoms.get_chemical_formula()}, {who}, {kind}, {self.rigid} rigid motions projected out"]
        if self.group is not None:
            lines.append(
                f"point group {self.group.symbol}, symmetry number {self.group.symmetry_number}, atoms within "
                f"{self.group.largest_move:.2g} Å of it"
            )
        lines.append(f"{self.verdict}; zero-point energy {self.zero_point_energy:.4f} eV")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Everything but the modes, as plain values."""
        return {
            "formula": self.atoms.get_chemical_formula(),
            "energy": self.energy,
            "verdict": self.verdict,
            "imaginary_modes": self.imaginary,
            "point_group": None if self.group is None else self.group.symbol,
            "symmetry_number": None if self.group is None else self.group.symmetry_number,
            "zero_point_energy": self.zero_point_energy,
            "analytic_hessian": self.analytic,
            "vibrating_atoms": self.indices,
            "modes": [
                {
                    "frequency_cm": float(frequency),
                    "symmetry": symmetry.label,
                    "infrared": symmetry.infrared,
                    "raman": symmetry.raman,
                    "reduced_mass_amu": float(mass),
                }
                for frequency, symmetry, mass in zip(
                    self.frequencies, self.symmetries, self.reduced_masses, strict=True
                )
            ],
        }

    def write(self, folder: str | Path) -> list[Path]:
        """Write figure, table, Hessian, structure and animated modes into a folder; return the files.

        ``modes.xyz`` has one frame per mode with the displacements as vectors (Å) for viewers that draw arrows;
        ``mode-001.xyz`` … are animations.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        files = {"vibrations.json": (json.dumps(plain(self.to_dict()), indent=1) + "\n").encode()}
        files["structure.xyz"] = _extxyz([self.atoms])
        stored = io.BytesIO()
        np.save(stored, self.hessian)
        files["hessian.npy"] = stored.getvalue()
        if len(self.frequencies):
            files["modes.xyz"] = _extxyz([self.animation(k, frames=1)[0] for k in range(len(self.frequencies))])
            figure = io.BytesIO()
            self.plot().savefig(figure, format="png", dpi=200)
            files["spectrum.png"] = figure.getvalue()
        for k in range(len(self.frequencies)):
            files[f"mode-{k + 1:03d}.xyz"] = _extxyz(self.animation(k))
        for name, content in files.items():
            write_bytes(folder / name, content)
        return [folder / name for name in files if not name.startswith("mode-")]


def _extxyz(images: list[Atoms]) -> bytes:
    text = io.StringIO()
    ase.io.write(text, images, format="extxyz")
    return text.getvalue().encode()
