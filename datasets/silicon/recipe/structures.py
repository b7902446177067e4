"""The plan of the silicon set: which cells, which displacements, which split, in which order.

Phonons at a wavevector q can be learnt from any supercell in which q is a reciprocal vector.  The
cells here are therefore chosen by q, not by size: six 8-atom cells hold between them every
irreducible q of the 4 x 4 x 4 mesh of the primitive cell (Lloyd-Williams and Monserrat, Phys. Rev.
B 92, 184301 (2015)), and 16-atom rods of eight primitive cells add q in steps of 1/8 along [100],
[110] and [111].

Three kinds of displacement:

* ``rattle``: independent Gaussians; the forces are mostly those of the stiff optical modes.
* ``soft``: modes with amplitudes proportional to 1/omega^2, so that every mode gives a force of the
  same size and the acoustic branches weigh as much as the optical ones.
* ``hot``: snapshots of molecular dynamics with the Stillinger-Weber potential.

The potential serves only to choose where the atoms are; all labels are DFT.
"""

from __future__ import annotations

import argparse
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import make_supercell
from ase.geometry import minkowski_reduce
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from matscipy.calculators.manybody import Manybody
from matscipy.calculators.manybody.explicit_forms.stillinger_weber import (
    Stillinger_Weber_PRB_31_5262_Si,
    StillingerWeber,
)

from mlip.datasets.recipes.espresso import FloatArray, IntArray
from mlip.datasets.silicon.recipe.espresso import CONVENTIONAL

LATTICE_CONSTANT = 5.39896  # Å, zero stress at the settings of the labels
BASIS_CORRECTION = 0.0205  # eV/atom, see label.basis_correction; measured by convergence.py
PRIMITIVE = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])  # units of a


def primitive(lattice_constant: float = LATTICE_CONSTANT) -> Atoms:
    """The two-atom cell of the diamond structure, lattice constant in Å."""
    return Atoms(
        "Si2",
        cell=PRIMITIVE * lattice_constant,
        scaled_positions=[[0.0] * 3, [0.25] * 3],
        pbc=True,
    )


def _from_cartesian(vectors: list[list[float]]) -> IntArray:
    """Supercell matrix of lattice vectors given in units of the lattice constant."""
    return np.rint(np.array(vectors) @ np.linalg.inv(PRIMITIVE)).astype(np.int64)


def _compact(supercell: list[list[int]]) -> IntArray:
    """The same lattice with the shortest vectors, right-handed."""
    matrix = np.array(supercell)
    _, operation = minkowski_reduce(matrix @ PRIMITIVE)
    reduced = operation @ matrix
    return np.asarray(reduced * np.sign(np.linalg.det(reduced)), dtype=np.int64)


SUPERCELLS: dict[str, IntArray] = {
    "primitive2": np.eye(3, dtype=np.int64),
    "cubic8": CONVENTIONAL,  # X
    "rod100x4": _from_cartesian([[0.5, 0.5, 0], [-0.5, 0.5, 0], [0, 0, 2]]),  # X/2
    "rod110x4": _from_cartesian([[0, 0, 1], [0.5, -0.5, 0], [1, 1, 0]]),  # Σ
    "rod111x4": _compact([[4, 0, 0], [0, 1, 0], [0, 0, 1]]),  # L/2, L
    "general8": _compact([[1, 0, 0], [0, 2, 1], [0, 0, 2]]),  # q = (0, 1/4, 1/2)
    "w8": _compact([[1, 0, 1], [0, 1, 2], [0, 0, 4]]),  # W
    "tetragonal16": np.diag([1, 1, 2]) @ CONVENTIONAL,
    "rod100x8": _from_cartesian([[0.5, 0.5, 0], [-0.5, 0.5, 0], [0, 0, 4]]),
    "rod110x8": _from_cartesian([[0, 0, 1], [0.5, -0.5, 0], [2, 2, 0]]),
    "rod111x8": _compact([[8, 0, 0], [0, 1, 0], [0, 0, 1]]),
    "cubic64": 2 * CONVENTIONAL,
}
SMALL = ("rod100x4", "rod110x4", "rod111x4", "general8", "w8", "cubic8")
RODS = ("rod100x8", "rod110x8", "rod111x8")


