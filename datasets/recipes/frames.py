"""Frames labelled one after another: stop whenever you like, and the files hold all finished ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

SPLITS = ("train", "validation", "test")


class Planned(Protocol):
    """What a plan says of a frame: where it goes and what it is called."""

    @property
    def split(self) -> str:
        """train, validation or test."""

    @property
    def name(self) -> str:
        """A folder name that is unique in the plan."""


F = TypeVar("F", bound=Planned)


def spread(groups: Sequence[Sequence[F]]) -> list[F]:
    """Merge lists so that each is used up evenly: any prefix of the result has its share of all of them."""
    placed = [((i + 0.5) / len(group), k, frame) for k, group in enumerate(groups) for i, frame in enumerate(group)]
    return [frame for _, _, frame in sorted(placed, key=lambda item: item[:2])]


def rounded(atoms: Atoms, correction: float) -> Atoms:
    """The labels as stored: corrected energy to 1e-6 eV, forces to 1e-5 eV/Å, stress to 1e-7 eV/Å^3.

    Args:
        atoms: a labelled structure.
        correction: added to its energy, eV.
    """
    result = atoms.copy()
    result.calc = SinglePointCalculator(
        result,
        energy=round(float(atoms.get_potential_energy()) + correction, 6),
        forces=np.round(atoms.get_forces(), 5),
        stress=np.round(atoms.get_stress(), 7),
    )
    return result


def write_frames(path: Path, images: list[Atoms]) -> None:
    """Write one extxyz file, whole or not at all."""
    if not images:
        return
    partial = path.with_name(f".{path.stem}.partial")
    write(partial, images, format="extxyz")
    partial.replace(path)


def write_splits(destination: Path, plan: Sequence[F], labelled: Mapping[str, Atoms]) -> None:
    """Write the file of each split with the finished frames, in the order of the plan."""
    for split in SPLITS:
        there = [labelled[frame.name] for frame in plan if frame.split == split and frame.name in labelled]
        write_frames(destination / f"{split}.xyz", there)


def stored_frames(
    destination: Path, plan: Sequence[F], geometry: Callable[[F], Atoms] | None = None
) -> dict[str, Atoms]:
    """What the files of the splits hold already, by name: no folder of an earlier run is needed to go on.

    Args:
        destination: folder of the split's files.
        plan: the frames; others are left out.
        geometry: the structure that the plan asks for, where it can be said without a calculation; a stored frame
            that differs from it is left out, to be computed again.
    """
    files = [destination / f"{split}.xyz" for split in SPLITS]
    found = {atoms.info["name"]: atoms for file in files if file.exists() for atoms in read(file, index=":")}
    asked = [frame for frame in plan if frame.name in found]
    return {f.name: found[f.name] for f in asked if geometry is None or _same(found[f.name], geometry(f))}


def _same(stored: Atoms, asked: Atoms) -> bool:
    """Whether two structures agree to the digits that files keep."""
    return len(stored) == len(asked) and all(
        np.allclose(a, b, rtol=0, atol=1e-6)
        for a, b in ((stored.positions, asked.positions), (stored.cell.array, asked.cell.array))
    )


def label_all(
    plan: Sequence[F],
    label: Callable[[F, Path], Atoms],
    folder: Path,
    destination: Path,
    finished: Callable[[Path], bool],
    stored: Mapping[str, Atoms] | None = None,
) -> None:
    """Compute what is missing, and refresh the files after each new frame.

    Args:
        plan: the frames in the order in which they are computed.
        label: the structure of a frame with its labels, from the folder it is given or by computing them there.
        folder: holds one folder for each frame.
        destination: folder of the split's files.
        finished: whether a frame's folder holds its results.
        stored: frames that are kept as they are, see `stored_frames`.
    """
    if len({frame.name for frame in plan}) != len(plan):
        raise ValueError("two frames of the plan have the same name")
    places = {frame.name: folder / frame.name for frame in plan}
    labelled = dict(stored or {})
    labelled |= {f.name: label(f, places[f.name]) for f in plan if finished(places[f.name])}
    write_splits(destination, plan, labelled)
    for frame in plan:
        if frame.name in labelled:
            continue
        start = time.perf_counter()
        labelled[frame.name] = label(frame, places[frame.name])
        write_splits(destination, plan, labelled)
        seconds = time.perf_counter() - start
        print(f"{len(labelled)}/{len(plan)} {frame.split} {frame.name} {seconds:.1f} s", flush=True)
