"""The molecules of the set, their relaxed geometries, and how frames are drawn around them.

Stiff coordinates are drawn from the classical harmonic distribution at a temperature; torsions, for which a
harmonic picture fails, are turned by an explicit angle.
"""

from __future__ import annotations

import argparse
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Molecule:
    """A molecule and its torsions.

    Attributes:
        symbols: chemical formula in the order of the positions.
        start: (N, 3) a geometry to relax from, Å.
        torsions: (first, second, turning): the axis from atom `first` to atom `second`, and the atoms that turn.
        grid: PySCF's level of the integration grid: where a Hessian's translations cost less than 0.02 eV/Å^2.
    """

    symbols: str
    start: tuple[tuple[float, float, float], ...]
    torsions: tuple[tuple[int, int, tuple[int, ...]], ...]
    grid: int = 4


MOLECULES = {
    "hydrogen_peroxide": Molecule(
        "O2H2",
        ((0.0, 0.73, -0.05), (0.0, -0.73, -0.05), (0.79, 0.90, 0.43), (-0.79, -0.90, 0.43)),
        ((0, 1, (3,)),),
    ),
    "methanol": Molecule(
        "COH4",
        (
            (-0.047, 0.664, 0.0), (-0.047, -0.758, 0.0), (0.879, -1.048, 0.0),
            (-1.093, 0.970, 0.0), (0.437, 1.080, 0.891), (0.437, 1.080, -0.891),
        ),
        ((0, 1, (2,)),),
    ),
    "methyl_hydroperoxide": Molecule(
        "CO2H4",
        (
            (-1.1719, -0.2851, 0.0172), (-0.0610, 0.5795, -0.0157), (1.1250, -0.2729, -0.0515),
            (1.5452, 0.0032, 0.7906), (-2.0532, 0.3897, -0.0002),
            (-1.2121, -0.9545, -0.8721), (-1.2035, -0.9072, 0.9426),
        ),
        ((1, 2, (3,)), (0, 1, (2, 3))),
        grid=6,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """One structure to label.

    Attributes:
        split: train, validation or test.
        molecule: a key of `MOLECULES`.
        config_type: thermal (angles drawn at the temperature), torsion (angles given) or minimum.
        temperature: of the stiff coordinates, K.
        angles: degrees by which each torsion is turned from the minimum.
        has_hessian: whether the Hessian is computed.
        copy: tells frames apart that are otherwise equal.
    """

    split: str
    molecule: str
    config_type: str
    temperature: int = 0
    angles: tuple[float, ...] = ()
    has_hessian: bool = False
    copy: int = 0

    @property
    def name(self) -> str:
        """A folder name that is unique in the plan."""
        parts = [self.molecule, self.config_type, f"{self.temperature}K", *(f"{angle:g}" for angle in self.angles)]
        return "_".join([*parts, str(self.copy)])

    @property
    def generator(self) -> np.random.Generator:
        """Random numbers that depend on the name alone."""
        return np.random.default_rng(zlib.crc32(self.name.encode()))


def turned(positions: FloatArray, torsion: tuple[int, int, tuple[int, ...]], degrees: float) -> FloatArray:
    """The positions with some atoms turned about an axis (Rodrigues' formula)."""
    first, second, moving = torsion
    axis = positions[second] - positions[first]
    axis = axis / np.linalg.norm(axis)
    angle = np.radians(degrees)
    arms = positions[list(moving)] - positions[second]
    result = positions.copy()
    result[list(moving)] = (
        positions[second]
        + arms * np.cos(angle)
        + np.cross(axis, arms) * np.sin(angle)
        + np.outer(arms @ axis, axis) * (1 - np.cos(angle))
    )
    return result


def rigid_motions(atoms: Atoms) -> FloatArray:
    """(6, 3N) mass-weighted translations and rotations of a bent molecule, not normalised."""
    root = np.sqrt(atoms.get_masses())[:, None]
    arms = atoms.positions - atoms.get_center_of_mass()
    fields = [np.tile(axis, (len(atoms), 1)) for axis in np.eye(3)] + [np.cross(axis, arms) for axis in np.eye(3)]
    return np.array([(root * field).ravel() for field in fields])


def stiff_modes(atoms: Atoms, hessian: FloatArray, torsions: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Angular frequencies squared (eV/Å^2/amu) and mass-weighted modes (rows) without rigid motions and torsions."""
    root = np.repeat(np.sqrt(atoms.get_masses()), 3)
    unwanted = np.vstack([rigid_motions(atoms), torsions * root])
    basis = np.linalg.qr(unwanted.T)[0]
    projector = np.eye(len(root)) - basis @ basis.T
    values, vectors = np.linalg.eigh(projector @ (hessian / np.outer(root, root)) @ projector)
    kept = np.argsort(np.abs(values))[len(unwanted) :]
    return values[kept], vectors[:, kept].T


def torsion_directions(atoms: Atoms, molecule: Molecule, step: float = 0.1) -> FloatArray:
    """(nt, 3N) displacements of the atoms when a torsion is turned a little."""
    turns = [
        turned(atoms.positions, torsion, step) - turned(atoms.positions, torsion, -step)
        for torsion in molecule.torsions
    ]
    return np.array([turn.ravel() for turn in turns])


def structure(frame: Frame, minimum: Atoms, hessian: FloatArray) -> Atoms:
    """The atoms of a frame, rounded as they are stored, with the keys that describe it.

    Args:
        frame: what to make.
        minimum: the relaxed molecule.
        hessian: (3N, 3N) at the minimum, eV/Å^2.
    """
    atoms = minimum.copy()
    if frame.config_type != "minimum":
        atoms.positions = displaced(frame, minimum, hessian)
    atoms.info = {"config_type": frame.config_type, "molecule": frame.molecule, "name": frame.name}
    if frame.temperature:
        atoms.info["temperature"] = frame.temperature
    return atoms


def displaced(frame: Frame, minimum: Atoms, hessian: FloatArray) -> FloatArray:
    """(N, 3) positions from the centre of mass: stiff modes first, then the torsions are turned."""
    molecule, rng = MOLECULES[frame.molecule], frame.generator
    atoms = minimum.copy()
    if frame.temperature:
        squares, modes = stiff_modes(minimum, hessian, torsion_directions(minimum, molecule))
        sizes = rng.normal(size=len(squares)) * np.sqrt(units.kB * frame.temperature / squares)
        root = np.repeat(np.sqrt(atoms.get_masses()), 3)
        atoms.positions += (sizes @ modes / root).reshape(-1, 3)
    spread = 15.0 * np.sqrt(frame.temperature / 300)  # degrees
    angles = frame.angles or tuple(rng.normal(0.0, spread, len(molecule.torsions)))
    for torsion, angle in zip(molecule.torsions, angles, strict=True):
        atoms.positions = turned(atoms.positions, torsion, angle)
    return np.round(atoms.positions - atoms.get_center_of_mass(), 6)


def scratch_argument(description: str | None) -> Path:
    """The scratch folder from ``--scratch`` or ``MOLECULES_SCRATCH``."""
    parser = argparse.ArgumentParser(description=description)
    default = os.environ.get("MOLECULES_SCRATCH")
    parser.add_argument("--scratch", type=Path, default=default, required=default is None)
    return Path(parser.parse_args().scratch).resolve()
