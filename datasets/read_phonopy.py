"""phonopy and phono3py files: displaced supercells with forces, and force constants as Hessians."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from ase.io.formats import open_with_compression
from numpy.typing import NDArray

from mlip.datasets.entry import select
from mlip.datasets.raw import RawFrame, RawSet, readable
from mlip.errors import InputError

Array = NDArray[np.float64]

BESIDE = ("phonopy_disp.yaml", "phonopy_params.yaml", "phonopy.yaml", "phonopy_disp.yaml.xz")


def read_phonopy_file(path: Path, index: int | slice) -> RawSet:
    """Displaced supercells with their forces (energies only where the file has them).

    Args:
        path: A phonopy or phono3py YAML (also .xz, .gz), or FORCE_SETS beside phonopy_disp.yaml.
        index: Frames to take: those of ``dataset`` first, then phono3py's ``phonon_dataset``.

    Raises:
        InputError: Not such a file, or displacements without forces.
    """
    frames, notes = _force_sets(path) if path.name.startswith("FORCE_SETS") else _yaml(path)
    if not frames:
        raise InputError("holds neither forces nor force constants", file=path, mend="use a phonopy_params.yaml")
    for number, frame in enumerate(frames):
        frame.index = number
    chosen = select(index, len(frames), file=path)
    return RawSet([frames[i] for i in chosen], "phonopy", units_from="phonopy's calculator", notes=notes)


def load_document(path: Path) -> dict[str, Any]:
    """Plain YAML only: phonopy's own loader would run Python that a file asks for."""
    with readable(path, "YAML"), open_with_compression(str(path), "rb") as stream:
        document = yaml.load(stream, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    if not isinstance(document, dict) or not ({"phonopy", "phono3py", "supercell"} & set(document)):
        raise InputError("is not a phonopy or phono3py file", file=path)
    return document


def parse_document(document: dict[str, Any], path: Path) -> Any:
    """Phonopy's reading of the document: cells, matrices, data set, force constants, units."""
    from phonopy.interface.phonopy_yaml import load_phonopy_yaml

    with readable(path, "phonopy YAML"):
        return load_phonopy_yaml(document, calculator=_calculator(document))


def _calculator(document: dict[str, Any]) -> str | None:
    header = document.get("phonopy") or document.get("phono3py") or {}
    settings = header.get("configuration", {}) if isinstance(header, dict) else {}
    return document.get("calculator") or (settings or {}).get("calculator")


def _yaml(path: Path) -> tuple[list[RawFrame], list[str]]:
    document = load_document(path)
    data = parse_document(document, path)
    frames = [] if data.dataset is None else _displaced(data.supercell, data.dataset, path)
    if "phonon_dataset" in document:
        supercell = document.get("phonon_supercell", document.get("supercell"))
        part = {"phonopy": {}, "supercell": supercell, "dataset": document["phonon_dataset"]}
        harmonic = parse_document(part, path)
        frames += _displaced(harmonic.supercell, harmonic.dataset, path)
    if data.force_constants is not None:
        frames.append(_perfect(data, path))
    return frames, _convert(frames, data)


def _force_sets(path: Path) -> tuple[list[RawFrame], list[str]]:
    data, dataset, beside = read_force_sets_file(path)
    frames = _displaced(data.supercell, dataset, path)
    return frames, [f"supercell from {beside.name}", *_convert(frames, data)]


def read_force_sets_file(path: Path) -> tuple[Any, Any, Path]:
    """What phonopy knows of the crystal, the data set of FORCE_SETS, and the file that the crystal is from."""
    from phonopy.file_IO import parse_FORCE_SETS

    beside = next((path.with_name(name) for name in BESIDE if path.with_name(name).is_file()), None)
    if beside is None:
        raise InputError("its supercell is not known", file=path, mend="put phonopy_disp.yaml beside it")
    data = parse_document(load_document(beside), beside)
    with readable(path, "FORCE_SETS"):
        dataset = parse_FORCE_SETS(path, natom=len(data.supercell))
    check_same_displacements(dataset, data.dataset, path, beside)
    return data, dataset, beside


def check_same_displacements(dataset: Any, announced: Any, path: Path, beside: Path) -> None:
    """The displacements of FORCE_SETS must be those that phonopy_disp.yaml announces."""
    if announced is None:
        return
    ours, theirs = displacements(dataset, path), displacements(announced, beside)
    if ours.shape != theirs.shape or np.abs(ours - theirs).max() > 1e-4:
        raise InputError(f"its displacements are not those of {beside.name}", file=path)


def displacements(dataset: Any, path: Path) -> Array:
    """(frames, N, 3) of either type of data set, in the file's unit of length."""
    if "displacements" in dataset:
        return np.asarray(dataset["displacements"], dtype=float)
    moves = np.zeros((len(dataset["first_atoms"]), dataset["natom"], 3))
    for number, first in enumerate(dataset["first_atoms"]):
        if "second_atoms" in first:
            raise InputError("pairs of displaced atoms are not supported", file=path)
        moves[number, first["number"]] = first["displacement"]
    return moves


def _displaced(supercell: Any, dataset: Any, path: Path) -> list[RawFrame]:
    if supercell is None:
        raise InputError("holds no supercell", file=path)
    perfect = to_atoms(supercell)
    forces, energies = forces_and_energies(dataset)
    moves = displacements(dataset, path)
    if all(force is None for force in forces):
        return []
    frames = []
    for move, force, energy in zip(moves, forces, energies, strict=True):
        if move.shape != (len(perfect), 3) or (force is not None and np.shape(force) != move.shape):
            raise InputError(f"{len(move)} displacements for {len(perfect)} atoms", file=path)
        atoms = perfect.copy()
        atoms.positions += move
        values = {k: v for k, v in (("forces", force), ("energy", energy)) if v is not None}
        frames.append(RawFrame(atoms, values, frozenset(values)))
    return frames


def forces_and_energies(dataset: Any) -> tuple[list[Any], list[Any]]:
    """Of each displaced supercell; None where the data set has none."""
    if "displacements" in dataset:
        count = len(dataset["displacements"])
        none: list[Any] = [None] * count
        return list(dataset.get("forces", none)), list(dataset.get("supercell_energies", none))
    first = dataset["first_atoms"]
    return [d.get("forces") for d in first], [d.get("supercell_energy") for d in first]


def _perfect(data: Any, path: Path) -> RawFrame:
    """The undisplaced supercell, zero forces by construction, with its force constants as Hessian."""
    constants = np.asarray(data.force_constants)
    if constants.shape[0] != constants.shape[1]:
        constants = _expand(constants, data, path)
    n = len(constants)
    return RawFrame(to_atoms(data.supercell), {"hessian": constants.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)})


