"""What a wrong slope between energies and forces means: sign, units, energies per atom."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

from ase import units

_ENERGY = {
    "eV": 1.0,
    "kcal/mol": units.kcal / units.mol,
    "kJ/mol": units.kJ / units.mol,
    "Hartree": units.Hartree,
    "Rydberg": units.Rydberg,
    "meV": 1e-3,
}
_FORCE = {
    "eV/Å": 1.0,
    "kcal/mol/Å": units.kcal / units.mol,
    "Hartree/Bohr": units.Hartree / units.Bohr,
    "Rydberg/Bohr": units.Rydberg / units.Bohr,
    "kJ/mol/Å": units.kJ / units.mol,
    "kJ/mol/nm": 0.1 * units.kJ / units.mol,
    "eV/Bohr": 1 / units.Bohr,
    "Hartree/Å": units.Hartree,
    "meV/Å": 1e-3,
}
# How unusual a unit is in published data; the usual readings are named first.
_ODDITY = {
    "Rydberg": 0.2, "Rydberg/Bohr": 0.2, "eV/Bohr": 0.6, "Hartree/Å": 0.6, "kJ/mol/nm": 0.4, "meV": 0.3, "meV/Å": 0.3,
}  # fmt: skip
_LENGTH = {"Å": 1.0, "Bohr": units.Bohr}


def explain(slope: float, uncertainty: float, atoms: int) -> str:
    """A verdict on the slope of ΔE against −½(F₁+F₂)·Δx.

    Args:
        slope: The slope; 1 for consistent labels.
        uncertainty: Its standard error.
        atoms: Number of atoms per frame, to recognise energies per atom.
    """
    margin = min(0.08 + 2 * uncertainty, 0.2)
    if abs(slope - 1) <= margin:
        return "good: energies and forces agree"
    if abs(slope + 1) <= margin:
        return "SIGN: the forces are gradients, or the energies are negated"
    sign = " and the sign is wrong" if slope < 0 else ""
    if atoms > 2 and abs(abs(slope) * atoms - 1) <= margin:
        return f"ENERGY PER ATOM: the slope is 1/{atoms}{sign}"
    found = [name for name, ratio in _combinations() if abs(abs(slope) / ratio - 1) <= margin]
    if found:
        return f"UNITS: {' or '.join(found[:3])}{sign}"
    return "BAD: energies and forces do not belong together" + sign


def _combinations() -> Iterator[tuple[str, float]]:
    """Readings and the slope they give, the fewest departures from eV and Å first.

    With E in units of u_E, F of u_F and x of u_L the slope is u_F u_L / u_E.
    """
    rows = []
    for (e, ue), (f, uf), (x, ul) in product(_ENERGY.items(), _FORCE.items(), _LENGTH.items()):
        ratio = uf * ul / ue
        oddity = _ODDITY.get(e, 0.0) + _ODDITY.get(f, 0.0) + 2 * (x != "Å")
        departures = (e != "eV") + (f != "eV/Å") - 0.5 * f.startswith(e) + oddity
        if not math.isclose(ratio, 1, rel_tol=0.02):
            where = "" if x == "Å" else ", positions in Bohr"
            rows.append((departures, f"energies in {e} with forces in {f}{where}", ratio))
    for _, name, ratio in sorted(rows, key=lambda row: row[0]):
        yield name, ratio


def explain_stress(slope: float, uncertainty: float) -> str:
    """What to add about the stress, given the slope of its work relative to that of the forces."""
    margin = 0.15 + 3 * uncertainty
    if abs(slope - 1) <= margin:
        return "; stress agrees too"
    if abs(slope + 1) <= margin:
        return "; STRESS SIGN: try --stress-sign vasp"
    for name, factor in (("GPa", units.GPa), ("kbar", 0.1 * units.GPa), ("bar", 1e-4 * units.GPa)):
        if abs(abs(slope) / factor - 1) <= margin:
            sign = "" if slope > 0 else " with the opposite sign"
            return f"; STRESS UNITS: looks like {name}{sign}, try --unit stress={name}"
    return f"; STRESS: its work enters with {slope:.3g} instead of 1"
