"""Single-point DFT with Quantum ESPRESSO: folded k points, one input file, one run, one parsed frame.

Every cell of a set is a supercell ``S @ primitive`` (rows are lattice vectors), and all of them are
sampled with *one* mesh: the half-shifted mesh of the conventional cubic cell, which has the cubic
symmetry, folded into the reciprocal cell of the supercell.  Two cells of the same crystal then have
the same energy per atom by construction.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Crystal:
    """What pw.x has to know of a material.

    Attributes:
        prefix: name of the run's files.
        species: mass (amu) and pseudopotential file of each element, in the order of the input.
        conventional: (3, 3) integers, rows: the cubic cell in units of the primitive vectors.
        symmetric: let pw.x use the symmetry of each structure; otherwise only time reversal is used.
    """

    prefix: str
    species: dict[str, tuple[float, str]]
    conventional: IntArray
    symmetric: bool = False


@dataclass(frozen=True)
class Settings:
    """Settings of the plane-wave calculation.

    Attributes:
        cutoff: kinetic-energy cut-off of the wave functions, Ry.
        mesh: divisions of the conventional cell's half-shifted mesh.
        threshold: estimated error of the self-consistent energy at which to stop, Ry.
        dual: cut-off of the density in units of `cutoff`; 4 for norm-conserving pseudopotentials.
        mixing: share of the new density in each step to self-consistency.
    """

    cutoff: float
    mesh: tuple[int, int, int]
    threshold: float = 1e-10
    dual: float = 4.0
    mixing: float = 0.7


def folded_numerators(
    supercell: IntArray, mesh: tuple[int, int, int], conventional: IntArray
) -> tuple[IntArray, int]:
    """The crystal's special points as integers in a supercell's reciprocal cell.

    The points have fractions (2 m_i + 1) / 2 n_i of the conventional cell's reciprocal vectors.  With the
    conventional cell ``C @ primitive`` and the supercell ``S @ primitive`` their fractions of the
    supercell's reciprocal vectors are ``S C^-1 (2m + 1) / 2n``; all of it is done in integers.

    Returns:
        (n, 3) numerators of the fractions, each modulo the common denominator, and the denominator.
    """
    inverse = np.linalg.inv(conventional)
    scale = next(d for d in range(1, 49) if np.allclose(d * inverse, np.rint(d * inverse), atol=1e-9))
    common = int(np.lcm.reduce(mesh))
    period = 2 * scale * common
    # The primitive cell does not tile its reciprocal space with one conventional reciprocal cell:
    # points of `scale` cells along each axis reach every class.
    axes = [(2 * np.arange(scale * n) + 1) * (common // n) for n in mesh]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    to_supercell = np.rint(scale * supercell @ inverse).astype(np.int64)
    return points @ to_supercell.T % period, period


def reduced(numerators: IntArray, period: int, rotations: list[IntArray]) -> tuple[FloatArray, FloatArray]:
    """One point for each star under rotations and time reversal, with its weight.

    Args:
        numerators: (n, 3) integers of `folded_numerators`.
        period: their denominator.
        rotations: (3, 3) integers that act on fractions of the reciprocal vectors.

    Returns:
        (nk, 3) fractions of the supercell's reciprocal vectors in [0, 1), and (nk,) weights that sum to one.
    """
    places = period ** np.array([2, 1, 0])  # one integer for each point, ordered as the triples are
    images = [sign * numerators @ rotation.T % period for rotation in rotations for sign in (1, -1)]
    keys = np.min([image @ places for image in images], axis=0)
    unique, counts = np.unique(keys, return_counts=True)
    return (unique[:, None] // places % period) / period, counts / counts.sum()


def folded_k_points(
    supercell: IntArray, mesh: tuple[int, int, int], conventional: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Fold the crystal's special points into a supercell's reciprocal cell; time reversal halves them.

    Args:
        supercell: (3, 3) integers S, rows are lattice vectors in units of the primitive ones.
        mesh: divisions of the conventional cell's reciprocal vectors.
        conventional: (3, 3) integers C, the cubic cell in the same units.

    Returns:
        (nk, 3) fractions of the supercell's reciprocal vectors in [0, 1), and (nk,) weights that
        sum to one.
    """
    numerators, period = folded_numerators(supercell, mesh, conventional)
    return reduced(numerators, period, [np.eye(3, dtype=np.int64)])


def cubic_rotations() -> list[IntArray]:
    """The 48 signed permutations of the Cartesian axes."""
    identity = np.eye(3, dtype=np.int64)
    return [
        np.diag(signs) @ identity[list(order)]
        for order in permutations(range(3))
        for signs in product((1, -1), repeat=3)
    ]


def lattice_rotations(cell: FloatArray) -> list[IntArray]:
    """Those cubic rotations that map the lattice onto itself, as matrices for reciprocal fractions.

    Args:
        cell: (3, 3) lattice vectors as rows, Å, with the cubic axes along x, y, z.
    """
    found = []
    for rotation in cubic_rotations():
        matrix = cell @ rotation @ np.linalg.inv(cell)
        if np.allclose(matrix, np.rint(matrix), atol=1e-6):
            found.append(np.rint(matrix).astype(np.int64))
    return found


def lattice_k_points(
    cell: FloatArray, supercell: IntArray, mesh: tuple[int, int, int], conventional: IntArray
) -> tuple[FloatArray, FloatArray]:
    """The folded points, one for each star of the *lattice's* point group.

    This is what pw.x takes when it uses symmetry: it adds the points that the atoms make inequivalent.
    """
    numerators, period = folded_numerators(supercell, mesh, conventional)
    return reduced(numerators, period, lattice_rotations(cell))


