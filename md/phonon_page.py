"""One HTML file with the dispersion and its modes in motion; it needs no other file and no network."""

from __future__ import annotations

import base64
import html
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import covalent_radii
from ase.data.colors import jmol_colors

from mlip.files import write_text
from mlip.md.modes import Modes, repetitions
from mlip.report import plain

if TYPE_CHECKING:
    from mlip.md.phonon_result import PhononResult
    from mlip.md.reference import Comparison


# B to Ne, Si to Ar, Ge to Kr, Sb to Xe, At, Rn, H and He
NON_METALS = {1, 2, *range(5, 11), *range(14, 19), *range(32, 37), *range(51, 55), 85, 86}


def to_page(result: PhononResult, modes: Modes, path: str | Path) -> Path:
    """Write the page."""
    write_text(path, page(result, modes))
    return Path(path)


def page(result: PhononResult, modes: Modes) -> str:
    """The page as text, with everything that may come from a user escaped.

    Args:
        result: Phonons, with references and the spread of a committee where there are any.
        modes: Those that can be animated.
    """
    template = files("mlip.md").joinpath("phonon_page.html").read_text(encoding="utf-8")
    data = page_data(result, modes)
    # "<" would let a name end the script element it stands in; as an escape it means the same in JSON.
    text = json.dumps(plain(data), ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    head, tail = template.replace("{{title}}", html.escape(data["title"])).split("{{data}}")
    return head + text + tail


def page_data(result: PhononResult, modes: Modes) -> dict[str, Any]:
    """What the page draws: the crystal, the bands, the references, and the modes as 16-bit integers."""
    from mlip.md.phonon_figures import formula_of
    from mlip.md.phonon_result import METHODS

    bands, cell = result.bands, result.cell
    places, labels = bands.path.ticks
    method = METHODS[result.method]
    label = f"this model, {method}"
    return {
        "title": f"Phonons of {formula_of(result)}",
        "subtitle": f"{_with_screws(cell.space_group)}, {len(cell.atoms)} atoms in the primitive cell, {method}",
        "label": label if result.spread is None else f"mean of {len(result.spread.names)} models ± their spread",
        "notes": _notes(result, modes),
        "lattice": cell.atoms.cell.array,
        "atoms": _atoms(result),
        "q": np.round(bands.path.q, 6),
        "x": np.round(bands.path.distance, 6),
        "segments": bands.path.segments,
        "ends": bands.path.ends,
        "ticks": list(zip(places, labels, strict=True)),
        "frequencies": np.round(bands.frequencies, 4),
        "spread": None if result.spread is None else np.round(result.spread.std, 4),
        "references": [_reference(comparison, result) for comparison in result.references],
        "modes": {
            "index": modes.index,
            "cells": [repetitions(q, cell.atoms) for q in modes.q],
            **packed(modes),
        },
    }


def packed(modes: Modes) -> dict[str, Any]:
    """The patterns in base64: little-endian 16-bit integers in the order (q, branch, atom, axis, Re/Im)."""
    numbers = np.stack([modes.patterns.real, modes.patterns.imag], axis=-1)
    whole = np.rint(numbers * 32767).astype("<i2")
    return {"scale": 1 / 32767, "patterns": base64.b64encode(whole.tobytes()).decode("ascii")}


def _with_screws(space_group: str) -> str:
    """P4_2/mnm with its subscript."""
    return re.sub(r"_(\d)", lambda found: chr(ord("₀") + int(found[1])), space_group)


def _notes(result: PhononResult, modes: Modes) -> str:
    every = "" if len(modes.index) == len(result.bands.path.q) else f" of {len(result.bands.path.q)}"
    kept = f"Modes are kept at {len(modes.index)}{every} points of the path; a click takes the nearest."
    several = " Degenerate modes are any orthogonal choice." if len(result.cell.rotations) > 1 else ""
    return kept + several


def _atoms(result: PhononResult) -> list[dict[str, Any]]:
    atoms = result.cell.atoms
    return [
        {
            "symbol": s,
            "fraction": x,
            "colour": np.round(jmol_colors[z], 3),
            "radius": float(covalent_radii[z]),
            "metal": int(z) not in NON_METALS,
        }
        for s, x, z in zip(
            atoms.get_chemical_symbols(), atoms.get_scaled_positions(wrap=False), atoms.numbers, strict=True
        )
    ]


def _reference(comparison: Comparison, result: PhononResult) -> dict[str, Any]:
    there = ~np.isnan(comparison.places)
    return {
        "label": f"{comparison.name}: mean |Δν| {comparison.mean:.2g} THz",
        "x": np.round(comparison.places[there], 6),
        "frequencies": np.round(comparison.theirs[there], 4),
        "line": bool(there.all() and len(comparison.places) == len(result.bands.path.distance)),
    }
