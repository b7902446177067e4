"""Order parameters of a distorted structure or a trajectory: amplitudes per irrep, by exact projection."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlip.errors import InputError
from mlip.files import atomic_path
from mlip.symmetry.crystal import primitive_of
from mlip.symmetry.irreps import IrrepComponent, supercell_irreps
from mlip.symmetry.matching import Limits, StructureMatch, distorted, match_structures
from mlip.symmetry.supercell import SupercellGroup

Array = NDArray[np.float64]
SMALL = 1e-3  # Å; components of the child below this are not followed unless asked for


@dataclass(frozen=True)
class OrderParameter:
    """Irreps by which a child differs from its parent, ready to be projected out of any structure in that cell.

    Amplitudes are root sums of squares of displacements in Å per primitive cell of the parent,
    A = √(Σ|u|²/N_cells), with the uniform shift and the strain of the cell taken out.

    Attributes:
        group: The parent's supercell that holds the child.
        match: How the child lies on it.
        components: Irreps that the child has with more than 1 mÅ, the largest first.
        amplitudes: Å, of the child, one for each component.
    """

    group: SupercellGroup
    match: StructureMatch
    components: list[IrrepComponent]
    amplitudes: Array

    @classmethod
    def from_structures(
        cls, parent: Atoms, child: Atoms, *, symprec: float = 1e-3, limits: Limits | None = None
    ) -> OrderParameter:
        """The order parameters of a child.

        Args:
            parent: The crystal of higher symmetry.
            child: A distortion of it, in any cell that is a supercell of the parent; it is not reduced.
            symprec: Å, for the parent's space group.
            limits: How far the child may be from the parent.

        Raises:
            InputError: The child does not lie on the parent.
        """
        base = primitive_of(parent, symprec)
        match = match_structures(base, child, limits)
        group = SupercellGroup(base, match.matrix, symprec)
        found = supercell_irreps(group)
        sizes = np.array([_amplitude(c, match.displacements, group.num_cells) for c in found])
        order = [i for i in np.argsort(-sizes) if sizes[i] > SMALL]
        return cls(group, match, [found[i] for i in order], sizes[order])

    def following(self, *names: str) -> OrderParameter:
        """The same, with exactly these irreps, whether or not the child has them.

        Raises:
            InputError: The supercell holds no irrep of that name.
        """
        known = {c.name: c for c in supercell_irreps(self.group)}
        unknown = [name for name in names if name not in known]
        if unknown:
            raise InputError(f"no irrep '{unknown[0]}' here", mend=f"one of {', '.join(known)}")
        chosen = [known[name] for name in names]
        sizes = [_amplitude(c, self.match.displacements, self.group.num_cells) for c in chosen]
        return OrderParameter(self.group, self.match, chosen, np.array(sizes))

    @property
    def names(self) -> list[str]:
        """Of the components."""
        return [c.name for c in self.components]

    @property
    def structure(self) -> Atoms:
        """The child in the parent's frame and order of sites."""
        return distorted(self.group.primitive, self.match)

    def displacements(self, atoms: Atoms) -> Array:
        """(atoms, 3) Å in the parent's frame, from a structure with the child's atoms in the child's order.

        Fractional coordinates are compared, so that a changing cell does not count as displacement.

        Raises:
            InputError: It has another number or order of atoms.
        """
        order = self.match.order
        if len(atoms) != len(order) or (atoms.numbers[order] != self.group.atoms.numbers).any():
            raise InputError("the frame has other atoms, or another order of atoms, than the child")
        cell = self.match.basis @ atoms.cell.array
        fractional = np.linalg.solve(cell.T, atoms.get_positions()[order].T).T + self.match.offset
        sites = self.group.atoms.get_scaled_positions(wrap=False)
        gap = fractional - sites
        gap -= np.rint(gap)
        return np.asarray((gap - gap.mean(axis=0)) @ self.group.atoms.cell.array, dtype=np.float64)

    def vector(self, atoms: Atoms) -> list[Array]:
        """For each component its coordinates, (dimension · multiplicity,) in Å per root primitive cell."""
        flat = self.displacements(atoms).ravel() / np.sqrt(self.group.num_cells)
        return [c.basis.reshape(len(c.basis), -1) @ flat for c in self.components]

    def project(self, trajectory: Atoms | Iterable[Atoms], times: Array | None = None) -> OrderParameterSeries:
        """Amplitudes along a trajectory.

        Args:
            trajectory: Frames with the child's atoms in the child's order.
            times: fs, of each frame; None numbers them.
        """
        frames = [trajectory] if isinstance(trajectory, Atoms) else list(trajectory)
        vectors = [self.vector(frame) for frame in frames]
        components = [np.array([v[i] for v in vectors]) for i in range(len(self.components))]
        clock = np.arange(len(frames), dtype=np.float64) if times is None else np.asarray(times, dtype=np.float64)
        return OrderParameterSeries(self.names, components, clock, timed=times is not None)


@dataclass(frozen=True)
class OrderParameterSeries:
    """Order parameters along a trajectory.

    Attributes:
        names: Of the irreps.
        components: For each irrep (frames, dimension · multiplicity), Å.
        times: (frames,) fs, or numbers of frames.
        timed: Whether ``times`` are times.
    """

    names: list[str]
    components: list[Array]
    times: Array
    timed: bool

    @property
    def amplitudes(self) -> Array:
        """(frames, irreps), Å."""
        return np.stack([np.linalg.norm(c, axis=1) for c in self.components], axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Means and standard deviations of the amplitudes in Å."""
        values = self.amplitudes
        return {n: {"mean": m, "std": s} for n, m, s in zip(self.names, values.mean(0), values.std(0), strict=True)}

    def to_csv(self, path: str | Path) -> Path:
        """One row per frame, written atomically."""
        with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["time_fs" if self.timed else "frame", *(f"{n}_A" for n in self.names)])
            table.writerows([t, *row] for t, row in zip(self.times.tolist(), self.amplitudes.tolist(), strict=True))
        return Path(path)

    def plot(self) -> Figure:
        """Amplitudes against time."""
        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        axis = figure.subplots()
        x = self.times / 1000 if self.timed else self.times
        for name, values in zip(self.names, self.amplitudes.T, strict=True):
            axis.plot(x, values, lw=1.2, label=name)
        axis.set(xlabel="time (ps)" if self.timed else "frame", ylabel="amplitude (Å per parent cell)")
        axis.set_ylim(bottom=0)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, ncols=2)
        return figure


def _amplitude(component: IrrepComponent, displacements: Array, cells: int) -> float:
    flat = component.basis.reshape(len(component.basis), -1)
    return float(np.linalg.norm(flat @ displacements.ravel()) / np.sqrt(cells))
