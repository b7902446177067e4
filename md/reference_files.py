"""Files that hold phonons to compare with: phonopy's, phono3py's, band.yaml, dfpt.json."""

from __future__ import annotations

import contextlib
import io
import json
import lzma
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import phonopy
import yaml
from ase import Atoms
from phonopy.interface.phonopy_yaml import load_phonopy_yaml

from mlip.errors import InputError
from mlip.md.dynamical import from_phonopy
from mlip.md.reference import Reference
from mlip.md.structure import primitive_cell

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_reference(path: str | Path) -> Reference:
    """Read phonons to compare with.

    Known are phonopy's ``phonopy.yaml`` family with force sets or force constants in it or a ``FORCE_SETS``
    beside it (also ``.xz``; a ``BORN`` beside it is used), ``FORCE_SETS`` itself with ``phonopy_disp.yaml``
    beside it, phono3py's parameters (their harmonic supercell, its force constants fitted by symfc), phonopy's
    ``band.yaml``, and ``dfpt.json`` (keys cell, scaled_positions, mass or symbols, q_points, frequencies, bands).

    Raises:
        InputError: Not there, or none of these.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("no such reference file", file=path)
    if path.name.startswith("FORCE_SETS"):
        return _from_phonopy_yaml(_beside(path, "phonopy_disp.yaml"), path)
    if path.suffix == ".json":
        return _from_json(path)
    text = plain_yaml(path)
    if text.startswith("phono3py:"):
        return _from_phono3py(path, text)
    if "\nphonon:" in text:
        return _from_band_yaml(path, text)
    if "supercell_matrix" not in text:
        raise InputError("is neither phonopy.yaml, band.yaml nor dfpt.json", file=path, key="reference")
    has_forces = "\nforce_constants:" in text or "  forces:" in text or "force_sets" in text
    return _from_phonopy_yaml(path, None if has_forces else _beside(path, "FORCE_SETS"), text)


def _beside(path: Path, name: str) -> Path:
    other = path.parent / name
    if not other.is_file():
        raise InputError(f"needs {name} beside it", file=path, key="reference")
    return other


def _from_phonopy_yaml(path: Path, force_sets: Path | None, text: str | None = None) -> Reference:
    text = plain_yaml(path) if text is None else text
    born = path.parent / "BORN"
    born_file = born if born.is_file() and "born_effective_charge" not in text else None
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        phonon = phonopy.load(
            path,
            force_sets_filename=force_sets,
            born_filename=born_file,
            is_nac=born_file is not None or "born_effective_charge" in text,
            log_level=0,
        )
    if phonon.force_constants is None:
        raise InputError("holds no force sets and no force constants", file=path, key="reference")
    return reference_from_phonopy(phonon, _name(path))


def _from_phono3py(path: Path, text: str) -> Reference:
    """Force constants of the harmonic data set, by symfc as phono3py does it, with the file's dipole term."""
    document = yaml.load(text, Loader=Loader)  # noqa: S506 — safe
    if "phonon_dataset" not in document:
        raise InputError("holds no harmonic data set (phonon_dataset)", file=path, key="reference")
    harmonic = {"phonopy": {}, "dataset": document["phonon_dataset"]}
    harmonic |= {key: document[key] for key in ("unit_cell", "nac") if key in document}
    data = load_phonopy_yaml(harmonic)
    matrix = document.get("phonon_supercell_matrix", document["supercell_matrix"])
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        phonon = phonopy.Phonopy(data.unitcell, matrix, document.get("primitive_matrix", "auto"))
        phonon.dataset = data.dataset
        phonon.nac_params = data.nac_params
        phonon.produce_force_constants(fc_calculator="symfc", calculate_full_force_constants=False)
    return reference_from_phonopy(phonon, _name(path))


def plain_yaml(path: Path) -> str:
    """The text of a YAML file, unpacked, once it is known to be data and nothing else.

    Phonopy's loader runs what a YAML tag asks for; the files it writes have no tags.

    Raises:
        InputError: Not YAML, or it carries tags.
    """
    try:
        text = (lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()).decode()
    except (lzma.LZMAError, UnicodeDecodeError) as error:
        raise InputError(f"is not a text file: {error}", file=path) from None
    _refuse_tags(path, text)
    return text


def _refuse_tags(path: Path, text: str) -> None:
    """Phonopy's loader runs what a YAML tag asks for; the files it writes have no tags."""
    try:
        events = yaml.parse(text, Loader=Loader)
        tagged = any(getattr(event, "tag", None) is not None for event in events)
    except yaml.YAMLError as error:
        problem = str(error).splitlines()[0]
        raise InputError(f"is not valid YAML: {problem}", file=path) from None
    if tagged:
        raise InputError("carries YAML tags, which could run code", file=path)


def reference_from_phonopy(phonon: Any, name: str) -> Reference:
    """Any phonopy object with force constants as a reference, known at every q."""
    primitive = from_phonopy(phonon.primitive)
    return Reference(
        name=name,
        cell=primitive_cell(primitive, symprec=1e-3),
        lattice=primitive.cell.array,
        solve=lambda q: np.array(phonon.run_qpoints(q).frequencies),
        polar=phonon.nac_params is not None,
    )


def _from_band_yaml(path: Path, text: str) -> Reference:
    data = yaml.load(text, Loader=Loader)  # noqa: S506 — both are safe
    try:
        points = data["points"]
        atoms = Atoms(
            symbols=[p["symbol"] for p in points],
            cell=data["lattice"],
            scaled_positions=[p["coordinates"] for p in points],
            pbc=True,
        )
        q = np.array([entry["q-position"] for entry in data["phonon"]])
        values = np.array([[band["frequency"] for band in entry["band"]] for entry in data["phonon"]])
    except (KeyError, TypeError) as error:
        raise InputError(f"is no band.yaml: {error} is missing", file=path, key="reference") from error
    return Reference(_name(path), primitive_cell(atoms, symprec=1e-3), atoms.cell.array, q, values)


def _from_json(path: Path) -> Reference:
    data = json.loads(path.read_text())
    try:
        positions = np.array(data["scaled_positions"])
        symbols = data.get("symbols", ["X"] * len(positions))
        q, values = [data["q_points"]], [data["frequencies"]]
        if "bands" in data:
            q.append(data["bands"]["q_points"])
            values.append(data["bands"]["frequencies"])
        atoms = Atoms(symbols=symbols, cell=data["cell"], scaled_positions=positions, pbc=True)
    except (KeyError, TypeError) as error:
        raise InputError(f"is no dfpt.json: {error} is missing", file=path, key="reference") from error
    return Reference(
        _name(path),
        primitive_cell(atoms, symprec=1e-3),
        atoms.cell.array,
        np.concatenate([np.array(part, dtype=np.float64) for part in q]),
        np.concatenate([np.array(part, dtype=np.float64) for part in values]),
    )


def _name(path: Path) -> str:
    generic = {"FORCE_SETS", "phonopy_disp.yaml", "phonopy.yaml", "band.yaml", "phonopy_params.yaml"}
    return f"{path.parent.name}/{path.name}" if path.name in generic else path.name
