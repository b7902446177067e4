"""Trajectories on disk: extended XYZ or HDF5, appended to frame by frame, cut back on a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import ase.io
import h5py
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlip.errors import InputError

Array = NDArray[np.float64]


class Trajectory(Protocol):
    """A growing file of frames."""

    path: Path

    def append(self, atoms: Atoms, time: float) -> None:
        """Add one frame at ``time`` (fs); positions are as the integrator has them, not wrapped."""
        ...

    def mark(self) -> int:
        """How far the file has got."""
        ...

    def cut(self, mark: int) -> None:
        """Forget what came after a mark."""
        ...


class XYZTrajectory:
    """Extended XYZ with energy, forces, momenta and time; a mark is a number of bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, atoms: Atoms, time: float) -> None:
        """Add one frame."""
        frame = atoms.copy()
        frame.set_constraint()
        frame.info["time_fs"] = time
        frame.calc = atoms.calc
        ase.io.write(self.path, frame, format="extxyz", append=True)

    def mark(self) -> int:
        """Bytes so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def cut(self, mark: int) -> None:
        """Keep the first ``mark`` bytes."""
        if self.path.exists():
            with self.path.open("rb+") as stream:
                stream.truncate(mark)


class HDF5Trajectory:
    """HDF5 with resizable datasets ``positions cell momenta forces energy time``; a mark is a number of frames.

    Units Å, amu^½ eV^½ (ASE's momenta), eV/Å, eV, fs; ``numbers``, ``masses`` and ``pbc`` are stored once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, atoms: Atoms, time: float) -> None:
        """Add one frame."""
        frame = {
            "positions": atoms.get_positions(),
            "cell": atoms.cell.array,
            "momenta": atoms.get_momenta(),
            "forces": atoms.get_forces(apply_constraint=False),
            "energy": np.array(atoms.get_potential_energy()),
            "time": np.array(time),
        }
        with h5py.File(self.path, "a") as file:
            if "numbers" not in file:
                file["numbers"], file["masses"], file["pbc"] = atoms.numbers, atoms.get_masses(), atoms.pbc
                for name, value in frame.items():
                    file.create_dataset(
                        name, (0, *value.shape), maxshape=(None, *value.shape), dtype="f8", chunks=True
                    )
            for name, value in frame.items():
                file[name].resize(len(file[name]) + 1, axis=0)
                file[name][-1] = value

    def mark(self) -> int:
        """Frames so far."""
        if not self.path.exists():
            return 0
        with h5py.File(self.path, "r") as file:
            return len(file["time"])

    def cut(self, mark: int) -> None:
        """Keep the first ``mark`` frames."""
        if self.path.exists():
            with h5py.File(self.path, "a") as file:
                for name in ("positions", "cell", "momenta", "forces", "energy", "time"):
                    file[name].resize(mark, axis=0)


def open_trajectory(path: Path) -> Trajectory:
    """The trajectory for a file name: ``.xyz``/``.extxyz`` or ``.h5``/``.hdf5``.

    Raises:
        InputError: Another suffix.
    """
    if path.suffix in (".xyz", ".extxyz"):
        return XYZTrajectory(path)
    if path.suffix in (".h5", ".hdf5"):
        return HDF5Trajectory(path)
    raise InputError("a trajectory is .xyz or .h5", file=path, key="trajectory")


def read_frames(path: Path) -> tuple[Array, Array, Array, Array]:
    """Positions (f, N, 3) Å, velocities (f, N, 3) in ASE's unit, cells (f, 3, 3) Å and times (f,) fs."""
    if path.suffix in (".h5", ".hdf5"):
        with h5py.File(path, "r") as file:
            velocities = file["momenta"][:] / file["masses"][:][:, None]
            return file["positions"][:], velocities, file["cell"][:], file["time"][:]
    frames = ase.io.read(path, index=":")
    return (
        np.array([frame.positions for frame in frames]),
        np.array([frame.get_velocities() for frame in frames]),
        np.array([frame.cell.array for frame in frames]),
        np.array([frame.info["time_fs"] for frame in frames]),
    )
