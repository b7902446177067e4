"""What an elastic calculation comes to: the tensor, moduli, sound, checks, files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.constants import atomic_mass

from mlip.files import atomic_path, write_text
from mlip.md.elastic_tensor import (
    Moduli,
    born_eigenvalues,
    compliance,
    debye_temperature,
    isotropic_velocities,
    mean_velocity,
    moduli,
    rotated,
    to_voigt,
)
from mlip.md.relaxation import RelaxResult
from mlip.md.structure import PrimitiveCell
from mlip.report import Check, plain

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Solution:
    """Elastic constants of one crystal by one potential, in the axes of the input structure.

    Attributes:
        cell: The primitive cell at which they hold.
        relaxation: How it was relaxed, or None.
        stress: (6,) GPa that is left.
        tensor: (3, 3, 3, 3) C_ijkl in GPa, as it came.
        clamped: Its clamped-ion part: atoms follow the strain homogeneously.
        lowest_internal: Lowest eigenvalue of the Hessian at Γ in eV/Å², translations left out; NaN where unknown.
    """

    cell: PrimitiveCell
    relaxation: RelaxResult | None
    stress: Array
    tensor: Array
    clamped: Array
    lowest_internal: float

    @property
    def matrix(self) -> Array:
        """C_IJ, (6, 6) in GPa, C_IJ = C_JI by their mean."""
        c = to_voigt(self.tensor)
        return (c + c.T) / 2

    @property
    def density(self) -> float:
        """kg/m³."""
        return float(self.cell.atoms.get_masses().sum() * atomic_mass / (self.cell.atoms.get_volume() * 1e-30))

    @property
    def cartesian_rotations(self) -> Array:
        """(n, 3, 3), the point group."""
        lattice = self.cell.atoms.cell.array.T
        return np.array([lattice @ w @ np.linalg.inv(lattice) for w in self.cell.rotations])


@dataclass(frozen=True)
class SoundCheck:
    """Velocities in km/s along a path of directions, from the tensor and from phonons of long wavelength.

    Attributes:
        places: (m,) degrees along the path.
        corners: Labels and their places.
        directions: (m, 3) unit vectors in the axes of the input.
        christoffel: (m, 3), from the tensor.
        phonons: (m, 3), slopes of exact acoustic branches.
    """

    places: Array
    corners: dict[str, float]
    directions: Array
    christoffel: Array
    phonons: Array

    @property
    def defect(self) -> float:
        """Largest difference relative to the largest velocity."""
        return float(np.abs(self.christoffel - self.phonons).max() / np.abs(self.christoffel).max())


@dataclass(frozen=True)
class ElasticResult:
    """Elastic constants and what follows from them.

    Attributes:
        solution: Tensor, cell and stress, in the axes of the input; of a committee, those of the mean potential.
        method: "exact" or "strain".
        axes: (3, 3), x_standard = axes · x_input: spglib's standard setting, a along x, b in the xy plane.
        members: The same for each member of a committee, each at its own equilibrium.
        finite_strain: (6, 6) GPa by finite strains, in the axes of the input, where they were made as a check.
        sound: Velocities from the tensor and from phonons, where the calculator has D(q).
    """

    solution: Solution
    method: str
    axes: Array
    members: list[Solution] = field(default_factory=list)
    finite_strain: Array | None = None
    sound: SoundCheck | None = None
    checks: list[Check] = field(default_factory=list)

    @property
    def matrix(self) -> Array:
        """C_IJ in GPa, Voigt's order xx yy zz yz xz xy, in the axes of the input structure."""
        return self.solution.matrix

    @cached_property
    def standard_matrix(self) -> Array:
        """C_IJ in GPa in the crystal's standard axes."""
        return self.turned(self.solution.tensor)

    @cached_property
    def standard_clamped(self) -> Array:
        """The clamped-ion part of C_IJ in GPa in the crystal's standard axes."""
        return self.turned(self.solution.clamped)

    def turned(self, tensor: Array) -> Array:
        """A tensor of the input's axes as a symmetric Voigt matrix in the standard ones."""
        c = to_voigt(rotated(tensor, self.axes))
        return (c + c.T) / 2

    @cached_property
    def moduli(self) -> Moduli:
        """Voigt, Reuss, Hill."""
        return moduli(self.matrix)

    @cached_property
    def debye_temperatures(self) -> dict[str, float]:
        """K: "christoffel" from the average over all directions, "hill" from Hill's moduli."""
        return _debye(self.solution)

    @property
    def stable(self) -> bool:
        """Whether every strain costs energy (Born)."""
        return bool(born_eigenvalues(self.matrix)[0] > 0)

    def spread(self) -> dict[str, Any]:
        """Standard deviations over a committee: of C_IJ, moduli and Debye temperatures; empty without one."""
        if not self.members:
            return {}
        each = [moduli(member.matrix) for member in self.members]
        return {
            "C_GPa": np.std([self.turned(member.tensor) for member in self.members], axis=0, ddof=1),
            "bulk_GPa": float(np.std([m.bulk[2] for m in each], ddof=1)),
            "shear_GPa": float(np.std([m.shear[2] for m in each], ddof=1)),
            "young_GPa": float(np.std([m.young for m in each], ddof=1)),
            "poisson": float(np.std([m.poisson for m in each], ddof=1)),
            "debye_K": float(np.std([_debye(member)["christoffel"] for member in self.members], ddof=1)),
        }

    def velocities(self) -> dict[str, float]:
        """Km/s of a polycrystal (Hill): longitudinal, transverse, mean; and the crystal's own mean."""
        m = self.moduli
        names = ("longitudinal", "transverse", "mean_hill")
        values = isotropic_velocities(m.bulk[2], m.shear[2], self.solution.density)
        exact = mean_velocity(self.solution.tensor, self.solution.density)
        return {**dict(zip(names, values, strict=True)), "mean_christoffel": exact}

    def plot(self) -> Figure:
        """The tensor, Young's modulus over all directions, and sound beside phonons."""
        from mlip.md.elastic_figures import elastic_figure

        return elastic_figure(self)

    @property
    def lines(self) -> list[str]:
        """What was found, for people."""
        m, debye, spread = self.moduli, self.debye_temperatures, self.spread()
        how = "exact second derivatives" if self.method == "exact" else "finite strains"

        def more(name: str, digits: str) -> str:
            return f" ± {spread[name]:{digits}}" if spread else ""

        lines = [
            self.solution.cell.line,
            (
                f"{how} at a stress of at most {np.abs(self.solution.stress).max():.1e} GPa; "
                f"density {self.solution.density:.1f} kg/m³"
            ),
            (
                f"bulk modulus {m.bulk[2]:.2f}{more('bulk_GPa', '.2f')} GPa "
                f"(Voigt {m.bulk[0]:.2f}, Reuss {m.bulk[1]:.2f}), "
                f"shear modulus {m.shear[2]:.2f}{more('shear_GPa', '.2f')} GPa "
                f"(Voigt {m.shear[0]:.2f}, Reuss {m.shear[1]:.2f})"
            ),
            (
                f"Young's modulus {m.young:.2f}{more('young_GPa', '.2f')} GPa, "
                f"Poisson's ratio {m.poisson:.4f}{more('poisson', '.4f')}, universal anisotropy {m.anisotropy:.3f}"
            ),
            (
                f"Debye temperature {debye['christoffel']:.1f}{more('debye_K', '.1f')} K "
                f"(Hill's moduli: {debye['hill']:.1f} K)"
            ),
        ]
        if not self.stable:
            lines.append("not stable: a strain lowers the energy; averages over directions have no meaning")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        cell = self.solution.cell
        return {
            "formula": cell.atoms.get_chemical_formula(),
            "space_group": cell.space_group,
            "method": self.method,
            "stress_GPa": self.solution.stress,
            "volume_A3": cell.atoms.get_volume(),
            "density_kg_m3": self.solution.density,
            "C_GPa": self.standard_matrix,
            "C_clamped_GPa": self.standard_clamped,
            "compliance_per_GPa": compliance(self.standard_matrix),
            "axes": self.axes,
            "C_input_axes_GPa": self.matrix,
            "born_eigenvalues_GPa": born_eigenvalues(self.matrix),
            "lowest_internal_eigenvalue": self.solution.lowest_internal,
            "moduli": asdict(self.moduli),
            "velocities_km_s": self.velocities(),
            "debye_K": self.debye_temperatures,
            "committee_std": self.spread(),
            "relaxed_lattice": cell.atoms.cell.array,
            "finite_strain_C_input_axes_GPa": self.finite_strain,
            "sound": None if self.sound is None else asdict(self.sound),
        }

    def write(self, folder: str | Path) -> list[Path]:
        """Write ``elastic.json`` and ``elastic.png``; return the files."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "elastic.json", json.dumps(plain(self.to_dict()), indent=2) + "\n")
        with atomic_path(folder / "elastic.png") as temporary:
            self.plot().savefig(temporary, dpi=200)
        return [folder / "elastic.json", folder / "elastic.png"]


def _debye(solution: Solution) -> dict[str, float]:
    per_volume = len(solution.cell.atoms) / solution.cell.atoms.get_volume()
    m = moduli(solution.matrix)
    hill = isotropic_velocities(m.bulk[2], m.shear[2], solution.density)[2]
    return {
        "christoffel": debye_temperature(mean_velocity(solution.tensor, solution.density), per_volume),
        "hill": debye_temperature(hill, per_volume),
    }
