"""Thermochemistry of molecules: rigid rotor and harmonic oscillators by ASE, and what is done about low modes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import ase.units
import numpy as np
from ase import Atoms
from ase.thermochemistry import HarmonicThermo, IdealGasThermo
from numpy.typing import NDArray
from scipy.constants import Boltzmann, Planck, atomic_mass
from scipy.constants import c as light

from mlip.errors import InputError
from mlip.md.point_group import PointGroup

Array = NDArray[np.float64]
LowModes = Literal["harmonic", "quasi-rrho", "truhlar"]
J_PER_MOL = ase.units.mol / ase.units.J  # eV → J/mol: divide by this
KJ_PER_MOL = ase.units.mol / ase.units.kJ


@dataclass(frozen=True)
class Thermochemistry:
    """Thermochemistry at one temperature and pressure, per molecule.

    Attributes:
        temperature: K.
        pressure: Pa; None for atoms that are held.
        low_modes: What was done about low modes.
        zero_point_energy: eV.
        internal_energy: eV, potential energy included.
        enthalpy: eV; of held atoms the internal energy.
        entropy: eV/K.
        free_energy: eV, G = H − T S; of held atoms the Helmholtz energy.
        left_out: Imaginary modes that do not enter.
    """

    temperature: float
    pressure: float | None
    low_modes: str
    zero_point_energy: float
    internal_energy: float
    enthalpy: float
    entropy: float
    free_energy: float
    left_out: int

    @property
    def entropy_j_per_mol(self) -> float:
        """Entropy in J/K/mol."""
        return self.entropy * J_PER_MOL

    def to_dict(self) -> dict[str, Any]:
        """Plain values in eV, eV/K, K and Pa, and the entropy in J/K/mol."""
        return {**asdict(self), "entropy_J_per_K_mol": self.entropy_j_per_mol}


def ideal_gas(
    atoms: Atoms,
    energy: float,
    frequencies: Array,
    group: PointGroup,
    *,
    temperature: float = 298.15,
    pressure: float = 1e5,
    multiplicity: int = 1,
    symmetry_number: int | None = None,
    low_modes: LowModes = "quasi-rrho",
    cutoff: float = 100.0,
) -> Thermochemistry:
    """An ideal gas of rigid rotors and harmonic oscillators (`ase.thermochemistry.IdealGasThermo`).

    Args:
        atoms: The molecule.
        energy: Potential energy, eV.
        frequencies: (k,) cm⁻¹ of its vibrations; imaginary ones (negative) are left out.
        group: Its point group: shape and symmetry number.
        temperature: K.
        pressure: Pa.
        multiplicity: 2S + 1.
        symmetry_number: None: the number of rotations in the point group.
        low_modes: ``"harmonic"``: as they are. ``"quasi-rrho"``: the entropy of each mode goes over into that of a
            free rotor below ``cutoff`` (S. Grimme, Chem. Eur. J. 18, 9955 (2012)). ``"truhlar"``: modes below
            ``cutoff`` are raised to it in the thermal terms, not in the zero-point energy (R. F. Ribeiro et al.,
            J. Phys. Chem. B 115, 14556 (2011)).
        cutoff: cm⁻¹.

    Raises:
        InputError: An unknown treatment, or a temperature, pressure or multiplicity that is not positive.
    """
    _check(low_modes, temperature=temperature, pressure=pressure, multiplicity=multiplicity, cutoff=cutoff)
    real = frequencies[frequencies > 0]
    raised = np.maximum(real, cutoff) if low_modes == "truhlar" else real
    isolated = Atoms(atoms.numbers, atoms.positions, masses=atoms.get_masses())
    gas = IdealGasThermo(
        vib_energies=(raised * ase.units.invcm).tolist(),
        geometry=group.shape,
        potentialenergy=energy,
        atoms=isolated,
        symmetrynumber=symmetry_number or group.symmetry_number,
        spin=(multiplicity - 1) / 2,
        vib_selection="all",
    )
    zero_point = float(real.sum()) * ase.units.invcm / 2
    shift = zero_point - float(raised.sum()) * ase.units.invcm / 2
    entropy = gas.get_entropy(temperature, pressure, verbose=False)
    if low_modes == "quasi-rrho":
        entropy += low_mode_correction(real, float(isolated.get_moments_of_inertia().mean()), temperature, cutoff)
    enthalpy = gas.get_enthalpy(temperature, verbose=False) + shift
    return Thermochemistry(
        temperature=temperature,
        pressure=pressure,
        low_modes=low_modes,
        zero_point_energy=zero_point,
        internal_energy=float(gas.get_internal_energy(temperature, verbose=False) + shift),
        enthalpy=float(enthalpy),
        entropy=float(entropy),
        free_energy=float(enthalpy - temperature * entropy),
        left_out=len(frequencies) - len(real),
    )


def held_atoms(energy: float, frequencies: Array, *, temperature: float = 298.15) -> Thermochemistry:
    """Atoms that something holds, as adsorbates: oscillators alone (`ase.thermochemistry.HarmonicThermo`)."""
    _check("harmonic", temperature=temperature)
    real = frequencies[frequencies > 0]
    thermo = HarmonicThermo((real * ase.units.invcm).tolist(), energy)
    inner = float(thermo.get_internal_energy(temperature, verbose=False))
    entropy = float(thermo.get_entropy(temperature, verbose=False)) if len(real) else 0.0
    zero_point = float(real.sum()) * ase.units.invcm / 2
    free = inner - temperature * entropy
    left_out = len(frequencies) - len(real)
    return Thermochemistry(temperature, None, "harmonic", zero_point, inner, inner, entropy, free, left_out)


def _check(low_modes: str, **positive: float) -> None:
    if low_modes not in get_args(LowModes):
        raise InputError(f"'{low_modes}' is none of {', '.join(get_args(LowModes))}", key="low_modes")
    for name, value in positive.items():
        if not value > 0:
            raise InputError(f"{value} is not positive", key=name)


def low_mode_correction(frequencies: Array, inertia: float, temperature: float, cutoff: float) -> float:
    """Σ (1 − w)(S_rotor − S_oscillator) with w = 1/(1 + (ω₀/ω)⁴), eV/K (Grimme's equations 4 to 8).

    Args:
        frequencies: cm⁻¹, positive.
        inertia: Mean moment of inertia of the molecule, amu Å²; the rotor's own is bounded by it.
        temperature: K.
        cutoff: ω₀, cm⁻¹.
    """
    weight = 1 / (1 + (cutoff / frequencies) ** 4)
    rotor = free_rotor_entropy(frequencies, inertia, temperature)
    return float(((1 - weight) * (rotor - oscillator_entropy(frequencies, temperature))).sum())


def oscillator_entropy(frequencies: Array, temperature: float) -> Array:
    """Entropy of oscillators, k [x/(eˣ − 1) − ln(1 − e⁻ˣ)] with x = hν/kT, eV/K."""
    x = frequencies * ase.units.invcm / (ase.units.kB * temperature)
    return np.asarray(ase.units.kB * (x / np.expm1(x) - np.log(-np.expm1(-x))))


def free_rotor_entropy(frequencies: Array, inertia: float, temperature: float) -> Array:
    """Entropy of free rotors, k [½ + ln √(8π³ μ′kT/h²)], μ = h/(8π²ν), μ′ = μB/(μ + B), eV/K."""
    mu = Planck / (8 * np.pi**2 * frequencies * 100 * light)
    average = inertia * atomic_mass * 1e-20
    reduced = mu * average / (mu + average)
    return np.asarray(
        ase.units.kB * (0.5 + 0.5 * np.log(8 * np.pi**3 * reduced * Boltzmann * temperature / Planck**2))
    )
