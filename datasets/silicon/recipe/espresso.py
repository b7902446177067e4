"""Single-point DFT with Quantum ESPRESSO: folded k points, one input file, one run, one parsed frame.

Every cell of the set is a supercell ``S @ primitive`` (rows are lattice vectors), and all of them
are sampled with *one* mesh: the special points of the crystal, i.e. the half-shifted n x n x n mesh
of the conventional cubic cell, which has the cubic symmetry (the half-shifted mesh of the primitive
cell has not), folded into the reciprocal cell of the supercell.  Two cells of the same crystal then
have the same energy per atom by construction, and the force constants seen by a supercell are those
of DFPT on that mesh.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Rows: the conventional cubic vectors in units of a/2 (0,1,1), a/2 (1,0,1), a/2 (1,1,0).
CONVENTIONAL = np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
PSEUDOPOTENTIAL = "Si.pz-vbc.UPF"


@dataclass(frozen=True)
class Settings:
    """Settings of the plane-wave calculation.

    Attributes:
        cutoff: kinetic-energy cut-off of the wave functions, Ry.
        mesh: divisions n of the conventional cell's half-shifted n x n x n mesh.
        threshold: estimated error of the self-consistent energy at which to stop, Ry.
    """

    cutoff: float = 28.0
    mesh: int = 4
    threshold: float = 1e-10


def folded_k_points(supercell: IntArray, mesh: int) -> tuple[FloatArray, FloatArray]:
    """Fold the crystal's special points into a supercell's reciprocal cell.

    The points have fractions (2m + 1) / 2n of the conventional cell's reciprocal vectors.  With the
    conventional cell ``C @ primitive`` and the supercell ``S @ primitive`` their fractions of the
    supercell's reciprocal vectors are ``S C^-1 (2m + 1) / 2n``; all of it is done in integers.
    Points that differ by a reciprocal vector, or by a sign (time reversal), are one.

    Args:
        supercell: (3, 3) integers S, rows are lattice vectors in units of the primitive ones.
        mesh: divisions n of the conventional cell's reciprocal vectors.

    Returns:
        (nk, 3) fractions of the supercell's reciprocal vectors in [0, 1), and (nk,) weights that
        sum to one.
    """
    to_conventional = np.rint(2.0 * supercell @ np.linalg.inv(CONVENTIONAL)).astype(np.int64)
    period = 4 * mesh
    # The primitive cell does not tile its reciprocal space with one conventional reciprocal cell:
    # points of two cells along each axis reach every class.
    axis = 2 * np.arange(2 * mesh) + 1
    odd = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    folded = (odd @ to_conventional.T) % period
    mirrored = (-folded) % period
    keys = [min(tuple(k), tuple(m)) for k, m in zip(folded, mirrored, strict=True)]
    points, counts = np.unique(np.array(keys), axis=0, return_counts=True)
    return points / period, counts / counts.sum()


def input_text(atoms: Atoms, k_points: FloatArray, weights: FloatArray, settings: Settings) -> str:
    """The input of pw.x for one self-consistent calculation with forces and stress.

    Args:
        atoms: periodic silicon; positions in Å.
        k_points: (nk, 3) fractions of the cell's reciprocal vectors.
        weights: (nk,) weights.
        settings: cut-off and threshold.
    """
    cell = "\n".join(" ".join(f"{x:.12f}" for x in row) for row in atoms.cell[:])
    positions = "\n".join("Si " + " ".join(f"{x:.12f}" for x in row) for row in atoms.positions)
    points = "\n".join(
        " ".join(f"{x:.10f}" for x in k) + f" {w:.12f}" for k, w in zip(k_points, weights, strict=True)
    )
    return f"""&control
  calculation = 'scf', prefix = 'si', outdir = './scratch', disk_io = 'none'
  pseudo_dir = '{pseudo_folder()}', tprnfor = .true., tstress = .true.
/
&system
  ibrav = 0, nat = {len(atoms)}, ntyp = 1, ecutwfc = {settings.cutoff}, nosym = .true.
/
&electrons
  conv_thr = {settings.threshold:.1e}, mixing_beta = 0.7
/
ATOMIC_SPECIES
Si 28.085 {PSEUDOPOTENTIAL}
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


def single_point(atoms: Atoms, supercell: IntArray, settings: Settings, folder: Path) -> Atoms:
    """Energy (eV), forces (eV/Å) and stress (eV/Å^3, ASE's sign) of one structure.

    A finished output in `folder` that belongs to this very input is read, not repeated.

    Args:
        atoms: the structure; its cell is ``supercell @ primitive``, strained or not.
        supercell: (3, 3) integers, for the k points.
        settings: the plane-wave settings.
        folder: the run's folder.

    Returns:
        The structure as given, with a `SinglePointCalculator`.
    """
    source, output = folder / "pw.in", folder / "pw.out"
    text = input_text(atoms, *folded_k_points(supercell, settings.mesh), settings)
    if not output.exists() or source.read_text() != text:
        folder.mkdir(parents=True, exist_ok=True)
        output.unlink(missing_ok=True)
        source.write_text(text)
        run_serial("pw.x", source)
    return parse(atoms, output)


def parse(atoms: Atoms, output: Path) -> Atoms:
    """Attach the results in a ``pw.out`` to the exact structure that was asked for."""
    parsed = read(output, format="espresso-out")
    if not isinstance(parsed, Atoms) or parsed.calc is None:
        raise RuntimeError(f"no results in {output}")
    labels = {key: parsed.calc.results[key] for key in ("energy", "forces", "stress")}
    labelled = atoms.copy()
    labelled.calc = SinglePointCalculator(labelled, **labels)
    return labelled
