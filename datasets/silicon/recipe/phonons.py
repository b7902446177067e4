"""DFPT phonons at the settings of the labels: ph.x, q2r.x, matdyn.x, and the reference ``dfpt.json``.

Usage: ``python -m mlip.datasets.silicon.recipe.phonons --scratch DIR``
(or ``SILICON_SCRATCH``); finished programs are not rerun.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from ase.units import Bohr, Rydberg

from mlip.datasets.recipes.espresso import FloatArray, pseudo_folder, run_serial
from mlip.datasets.silicon.recipe.espresso import PSEUDOPOTENTIAL, Settings, single_point
from mlip.datasets.silicon.recipe.structures import (
    LATTICE_CONSTANT,
    PRIMITIVE,
    SUPERCELLS,
    build,
    primitive,
    scratch_argument,
    soft_displacements,
)

DESTINATION = Path(__file__).resolve().parent.parent
MESH = 4  # q points per reciprocal vector of the primitive cell
MASS = 28.085  # amu
CM_TO_THZ = 0.0299792458
SEGMENTS = ("GAMMA X", "X U", "K GAMMA", "GAMMA L", "L W", "W X")
POINTS = {  # fractions of the reciprocal vectors of the primitive cell of `structures`
    "GAMMA": (0, 0, 0),
    "X": (1 / 2, 1 / 2, 0),
    "U": (5 / 8, 5 / 8, 1 / 4),
    "K": (3 / 4, 3 / 8, 3 / 8),
    "L": (1 / 2, 0, 0),
    "W": (3 / 4, 1 / 2, 1 / 4),
}
STEPS = 20


def path_points() -> FloatArray:
    """(6 * 21, 3) fractions along Γ-X-U|K-Γ-L-W-X, both ends of every segment included."""
    lines = []
    for segment in SEGMENTS:
        start, end = (np.array(POINTS[name]) for name in segment.split())
        lines.append(start + np.linspace(0, 1, STEPS + 1)[:, None] * (end - start))
    return np.concatenate(lines)


def inputs(settings: Settings) -> dict[str, tuple[str, str]]:
    """Program and input text of every step, by name, in the order in which they run."""
    cell = "\n".join(" ".join(f"{x:.10f}" for x in row) for row in PRIMITIVE)
    n = settings.mesh[0]
    return {
        "scf": ("pw.x", f"""&control
  calculation = 'scf', prefix = 'si', outdir = './scratch', pseudo_dir = '{pseudo_folder()}'
/
&system
  ibrav = 0, A = {LATTICE_CONSTANT}, nat = 2, ntyp = 1, ecutwfc = {settings.cutoff}
/
&electrons
  conv_thr = 1e-14, mixing_beta = 0.7
/
ATOMIC_SPECIES
Si {MASS} {PSEUDOPOTENTIAL}
CELL_PARAMETERS alat
{cell}
ATOMIC_POSITIONS alat
Si 0.0 0.0 0.0
Si 0.25 0.25 0.25
K_POINTS automatic
{n} {n} {n} 1 1 1
"""),
        "ph": ("ph.x", f"""silicon
&inputph
  prefix = 'si', outdir = './scratch', fildyn = 'si.dyn', amass(1) = {MASS}
  tr2_ph = 1e-16, ldisp = .true., nq1 = {MESH}, nq2 = {MESH}, nq3 = {MESH}, recover = .true.
