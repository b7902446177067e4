"""Group velocities dω/dk: exact where the calculator differentiates its D(q), else phonopy's from force constants."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from phonopy import Phonopy
from phonopy.phonon.group_velocity import GroupVelocity

from mlip.files import write_text
from mlip.md.bands import BandPath
from mlip.md.dynamical import BlochMatrices, DynamicalMatrices, frequencies_thz
from mlip.md.mode_derivatives import hermitian, plan
from mlip.md.structure import PrimitiveCell
from mlip.md.units import KM_PER_S_PER_THZ_A, THZ_PER_SQRT_EV_A2_AMU

Array = NDArray[np.float64]
STILL = 1e-2  # THz: below this, and for imaginary modes, no velocity is given


@dataclass(frozen=True)
class GroupVelocities:
    """Velocities dω/dk of the modes along a path.

    Attributes:
        path: The q points.
        frequencies: (nq, 3n) THz.
        velocities: (nq, 3n, 3) km/s, Cartesian (1 THz Å = 0.1 km/s); NaN for acoustic modes at Γ, where the slope
            depends on the direction, and for imaginary modes.
        method: "exact" or "force constants".
    """

    path: BandPath
    frequencies: Array
    velocities: Array
    method: str

    @property
    def speeds(self) -> Array:
        """|v|, (nq, 3n) km/s."""
        return np.linalg.norm(self.velocities, axis=2)

    @property
    def fastest(self) -> float:
        """The largest speed in km/s; 0 where no mode has one."""
        return float(np.nan_to_num(self.speeds).max())

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"method": self.method, "fastest_km_per_s": self.fastest}

    def to_csv(self, path: str | Path) -> Path:
        """One row per q and mode."""
        rows = [
            ",".join(f"{x:.6f}" for x in q) + f",{b},{f:.6f}," + ",".join(f"{x:.6f}" for x in v)
            for q, fs, vs in zip(self.path.q, self.frequencies, self.velocities, strict=True)
            for b, (f, v) in enumerate(zip(fs, vs, strict=True))
        ]
        head = "q1,q2,q3,mode,frequency_THz,vx_km_per_s,vy_km_per_s,vz_km_per_s"
        write_text(path, "\n".join([head, *rows]) + "\n")
        return Path(path)

    def plot(self) -> Figure:
        """Speed against frequency, and along the path."""
        from mlip.md.phonon_analysis_figures import velocity_figure

        return velocity_figure(self)


def group_velocities(
    matrices: DynamicalMatrices, phonon: Phonopy, cell: PrimitiveCell, path: BandPath
) -> GroupVelocities:
    """Group velocities along a path; where levels meet, of the modes that the path's direction tells apart."""
    directions = path_directions(path, cell)
    if isinstance(matrices, BlochMatrices) and hasattr(matrices.calculator, "get_wave_derivatives"):
        frequencies, velocities = exact_velocities(matrices, path.q, directions)
        return GroupVelocities(path, frequencies, velocities, "exact")
    frequencies, velocities = interpolated_velocities(phonon, path.q, directions)
    return GroupVelocities(path, frequencies, velocities, "force constants")


def path_directions(path: BandPath, cell: PrimitiveCell) -> Array:
    """Cartesian unit vectors along the path's segments, (nq, 3)."""
    reciprocal = np.linalg.inv(cell.atoms.cell.array).T
    result = np.empty_like(path.q)
    for first, stop in path.segments:
        along = (path.q[stop - 1] - path.q[first]) @ reciprocal
        result[first:stop] = along / np.linalg.norm(along)
    return result


def exact_velocities(matrices: BlochMatrices, q: Array, directions: Array) -> tuple[Array, Array]:
    """Frequencies (nq, 3n) in THz and velocities (nq, 3n, 3) in km/s from the calculator's own derivatives.

    Within a degenerate set the modes are those that diagonalise the derivative along the direction given; at
    equal ω, dω/dk = (1/2ω) v† ∂H/∂k v.

    Args:
        matrices: Exact D(q) of a calculator with ``get_wave_derivatives``.
        q: (nq, 3) fractions.
        directions: (nq, 3) Cartesian unit vectors.
    """
    d = matrices.at(q)
    values, vectors = np.linalg.eigh((d + d.conj().swapaxes(-1, -2)) / 2)
    todo = plan(matrices.atoms, q, frequencies_thz(values), vectors)
    slopes = matrices.calculator.get_wave_derivatives(matrices.atoms, todo.q, todo.waves)["by_wavevector"]
    result = np.empty((*values.shape, 3))
    for i, levels, rows in todo.places:
        blocks = hermitian(slopes[rows], levels.stop - levels.start)  # (3, d, d)
        _, modes = np.linalg.eigh(np.einsum("x,xab->ab", directions[i], blocks))
        result[i, levels] = np.einsum("am,xab,bm->mx", modes.conj(), blocks, modes).real
    with np.errstate(divide="ignore", invalid="ignore"):
        result /= 2 * np.sqrt(values)[..., None]
    frequencies = frequencies_thz(values)
    result *= 2 * np.pi * THZ_PER_SQRT_EV_A2_AMU * KM_PER_S_PER_THZ_A
    result[frequencies < STILL] = np.nan
    return frequencies, result


def interpolated_velocities(phonon: Phonopy, q: Array, directions: Array) -> tuple[Array, Array]:
    """The same from phonopy's derivative of the Fourier sum."""
    lattice, velocities = phonon.primitive.cell, []
    for point, direction in zip(q, directions, strict=True):
        tool = GroupVelocity(phonon.dynamical_matrix)
        tool.run([point], perturbation=lattice @ direction)
        velocities.append(np.asarray(tool.group_velocities)[0])
    frequencies = np.asarray(phonon.run_qpoints(q).frequencies)
    result = np.array(velocities) * KM_PER_S_PER_THZ_A
    result[frequencies < STILL] = np.nan
    return frequencies, result
