"""The equation of state of a crystal: energy and pressure against volume, third order of Birch and Murnaghan."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.optimize import curve_fit

from mlip.errors import InputError
from mlip.files import atomic_path, write_text
from mlip.md.calculators import attached, members_of
from mlip.md.elastic_tensor import moduli, to_voigt
from mlip.md.equilibrium import at_volume, bulk_cell, relaxed_cell, stress_of
from mlip.md.structure import PrimitiveCell
from mlip.md.units import GPA_PER_EV_A3
from mlip.report import Check, plain

Array = NDArray[np.float64]


def birch_energy(volume: Array, v0: float, e0: float, b0: float, derivative: float) -> Array:
    """E(V) in eV, third order (Birch, Phys. Rev. 71, 809 (1947)); B0 in eV/Å³."""
    x = (v0 / volume) ** (2 / 3) - 1
    return np.asarray(e0 + 9 * v0 * b0 / 16 * (derivative * x**3 + x**2 * (2 - 4 * x)))


def birch_pressure(volume: Array, v0: float, b0: float, derivative: float) -> Array:
    """P(V) = −dE/dV in the unit of B0."""
    y = (v0 / volume) ** (1 / 3)
    return np.asarray(1.5 * b0 * (y**7 - y**5) * (1 + 0.75 * (derivative - 4) * (y**2 - 1)))


@dataclass(frozen=True)
class BirchMurnaghan:
    """Parameters of one fit; standard errors of the fit beside them.

    Attributes:
        volume: V₀ in Å³ per primitive cell.
        energy: E₀ in eV per primitive cell; NaN for a fit to pressures.
        bulk: B₀ in GPa.
        derivative: B′ = dB/dP at V₀.
        errors: Standard errors of the same four, by name.
    """

    volume: float
    energy: float
    bulk: float
    derivative: float
    errors: dict[str, float]

    def energies(self, volume: Array) -> Array:
        """Fitted energies in eV."""
        return birch_energy(volume, self.volume, self.energy, self.bulk / GPA_PER_EV_A3, self.derivative)

    def pressures(self, volume: Array) -> Array:
        """Fitted pressures in GPa."""
        return birch_pressure(volume, self.volume, self.bulk, self.derivative)


def fit_energies(volume: Array, energy: Array) -> BirchMurnaghan:
    """Least squares of E(V); start values from a parabola.

    Raises:
        InputError: Fewer than five volumes, or energies that have no minimum.
    """
    if len(volume) < 5:
        raise InputError(f"{len(volume)} volumes are too few for four parameters", key="points", mend="5 or more")
    a, b, c = np.polyfit(volume, energy, 2)
    if a <= 0:
        raise InputError("the energy has no minimum against the volume", mend="relax first, or another --span")
    v0 = -b / (2 * a)
    start = (v0, c - a * v0**2, 2 * a * v0, 4.0)
    found, covariance = curve_fit(birch_energy, volume, energy, p0=start, ftol=1e-14, xtol=1e-14)
    v, e, bulk, d = found
    s = np.sqrt(np.diag(covariance))
    errors = {"volume": s[0], "energy": s[1], "bulk": s[2] * GPA_PER_EV_A3, "derivative": s[3]}
    return BirchMurnaghan(float(v), float(e), float(bulk * GPA_PER_EV_A3), float(d), _floats(errors))


def fit_pressures(volume: Array, pressure: Array) -> BirchMurnaghan:
    """Least squares of P(V) in GPa: B₀ = −V dP/dV from the stress alone."""
    slope, offset = np.polyfit(volume, pressure, 1)
    v0 = -offset / slope
    start = (v0, -slope * v0, 4.0)
    found, covariance = curve_fit(birch_pressure, volume, pressure, p0=start, ftol=1e-14, xtol=1e-14)
    s = np.sqrt(np.diag(covariance))
    errors = {"volume": s[0], "energy": float("nan"), "bulk": s[1], "derivative": s[2]}
    return BirchMurnaghan(float(found[0]), float("nan"), float(found[1]), float(found[2]), _floats(errors))


def _floats(values: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}


@dataclass(frozen=True)
class EquationOfState:
    """Energy and pressure against volume, and the fits.

    Attributes:
        cell: The primitive cell the scan started from.
        structures: The relaxed crystal at each volume.
        volumes: (m,) Å³ per primitive cell.
        energies: (m,) eV per primitive cell.
        pressures: (m,) GPa, from the stress.
        fit: To the energies.
        pressure_fit: To the pressures.
        isotropic: Whether the shape was held.
        elastic_bulk: GPa, of exact elastic constants: Voigt's where the shape is held, Reuss's where it follows;
            None where the calculator has no exact derivatives.
        members: Energy fits of a committee's members.
    """

    cell: PrimitiveCell
    structures: list[Atoms]
    volumes: Array
    energies: Array
    pressures: Array
    fit: BirchMurnaghan
    pressure_fit: BirchMurnaghan
    isotropic: bool
    elastic_bulk: float | None = None
    members: list[BirchMurnaghan] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    def spread(self) -> dict[str, float]:
        """Standard deviations over a committee of volume, energy, bulk and derivative; empty without one."""
        names = ("volume", "energy", "bulk", "derivative")
        if not self.members:
            return {}
        return {name: float(np.std([getattr(m, name) for m in self.members], ddof=1)) for name in names}

    @property
    def lines(self) -> list[str]:
        """What was found, for people."""
        n, fit, other = len(self.cell.atoms), self.fit, self.pressure_fit
        lines = [
            self.cell.line,
            (
                f"V₀ {fit.volume / n:.4f} ± {fit.errors['volume'] / n:.1g} Å³/atom, "
                f"E₀ {fit.energy / n:.6f} eV/atom, B₀ {fit.bulk:.2f} ± {fit.errors['bulk']:.1g} GPa, "
                f"B′ {fit.derivative:.3f} ± {fit.errors['derivative']:.1g} (errors of the fit)"
            ),
            f"from the stress: V₀ {other.volume / n:.4f} Å³/atom, B₀ {other.bulk:.2f} GPa, B′ {other.derivative:.3f}",
        ]
        if self.elastic_bulk is not None:
            kind = "Voigt" if self.isotropic else "Reuss"
            lines.append(f"bulk modulus of the exact elastic constants ({kind}): {self.elastic_bulk:.2f} GPa")
        if self.members:
            s = self.spread()
            lines.append(
                f"committee of {len(self.members)}: V₀ ± {s['volume'] / n:.4f} Å³/atom, B₀ ± {s['bulk']:.2f} GPa, "
                f"B′ ± {s['derivative']:.3f}"
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Plain values; energies and volumes per primitive cell."""
        return {
            "formula": self.cell.atoms.get_chemical_formula(),
            "space_group": self.cell.space_group,
            "atoms": len(self.cell.atoms),
            "isotropic": self.isotropic,
            "volumes_A3": self.volumes,
            "energies_eV": self.energies,
            "pressures_GPa": self.pressures,
            "fit": asdict(self.fit),
            "pressure_fit": asdict(self.pressure_fit),
            "volume_per_atom_A3": self.fit.volume / len(self.cell.atoms),
            "elastic_bulk_GPa": self.elastic_bulk,
            "committee_std": self.spread(),
            "lattices": [atoms.cell.array for atoms in self.structures],
        }

    def plot(self) -> Figure:
        """E(V) and P(V) with the fit and its residual."""
        from mlip.md.volume_figures import eos_figure

        return eos_figure(self)

    def write(self, folder: str | Path) -> list[Path]:
        """Write ``eos.json``, ``eos.csv``, the structures as ``volumes.xyz`` and ``eos.png``; return the files."""
        import ase.io

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "eos.json", json.dumps(plain(self.to_dict()), indent=2) + "\n")
        rows = zip(self.volumes, self.energies, self.pressures, strict=True)
        head = "volume_A3_per_primitive_cell,energy_eV_per_primitive_cell,pressure_GPa"
        write_text(folder / "eos.csv", "\n".join([head, *(f"{v:.8f},{e:.10f},{p:.8f}" for v, e, p in rows)]) + "\n")
        with atomic_path(folder / "volumes.xyz") as temporary:
            ase.io.write(temporary, self.structures, format="extxyz")
        with atomic_path(folder / "eos.png") as temporary:
            self.plot().savefig(temporary, dpi=200)
        return [folder / name for name in ("eos.json", "eos.csv", "volumes.xyz", "eos.png")]


