"""The command ``mlip vibrations``: a thin shell over the function of the same name."""

from __future__ import annotations

from typing import Annotated, Any, cast

import numpy as np
import typer
from rich.table import Table

from mlip.errors import InputError
from mlip.md.options import Calculator, Device, Files, Force, Frame, Index, Json, Out
from mlip.md.session import console, finish, folder_for, merge, model_and_structures, named, read_structure
from mlip.report import CommandReport


def vibrations(
    files: Files,
    indices: Annotated[str | None, typer.Option(help="Atoms that vibrate, from 0: '3 4 5' or '10:14'.")] = None,
    relax_first: Annotated[bool, typer.Option("--relax/--no-relax", help="Relax the atoms first.")] = True,
    fmax: Annotated[float, typer.Option(help="eV/Å, of that relaxation.")] = 1e-5,
    step: Annotated[float, typer.Option(help="Å, of finite differences where no analytic Hessian is.")] = 5e-3,
    temperature: Annotated[float, typer.Option(help="K.")] = 298.15,
    pressure: Annotated[float, typer.Option(help="bar.")] = 1.0,
    multiplicity: Annotated[int, typer.Option(help="2S + 1 of the electrons.")] = 1,
    symmetry_number: Annotated[int | None, typer.Option(help="Default: from the point group.")] = None,
    low_modes: Annotated[
        str, typer.Option(help="quasi-rrho (Grimme), truhlar, harmonic: what is done about low modes.")
    ] = "quasi-rrho",
    cutoff: Annotated[float, typer.Option(help="cm⁻¹, below which a mode is low.")] = 100.0,
    tolerance: Annotated[float, typer.Option(help="Å, for the point group.")] = 0.02,
    no_pbc: Annotated[bool, typer.Option("--no-pbc", help="Drop the cell: a molecule in a box.")] = False,
    calculator: Calculator = None,
    out: Out = None,
    force: Force = False,
    json: Json = None,
    device: Device = "cpu",
    index: Index = -1,
    frame: Frame = None,
) -> None:
    """Vibrations of molecules and adsorbates: frequencies, symmetry, thermochemistry, animated modes."""
    from mlip.md.thermochemistry import LowModes
    from mlip.md.vibration_analysis import vibrations as run

    calc, structures = model_and_structures(files, calculator, device, "float64", frame=frame)
    report = CommandReport("vibrations", inputs={"files": files, "calculator": calculator, "indices": indices})
    several = len(structures) > 1
    for file in structures:
        atoms = read_structure(file, calc, index)
        if no_pbc:
            atoms.pbc, atoms.cell = False, np.zeros((3, 3))
        chosen = None if indices is None else numbers(indices, len(atoms))
        folder = folder_for(file, "vibrations", out, several=several, force=force)
        result = run(atoms, calc, indices=chosen, relax_first=relax_first, fmax=fmax, step=step, tolerance=tolerance)
        gas = {
            "pressure": 1e5 * pressure,
            "multiplicity": multiplicity,
            "symmetry_number": symmetry_number,
            "low_modes": cast("LowModes", low_modes),
            "cutoff": cutoff,
        }
        thermo = result.thermochemistry(temperature, **gas)
        report.files += result.write(folder)
        report.checks += named(result.checks, file, several=several)
        merge(report, file, {**result.to_dict(), "thermochemistry": thermo.to_dict()}, several=several)
        for line in result.lines:
            console.print(f"{file}: {line}", highlight=False, soft_wrap=True)
        _print(result, thermo)
    finish(report, json)


def numbers(text: str, count: int) -> list[int]:
    """``'3 4 5'`` or ``'10:14'`` as indices.

    Raises:
        InputError: Neither.
    """
    try:
        if ":" in text:
            parts = [int(part) if part else None for part in text.split(":")]
            return list(range(count)[slice(*parts)])
        return [int(word) for word in text.replace(",", " ").split()]
    except (ValueError, TypeError):
        raise InputError(f"'{text}' is no list of atoms", key="indices", mend="such as '3 4 5' or '10:14'") from None


def _print(result: Any, thermo: Any) -> None:
    """The modes, and one line of thermochemistry."""
    table = Table("mode", "cm⁻¹", "symmetry", "infrared", "Raman", "reduced mass (amu)")
    marks = {True: "yes", False: "–", None: "?"}
    rows = zip(result.frequencies, result.symmetries, result.reduced_masses, strict=True)
    for number, (frequency, symmetry, mass) in enumerate(rows, 1):
        shown = f"{frequency:.2f}" if frequency >= 0 else f"{-frequency:.2f}i"
        cells = (symmetry.label, marks[symmetry.infrared], marks[symmetry.raman], f"{mass:.3f}")
        table.add_row(str(number), shown, *cells)
    console.print(table)
    kind = "" if thermo.pressure is None else f", {thermo.pressure / 1e5:g} bar, low modes {thermo.low_modes}"
    console.print(
        f"at {thermo.temperature:g} K{kind}: ZPE {thermo.zero_point_energy:.4f} eV, H {thermo.enthalpy:.4f} eV, "
        f"S {thermo.entropy_j_per_mol:.2f} J/K/mol, G {thermo.free_energy:.4f} eV",
        highlight=False,
        soft_wrap=True,
    )