@dataclass(frozen=True)
class Frame:
    """One structure to label.

    Attributes:
        split: train, validation or test.
        config_type: strain (no displacement), rattle, soft, strained_rattle, hot or large.
        supercell: a key of `SUPERCELLS`.
        amplitude: rms displacement per Cartesian component, Å (for hot frames: none is asked).
        strain: Voigt strain (xx, yy, zz, yz, xz, xy; engineering shears).
        temperature: of the molecular dynamics, K.
        copy: tells frames apart that are otherwise equal.
    """

    split: str
    config_type: str
    supercell: str
    amplitude: float = 0.0
    strain: tuple[float, ...] = (0.0,) * 6
    temperature: int = 0
    copy: int = 0

    @property
    def name(self) -> str:
        """A folder name that is unique in the plan."""
        parts = [self.config_type, self.supercell, f"{self.amplitude:.2f}"]
        if any(self.strain):
            parts.append("e" + ",".join(f"{e:g}" for e in self.strain))
        if self.temperature:
            parts.append(f"{self.temperature}K")
        return "_".join([*parts, str(self.copy)])

    @property
    def generator(self) -> np.random.Generator:
        """Random numbers that depend on the name alone."""
        return np.random.default_rng(zlib.crc32(self.name.encode()))


def build(name: str) -> Atoms:
    """The perfect crystal in one of the `SUPERCELLS`."""
    atoms = make_supercell(primitive(), SUPERCELLS[name])
    atoms.wrap(eps=1e-6)
    return atoms


def stillinger_weber() -> Manybody:
    """The calculator that chooses soft and hot displacements."""
    return Manybody(**StillingerWeber(Stillinger_Weber_PRB_31_5262_Si))


def soft_displacements(atoms: Atoms, rng: np.random.Generator, step: float = 1e-3) -> FloatArray:
    """(N, 3) displacements with mode amplitudes ~ 1/omega^2, scaled to rms 1 per component."""
    probe = atoms.copy()
    probe.calc = stillinger_weber()
    start = probe.get_positions()
    size = 3 * len(probe)
    hessian = np.empty((size, size))
    for row in range(size):
        for sign in (+1, -1):
            probe.positions = start
            probe.positions[row // 3, row % 3] += sign * step
            force = probe.get_forces().ravel()
            hessian[row] = force if sign > 0 else (hessian[row] - force) / (-2 * step)
    curvature, modes = np.linalg.eigh((hessian + hessian.T) / 2)
    kept = curvature > 1e-4 * curvature.max()  # not the three translations
    amplitudes = rng.normal(size=int(kept.sum())) / curvature[kept]
    displacement = (modes[:, kept] @ amplitudes).reshape(-1, 3)
    return np.asarray(displacement / np.sqrt(np.mean(displacement**2)))


def hot_positions(atoms: Atoms, frame: Frame, steps: int = 1000) -> FloatArray:
    """(N, 3) positions after 2 ps of Langevin dynamics that start with twice the kinetic energy."""
    rng = np.random.RandomState(zlib.crc32(frame.name.encode()))
    moving = atoms.copy()
    moving.calc = stillinger_weber()
    MaxwellBoltzmannDistribution(moving, temperature_K=2 * frame.temperature, rng=rng)
    dynamics = Langevin(
        moving,
        2 * units.fs,
        temperature_K=frame.temperature,
        friction=0.01 / units.fs,
        rng=rng,
        fixcm=False,
    )
    dynamics.run(steps)
    drift = (moving.positions - atoms.positions).mean(axis=0)
    return np.asarray(moving.positions - drift)


def structure(frame: Frame) -> Atoms:
    """The atoms of a frame, rounded as they are stored, with the keys that describe it."""
    atoms = build(frame.supercell)
    xx, yy, zz, yz, xz, xy = frame.strain
    strain = np.array([[xx, xy / 2, xz / 2], [xy / 2, yy, yz / 2], [xz / 2, yz / 2, zz]])
    atoms.set_cell(np.round(atoms.cell @ (np.eye(3) + strain), 8), scale_atoms=True)
    perfect = atoms.get_positions()
    if frame.temperature:
        atoms.positions = hot_positions(atoms, frame)
    elif frame.config_type == "soft":
        atoms.positions += frame.amplitude * soft_displacements(atoms, frame.generator)
    elif frame.amplitude:
        atoms.positions += frame.generator.normal(0.0, frame.amplitude, (len(atoms), 3))
    atoms.positions = np.round(atoms.positions, 6)
    moved = atoms.positions - perfect
    measured = float(np.sqrt(np.mean((moved - moved.mean(axis=0)) ** 2)))
    atoms.info = {
        "config_type": frame.config_type,
        "supercell": frame.supercell,
        "amplitude": frame.amplitude or round(measured, 3),
        "name": frame.name,
    }
    if frame.temperature:
        atoms.info["temperature"] = frame.temperature
    return atoms


def scratch_argument(description: str | None) -> Path:
    """The scratch folder from ``--scratch`` or ``SILICON_SCRATCH``."""
    parser = argparse.ArgumentParser(description=description)
    default = os.environ.get("SILICON_SCRATCH")
    parser.add_argument("--scratch", type=Path, default=default, required=default is None)
    return Path(parser.parse_args().scratch).resolve()
