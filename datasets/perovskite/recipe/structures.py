"""The frames of the PbTiO3 set: which cells, which strains, which displacements.

The instabilities of cubic PbTiO3 are polar at Γ and X and rotations of the octahedra at M and R.  Cells
of two formula units hold one of these wavevectors each, the 40-atom cell holds all of them.

Most frames keep a few mirrors: random displacements are averaged over a small point group, which leaves
everything the group allows (all polar and stiff displacements in the mirror plane, say) and saves k points.
"""

from __future__ import annotations

import argparse
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from mlip.datasets.perovskite.recipe.calculation import LATTICE_CONSTANT
from mlip.datasets.perovskite.recipe.patterns import GROUPS, POLAR, build, generated, invariant, phases, polar, tilts
from mlip.datasets.recipes.espresso import FloatArray, IntArray

SUPERCELLS: dict[str, IntArray] = {
    "single5": np.eye(3, dtype=np.int64),
    "rod100": np.diag([1, 1, 2]),  # X
    "rod110": np.array([[1, -1, 0], [1, 1, 0], [0, 0, 1]]),  # M
    "rod111": np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]),  # R
    "cubic40": 2 * np.eye(3, dtype=np.int64),
}


@dataclass(frozen=True)
class Frame:
    """One structure to label.

    Attributes:
        split: train, validation or test.
        config_type: strain (no displacement), polar, tilt, soft, rattle, or mixed (polar and rattled).
        supercell: a key of `SUPERCELLS`.
        amplitude: rms displacement per Cartesian component, Å.
        strain: Voigt strain (xx, yy, zz, yz, xz, xy; engineering shears) of the cubic crystal.
        axis: direction of a polar displacement or of the axis of a tilt.
        group: a key of `patterns.GROUPS`, what random displacements are averaged over.
        copy: tells frames apart that are otherwise equal.
    """

    split: str
    config_type: str
    supercell: str = "single5"
    amplitude: float = 0.0
    strain: tuple[float, ...] = (0.0,) * 6
    axis: tuple[int, int, int] = (0, 0, 0)
    group: str = "1"
    copy: int = 0

    @property
    def name(self) -> str:
        """A folder name that is unique in the plan."""
        parts = [self.config_type, self.supercell, f"{self.amplitude:.3f}"]
        if any(self.axis):
            parts.append("".join(str(i) for i in self.axis))
        if self.config_type in ("soft", "rattle", "mixed"):
            parts.append(self.group)
        if any(self.strain):
            parts.append("e" + ",".join(f"{e:g}" for e in self.strain))
        return "_".join([*parts, str(self.copy)])

    @property
    def generator(self) -> np.random.Generator:
        """Random numbers that depend on the name alone."""
        return np.random.default_rng(zlib.crc32(self.name.encode()))


def polar_displacement(frame: Frame) -> FloatArray:
    """The ferroelectric pattern along `axis`, the same in every cell."""
    cell = SUPERCELLS[frame.supercell]
    return np.sum([n * polar(i, POLAR, phases(cell)[0]) for i, n in enumerate(frame.axis)], axis=0)


def tilt_displacement(frame: Frame) -> FloatArray:
    """Rotations about the Cartesian axes that the cell holds, combined to a rotation about `axis`."""
    cell = SUPERCELLS[frame.supercell]
    held = tilts(cell)
    amounts = frame.axis if len(held) == 3 else (1,)
    return np.sum([n * pattern for n, pattern in zip(amounts, held, strict=True)], axis=0)


def soft_displacement(frame: Frame) -> FloatArray:
    """Polar patterns of every phase and direction and all tilts, with random amplitudes.

    The weights of the ions within a polar pattern vary by 40 %, so that the three polar branches mix.
    """
    cell, rng = SUPERCELLS[frame.supercell], frame.generator
    parts = [
        rng.normal() * polar(axis, POLAR * rng.normal(1.0, 0.4, 4), phase)
        for axis in range(3)
        for phase in phases(cell)
    ]
    parts += [rng.normal() * 0.3 * pattern for pattern in tilts(cell)]
    return np.sum(parts, axis=0)


def rattle_displacement(frame: Frame) -> FloatArray:
    """Independent Gaussians."""
    return frame.generator.normal(size=(5 * round(np.linalg.det(SUPERCELLS[frame.supercell])), 3))


def mixed_displacement(frame: Frame) -> FloatArray:
    """The ferroelectric pattern with 40 % of its size of independent Gaussians."""
    ordered, random = polar_displacement(frame), averaged(rattle_displacement(frame), frame)
    return normalised(ordered) + 0.4 * normalised(random)


def averaged(displacement: FloatArray, frame: Frame) -> FloatArray:
    """The part of a displacement that the frame's group leaves alone."""
    return invariant(displacement, SUPERCELLS[frame.supercell], generated(*GROUPS[frame.group]))


def normalised(displacement: FloatArray) -> FloatArray:
    """Without a common shift, scaled to rms 1 per component."""
    moved = displacement - displacement.mean(axis=0)
    return np.asarray(moved / np.sqrt(np.mean(moved**2)))


def displacement(frame: Frame) -> FloatArray:
    """(N, 3) displacements of a frame from the sites of its strained cell, Å."""
    makers = {
        "polar": polar_displacement,
        "tilt": tilt_displacement,
        "soft": soft_displacement,
        "rattle": rattle_displacement,
        "mixed": mixed_displacement,
    }
    if frame.config_type == "strain":
        return np.zeros((5 * round(np.linalg.det(SUPERCELLS[frame.supercell])), 3))
    field = makers[frame.config_type](frame)
    if frame.config_type in ("soft", "rattle"):
        field = averaged(field, frame)
    return frame.amplitude * normalised(field)


def structure(frame: Frame) -> Atoms:
    """The atoms of a frame, rounded as they are stored, with the keys that describe it."""
    atoms = build(SUPERCELLS[frame.supercell], LATTICE_CONSTANT)
    xx, yy, zz, yz, xz, xy = frame.strain
    strain = np.array([[xx, xy / 2, xz / 2], [xy / 2, yy, yz / 2], [xz / 2, yz / 2, zz]])
    atoms.set_cell(np.round(atoms.cell @ (np.eye(3) + strain), 8), scale_atoms=True)
    atoms.positions = np.round(atoms.positions + displacement(frame), 8)
    atoms.info = {
        "config_type": frame.config_type,
        "supercell": frame.supercell,
        "amplitude": frame.amplitude,
        "name": frame.name,
    }
    return atoms


def scratch_argument(description: str | None) -> Path:
    """The scratch folder from ``--scratch`` or ``PEROVSKITE_SCRATCH``."""
    parser = argparse.ArgumentParser(description=description)
    default = os.environ.get("PEROVSKITE_SCRATCH")
    parser.add_argument("--scratch", type=Path, default=default, required=default is None)
    return Path(parser.parse_args().scratch).resolve()
