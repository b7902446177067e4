"""Numbers of a set of any size from one pass over it: nothing is kept but sums, extremes and counts."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from ase.data import chemical_symbols

from mlip.datasets.boxes import in_dummy_box, unboxed
from mlip.datasets.frame import LABELS, LabelledFrame, heights

EXTRA_LABELS = ("polarization", "born_charges", "dielectric", "polarizability", "dipole", "magmoms", "charges")


class Extremes:
    """Smallest and largest of what was added; None while there is nothing."""

    def __init__(self) -> None:
        self.low: float | None = None
        self.high: float | None = None

    def add(self, values: Iterable[float]) -> None:
        """Take more values into account."""
        for value in values:
            self.low = value if self.low is None else min(self.low, value)
            self.high = value if self.high is None else max(self.high, value)

    @property
    def ends(self) -> tuple[float, float] | None:
        """Both, or None."""
        return None if self.low is None or self.high is None else (self.low, self.high)


@dataclass
class SetStatistics:
    """What one pass over a set finds; lengths in Å, energies in eV, forces in eV/Å.

    Attributes:
        cutoff: Radius that cells are compared with.
        frames: Number of frames.
        largest_forces: Largest |F| of each frame that has forces; 17 bytes per frame with the two below.
        largest_atoms: The atom that feels it.
        force_frames: Index of that frame.
    """

    cutoff: float
    frames: int = 0
    periodic: bool = False
    numbers: set[int] = field(default_factory=set)
    atoms: Extremes = field(default_factory=Extremes)
    labels: Counter[str] = field(default_factory=Counter)
    energy_per_atom: Extremes = field(default_factory=Extremes)
    force_squares: float = 0.0
    force_count: int = 0
    largest_forces: array[float] = field(default_factory=lambda: array("d"))
    largest_atoms: array[int] = field(default_factory=lambda: array("i"))
    force_frames: array[int] = field(default_factory=lambda: array("i"))
    net_force: Extremes = field(default_factory=Extremes)
    net_torque: Extremes = field(default_factory=Extremes)
    hessian_asymmetry: Extremes = field(default_factory=Extremes)
    hessian_drift: Extremes = field(default_factory=Extremes)
    heights: Extremes = field(default_factory=Extremes)
    below_cutoff: int = 0
    dummy_boxes: int = 0
    isolated_atoms: int = 0
    compositions: set[str] = field(default_factory=set)
    config_types: Counter[str] = field(default_factory=Counter)
    weights: Extremes = field(default_factory=Extremes)

    @classmethod
    def of(cls, frames: Iterable[LabelledFrame], cutoff: float = 5.0) -> SetStatistics:
        """The statistics of some frames."""
        found = cls(cutoff)
        for frame in frames:
            found.add(frame)
        return found

    def add(self, frame: LabelledFrame) -> None:
        """Take one more frame into account."""
        self.numbers |= {int(z) for z in np.unique(frame.atoms.numbers)}
        self.atoms.add([len(frame)])
        self.labels.update(frame.labels)
        self.labels.update(name for name in EXTRA_LABELS if name in frame.info)
        self.isolated_atoms += frame.is_isolated_atom
        self.compositions.add(frame.composition)
        self.config_types.update([] if frame.config_type is None else [frame.config_type])
        self.weights.add([frame.weight])
        if frame.energy is not None and not frame.is_isolated_atom:
            self.energy_per_atom.add([frame.energy / len(frame)])
        self._add_cell(frame)
        self._add_forces(frame)
        self._add_hessian(frame)
        self.frames += 1

    def _add_cell(self, frame: LabelledFrame) -> None:
        pbc = frame.atoms.pbc
        if not pbc.any():
            return
        self.periodic = True
        tall = heights(frame.atoms)[pbc]
        self.heights.add(tall.tolist())
        self.below_cutoff += bool((tall < 2 * self.cutoff).any())
        self.dummy_boxes += in_dummy_box(frame.atoms)

    def _add_forces(self, frame: LabelledFrame) -> None:
        if frame.forces is None:
            return
        lengths = np.linalg.norm(frame.forces, axis=1)
        self.force_squares += float(np.sum(lengths**2))
        self.force_count += len(lengths)
        self.largest_forces.append(float(lengths.max()))
        self.largest_atoms.append(int(lengths.argmax()))
        self.force_frames.append(self.frames)
        self.net_force.add([float(np.linalg.norm(np.sum(frame.forces, axis=0)))])
        free = unboxed(frame)
        if not free.atoms.pbc.any():
            self.net_torque.add([_torque(free)])

    def _add_hessian(self, frame: LabelledFrame) -> None:
        hessian = frame.hessian
        if hessian is None:
            return
        self.hessian_asymmetry.add([float(np.abs(hessian - hessian.T).max())])
        self.hessian_drift.add([float(np.abs(hessian.reshape(len(hessian), -1, 3).sum(axis=1)).max())])

    @property
    def species(self) -> list[str]:
        """Elements, by atomic number."""
        return [chemical_symbols[z] for z in sorted(self.numbers)]

    @property
    def label_counts(self) -> dict[str, int]:
        """Label → number of frames that carry it: the four of every set, and others that are there."""
        return {name: self.labels[name] for name in LABELS} | {
            k: self.labels[k] for k in EXTRA_LABELS if self.labels[k]
        }

    @property
    def force_rms(self) -> float | None:
        """Rms of |F|."""
        return float(np.sqrt(self.force_squares / self.force_count)) if self.force_count else None


def _torque(frame: LabelledFrame) -> float:
    """|Σ (x − x̄) × F| of a molecule, eV."""
    positions = frame.atoms.positions - frame.atoms.positions.mean(axis=0)
    return float(np.linalg.norm(np.cross(positions, np.asarray(frame.forces)).sum(axis=0)))
