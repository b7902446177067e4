"""Exact phonons of trained potentials beside the density-functional phonons of the same functional.

    for s in nacl mgo diamond batio3; do mlip train $s; done
    python benchmarks/real_phonons.py nacl=runs/nacl/best.mlip mgo=runs/mgo/best.mlip --figures docs/figures

References: NaCl, phono3py's 512-atom supercell with its dipole term. Diamond and MgO, force constants that symfc fits
to the very frames, at the points that their cell holds: diamond, all frames, Γ and X of eight atoms; MgO, the forty
of smallest displacement, their cells of 4.24 to 4.25 Å laid onto one of 4.246 Å. BaTiO3, the Materials Project's
cubic phase with its dipole term: the same functional at nearly the same lattice constant, computed by others.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.formats import string2index
from phonopy import Phonopy
from structures import DATA

from mlip import MLIPCalculator
from mlip.md import PhononResult, phonons, read_reference
from mlip.md.dynamical import to_phonopy
from mlip.md.reference import Reference
from mlip.md.reference_files import reference_from_phonopy

MGO = 4.246
NACL = 5.603287
DIAMOND = 3.572239
BATIO3 = 3.985549
CONVENTIONAL = np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])  # a cubic cell of an fcc crystal


def perovskite(a: float) -> Atoms:
    """Cubic BaTiO3, five atoms."""
    sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Atoms("BaTiO3", scaled_positions=sites, cell=[a, a, a], pbc=True)


def harmonic(unit: Atoms, repeat: int, frames: list[Atoms]) -> Phonopy:
    """Force constants by symfc from displaced supercells (of one cell) with forces."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        phonon = Phonopy(to_phonopy(unit), np.eye(3, dtype=int) * repeat, "auto", log_level=0)
    moves, forces = displaced(phonon, frames)
    phonon.dataset = {"displacements": moves, "forces": forces}
    phonon.produce_force_constants(fc_calculator="symfc", calculate_full_force_constants=True)
    return phonon


def displaced(phonon: Phonopy, frames: list[Atoms]) -> tuple[Any, Any]:
    """Displacements and forces of frames, (n, N, 3), in the order of the supercell's atoms."""
    moves, forces = [], []
    for frame in frames:
        order, shift = _sites(phonon, frame)
        moves.append(frame.positions[order] - shift - phonon.supercell.positions)
        forces.append(frame.get_forces()[order])
    return np.array(moves), np.array(forces)


def fitted(name: str, unit: Atoms, repeat: int, frames: list[Atoms]) -> Reference:
    """Harmonic phonons of a set as a reference."""
    return reference_from_phonopy(harmonic(unit, repeat, frames), name)


def at_points(reference: Reference, q: Any) -> Reference:
    """A reference at the commensurate points of its cell alone, where nothing is interpolated."""
    assert reference.solve is not None
    frequencies = reference.solve(q @ np.linalg.inv(reference.cell.atoms.cell.array).T @ reference.lattice.T)
    return replace(reference, solve=None, q=q, frequencies=frequencies, lattice=reference.cell.atoms.cell.array)


def _sites(phonon: Phonopy, frame: Atoms) -> tuple[Any, Any]:
    """Which atom of a frame sits at each site of the supercell, and the lattice vector between them.

    Frames and sites may have different origins: the best of the sites' own translations is taken.
    """
    cell, sites = phonon.supercell.cell, phonon.supercell.positions
    own = np.array(phonon.supercell.symbols)
    alike = own[:, None] != np.array(frame.get_chemical_symbols())[None]
    best: tuple[float, Any, Any] = (np.inf, None, None)
    for place in sites[own == frame.symbols[0]]:
        origin = frame.positions[0] - place
        gap = frame.positions[None] - origin - sites[:, None]
        lattice = np.rint(gap @ np.linalg.inv(cell)) @ cell
        distance = np.linalg.norm(gap - lattice, axis=-1)
        distance[alike] = np.inf
        order = distance.argmin(1)
        if distance.min(1).max() < best[0] and len(set(order)) == len(order):
            rows = np.arange(len(order))
            shift = origin + lattice[rows, order]
            shift = shift + (frame.positions[order] - shift - sites).mean(0)
            best = (distance.min(1).max(), order, shift)
    return best[1], best[2]


def _frames(file: str, index: str = ":") -> list[Atoms]:
    return list(ase.io.read(DATA / file, index=string2index(index)))


def nacl_reference() -> Reference:
    """PBEsol, 4 × 4 × 4 conventional cells."""
    return read_reference(DATA / "nacl/phono3py_params_NaCl.yaml.xz")


