"""What a search for distorted phases comes to: the table, the structures, the figures."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlip.files import atomic_path
from mlip.md.calculators import attached
from mlip.md.soft_modes import SoftMode
from mlip.md.structure import PrimitiveCell
from mlip.md.symmetric_cell import SymmetricCell, SymmetricState
from mlip.report import Check
from mlip.symmetry.crystal import SpaceGroup
from mlip.symmetry.irreps import IrrepComponent
from mlip.symmetry.supercell import Mask, SupercellGroup

Array = NDArray[np.float64]
SMALLEST = 5e-3  # Å per parent cell: smaller amplitudes are not listed


@dataclass(frozen=True)
class Scan:
    """Energies along a soft direction, before any relaxation.

    Attributes:
        start: Number of the phase where it begins.
        mode: Irreps of the direction.
        symbol: Space group along it.
        amplitudes: Å per parent cell.
        energies: eV per formula unit.
    """

    start: int
    mode: str
    symbol: str
    amplitudes: Array
    energies: Array


@dataclass(frozen=True)
class Step:
    """An imaginary mode of one phase that led to another.

    Attributes:
        above: Number of the phase with the mode.
        below: Number of the phase reached.
        mode: Its irreps in the parent.
        subgroup: Whether the phase reached is a subgroup of the one above; the relaxation may also have gained
            operations that the phase above lacks.
    """

    above: int
    below: int
    mode: str
    subgroup: bool


@dataclass(frozen=True)
class Distortion:
    """One phase.

    Attributes:
        number: In order of discovery; 0 is the parent.
        atoms: The relaxed structure in the smallest cell that holds it.
        space_group: International symbol and number, found by spglib in the relaxed structure.
        energy: eV per formula unit.
        relative: eV per formula unit against the parent; negative when lower.
        sigma: eV per formula unit, standard deviation of ``relative`` over a committee; None without one.
        amplitudes: Irrep → amplitude in Å per parent cell, largest first.
        strain: (3, 3) of the parent's cell, symmetric.
        axes: (3,) Å, lengths of the parent's primitive vectors after straining.
        imaginary: Imaginary modes left at the wavevectors of the supercell.
        orientations: Number of orientation variants.
        translations: Number of translation variants.
        order: Operations kept of the supercell's group.
        gradient: eV/Å, largest generalised force left.
    """

    number: int
    atoms: Atoms
    space_group: str
    energy: float
    relative: float
    sigma: float | None
    amplitudes: dict[str, float]
    strain: Array
    axes: Array
    imaginary: list[SoftMode]
    orientations: int
    translations: int
    order: int
    gradient: float

    @classmethod
    def of(
        cls,
        group: SupercellGroup,
        subgroup: Mask,
        cell: SymmetricCell,
        state: SymmetricState,
        modes: list[SoftMode],
        parts: list[IrrepComponent],
        before: list[Distortion],
    ) -> Distortion:
        """Put the figures of a relaxed state together."""
        displacement, strain = cell.on_supercell(state.coordinates)
        units = int(cell.atoms.symbols.formula.reduce()[1])
        flat = displacement.ravel() / np.sqrt(group.num_cells)
        sizes = {p.name: float(np.linalg.norm(p.basis.reshape(len(p.basis), -1) @ flat)) for p in parts}
        ordered = dict(sorted(sizes.items(), key=lambda item: -item[1]))
        orientations = group.orientation_count(np.ones(group.order, dtype=bool)) // group.orientation_count(subgroup)
        energy = state.energy / units
        return cls(
            number=len(before),
            atoms=state.atoms,
            space_group=SpaceGroup.of(state.atoms, 2e-3).symbol,
            energy=energy,
            relative=energy - before[0].energy if before else 0.0,
            sigma=None,
            amplitudes={name: size for name, size in ordered.items() if size > SMALLEST},
            strain=strain,
            axes=np.linalg.norm(group.primitive.cell.array @ (np.eye(3) + strain), axis=1),
            imaginary=modes,
            orientations=orientations,
            translations=group.order // int(subgroup.sum()) // orientations,
            order=int(subgroup.sum()),
            gradient=state.gradient,
        )

    @property
    def variants(self) -> int:
        """Number of domain states."""
        return self.orientations * self.translations

    @property
    def label(self) -> str:
        """Space group, with the number of the phase where several share it."""
        return self.space_group.rpartition(" (")[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "number": self.number,
            "space_group": self.space_group,
            "atoms_in_cell": len(self.atoms),
            "energy_eV_per_fu": self.energy,
            "relative_meV_per_fu": 1000 * self.relative,
            "sigma_meV_per_fu": None if self.sigma is None else 1000 * self.sigma,
            "amplitudes_A": self.amplitudes,
            "strain": self.strain,
            "parent_axes_A": self.axes,
            "imaginary_modes": [mode.to_dict() for mode in self.imaginary],
            "orientation_variants": self.orientations,
            "translation_variants": self.translations,
            "gradient_eV_per_A": self.gradient,
        }


@dataclass(frozen=True)
class DistortionResult:
    """The distorted phases of a crystal.

    Attributes:
        cell: The parent as given, reduced.
        supercell: (3, 3) in whose wavevectors distortions were looked for.
        phases: Lowest energy first; the parent is among them, with number 0.
        edges: Which imaginary mode of which phase led where.
        scans: Energies along soft directions.
        undecided: Pairs of numbers whose order in energy the committee leaves open.
        untried: Candidates that were left when the search ended.
    """

    cell: PrimitiveCell
    supercell: NDArray[np.int64]
    phases: list[Distortion]
    edges: list[Step]
    scans: list[Scan]
    undecided: list[tuple[int, int]]
    untried: int
    checks: list[Check] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        cell: PrimitiveCell,
        group: SupercellGroup,
        calculator: Any,
        found: list[Distortion],
        edges: list[Step],
        scans: list[Scan],
        untried: int,
        checks: list[Check],
    ) -> DistortionResult:
        """Sort the phases, and ask a committee how sure their order is."""
        spread = committee_energies(found, calculator)
        phases = list(found)
        if spread is not None:
            sigma = (spread - spread[0]).std(axis=1, ddof=1)
            phases = [replace(d, sigma=float(s)) for d, s in zip(found, sigma, strict=True)]
        ordered = sorted(phases, key=lambda d: d.energy)
        return cls(cell, group.matrix, ordered, edges, scans, undecided(found, spread), untried, checks)

    @property
    def parent(self) -> Distortion:
        """The relaxed parent."""
        return next(d for d in self.phases if d.number == 0)

    @property
    def ground_state(self) -> Distortion:
        """The phase of lowest energy."""
        return self.phases[0]

    @property
    def accepted(self) -> list[Distortion]:
        """Phases below the parent, lowest first."""
        return [d for d in self.phases if d.relative < 0]

    def table(self) -> list[dict[str, str]]:
        """Rows for people, lowest energy first."""
        return [self._row(d) for d in self.phases]

    def _row(self, d: Distortion) -> dict[str, str]:
        sigma = "" if d.sigma is None else f" ± {1000 * d.sigma:.2f}"
        open_order = any(d.number in pair for pair in self.undecided)
        return {
            "no.": str(d.number),
            "space group": d.space_group,
            "atoms": str(len(d.atoms)),
            "ΔE (meV/f.u.)": f"{1000 * d.relative:.2f}{sigma}{' undecided' if open_order else ''}",
            "amplitudes (Å)": ", ".join(f"{n} {a:.3f}" for n, a in list(d.amplitudes.items())[:4]) or "parent",
            "axes (Å)": " ".join(f"{x:.3f}" for x in d.axes),
            "variants": f"{d.orientations}×{d.translations}",
            "imaginary modes left": ", ".join(mode.line for mode in d.imaginary[:4]) or "none",
        }

    @property
    def lines(self) -> list[str]:
        """What was found, for people."""
        lowest = self.ground_state
        lines = [
            self.cell.line,
            f"soft modes of the parent: {', '.join(m.line for m in self.parent.imaginary) or 'none'}",
        ]
        if lowest.number == 0:
            lines.append("no phase lies below the parent")
        else:
            ratio = lowest.axes.max() / lowest.axes.min()
            lines.append(
                f"lowest: {lowest.space_group}, {1000 * lowest.relative:.2f} meV per formula unit, "
                f"{lowest.variants} domain states, longest over shortest axis {ratio:.4f}"
            )
        if self.undecided:
            pairs = "; ".join(f"{a} and {b}" for a, b in self.undecided)
            lines.append(f"undecided within the committee's spread: the order of {pairs}")
        if self.untried:
            lines.append(f"{self.untried} candidates were not tried; allow more with --max-candidates")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values."""
        return {
            "formula": self.cell.atoms.get_chemical_formula(),
            "parent_space_group": self.cell.space_group,
            "supercell": self.supercell,
            "phases": [d.to_dict() for d in self.phases],
            "tree": [asdict(step) for step in self.edges],
            "undecided": self.undecided,
            "untried": self.untried,
        }

    def plot(self) -> Figure:
        """Energy against amplitude along each soft direction of the parent."""
        from mlip.md.distortion_figures import landscape_figure

        return landscape_figure(self)

    def plot_tree(self) -> Figure:
        """Which phase leads to which, at their energies."""
        from mlip.md.distortion_figures import tree_figure

        return tree_figure(self)

    def to_csv(self, path: str | Path) -> Path:
        """The table, written atomically."""
        rows = self.table()
        with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
            table = csv.DictWriter(file, rows[0])
            table.writeheader()
            table.writerows(rows)
        return Path(path)

    def write(self, folder: str | Path) -> list[Path]:
        """Table, one CIF for each phase, and both figures; returns the files."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        files = [self.to_csv(folder / "phases.csv")]
        for d in self.phases:
            name = f"{d.number:02d}-{d.label.replace('/', '_')}.cif"
            with atomic_path(folder / name) as temporary:
                ase.io.write(temporary, d.atoms, format="cif")
            files.append(folder / name)
        for name, figure in (("landscape", self.plot()), ("tree", self.plot_tree())):
            with atomic_path(folder / f"{name}.png") as temporary:
                figure.savefig(temporary, dpi=200)
            files.append(folder / f"{name}.png")
        return files


def committee_energies(phases: list[Distortion], calculator: Any) -> Array | None:
    """(phases, members) eV per formula unit of each member of a committee; None for a single model."""
    members = getattr(calculator, "potentials", [])
    if len(members) < 2:
        return None
    from mlip import MLIPCalculator

    single = [MLIPCalculator(member, dtype="float64") for member in members]
    return np.array(
        [
            [attached(d.atoms, calc).get_potential_energy() / d.atoms.symbols.formula.reduce()[1] for calc in single]
            for d in phases
        ]
    )


def undecided(found: list[Distortion], spread: Array | None) -> list[tuple[int, int]]:
    """Pairs of phases at neighbouring energies whose difference is within its own standard deviation."""
    if spread is None:
        return []
    order = np.argsort([d.energy for d in found])
    pairs = []
    for i, j in pairwise(order.tolist()):
        difference = spread[j] - spread[i]
        if abs(difference.mean()) < difference.std(ddof=1):
            pairs.append((found[i].number, found[j].number))
    return pairs
