"""What one reads off a trajectory: pair distribution, mean squared displacement, vibrational density of states."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms
from matscipy.neighbours import neighbour_list
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from scipy.signal import correlate, welch
from scipy.stats import linregress

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """One or more curves over a common axis.

    Attributes:
        x: (m,) the axis.
        y: Curves by name, (m,) each.
        x_unit: Unit of the axis.
        y_unit: Unit of the curves.
    """

    x: Array
    y: dict[str, Array]
    x_unit: str
    y_unit: str


def pair_distribution(
    atoms: Atoms, positions: Array, cells: Array, *, cutoff: float | None = None, bins: int = 200
) -> Curve | None:
    """Radial distribution functions g(r) of every pair of species, averaged over frames.

    g_ab(r) = V / (N_a N_b) ⟨Σ δ(r − r_ij)⟩ / 4πr². Images count, so ``cutoff`` may exceed half the cell.

    Args:
        atoms: For species and periodicity.
        positions: (f, N, 3) Å.
        cells: (f, 3, 3) Å.
        cutoff: Å; None: 8 Å.
        bins: Number of bins.

    Returns:
        g(r) by pair; None unless periodic in three directions.
    """
    if not atoms.pbc.all():
        return None
    reach = 8.0 if cutoff is None else cutoff
    edges = np.linspace(0, reach, bins + 1)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    symbols = np.array(atoms.get_chemical_symbols())
    pairs = list(combinations_with_replacement(sorted(set(symbols)), 2))
    total = {f"{a}–{b}": np.zeros(bins) for a, b in pairs}
    frame = atoms.copy()
    frame.set_constraint()
    for x, cell in zip(positions, cells, strict=True):
        frame.set_cell(cell, scale_atoms=False)
        frame.set_positions(x)
        i, j, r = neighbour_list("ijd", frame, reach)
        for a, b in pairs:
            chosen = r[(symbols[i] == a) & (symbols[j] == b)]
            density = (symbols == a).sum() * (symbols == b).sum() / frame.get_volume()
            total[f"{a}–{b}"] += np.histogram(chosen, edges)[0] / (density * shells)
    mean = {name: value / len(positions) for name, value in total.items()}
    return Curve((edges[1:] + edges[:-1]) / 2, mean, "Å", "g(r)")


def mean_squared_displacement(atoms: Atoms, positions: Array, cells: Array, times: Array) -> Curve:
    """⟨|r_i(t₀ + t) − r_i(t₀)|²⟩ over atoms of a species and all origins t₀, the centre of mass held still.

    By FFT, ⟨|r(t₀+t)|²⟩ + ⟨|r(t₀)|²⟩ − 2⟨r(t₀+t)·r(t₀)⟩. In a changing cell the affine part of the motion is taken
    out by way of fractional coordinates in the mean cell.

    Args:
        atoms: For species and masses.
        positions: (f, N, 3) Å, not wrapped.
        cells: (f, 3, 3) Å.
        times: (f,) fs, evenly spaced.

    Returns:
        Å² by species over the lag time in ps.
    """
    if atoms.cell.rank == 3:
        fractional = np.einsum("fia,fab->fib", positions, np.linalg.inv(cells))
        positions = fractional @ cells.mean(axis=0)
    weights = atoms.get_masses() / atoms.get_masses().sum()
    r = positions - np.einsum("i,fia->fa", weights, positions)[:, None]
    symbols = np.array(atoms.get_chemical_symbols())
    curves = {str(s): _msd(r[:, symbols == s]) for s in sorted(set(symbols))}
    return Curve((times - times[0]) / 1000, curves, "ps", "Å²")


def _msd(r: Array) -> Array:
    """(f, n, 3) → (f,) averaged over atoms and origins."""
    frames = len(r)
    size = next_fast_len(2 * frames)
    spectrum = np.fft.rfft(r, size, axis=0)
    product = np.fft.irfft(np.abs(spectrum) ** 2, size, axis=0)[:frames].sum(axis=-1)
    square = (r**2).sum(axis=-1)
    ahead = np.cumsum(square[::-1], axis=0)[::-1]  # Σ over t ≥ lag of |r(t)|²
    behind = np.cumsum(square, axis=0)[::-1]  # Σ over t < frames − lag of |r(t)|²
    origins = np.arange(frames, 0, -1)[:, None]
    return np.asarray(((ahead + behind - 2 * product) / origins).mean(axis=1), dtype=np.float64)


def diffusion_coefficients(msd: Curve) -> dict[str, float]:
    """Å²/ps by species from the slope of the middle half of ⟨r²⟩ = 6 D t; only diffusive motion gives a meaning."""
    middle = slice(len(msd.x) // 4, max(3 * len(msd.x) // 4, len(msd.x) // 4 + 2))
    return {name: float(linregress(msd.x[middle], y[middle]).slope / 6) for name, y in msd.y.items()}


def vibrational_density(
    atoms: Atoms, velocities: Array, times: Array, *, resolution: float | None = None
) -> Curve | None:
    """Vibrational density of states: the spectrum of the mass-weighted velocities, by species.

    Wiener and Khinchin: |FT √m v|² is the transform of the velocity autocorrelation. Averaged over half-overlapping
    Hann windows (Welch) and normalised so that the integral over all species is 3N.

    Args:
        atoms: For species and masses.
        velocities: (f, N, 3).
        times: (f,) fs, evenly spaced.
        resolution: THz; None takes windows of a quarter of the run.

    Returns:
        Modes per THz by species; None with fewer than 16 frames.
    """
    if len(times) < 16:
        return None
    rate = 1000.0 / (times[1] - times[0])
    window = len(times) // 4 * 2 if resolution is None else min(len(times), int(rate / resolution))
    weighted = (velocities - velocities.mean(axis=0)) * np.sqrt(atoms.get_masses())[:, None]
    frequency, power = welch(weighted, fs=rate, window="hann", nperseg=window, axis=0)
    symbols = np.array(atoms.get_chemical_symbols())
    power = power.sum(axis=-1)
    scale = 3 * len(atoms) / np.trapezoid(power.sum(axis=1), frequency)
    return Curve(
        frequency,
        {str(s): power[:, symbols == s].sum(axis=1) * scale for s in sorted(set(symbols))},
        "THz",
        "modes per THz",
    )


def drift_of(conserved: Array, times: Array, atoms: int) -> tuple[float, float, float]:
    """Drift of a conserved quantity by a straight line, with its uncertainty.

    Neighbouring values are not independent: the deviations from the line oscillate with the vibrations. A run of
    length T with deviations σ holds as many independent values as periods, and the slope is uncertain by
    σ √(12 / n) / T.

    Args:
        conserved: (m,) eV.
        times: (m,) fs.
        atoms: Number of atoms.

    Returns:
        Drift and its standard error in meV/atom/ps, and the standard deviation about the line in meV/atom; NaN
        with fewer than ten values.
    """
    if len(times) < 10 or not np.isfinite(conserved).all():
        return float("nan"), float("nan"), float("nan")
    y, t = 1000 * conserved / atoms, times / 1000
    fit = linregress(t, y)
    rest = y - fit.intercept - fit.slope * t
    periods = max(len(rest) / _period(rest), 1.0)
    spread = float(np.std(rest))
    return float(fit.slope), float(spread * np.sqrt(12 / periods) / (t[-1] - t[0])), spread


def _period(values: Array) -> float:
    """Four times the first zero of the autocorrelation, in samples."""
    correlation = correlate(values, values, mode="full", method="fft")[len(values) - 1 :]
    negative = np.flatnonzero(correlation <= 0)
    return 4.0 * max(float(negative[0]), 1.0) if len(negative) else float(len(values))