/
"""),
        "q2r": ("q2r.x", "&input\n  fildyn = 'si.dyn', zasr = 'simple', flfrc = 'si.fc'\n/\n"),
    }  # fmt: skip


def matdyn(folder: Path, name: str, points: FloatArray, sum_rule: str) -> FloatArray:
    """Frequencies (THz) interpolated by matdyn.x at q points given in fractions.

    Args:
        folder: where ``si.fc`` is.
        name: name of this run.
        points: (nq, 3) fractions of the primitive cell's reciprocal vectors.
        sum_rule: ``no`` or ``simple``.

    Returns:
        (nq, 6) frequencies, ascending.
    """
    listed = "\n".join(" ".join(f"{x:.12f}" for x in q) for q in points)
    (folder / f"{name}.in").write_text(
        f"&input\n  flfrc = 'si.fc', asr = '{sum_rule}', amass(1) = {MASS}, "
        f"flfrq = '{name}.freq', q_in_cryst_coord = .true.\n/\n{len(points)}\n{listed}\n"
    )
    run_serial("matdyn.x", folder / f"{name}.in")
    rows = (folder / f"{name}.freq").read_text().splitlines()[1:]
    values = np.array([float(x) for row in rows for x in row.split()]).reshape(len(points), 9)
    return values[:, 3:] * CM_TO_THZ


def computed_points(folder: Path) -> tuple[FloatArray, FloatArray, list[int]]:
    """What ph.x found: q points (fractions), frequencies (THz) and the sizes of the stars."""
    points, frequencies, weights = [], [], []
    number = r"(-?\d+\.\d+)"
    for index in range(1, 9):
        text = (folder / f"si.dyn{index}").read_text()
        stars = re.findall(rf"q = \(\s*{number}\s+{number}\s+{number}", text)
        points.append(PRIMITIVE @ np.array([float(x) for x in stars[-1]]))
        weights.append(len(stars) - 1)
        frequencies.append([float(x) for x in re.findall(rf"=\s*{number} \[THz\]", text)])
    return np.array(points), np.array(frequencies), weights


def force_constants(folder: Path) -> FloatArray:
    """(4, 4, 4, 2, 2, 3, 3) force constants Φ[R, a, b, i, j] in eV/Å^2, atom a in cell R, b in 0."""
    lines = (folder / "si.fc").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.split() == [str(MESH)] * 3)
    constants = np.empty((MESH, MESH, MESH, 2, 2, 3, 3))
    index = (0, 0, 0, 0)
    for words in (line.split() for line in lines[start + 1 :]):
        numbers = [int(word) - 1 for word in words[: 4 if len(words[-1]) < 4 else 3]]
        if len(numbers) == 4:
            i, j, a, b = numbers
            index = (a, b, i, j)
        else:
            constants[(*numbers, *index)] = float(words[-1])
    return constants * Rydberg / Bohr**2


def harmonic_forces(constants: FloatArray, cell: str, displacement: FloatArray) -> FloatArray:
    """Forces (N, 3) in eV/Å of the DFPT crystal for displacements (N, 3) of one of the supercells.

    The supercell has to fit the 4 x 4 x 4 repetition of the primitive cell: that one is filled with
    copies of the displacements, and the forces of the atoms of the supercell are picked.
    """
    atoms = build(cell)
    fractions = atoms.positions @ np.linalg.inv(PRIMITIVE * LATTICE_CONSTANT)
    basis = np.array([0.0, 0.25])
    sublattice = (np.abs(fractions[:, :1] % 1.0 - 0.25) < 1e-3).astype(int).ravel()
    home = np.rint(fractions - basis[sublattice, None]).astype(int)
    inverse = np.linalg.inv(SUPERCELLS[cell])
    grid = np.stack(np.meshgrid(*[np.arange(MESH)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    lookup = {}
    for number, (where, kind) in enumerate(zip(home, sublattice, strict=True)):
        offsets = (grid - where) @ inverse
        for lattice in grid[np.all(np.abs(offsets - np.rint(offsets)) < 1e-6, axis=1)]:
            lookup[(*lattice, kind)] = number
    forces = np.zeros_like(displacement)
    for number, (where, kind) in enumerate(zip(home, sublattice, strict=True)):
        for lattice in grid:
            for other in (0, 1):
                relative = tuple((where - lattice) % MESH)
                moved = displacement[lookup[(*lattice, other)]]
                forces[number] -= constants[relative][kind, other] @ moved
    return forces


def check_supercells(folder: Path, constants: FloatArray, settings: Settings) -> None:
    """Forces of displaced supercells, (F(u) - F(-u)) / 2, against the DFPT force constants."""
    print("\n| cell | rms displacement (Å) | rms force (eV/Å) | rms difference to DFPT (eV/Å) | % |")
    print("|---|---|---|---|---|")
    for cell in ("rod100x4", "rod111x4", "general8", "w8", "cubic8"):
        displacement = 0.01 * soft_displacements(build(cell), np.random.default_rng(3))
        runs = []
        for sign in (1, -1):
            atoms = build(cell)
            atoms.positions += sign * displacement
            place = folder / f"odd-{cell}{sign:+d}"
            runs.append(single_point(atoms, SUPERCELLS[cell], settings, place).get_forces())
        forces = (runs[0] - runs[1]) / 2
        difference = forces - harmonic_forces(constants, cell, displacement)
        rms, error = (np.sqrt(np.mean(x**2)) for x in (forces, difference))
        print(f"| {cell} | 0.01 | {rms:.4f} | {error:.5f} | {100 * error / rms:.2f} |")


def main() -> None:
    """Run what is missing, check it, and write ``dfpt.json`` and ``dfpt.fc``."""
    folder = scratch_argument(__doc__) / "dfpt"
    folder.mkdir(parents=True, exist_ok=True)
    settings = Settings()
    for name, (program, text) in inputs(settings).items():
        if not (folder / f"{name}.out").exists():
            (folder / f"{name}.in").write_text(text)
            run_serial(program, folder / f"{name}.in")
    points, frequencies, weights = computed_points(folder)
    again = matdyn(folder, "commensurate", points, "no")
    print(f"matdyn.x against ph.x at the mesh: {np.abs(again - frequencies).max():.1e} THz")
    with_rule = matdyn(folder, "summed", points, "simple")
    print(f"acoustic sum rule moves the mesh by {np.abs(with_rule[1:] - again[1:]).max():.4f} THz")
    for q, row, weight in zip(points, frequencies, weights, strict=True):
        print(np.round(q, 4), weight, np.round(row, 4))
    path = path_points()
    bands = matdyn(folder, "bands", path, "simple")
    reference = {
        "units": "lattice_constant and cell: Å; frequencies: THz; q: fractions of the reciprocal "
        "vectors of cell (rows are vectors); bands obey the acoustic sum rule, frequencies are raw",
        "lattice_constant": LATTICE_CONSTANT,
        "cell": np.round(primitive().cell[:], 8).tolist(),
        "scaled_positions": [[0.0] * 3, [0.25] * 3],
        "mass": MASS,
        "mesh": [MESH] * 3,
        "q_points": points.tolist(),
        "weights": weights,
        "frequencies": frequencies.tolist(),
        "bands": {
            "segments": [segment.split() for segment in SEGMENTS],
            "points_per_segment": STEPS + 1,
            "q_points": np.round(path, 6).tolist(),
            "frequencies": np.round(bands, 4).tolist(),
        },
    }
    partial = DESTINATION / ".dfpt.partial"
    partial.write_text(to_text(reference))
    partial.replace(DESTINATION / "dfpt.json")
    partial.write_text((folder / "si.fc").read_text())
    partial.replace(DESTINATION / "dfpt.fc")
    check_supercells(folder, force_constants(folder), settings)


def to_text(reference: dict[str, object]) -> str:
    """JSON with one row of numbers per line."""
    text = json.dumps(reference, indent=1)
    return re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text) + "\n"


if __name__ == "__main__":
    main()
