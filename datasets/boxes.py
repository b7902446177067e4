"""Boundary conditions: overrides, cells that are none, molecules in a periodic box that they do not feel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ase import Atoms

from mlip.datasets.frame import Array, LabelledFrame, heights

DUMMY_GAP = 10.0  # Å of empty space along every periodic direction


def empty_gaps(atoms: Atoms) -> Array:
    """The widest empty slab along each cell vector, (3,), Å, images counted; infinite where not periodic."""
    gaps = np.full(3, np.inf)
    if not atoms.pbc.any():
        return gaps
    fractional = np.sort(atoms.get_scaled_positions(wrap=False) % 1.0, axis=0)
    around = np.vstack([fractional, fractional[:1] + 1.0])
    gaps[atoms.pbc] = (np.diff(around, axis=0).max(axis=0) * heights(atoms))[atoms.pbc]
    return gaps


def in_dummy_box(atoms: Atoms) -> bool:
    """Whether a finite cluster is marked periodic: more than 10 Å empty along each of three directions."""
    shortest = float(np.linalg.norm(atoms.cell.array, axis=1).min())  # no gap is wider than its cell vector is long
    return bool(atoms.pbc.all()) and shortest > DUMMY_GAP and bool((empty_gaps(atoms) > DUMMY_GAP).all())


def unboxed(frame: LabelledFrame) -> LabelledFrame:
    """A molecule in a dummy box as the molecule it is: made whole, without cell; other frames unchanged."""
    if not in_dummy_box(frame.atoms):
        return frame
    fractions = frame.atoms.get_scaled_positions(wrap=False) % 1.0
    ordered = np.sort(fractions, axis=0)
    gaps = np.diff(np.vstack([ordered, ordered[:1] + 1.0]), axis=0)
    behind_gap = np.roll(ordered, -1, axis=0)[gaps.argmax(axis=0), range(3)]
    positions = ((fractions - behind_gap + 1e-9) % 1.0) @ np.asarray(frame.atoms.cell)
    return replace(frame, atoms=Atoms(frame.atoms.numbers, positions=positions))


def set_boundaries(atoms: Atoms, pbc: bool | None) -> None:
    """Make ``atoms`` periodic in all directions or in none (then without a cell); None changes nothing."""
    if pbc is None:
        return
    atoms.pbc = pbc
    if not pbc:
        atoms.cell = np.zeros((3, 3))


def cell_problem(atoms: Atoms) -> str | None:
    """What is wrong with a periodic cell, if anything."""
    found = first_cell_problem(np.asarray(atoms.cell)[None], atoms.pbc[None])
    return None if found is None else found[1]


def first_cell_problem(cells: Array, pbc: Array) -> tuple[int, str] | None:
    """Which of many cells, (n, 3, 3) with (n, 3) boundary conditions, is the first that is none, and why."""
    lengths = np.linalg.norm(cells, axis=2)
    missing = (pbc & (lengths == 0)).any(axis=1)
    flat = pbc.all(axis=1) & (np.abs(np.linalg.det(cells)) < 1e-6 * lengths.prod(axis=1))
    wrong = np.flatnonzero(missing | flat)
    if not wrong.size:
        return None
    first = int(wrong[0])
    lacks = "is periodic along a direction without a cell vector"
    return first, lacks if missing[first] else "its cell has no volume"