def eos(
    atoms: Atoms,
    calculator: Any,
    *,
    span: float = 0.06,
    points: int = 13,
    isotropic: bool = False,
    relax_first: bool = True,
    fmax: float = 1e-5,
    symprec: float = 1e-2,
    snap: bool = True,
    progress: Callable[[Any], Any] = iter,
) -> EquationOfState:
    """Energy against volume, with atoms and shape relaxed within the space group at each volume.

    The curvature at V₀ is then Reuss's bulk modulus of the crystal, and with ``isotropic`` Voigt's.

    Args:
        atoms: The crystal, in any cell; it is reduced to its primitive cell.
        calculator: Any ASE calculator with stress; of a committee, each member is fitted for the spread.
        span: Volumes run from (1 − span) to (1 + span) times the start.
        points: How many.
        isotropic: Hold the shape of the cell.
        relax_first: Relax atoms and cell first, so that the scan is centred.
        fmax: eV/Å.
        symprec: Å, for the symmetry search.
        snap: Put the structure onto its space group first.
        progress: Wraps the volumes, for a progress bar.

    Returns:
        The scan, fits to energies and to pressures, and checks.

    Raises:
        InputError: No bulk crystal, no stress to be had, or no minimum in the energy.
    """
    if not 0 < span < 0.5:
        raise InputError(f"a span of {span:g} is not between 0 and 0.5", key="span")
    start = bulk_cell(atoms, calculator, "equations of state", symprec=symprec, snap=snap)
    scan = partial(_scan, start, span=span, points=points, isotropic=isotropic, relax_first=relax_first, fmax=fmax)
    cell, structures, volumes, energies, pressures, force = scan(calculator, progress=progress)
    fit, pressure_fit = fit_energies(volumes, energies), fit_pressures(volumes, pressures)
    members = [fit_energies(*scan(member, progress=iter)[2:4]) for member in members_of(calculator)]
    bulk = _elastic_bulk(cell, fit.volume, calculator, isotropic, fmax)
    return EquationOfState(
        cell=cell,
        structures=structures,
        volumes=volumes,
        energies=energies,
        pressures=pressures,
        fit=fit,
        pressure_fit=pressure_fit,
        isotropic=isotropic,
        elastic_bulk=bulk,
        members=members,
        checks=_checks(cell, volumes, energies, fit, pressure_fit, bulk, Check("largest force", force, fmax, "eV/Å")),
    )