def input_text(
    atoms: Atoms,
    k_points: FloatArray,
    weights: FloatArray,
    settings: Settings,
    crystal: Crystal,
    calculation: str = "scf",
    more: str = "",
) -> str:
    """The input of pw.x for one self-consistent calculation with forces and stress.

    Args:
        atoms: the periodic structure; positions in Å.
        k_points: (nk, 3) fractions of the cell's reciprocal vectors.
        weights: (nk,) weights.
        settings: cut-off and threshold.
        crystal: the material.
        calculation: scf or vc-relax.
        more: further namelists, such as those of a relaxation.
    """
    cell = "\n".join(" ".join(f"{x:.12f}" for x in row) for row in atoms.cell[:])
    positions = "\n".join(
        f"{symbol} " + " ".join(f"{x:.12f}" for x in row)
        for symbol, row in zip(atoms.get_chemical_symbols(), atoms.positions, strict=True)
    )
    points = "\n".join(
        " ".join(f"{x:.10f}" for x in k) + f" {w:.12f}" for k, w in zip(k_points, weights, strict=True)
    )
    species = "\n".join(f"{symbol} {mass} {file}" for symbol, (mass, file) in crystal.species.items())
    density = "" if settings.dual == 4.0 else f", ecutrho = {settings.dual * settings.cutoff}"
    symmetry = "" if crystal.symmetric else ", nosym = .true."
    at_rest = "" if calculation == "scf" else "\n  etot_conv_thr = 1e-6, forc_conv_thr = 2e-4"
    return f"""&control
  calculation = '{calculation}', prefix = '{crystal.prefix}', outdir = './scratch', disk_io = 'none'
  pseudo_dir = '{pseudo_folder()}', tprnfor = .true., tstress = .true.{at_rest}
/
&system
  ibrav = 0, nat = {len(atoms)}, ntyp = {len(crystal.species)}, ecutwfc = {settings.cutoff}{density}{symmetry}
/
&electrons
  conv_thr = {settings.threshold:.1e}, mixing_beta = {settings.mixing}
/
{more}ATOMIC_SPECIES
{species}
CELL_PARAMETERS angstrom
{cell}
ATOMIC_POSITIONS angstrom
{positions}
K_POINTS crystal
{len(k_points)}
{points}
"""


def pseudo_folder() -> str:
    """Folder of the pseudopotentials: ``ESPRESSO_PSEUDO``, else where Debian installs them."""
    return os.environ.get("ESPRESSO_PSEUDO", "/usr/share/espresso/pseudo")


def run_serial(program: str, source: Path) -> Path:
    """Run one program on one thread; its output lies beside its input.

    Args:
        program: ``pw.x``, ``ph.x``, ``q2r.x`` or ``matdyn.x``.
        source: the input, ``NAME.in``.

    Returns:
        ``NAME.out``, written whole or not at all.

    Raises:
        RuntimeError: when the program did not end with JOB DONE.
    """
    partial = source.with_suffix(".running")
    with partial.open("w") as stream:
        subprocess.run(
            [program, "-i", source.name],
            cwd=source.parent,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=False,
        )
    if "JOB DONE" not in partial.read_text():
        raise RuntimeError(f"{program} failed: see {partial}")
    return partial.replace(source.with_suffix(".out"))


def run_once(text: str, folder: Path, name: str = "pw") -> Path:
    """Run pw.x on `text`, unless `folder` holds the finished output of this very input."""
    source, output = folder / f"{name}.in", folder / f"{name}.out"
    if not output.exists() or source.read_text() != text:
        folder.mkdir(parents=True, exist_ok=True)
        output.unlink(missing_ok=True)
        source.write_text(text)
        run_serial("pw.x", source)
    return output


def points_for(
    atoms: Atoms, supercell: IntArray, settings: Settings, crystal: Crystal
) -> tuple[FloatArray, FloatArray]:
    """The k points and weights for a structure's input."""
    if crystal.symmetric:
        return lattice_k_points(atoms.cell.array, supercell, settings.mesh, crystal.conventional)
    return folded_k_points(supercell, settings.mesh, crystal.conventional)


def single_point(atoms: Atoms, supercell: IntArray, settings: Settings, crystal: Crystal, folder: Path) -> Atoms:
    """Energy (eV), forces (eV/Å) and stress (eV/Å^3, ASE's sign) of one structure.

    A finished output in `folder` that belongs to this very input is read, not repeated.

    Args:
        atoms: the structure; its cell is ``supercell @ primitive``, strained or not.
        supercell: (3, 3) integers, for the k points.
        settings: the plane-wave settings.
        crystal: the material.
        folder: the run's folder.

    Returns:
        The structure as given, with a `SinglePointCalculator`.
    """
    k_points, weights = points_for(atoms, supercell, settings, crystal)
    return parse(atoms, run_once(input_text(atoms, k_points, weights, settings, crystal), folder))


def parse(atoms: Atoms, output: Path) -> Atoms:
    """Attach the results in a ``pw.out`` to the exact structure that was asked for."""
    parsed = read(output, format="espresso-out")
    if not isinstance(parsed, Atoms) or parsed.calc is None:
        raise RuntimeError(f"no results in {output}")
    labels = {key: parsed.calc.results[key] for key in ("energy", "forces", "stress")}
    labelled = atoms.copy()
    labelled.calc = SinglePointCalculator(labelled, **labels)
    return labelled
