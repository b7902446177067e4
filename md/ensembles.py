"""The ensembles of molecular dynamics: ASE's maintained integrators, set up so that they sample what they say.

Degrees of freedom. The start has no net momentum and the potential exerts no net force, so 3N − 3 momenta are
free in every ensemble but Langevin's, whose random forces are kept from pushing the centre of mass by ASE's
`FixCom`. ASE's thermostats count 3N by themselves; they are told 3N − 3 here, as the mean temperature of eight
atoms would otherwise be 14 % too high.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import ase.units
import numpy as np
from ase import Atoms
from ase.constraints import FixCom
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT, NoseHooverChainNVT, NoseHooverChainThermostat
from ase.md.verlet import VelocityVerlet

from mlip.errors import InputError

Ensemble = Literal["nve", "langevin", "bussi", "nose-hoover", "npt", "npt-isotropic"]
ENSEMBLES: tuple[str, ...] = ("nve", "langevin", "bussi", "nose-hoover", "npt", "npt-isotropic")


@dataclass(frozen=True)
class Thermodynamics:
    """What an ensemble holds, and how hard.

    Attributes:
        ensemble: One of `ENSEMBLES`; the NPT ones are Martyna, Tobias and Klein's.
        temperature: K.
        timestep: fs.
        pressure: GPa, for the NPT ensembles.
        friction: 1/ps, Langevin.
        thermostat_time: fs, Bussi and Nosé–Hoover.
        barostat_time: fs, NPT.
        chain: Length of the Nosé–Hoover chains.
    """

    ensemble: str
    temperature: float
    timestep: float
    pressure: float = 0.0
    friction: float = 10.0
    thermostat_time: float = 100.0
    barostat_time: float = 1000.0
    chain: int = 3

    def __post_init__(self) -> None:
        if self.ensemble not in ENSEMBLES:
            raise InputError(f"'{self.ensemble}' is none of {', '.join(ENSEMBLES)}", key="ensemble")
        for name in ("timestep", "friction", "thermostat_time", "barostat_time"):
            if getattr(self, name) <= 0:
                raise InputError(f"must be positive, not {getattr(self, name)}", key=name)
        if self.temperature < 0 or (self.temperature == 0 and self.ensemble != "nve"):
            raise InputError(f"cannot be {self.temperature} K in {self.ensemble}", key="temperature")

    @property
    def has_conserved_quantity(self) -> bool:
        """False for Langevin dynamics only."""
        return self.ensemble != "langevin"


def degrees_of_freedom(atoms: Atoms) -> int:
    """Free momenta: 3N − 3 without constraints (no net momentum), else what ASE counts."""
    if atoms.constraints:
        return int(atoms.get_number_of_degrees_of_freedom())
    return max(3 * len(atoms) - 3, 1)


def temperature_of(atoms: Atoms) -> float:
    """Kinetic temperature in K, 2 E_kin / (f k_B)."""
    return float(2 * atoms.get_kinetic_energy() / (degrees_of_freedom(atoms) * ase.units.kB))


def start_velocities(atoms: Atoms, temperature: float, seed: int) -> None:
    """Maxwell–Boltzmann velocities without net momentum, scaled to exactly ``temperature`` (K), in place."""
    spread = np.sqrt(atoms.get_masses() * ase.units.kB * temperature)
    momenta = np.random.default_rng(seed).normal(size=(len(atoms), 3)) * spread[:, None]
    if not atoms.constraints:
        momenta -= momenta.sum(axis=0) * (atoms.get_masses() / atoms.get_masses().sum())[:, None]
    atoms.set_momenta(momenta)
    now = temperature_of(atoms)
    if now > 0:
        atoms.set_momenta(atoms.get_momenta() * np.sqrt(temperature / now))


def integrator(atoms: Atoms, thermo: Thermodynamics, seed: int) -> Any:
    """ASE's integrator for an ensemble, working on ``atoms`` in place.

    Raises:
        InputError: NPT without a cell periodic in three directions, or with constraints.
    """
    dt, kelvin = thermo.timestep * ase.units.fs, thermo.temperature
    # A stream of its own, so that the thermostat's noise is not the start velocities' again.
    rng = np.random.default_rng([seed, 1])
    if thermo.ensemble == "nve":
        return VelocityVerlet(atoms, timestep=dt)
    if thermo.ensemble == "langevin":
        if not atoms.constraints:
            atoms.set_constraint(FixCom())
        friction = thermo.friction / (1000 * ase.units.fs)
        return Langevin(atoms, timestep=dt, temperature_K=kelvin, friction=friction, fixcm=False, rng=rng)
    if thermo.ensemble == "bussi":
        return _bussi(Bussi(atoms, dt, kelvin, taut=thermo.thermostat_time * ase.units.fs, rng=rng), atoms)
    if thermo.ensemble == "nose-hoover":
        dynamics = NoseHooverChainNVT(
            atoms, dt, kelvin, tdamp=thermo.thermostat_time * ase.units.fs, tchain=thermo.chain
        )
        return _with_momenta(dynamics, atoms, thermo)
    return _npt(atoms, thermo, dt)


def _bussi(dynamics: Any, atoms: Atoms) -> Any:
    dynamics.ndof = degrees_of_freedom(atoms)
    dynamics.target_kinetic_energy = 0.5 * dynamics.temp * dynamics.ndof
    return dynamics


def _npt(atoms: Atoms, thermo: Thermodynamics, dt: float) -> Any:
    if not atoms.pbc.all():
        raise InputError("NPT needs a cell periodic in three directions", key="ensemble")
    if atoms.constraints:
        raise InputError("NPT cannot keep constraints", key="ensemble", mend="use nose-hoover")
    kind = IsotropicMTKNPT if thermo.ensemble == "npt-isotropic" else MTKNPT
    dynamics = kind(
        atoms,
        timestep=dt,
        temperature_K=thermo.temperature,
        pressure_au=thermo.pressure * ase.units.GPa,
        tdamp=thermo.thermostat_time * ase.units.fs,
        pdamp=thermo.barostat_time * ase.units.fs,
        tchain=thermo.chain,
        pchain=thermo.chain,
    )
    # Martyna's factor 1 + d/f has f = 3N − 3 here, which is what N − 1 atoms would give.
    dynamics._num_atoms_global = degrees_of_freedom(atoms) / 3  # noqa: SLF001
    return _with_momenta(dynamics, atoms, thermo)


def _with_momenta(dynamics: Any, atoms: Atoms, thermo: Thermodynamics) -> Any:
    """Give a Nosé–Hoover chain the right number of momenta; ASE has no argument for it."""
    dynamics._thermostat = NoseHooverChainThermostat(  # noqa: SLF001
        num_atoms_global=degrees_of_freedom(atoms) / 3,
        masses=atoms.get_masses()[:, None],
        temperature_K=thermo.temperature,
        tdamp=thermo.thermostat_time * ase.units.fs,
        tchain=thermo.chain,
    )
    return dynamics


def conserved_quantity(dynamics: Any, atoms: Atoms, thermo: Thermodynamics) -> float:
    """What the ensemble conserves, in eV; NaN for Langevin dynamics."""
    if not thermo.has_conserved_quantity:
        return float("nan")
    if thermo.ensemble == "nve":
        return float(atoms.get_total_energy())
    if thermo.ensemble == "bussi":
        return float(atoms.get_total_energy() - dynamics.transferred_energy)
    if thermo.ensemble == "npt":
        return float(dynamics.get_conserved_energy())
    return float(atoms.get_total_energy() + _bath_energy(dynamics, thermo))


def _bath_energy(dynamics: Any, thermo: Thermodynamics) -> float:
    """Energy of thermostat and barostat in eV; ASE's own sum wants a free energy, which some calculators lack."""
    thermostat = float(dynamics._thermostat.get_thermostat_energy())  # noqa: SLF001
    if thermo.ensemble == "nose-hoover":
        return thermostat
    barostat, momentum = dynamics._barostat, dynamics._p_eps  # noqa: SLF001
    work = thermo.pressure * ase.units.GPa * dynamics.atoms.get_volume()
    return float(thermostat + barostat.get_barostat_energy() + momentum**2 / (2 * barostat.W) + work)
