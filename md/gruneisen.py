"""Mode Grüneisen parameters γ = −(1/2ω²) dω²/dη for a strain ηE with atoms relaxed.

E = 1/3 makes η = ln V, and γ = −d ln ω / d ln V. Exact at one volume for a calculator that differentiates its D(q):
q keeps its fractions, edges follow the strain, and atoms move by ẋ = −Φ⁺ ∂²E/∂x∂η. For other calculators phonopy
takes differences between three volumes, atoms relaxed at each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from matplotlib.figure import Figure
from numpy.typing import NDArray
from phonopy import Phonopy
from phonopy.gruneisen.core import GruneisenBase

from mlip.errors import InputError
from mlip.files import write_text
from mlip.md.bands import BandPath
from mlip.md.dynamical import BlochMatrices, frequencies_thz
from mlip.md.mode_derivatives import hermitian, plan
from mlip.md.relaxation import relax
from mlip.strain import internal_response

Array = NDArray[np.float64]
VOLUME = np.eye(3) / 3
SOFT = 1e-2  # THz: below this γ is not given


@dataclass(frozen=True)
class GruneisenParameters:
    """Mode Grüneisen parameters along a path.

    Attributes:
        path: The q points.
        frequencies: (nq, 3n) THz.
        values: (nq, 3n); NaN where |ν| is below 0.01 THz.
        strain: (3, 3), the strain per unit of η.
        method: "exact" or "three volumes".
    """

    path: BandPath
    frequencies: Array
    values: Array
    strain: Array
    method: str

    @property
    def span(self) -> tuple[float, float]:
        """The smallest and the largest γ; NaN where no mode has one."""
        finite = self.values[np.isfinite(self.values)]
        return (float(finite.min()), float(finite.max())) if finite.size else (np.nan, np.nan)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        low, high = self.span
        return {"method": self.method, "strain": self.strain, "lowest": low, "highest": high}

    def to_csv(self, path: str | Path) -> Path:
        """One row per q and mode."""
        rows = [
            ",".join(f"{x:.6f}" for x in q) + f",{b},{f:.6f},{g:.6f}"
            for q, fs, gs in zip(self.path.q, self.frequencies, self.values, strict=True)
            for b, (f, g) in enumerate(zip(fs, gs, strict=True))
        ]
        strain = "; ".join(" ".join(f"{x:.6g}" for x in row) for row in self.strain)
        write_text(path, "\n".join([f"# strain {strain}", "q1,q2,q3,mode,frequency_THz,gruneisen", *rows]) + "\n")
        return Path(path)

    def plot(self) -> Figure:
        """γ along the path."""
        from mlip.md.phonon_analysis_figures import gruneisen_figure

        return gruneisen_figure(self)


def checked_strain(strain: Any) -> Array:
    """A symmetric 3 × 3 strain from 'volume', three or six (Voigt) numbers, or nine.

    Raises:
        InputError: Neither, or it vanishes.
    """
    if isinstance(strain, str):
        if strain != "volume":
            raise InputError(f"'{strain}' is no strain", key="gruneisen", mend="volume, or 3, 6 (Voigt) or 9 numbers")
        return VOLUME
    numbers = np.asarray(strain, dtype=np.float64).ravel()
    if numbers.size == 3:
        result = np.diag(numbers)
    elif numbers.size == 6:
        xx, yy, zz, yz, xz, xy = numbers
        result = np.array([[xx, xy / 2, xz / 2], [xy / 2, yy, yz / 2], [xz / 2, yz / 2, zz]])
    elif numbers.size == 9:
        result = (numbers.reshape(3, 3) + numbers.reshape(3, 3).T) / 2
    else:
        raise InputError(f"a strain is 3, 6 (Voigt) or 9 numbers, not {numbers.size}", key="gruneisen")
    if not np.abs(result).max() > 0 or not np.isfinite(result).all():
        raise InputError("the strain vanishes or is not finite", key="gruneisen")
    return result


def has_strain_derivatives(calculator: Any) -> bool:
    """Whether a calculator differentiates its D(q) and its forces by strain."""
    names = ("get_wave_derivatives", "get_strain_derivatives", "get_hessian")
    return all(hasattr(calculator, name) for name in names)


def atomic_motion(atoms: Atoms, calculator: Any, strain: Array) -> Array:
    """How atoms move while the crystal is strained, ẋ = −Φ⁺ ∂²E/∂x∂η, (n, 3) Å; their mean stays in place."""
    mixed, _ = calculator.get_strain_derivatives(atoms)
    response = internal_response(torch.as_tensor(calculator.get_hessian(atoms)), torch.as_tensor(mixed))
    return np.einsum("icab,ab->ic", response.numpy(), strain)


def exact_gruneisen(atoms: Atoms, calculator: Any, q: Array, strain: Array = VOLUME) -> tuple[Array, Array]:
    """Frequencies in THz and Grüneisen parameters, (nq, 3n) each, at one volume.

    Args:
        atoms: The primitive cell with atoms at rest.
        calculator: With ``get_wave_derivatives``, ``get_strain_derivatives`` and ``get_hessian``.
        q: (nq, 3) fractions.
        strain: (3, 3) E.
    """
    d = BlochMatrices(atoms, calculator).at(q)
    values, vectors = np.linalg.eigh((d + d.conj().swapaxes(-1, -2)) / 2)
    frequencies = frequencies_thz(values)
    todo = plan(atoms, q, frequencies, vectors)
    found = calculator.get_wave_derivatives(atoms, todo.q, todo.waves)
    motion = atomic_motion(atoms, calculator, strain)
    slopes = np.einsum("mab,ab->m", found["by_strain"], strain)
    slopes += np.einsum("mic,ic->m", found["by_position"], motion)
    result = np.empty_like(values)
    for i, levels, rows in todo.places:
        result[i, levels] = np.linalg.eigvalsh(hermitian(slopes[rows], levels.stop - levels.start))
    return frequencies, _parameters(result, values, frequencies)


def _parameters(slopes: Array, values: Array, frequencies: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        result = -slopes / (2 * values)
    result[np.abs(frequencies) < SOFT] = np.nan
    return np.asarray(result)


def three_volumes(
    atoms: Atoms,
    calculator: Any,
    solve: Callable[[Atoms], Phonopy],
    q: Array,
    strain: Array = VOLUME,
    *,
    step: float = 0.005,
    fmax: float = 1e-5,
    keep_symmetry: bool = True,
) -> tuple[Array, Array]:
    """The same from three crystals, by phonopy, for any calculator.

    Args:
        atoms: The primitive cell with atoms at rest.
        calculator: Any ASE calculator.
        solve: Makes a phonopy object with force constants of a crystal.
        q: (nq, 3) fractions.
        strain: (3, 3) E.
        step: η on either side.
        fmax: eV/Å, for relaxing atoms at each volume.
        keep_symmetry: Hold the space group while relaxing.
    """
    crystals = [_strained(atoms, eta * strain) for eta in (step, -step)]
    rested = [
        relax(c, calculator, keep_symmetry=keep_symmetry, symprec=1e-4, fmax=fmax, with_curvature=False).to_atoms()
        for c in crystals
    ]
    middle, plus, minus = (solve(crystal).dynamical_matrix for crystal in (atoms, *rested))
    tool = GruneisenBase(middle, plus, minus, delta_strain=2 * step, qpoints=q)
    values = np.asarray(tool.get_eigenvalues())
    frequencies = frequencies_thz(values)
    result = np.array(tool.get_gruneisen())
    result[np.abs(frequencies) < SOFT] = np.nan
    return frequencies, result


def _strained(atoms: Atoms, strain: Array) -> Atoms:
    crystal = atoms.copy()
    crystal.set_cell(atoms.cell.array @ (np.eye(3) + strain).T, scale_atoms=True)
    return crystal