def mgo_reference() -> Reference:
    """PBE, fitted to the forty frames with the smallest displacements; their strains are a tenth of a per cent."""
    cubic = np.eye(3) * 2 * MGO
    frames = _frames("mgo/MgO_train1.extxyz", ":40")
    for frame in frames:
        forces = frame.get_forces()
        frame.set_cell(cubic, scale_atoms=True)
        frame.calc = SinglePointCalculator(frame, forces=forces)
    found = fitted("force constants fitted to 40 frames", bulk("MgO", "rocksalt", MGO, cubic=True), 2, frames)
    held = [[0, 0, 0], [0.5, 0, 0.5], [0.5, 0.5, 0.5], [0.5, 0.25, 0.75], [0.25, 0, 0.25], [0.25, 0.25, 0.5]]
    return at_points(found, np.array(held))


def diamond_reference() -> Reference:
    """PBE, fitted to random displacements in the 8-atom cell."""
    unit = bulk("C", "diamond", DIAMOND, cubic=True)
    found = fitted("force constants fitted to the frames", unit, 1, _frames("diamond/C_diamond_111_rd100.extxyz"))
    return at_points(found, np.array([[0.0, 0.0, 0.0], [0.5, 0.0, 0.5]]))


def batio3_reference() -> Reference:
    """PBEsol, mp-2998."""
    return read_reference(DATA / "perovskites/BaTiO3_mp-2998_phonopy.yaml.xz")


@dataclass(frozen=True)
class Case:
    """A crystal, the reference's lattice constant, and how to ask for its phonons."""

    atoms: Atoms
    reference: Callable[[], Reference]
    settings: dict[str, Any]


CASES = {
    "nacl": Case(
        bulk("NaCl", "rocksalt", NACL),
        nacl_reference,
        {"born": DATA / "nacl/phono3py_params_NaCl.yaml.xz", "supercell": 2 * CONVENTIONAL},
    ),
    "mgo": Case(bulk("MgO", "rocksalt", MGO), mgo_reference, {}),
    "diamond": Case(bulk("C", "diamond", DIAMOND), diamond_reference, {"path": "GAMMA X"}),
    "batio3": Case(
        perovskite(BATIO3),
        batio3_reference,
        {"born": DATA / "perovskites/BaTiO3_mp-2998_phonopy.yaml.xz", "supercell": 2},
    ),
}


def report(name: str, result: PhononResult) -> None:
    """Special points and the comparison, as a table."""
    sys.stdout.write(f"\n### {name}\n")
    for line in result.lines:
        sys.stdout.write(f"- {line}\n")
    compared = result.references[0]
    sys.stdout.write("\n| point | ours (THz) | DFT (THz) |\n|---|---|---|\n")
    for point, ours in result.special_points().items():
        at = np.abs(compared.q - result.cell.points[point]).sum(1).argmin()
        if np.abs(compared.q[at] - result.cell.points[point]).sum() < 1e-3:
            theirs = " ".join(f"{v:.2f}" for v in compared.theirs[at])
            sys.stdout.write(f"| {point} | {' '.join(f'{v:.2f}' for v in ours)} | {theirs} |\n")
    for check in result.checks:
        sys.stdout.write(f"- {check.name}: {check.value:.3g} {check.unit}\n")


def longitudinal(result: PhononResult, reference: Reference) -> None:
    """The LO branch of rock salt towards X, ours and DFT."""
    assert reference.solve is not None
    sys.stdout.write("\n| q towards X | LO, ours | LO, DFT |\n|---|---|---|\n")
    for x in (0.05, 0.10, 0.15):
        q = np.array([[x, 0.0, x]])
        sys.stdout.write(f"| {x:.2f} | {result.frequencies(q)[0, -1]:.3f} | {reference.solve(q)[0, -1]:.3f} |\n")


def main() -> None:
    """Print one section per crystal and draw its figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="CASE=MODEL", help=f"cases: {', '.join(CASES)}")
    parser.add_argument("--figures", type=Path)
    arguments = parser.parse_args()
    for word in arguments.models:
        name, _, model = word.partition("=")
        case = CASES[name]
        reference = case.reference()
        result = phonons(case.atoms, MLIPCalculator(model, dtype="float64"), references=[reference], **case.settings)
        report(name, result)
        if name == "nacl":
            longitudinal(result, reference)
        if arguments.figures is not None:
            arguments.figures.mkdir(parents=True, exist_ok=True)
            result.plot().savefig(arguments.figures / f"{name}-bands.png", dpi=160)


if __name__ == "__main__":
    main()
