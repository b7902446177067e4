"""What a phonon calculation comes to: bands, density of states, thermal table, comparisons, files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from phonopy import Phonopy

from mlip.files import write_text
from mlip.md.bands import Bands
from mlip.md.committee import Spread
from mlip.md.dynamical import DynamicalMatrices, frequencies_at
from mlip.md.mesh import ZoneSample
from mlip.md.modes import Modes, modes_of
from mlip.md.phonon_analyses import AnalysisResults
from mlip.md.reference import Comparison, Reference, compare
from mlip.md.relaxation import RelaxResult
from mlip.md.stability import ImaginaryMode
from mlip.md.structure import PrimitiveCell
from mlip.md.thermal import DensityOfStates, ThermalTable
from mlip.report import Check, plain

Array = NDArray[np.float64]
METHODS = {"exact": "exact D(q)", "hessian": "supercell Hessian", "displacement": "finite displacements"}


@dataclass(frozen=True)
class PolarTerm:
    """The dipole term of a polar crystal.

    Attributes:
        born: (n, 3, 3) Born charges in e, as used.
        dielectric: (3, 3) ε∞.
        change: Largest |Δν| in THz at a general q in the next larger supercell; None where it was not tried.
    """

    born: Array
    dielectric: Array
    change: float | None


@dataclass(frozen=True)
class PhononResult:
    """Phonons of one crystal.

    Attributes:
        cell: The primitive cell, its space group, path and the way back to the input.
        method: "exact" (D(q) of the primitive cell), "hessian" or "displacement" (of a supercell).
        supercell: (3, 3) rows: supercell lattice = supercell · primitive lattice.
        phonon: phonopy's object with force constants, for everything that phonopy can do further.
        matrices: D(q) as used for the bands.
        bands: Frequencies along the path.
        dos: Density of states, per THz and primitive cell, with each atom's share.
        zone: The mesh behind it and behind the thermal properties, and how its D(q) were had.
        thermal: Thermal properties, per mole of primitive cells.
        relaxation: The relaxation that came first, or None.
        symmetry_defect: How far the calculator breaks the space group, relative; from 1e-6 on no symmetry is used.
        lowest: Lowest frequency in THz over path and mesh (acoustic modes at Γ left out), and its q.
        imaginary: Imaginary modes at the special points and where the frequency is lowest, with their irreps.
        interpolation_error: Largest |Δν| in THz between exact D(q) and Fourier interpolation, at points between
            the commensurate ones; None where nothing exact is known, or dipoles are added in between.
        polar: The dipole term, where Born charges were given.
        stress: Voigt stress in GPa at which the phonons hold, or None.
        analyses: Representations, group velocities, Grüneisen parameters, displacements: what was asked for.
        references: Comparisons with other phonons of the same crystal.
        spread: How far the members of a committee differ; None for one model.
    """

    cell: PrimitiveCell
    method: str
    supercell: NDArray[np.int64]
    phonon: Phonopy
    matrices: DynamicalMatrices
    bands: Bands
    dos: DensityOfStates
    zone: ZoneSample
    thermal: ThermalTable
    relaxation: RelaxResult | None
    symmetry_defect: float
    lowest: tuple[float, Array]
    imaginary: list[ImaginaryMode]
    interpolation_error: float | None
    stress: Array | None
    analyses: AnalysisResults = field(default_factory=AnalysisResults)
    polar: PolarTerm | None = None
    references: list[Comparison] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    spread: Spread | None = None

    def frequencies(self, q: Array) -> Array:
        """Frequencies in THz at any q, (nq, 3) → (nq, 3n); imaginary ones negative."""
        return frequencies_at(self.matrices, q)

    def compared_with(self, *references: Reference) -> PhononResult:
        """The same result with more references beside it."""
        more = [compare(reference, self.cell, self.matrices, self.bands) for reference in references]
        return replace(self, references=[*self.references, *more])

    def plot(self) -> Figure:
        """Bands with the density of states beside them, references drawn in."""
        from mlip.md.phonon_figures import band_figure

        return band_figure(self)

    def plot_thermal(self) -> Figure:
        """Free energy, entropy and heat capacity against temperature."""
        from mlip.md.phonon_figures import thermal_figure

        return thermal_figure(self)

    def modes(self, budget: int = 400_000) -> Modes:
        """How the atoms move, along the path; thinned to ``budget`` real numbers, special points always kept."""
        return modes_of(self.bands, self.cell.atoms, budget)

    def to_page(self, path: str | Path) -> Path:
        """Write one HTML file with the dispersion and its modes in motion, which needs nothing else."""
        from mlip.md.phonon_page import to_page

        return to_page(self, self.modes(), path)

    def to_website(self, path: str | Path) -> Path:
        """Write the JSON that Henrique Miranda's phononwebsite reads."""
        from mlip.md.phonon_website import to_website

        return to_website(self, self.modes(), path)

    def to_phonopy(self, path: str | Path) -> Path:
        """Write ``phonopy.yaml`` with the force constants in it; ``phonopy.load`` reads it back."""
        self.phonon.save(str(path), settings={"force_constants": True, "force_sets": False, "displacements": False})
        return Path(path)

    @property
    def dos_source(self) -> str:
        """Whether the density of states is exact, and if not, how far off the frequencies behind it are."""
        if self.zone.source == "exact":
            return "exact"
        if self.polar is not None:
            return "interpolated with dipoles"
        known = "" if self.interpolation_error is None else f" ±{self.interpolation_error:.2g} THz"
        return f"interpolated{known}"

    @property
    def lines(self) -> list[str]:
        """What was found, for people."""
        rows = "; ".join(
            "(" + " ".join(f"{x:g}" for x in row) + ")" for row in np.round(self.cell.transformation.T, 6) + 0.0
        )
        lines = [self.cell.line, f"primitive vectors in those of the input: {rows}"]
        size = "; ".join(" ".join(str(n) for n in row) for row in self.supercell)
        lines.append(f"{METHODS[self.method]}; force constants of the supercell ({size})")
        if self.interpolation_error is not None:
            lines[-1] += f", whose interpolation is off by {self.interpolation_error:.2g} THz between its q points"
        if self.symmetry_defect >= 1e-6:
            lines.append(
                f"the calculator breaks the space group by {self.symmetry_defect:.2g} (relative): no symmetry is "
                "used for mesh, force constants and thermal properties, and modes get no irreps"
            )
        lines.append(f"density of states and thermal properties on {self.zone.reason}; {self.dos_source}")
        if self.polar is not None:
            change = self.polar.change
            known = "" if change is None else f", which the next larger supercell changes by {change:.2g} THz"
            lines.append(f"dipole term of Gonze and Lee from Born charges{known}")
        if self.stress is not None:
            lines.append(f"at a pressure of {-self.stress[:3].mean():.3g} GPa")
        lowest, at = self.lowest
        lines.append(f"lowest frequency {lowest:.3f} THz at q = ({', '.join(f'{x:.3f}' for x in at)})")
        if self.imaginary:
            count = sum(mode.degeneracy for mode in self.imaginary)
            lines.append(f"{count} imaginary modes at special points, see imaginary_modes in the report")
        room = self.thermal.at(300.0)
        lines.append(
            f"at 300 K, per mole of primitive cells: F {room['free_energy']:.3f} kJ, "
            f"S {room['entropy']:.2f} J/K, Cv {room['heat_capacity']:.2f} J/K"
        )
        spread = [] if self.spread is None else [self.spread.line]
        if self.polar is not None and self.analyses.gruneisen is not None:
            lines.append("Grüneisen parameters leave the dipole term out: they are those of the short-range model")
        return lines + self.analyses.lines + spread + [comparison.line for comparison in self.references]

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values; bands are in `Bands.to_dict`."""
        return {
            "formula": self.cell.atoms.get_chemical_formula(),
            "space_group": self.cell.space_group,
            "symprec": self.cell.symprec,
            "largest_move": self.cell.largest_move,
            "transformation": self.cell.transformation,
            "standard_lattice": self.cell.standard_lattice,
            "primitive_lattice": self.cell.atoms.cell.array,
            "method": self.method,
            "supercell": self.supercell,
            "stress_GPa": self.stress,
            "lowest_frequency": {"THz": self.lowest[0], "q": self.lowest[1]},
            "highest_frequency_THz": float(self.bands.frequencies.max()),
            "special_points_THz": self.special_points(),
            "imaginary_modes": [mode.to_dict() for mode in self.imaginary],
            "symmetry_defect": self.symmetry_defect,
            "dos_sampling": {"source": self.zone.source, "reason": self.zone.reason, "mesh": self.dos.mesh},
            "interpolation_error_THz": self.interpolation_error,
            "polar": None if self.polar is None else asdict(self.polar),
            "thermal_per_mole_of_primitive_cells": self.thermal.to_dict(),
            **self.analyses.to_dict(),
            "references": [comparison.to_dict() for comparison in self.references],
            "committee": None if self.spread is None else self.spread.to_dict(),
        }

    def special_points(self) -> dict[str, Array]:
        """Frequencies in THz at the path's special points."""
        names = self.cell.special_points
        return dict(zip(names, self.frequencies(np.array(list(names.values()))), strict=True))

    def write(self, folder: str | Path) -> list[Path]:
        """Write figures, force constants and tables into a folder; return the files."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        files = [self.to_phonopy(folder / "phonopy.yaml")]
        files.append(self.bands.to_yaml(folder / "bands.yaml", self.cell))
        write_text(folder / "bands.json", json.dumps(plain(self.bands.to_dict())) + "\n")
        files.append(folder / "bands.json")
        files += [self.to_page(folder / "phonons.html"), self.to_website(folder / "phononwebsite.json")]
        files += [self.thermal.to_csv(folder / "thermal.csv"), self.dos.to_csv(folder / "dos.csv")]
        files += self.analyses.write(folder)
        for name, figure in (("bands", self.plot()), ("thermal", self.plot_thermal())):
            figure.savefig(folder / f"{name}.png", dpi=200)
            files.append(folder / f"{name}.png")
        return files
