"""The JSON that Henrique Miranda's phononwebsite reads (github.com/henriquemiranda/phononwebsite, its own format)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.units import _c

from mlip.files import write_text
from mlip.md.modes import Modes, repetitions
from mlip.report import plain

if TYPE_CHECKING:
    from mlip.md.phonon_result import PhononResult

CM_PER_THZ = 1e10 / _c  # ν/c: 1 THz is 33.356 cm⁻¹


def website(result: PhononResult, modes: Modes) -> dict[str, Any]:
    """The crystal, its bands and its modes in the site's layout.

    The site draws atom j of cell l at x_j + Re[v_j exp(2πi q·l) exp(iωt)] with l integers and no mass: the
    patterns of `Modes` are what it calls vectors. Lengths are in Å, eigenvalues in cm⁻¹, imaginary ones negative.

    Args:
        result: Phonons.
        modes: Those to write.

    Returns:
        Plain values.
    """
    atoms, path = result.cell.atoms, result.bands.path
    v = modes.patterns
    return {
        "name": atoms.get_chemical_formula(),
        "natoms": len(atoms),
        "lattice": atoms.cell.array.tolist(),
        "atom_types": atoms.get_chemical_symbols(),
        "atom_numbers": atoms.numbers.tolist(),
        "formula": atoms.get_chemical_formula(),
        "repetitions": list(repetitions(np.zeros(3), atoms)),
        "atom_pos_car": atoms.get_positions().tolist(),
        "atom_pos_red": atoms.get_scaled_positions(wrap=False).tolist(),
        "highsym_qpts": _special_points(result, modes),
        "qpoints": modes.q.tolist(),
        "distances": path.distance[modes.index].tolist(),
        "eigenvalues": np.round(modes.frequencies * CM_PER_THZ, 5).tolist(),
        "vectors": np.round(np.stack([v.real, v.imag], axis=-1), 6).tolist(),
        "line_breaks": [list(pair) for pair in _segments(result, modes)],
    }


def to_website(result: PhononResult, modes: Modes, path: str | Path) -> Path:
    """Write that JSON."""
    write_text(path, json.dumps(plain(website(result, modes)), separators=(",", ":")) + "\n")
    return Path(path)


def _segments(result: PhononResult, modes: Modes) -> list[tuple[int, int]]:
    """First and last + 1 of each segment among the modes."""
    found = [np.searchsorted(modes.index, pair) for pair in result.bands.path.segments]
    return [(int(first), int(stop)) for first, stop in found]


def _special_points(result: PhononResult, modes: Modes) -> list[list[Any]]:
    """Index and label of each end of a segment.

    The site finds a label by its distance along the path, so that both sides of a jump must read alike ("U|K").
    """
    _, labels = result.bands.path.ticks
    ends = _segments(result, modes)
    points = [[first, labels[i]] for i, (first, _) in enumerate(ends)]
    return sorted(points + [[stop - 1, labels[i + 1]] for i, (_, stop) in enumerate(ends)])
