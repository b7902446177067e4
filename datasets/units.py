"""Units that labels may be stated in, and how all-electron energies betray theirs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase import units as codata
from numpy.typing import NDArray

from mlip.errors import InputError

ENERGY = {
    "ev": 1.0,
    "mev": 1e-3,
    "kcal/mol": codata.kcal / codata.mol,
    "kj/mol": codata.kJ / codata.mol,
    "hartree": codata.Hartree,
    "ha": codata.Hartree,
    "eh": codata.Hartree,
    "rydberg": codata.Rydberg,
    "ry": codata.Rydberg,
}
LENGTH = {
    "ang": 1.0,
    "angstrom": 1.0,
    "å": 1.0,
    "a": 1.0,
    "bohr": codata.Bohr,
    "au": codata.Bohr,
    "nm": 10.0,
    "pm": 0.01,
}
PRESSURE = {
    "gpa": codata.GPa,
    "mpa": 1e-3 * codata.GPa,
    "kbar": 0.1 * codata.GPa,
    "kb": 0.1 * codata.GPa,
    "bar": 1e-4 * codata.GPa,
    "pa": 1e-9 * codata.GPa,
}
_POWER = {"forces": 1, "stress": 3, "hessian": 2}
KINDS = ("energy", "length", "forces", "stress", "virial", "hessian")

# Total energies of free atoms (Hartree), all electrons, to about 0.3 %: Hartree–Fock limits plus the known
# size of correlation. Only ratios to within several percent are needed.
_ATOM_HARTREE = {
    1: -0.5, 2: -2.90, 3: -7.48, 4: -14.67, 5: -24.65, 6: -37.84, 7: -54.59, 8: -75.07, 9: -99.73,
    10: -128.94, 11: -162.25, 12: -200.05, 13: -242.35, 14: -289.36, 15: -341.26, 16: -398.11, 17: -460.15,
    18: -527.54,
}  # fmt: skip


@dataclass(frozen=True)
class Units:
    """Factors that turn stored numbers into eV, Å, eV/Å, eV/Å³, eV/Å², and the units' names."""

    names: dict[str, str]
    energy: float
    length: float
    forces: float
    stress: float
    virial: float
    hessian: float


def parse_units(stated: Mapping[str, str], *, file: object = None) -> Units:
    """Units from ``{"energy": "kcal/mol", "length": "Ang", "forces": "Hartree/Bohr"}``.

    Forces, stress and Hessian follow from energy and length unless they are stated themselves.

    Raises:
        InputError: An unknown kind or unit.
    """
    for kind in stated:
        if kind not in KINDS:
            raise InputError(f"unknown kind of unit '{kind}'", file=_path(file), mend=f"one of {', '.join(KINDS)}")
    energy_name, length_name = stated.get("energy", "eV"), stated.get("length", "Ang")
    energy = _simple(energy_name, ENERGY, "energy", file)
    length = _simple(length_name, LENGTH, "length", file)
    names = {"energy": energy_name, "length": length_name}
    factors = {}
    for kind, power in _POWER.items():
        exponent = "" if power == 1 else f"^{power}"
        names[kind] = stated.get(kind, f"{energy_name}/{length_name}{exponent}")
        derived = energy / length**power
        factors[kind] = derived if kind not in stated else _compound(stated[kind], power, kind, file)
    names["virial"] = stated.get("virial", energy_name)
    virial = _simple(names["virial"], ENERGY, "virial", file)
    return Units(names, energy, length, factors["forces"], factors["stress"], virial, factors["hessian"])


def _path(file: object) -> str | None:
    return None if file is None else str(file)


def _simple(name: str, table: Mapping[str, float], kind: str, file: object) -> float:
    try:
        return table[_spell(name)]
    except KeyError:
        known = ", ".join(table)
        raise InputError(f"unknown unit '{name}'", file=_path(file), key=kind, mend=f"known: {known}") from None


def _compound(name: str, power: int, kind: str, file: object) -> float:
    """A unit of energy per length to a power, or of pressure."""
    spelled = _spell(name)
    if power == 3 and spelled in PRESSURE:
        return PRESSURE[spelled]
    match = re.fullmatch(r"(.+)/([a-zå]+)(?:\^?([23]))?", spelled)
    if match and match[1] in ENERGY and match[2] in LENGTH and int(match[3] or 1) == power:
        return ENERGY[match[1]] / LENGTH[match[2]] ** power
    example = {1: "eV/Ang, kcal/mol/Ang, Hartree/Bohr", 2: "eV/Ang^2", 3: "eV/Ang^3, GPa, kbar"}[power]
    raise InputError(f"unknown unit '{name}'", file=_path(file), key=kind, mend=f"such as {example}")


def _spell(name: str) -> str:
    tidy = name.strip().lower().replace("**", "^").replace(" ", "").replace("³", "^3").replace("²", "^2")
    return tidy.replace("angstroms", "angstrom").replace("\u212b", "å")


def recognise_energy_unit(numbers: NDArray[np.int64], energy: float) -> str | None:
    """The unit in which ``energy`` is close to the sum of the free atoms' all-electron energies.

    Args:
        numbers: (N,) atomic numbers.
        energy: Total energy in an unknown unit.

    Returns:
        A name, or None when no unit fits within 3 % or an element is too heavy for the table.
    """
    if not all(int(z) in _ATOM_HARTREE for z in numbers) or not np.isfinite(energy):
        return None
    atoms = sum(_ATOM_HARTREE[int(z)] for z in numbers)
    for name in ("eV", "kcal/mol", "kJ/mol", "Hartree", "Rydberg"):
        expected = atoms * codata.Hartree / ENERGY[name.lower()]
        if abs(energy / expected - 1) < 0.03:
            return name
    return None