def _scan(
    start: PrimitiveCell,
    calculator: Any,
    *,
    span: float,
    points: int,
    isotropic: bool,
    relax_first: bool,
    fmax: float,
    progress: Callable[[Any], Any],
) -> tuple[PrimitiveCell, list[Atoms], Array, Array, Array, float]:
    cell = relaxed_cell(start, calculator, "free", fmax)[0] if relax_first else start
    volumes = cell.atoms.get_volume() * np.linspace(1 - span, 1 + span, points)
    done = [at_volume(cell, v, calculator, isotropic=isotropic, fmax=fmax) for v in progress(list(volumes))]
    structures = [relaxed.atoms for relaxed, _ in done]
    energies = np.array([attached(a, calculator).get_potential_energy() for a in structures])
    pressures = np.array([-stress_of(a, calculator)[:3].mean() for a in structures])
    return cell, structures, volumes, energies, pressures, float(max(r.max_forces[-1] for _, r in done))


def _elastic_bulk(cell: PrimitiveCell, volume: float, calculator: Any, isotropic: bool, fmax: float) -> float | None:
    """Of the exact elastic constants at the fitted volume."""
    from mlip.md.elasticity import exact_tensors

    if not hasattr(calculator, "get_strain_derivatives"):
        return None
    rest = at_volume(cell, volume, calculator, isotropic=isotropic, fmax=fmax)[0].atoms
    return moduli(to_voigt(exact_tensors(rest, calculator)[0])).bulk[0 if isotropic else 1]


def _checks(
    cell: PrimitiveCell,
    volumes: Array,
    energies: Array,
    fit: BirchMurnaghan,
    pressure_fit: BirchMurnaghan,
    elastic_bulk: float | None,
    force: Check,
) -> list[Check]:
    residual = np.sqrt(np.mean((fit.energies(volumes) - energies) ** 2)) * 1000 / len(cell.atoms)
    middle = (volumes[0] + volumes[-1]) / 2
    rows = [
        force,
        Check("rms residual of the fit", float(residual), 0.5, "meV/atom"),
        Check(
            "V₀ from the middle of the scan",
            float(abs(fit.volume - middle) / (volumes[-1] - middle)),
            0.5,
            "of the span",
        ),
        Check("V₀: energies against stress", abs(pressure_fit.volume / fit.volume - 1), 1e-3, "relative"),
        Check("B₀: energies against stress", abs(pressure_fit.bulk / fit.bulk - 1), 0.03, "relative"),
    ]
    if elastic_bulk is not None:
        rows.append(Check("B₀ against elastic constants", abs(elastic_bulk / fit.bulk - 1), 0.03, "relative"))
    return rows
