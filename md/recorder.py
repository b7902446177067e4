"""What a molecular dynamics run writes down as it goes: log, frames, restart file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlip.errors import InputError
from mlip.md.calculators import has_stress
from mlip.md.ensembles import Thermodynamics, conserved_quantity, temperature_of
from mlip.md.restart import load_restart, read_header, save_restart
from mlip.md.trajectory import open_trajectory, read_frames
from mlip.md.units import GPA_PER_EV_A3

Array = NDArray[np.float64]
# Column of the log → its unit, in the order of md.csv.
COLUMNS = {
    "step": "",
    "time": "fs",
    "temperature": "K",
    "pressure": "GPa",
    "potential": "eV",
    "kinetic": "eV",
    "conserved": "eV",
    "volume": "Å³",
}


class Recorder:
    """Writes the log, the frames and the restart file of a run; in memory where there is no folder."""

    def __init__(
        self, system: Atoms, dynamics: Any, thermo: Thermodynamics, settings: dict[str, Any], folder: Path | None
    ) -> None:
        self.system, self.dynamics, self.thermo, self.settings, self.folder = (
            system,
            dynamics,
            thermo,
            settings,
            folder,
        )
        self._rows: list[list[float]] = []
        self._memory: list[tuple[Array, Array, Array, float]] = []
        self._with_stress = has_stress(system, system.calc)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._trajectory = open_trajectory(folder / settings["trajectory"])
            self._csv = folder / "md.csv"

    def resume(self) -> None:
        """Go back to the last restart file, and forget what was written after it."""
        if self.folder is None:
            raise InputError("resuming needs the folder of the run", key="folder")
        file = self.folder / "restart.npz"
        header = read_header(file)
        changed = [key for key, value in self.settings.items() if header["settings"].get(key) != value]
        if changed:
            raise InputError(f"was written with another {', '.join(changed)}", file=file, key="resume")
        load_restart(file, self.system, self.dynamics)
        self._trajectory.cut(header["files"]["trajectory"])
        lines = self._csv.read_text().splitlines()[: header["files"]["rows"] + 1]
        self._csv.write_text("\n".join(lines) + "\n")
        self._rows = [[float(v) for v in line.split(",")] for line in lines[1:]]

    def record(self) -> None:
        """Add a row and a frame where they are due."""
        step = self.dynamics.nsteps
        if step % self.settings["log_every"] == 0:
            self._add_row(step)
        if step % self.settings["every"] == 0:
            self._add_frame(step * self.thermo.timestep)

    def _add_row(self, step: int) -> None:
        atoms = self.system
        pressure = float("nan")
        if self._with_stress:
            stress = atoms.get_stress(include_ideal_gas=True)
            pressure = -stress[:3].mean() * GPA_PER_EV_A3
        row = [
            float(step),
            step * self.thermo.timestep,
            temperature_of(atoms),
            float(pressure),
            float(atoms.get_potential_energy()),
            float(atoms.get_kinetic_energy()),
            conserved_quantity(self.dynamics, atoms, self.thermo),
            float(atoms.get_volume()) if atoms.cell.rank == 3 else float("nan"),
        ]
        self._rows.append(row)
        if self.folder is not None:
            with self._csv.open("a") as stream:
                if stream.tell() == 0:
                    stream.write(",".join(f"{n}_{u}" if u else n for n, u in COLUMNS.items()) + "\n")
                stream.write(",".join(repr(v) for v in row) + "\n")

    def _add_frame(self, time: float) -> None:
        atoms = self.system
        if self.folder is not None:
            self._trajectory.append(atoms, time)
        else:
            self._memory.append((atoms.get_positions(), atoms.get_velocities(), atoms.cell.array.copy(), time))

    def save(self) -> None:
        """Write the restart file."""
        if self.folder is not None:
            marks = {"trajectory": self._trajectory.mark(), "rows": len(self._rows)}
            save_restart(self.folder / "restart.npz", self.system, self.dynamics, self.settings, marks)

    def log(self) -> dict[str, Array]:
        """The log by column."""
        return dict(zip(COLUMNS, np.array(self._rows).T, strict=True))

    def frames(self) -> tuple[Array, Array, Array, Array]:
        """Positions, velocities, cells and times of all frames."""
        if self.folder is not None:
            return read_frames(self._trajectory.path)
        positions, velocities, cells, times = zip(*self._memory, strict=True)
        return np.array(positions), np.array(velocities), np.array(cells), np.array(times)
