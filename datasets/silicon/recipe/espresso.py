"""Single-point DFT with Quantum ESPRESSO: folded k points, one input file, one run, one parsed frame.

Every cell of the set is a supercell ``S @ primitive`` (rows are lattice vectors), and all of them
are sampled with *one* mesh: the shifted ``n x n x n`` Monkhorst-Pack mesh of the primitive cell,
folded into the reciprocal cell of the supercell.  Two cells of the same crystal then have the same
energy per atom by construction, and the force constants seen by a supercell are those of DFPT on
that mesh.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

PSEUDOPOTENTIAL = "Si.pz-vbc.UPF"


@dataclass(frozen=True)
class Settings:
    """Settings of the plane-wave calculation.

    Attributes:
        cutoff: kinetic-energy cut-off of the wave functions, Ry.
        mesh: divisions n of the primitive cell's shifted n x n x n mesh.
        threshold: estimated error of the self-consistent energy at which to stop, Ry.
    """

    cutoff: float = 24.0
    mesh: int = 6
    threshold: float = 1e-11


def folded_k_points(
    supercell: IntArray, mesh: int, time_reversal: bool = True
) -> tuple[FloatArray, FloatArray]:
    """Fold the primitive cell's shifted mesh into a supercell's reciprocal cell.

    A point k with fractions f of the primitive reciprocal vectors has fractions ``S @ f`` of the
    supercell's.  Points that differ by a reciprocal vector (or by a sign) are one.

    Along a direction in which the mesh does not fold evenly (a cell repeated 8 times, a mesh of 6)
    the sum over S @ f would give more points than the density asks for; the mesh is then raised to
    the next multiple: see `directional_mesh`.

    Args:
        supercell: (3, 3) integers S, rows are lattice vectors in units of the primitive ones.
        mesh: divisions of the primitive mesh in each direction.
        time_reversal: merge k and -k.

    Returns:
        (nk, 3) fractions of the supercell's reciprocal vectors in [0, 1), and (nk,) weights that
        sum to one.
    """
    divisions = directional_mesh(supercell, mesh)
    grids = [(np.arange(n) + 0.5) / n for n in divisions]
    fractions = np.stack(np.meshgrid(*grids, indexing="ij"), axis=-1).reshape(-1, 3)
    folded = np.round(fractions @ supercell.T, 9) % 1.0
    if time_reversal:
        mirrored = np.round(-folded, 9) % 1.0
        keys = [min(tuple(k), tuple(m)) for k, m in zip(folded, mirrored, strict=True)]
    else:
        keys = [tuple(k) for k in folded]
    points, counts = np.unique(np.array(keys), axis=0, return_counts=True)
    return points, counts / counts.sum()


def directional_mesh(supercell: IntArray, mesh: int) -> tuple[int, int, int]:
    """Divisions per primitive direction: `mesh`, raised where a diagonal repeat does not divide it.

    Args:
        supercell: (3, 3) integers S.
        mesh: divisions asked for.

    Returns:
        Three divisions, each a multiple of the repeat along it if S is diagonal, else `mesh`.
    """
    if np.any(supercell != np.diag(np.diagonal(supercell))):
        return mesh, mesh, mesh
    raised = [-(-mesh // repeat) * repeat for repeat in np.diagonal(supercell)]
    return int(raised[0]), int(raised[1]), int(raised[2])


def write_input(
    atoms: Atoms, k_points: FloatArray, weights: FloatArray, settings: Settings, folder: Path
) -> Path:
    """Write ``pw.in`` for one self-consistent calculation with forces and stress.

    Args:
        atoms: periodic silicon; positions in Å.
        k_points: (nk, 3) fractions of the cell's reciprocal vectors.
        weights: (nk,) weights.
        settings: cut-off and threshold.
        folder: where the input goes.

    Returns:
        The path of the input.
    """
    cell = "\n".join(" ".join(f"{x:.12f}" for x in row) for row in atoms.cell[:])
    positions = "\n".join("Si " + " ".join(f"{x:.12f}" for x in row) for row in atoms.positions)
    points = "\n".join(
        " ".join(f"{x:.10f}" for x in k) + f" {w:.12f}" for k, w in zip(k_points, weights, strict=True)
    )
    text = f"""&control
  calculation = 'scf', prefix = 'si', outdir = './scratch', disk_io = 'none'
  pseudo_dir = '{pseudo_folder()}', tprnfor = .true., tstress = .true.
/
&system
  ibrav = 0, nat = {len(atoms)}, ntyp = 1, ecutwfc = {settings.cutoff}, nosym = .true.
/
&electrons
  conv_thr = {settings.threshold:.1e}, mixing_beta = 0.7, diago_full_acc = .true.
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
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "pw.in"
    path.write_text(text)
    return path


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

    A finished output in `folder` is read, not repeated.

    Args:
        atoms: the structure; its cell is ``supercell @ primitive``, strained or not.
        supercell: (3, 3) integers, for the k points.
        settings: the plane-wave settings.
        folder: the run's folder.

    Returns:
        The structure as given, with a `SinglePointCalculator`.
    """
    output = folder / "pw.out"
    if not output.exists():
        points, weights = folded_k_points(supercell, settings.mesh)
        output = run_serial("pw.x", write_input(atoms, points, weights, settings, folder))
    return parse(atoms, output)


def parse(atoms: Atoms, output: Path) -> Atoms:
    """Attach the results in a ``pw.out`` to the exact structure that was asked for."""
    parsed = read(output, format="espresso-out")
    assert isinstance(parsed, Atoms)
    labelled = atoms.copy()
    labelled.calc = parsed.calc
    return labelled