def _expand(constants: Array, data: Any, path: Path) -> Array:
    from phonopy import Phonopy
    from phonopy.harmonic.force_constants import compact_fc_to_full_fc

    with readable(path, "force constants"):
        phonon = Phonopy(
            data.unitcell, data.supercell_matrix, data.primitive_matrix, calculator=data.calculator, log_level=0
        )
        return np.asarray(compact_fc_to_full_fc(phonon.primitive, constants))


def to_atoms(cell: Any) -> Atoms:
    """Phonopy's cell as ASE's, with its masses."""
    return Atoms(cell.symbols, cell=cell.cell, scaled_positions=cell.scaled_positions, masses=cell.masses, pbc=True)


def length_and_force_units(data: Any) -> tuple[float, float]:
    """Å and eV/Å per unit of the calculator that phonopy was used with."""
    units = data.physical_units
    return (1.0, 1.0) if units is None else (float(units.distance_to_A), float(units.force_to_eVperA))


def _convert(frames: list[RawFrame], data: Any) -> list[str]:
    """Into eV and Å, in place, by the factors of the calculator that phonopy was used with."""
    units = data.physical_units
    if units is None or (units.distance_to_A, units.force_to_eVperA, units.energy_to_eV) == (1, 1, 1):
        return []
    length, force = length_and_force_units(data)
    factors = {"forces": force, "energy": units.energy_to_eV, "hessian": force / length}
    for frame in frames:
        frame.atoms.set_cell(frame.atoms.cell * length, scale_atoms=True)
        frame.values = {name: value * factors[name] for name, value in frame.values.items()}
    return [f"converted from {units.length_unit} and {units.force_unit} ({data.calculator})"]
