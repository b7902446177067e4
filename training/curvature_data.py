"""From the `hessian` settings to labels of the curvature, with their graphs; every fault is one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms

from mlip.datasets.commensurate import BlochLabels, bloch_labels
from mlip.datasets.entry import locate
from mlip.datasets.force_sets import fitted_hessian, is_force_sets, read_force_sets
from mlip.datasets.frame import LabelledFrame
from mlip.datasets.reading import read_frames
from mlip.errors import InputError
from mlip.graph import AtomicGraph, build_graph
from mlip.training.curvature import DifferenceTarget, MatrixTarget, Target
from mlip.training.data import FrameSet
from mlip.training.paths import resolve
from mlip.training.task_settings import CurvatureEntry, HessianSettings

BuildGraph = Callable[[Atoms], AtomicGraph]


@dataclass
class CurvatureData:
    """Labels of the curvature.

    Attributes:
        train: Labels that are probed.
        validation: Labels whose errors are logged.
        of_frames: Labels by the index of their training frame, or None when they are from other files.
        frames: The labelled structures that they came from, for the digest of the run's data.
        lines: What was read, to print.
    """

    train: list[Target]
    validation: list[Target]
    of_frames: dict[int, MatrixTarget] | None = None
    frames: list[LabelledFrame] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def load_curvature(
    settings: HessianSettings,
    training: FrameSet,
    validation: FrameSet,
    *,
    cutoff: float,
    species: Sequence[str],
    seed: int,
) -> CurvatureData:
    """Read the labels and build their graphs.

    Args:
        settings: The section `hessian`.
        training: The training frames, whose Hessians serve when no files are named.
        validation: The validation frames, likewise.
        cutoff: Å.
        species: Chemical symbols in the order of the potential.
        seed: Of the choice of labels for validation.

    Raises:
        InputError: No label at all, an unreadable file, a wavevector or primitive cell that does not fit.
    """
    data = CurvatureData([], [])

    def graph(atoms: Atoms) -> AtomicGraph:
        return build_graph(atoms, cutoff, species)

    data.train = _targets(settings.data, training, graph, data, "hessian.data")
    if not data.train:
        raise InputError(
            "no training frame carries a Hessian",
            key="hessian.data",
            mend="name a file with Hessians, force constants or force sets, or take the section out",
        )
    if settings.data is None:
        labelled = [k for k, frame in enumerate(training.frames) if frame.hessian is not None]
        data.of_frames = {k: t for k, t in zip(labelled, data.train, strict=True) if isinstance(t, MatrixTarget)}
    found: list[Target] = []
    if settings.validation is not None or settings.data is None:
        found = _targets(settings.validation, validation, graph, data, "hessian.validation")
    data.validation = _some(found or data.train, settings.validation_size, seed)
    often = f"{settings.per_step} in each step" if data.of_frames is None else "each with its frame"
    data.lines.append(
        f"hessian: {_count(data.train)}, probed {often}; errors logged on {len(data.validation)} "
        f"of {'them' if not found else 'the validation labels'}"
    )
    return data


def _targets(
    entries: Sequence[CurvatureEntry] | None, frames: FrameSet, graph: BuildGraph, data: CurvatureData, key: str
) -> list[Target]:
    if entries is None:
        labelled = ((k, frame) for k, frame in enumerate(frames.frames) if frame.hessian is not None)
        return [_whole(frame, frames.samples[k].graph) for k, frame in labelled]
    targets: list[Target] = []
    for number, entry in enumerate(entries):
        try:
            targets += READERS[entry.target](_embedded(entry), graph, data)
        except InputError as error:
            where = f"{key}.{number}" + ("" if error.key is None else f".{error.key}")
            file = entry.path if error.file is None else error.file
            raise InputError(error.problem, file=file, frame=error.frame, key=where, mend=error.mend) from None
    return targets


def _embedded(entry: CurvatureEntry) -> CurvatureEntry:
    return entry.model_copy(update={"path": resolve(entry).path})


def _harmonic(entry: CurvatureEntry, data: CurvatureData) -> list[LabelledFrame]:
    """Frames with Hessians: those of the file, or what its force sets come to."""
    plain = {name: getattr(entry, name) for name in type(entry).model_fields if name not in {"target", *_OWN}}
    found = read_frames(plain)
    frames = [frame for frame in found if frame.hessian is not None]
    path = _file(entry)
    if not frames and is_force_sets(path):
        frames = [fitted_hessian(path).with_weight(entry.weight)]
        data.lines.append(f"{path}: force sets turned into force constants by phonopy")
    else:
        data.lines += found.source.lines()
    if not frames:
        raise InputError("no frame has a Hessian", file=path, mend="name the label under `keys`, or another target")
    data.frames += frames
    return frames


def _file(entry: CurvatureEntry) -> Path:
    """The file, or FORCE_SETS in the folder."""
    path = locate(entry.path)
    inside = path / "FORCE_SETS"
    return inside if inside.is_file() else path


_OWN = ("q_points", "primitive")


def _hessians(entry: CurvatureEntry, graph: BuildGraph, data: CurvatureData) -> list[Target]:
    return [_whole(frame, graph(frame.atoms)) for frame in _harmonic(entry, data)]


def _whole(frame: LabelledFrame, graph: AtomicGraph) -> MatrixTarget:
    """The Hessian of a frame as it is."""
    return MatrixTarget(
        graph.to(dtype=torch.float64),
        torch.zeros(3, dtype=torch.float64),
        torch.as_tensor(np.asarray(frame.hessian, dtype=np.float64)),
        torch.as_tensor(frame.atoms.get_masses()),
        frame.weight,
        frame.name,
    )


def _dynamical_matrices(entry: CurvatureEntry, graph: BuildGraph, data: CurvatureData) -> list[Target]:
    primitive = None if entry.primitive is None else _structure(entry.primitive)
    targets: list[Target] = []
    for frame in _harmonic(entry, data):
        labels = bloch_labels(frame, primitive)
        if entry.q_points is not None:
            labels = labels.only(entry.q_points)
        data.lines.append(
            f"{frame.name}: D(q) of {labels.primitive.get_chemical_formula()} at {len(labels.q)} wavevectors"
        )
        targets += _waves_of(labels, graph(labels.primitive), frame.weight)
    return targets


def _waves_of(labels: BlochLabels, graph: AtomicGraph, weight: float) -> list[Target]:
    """One label per wavevector; where 2q is a reciprocal lattice vector, H(q) is real."""
    masses = torch.as_tensor(labels.primitive.get_masses())
    return [
        MatrixTarget(
            graph,
            torch.as_tensor(q),
            torch.as_tensor(matrix.real.copy() if np.abs(2 * q - np.rint(2 * q)).max() < 1e-9 else matrix),
            masses,
            weight,
            f"{labels.name}, q = ({', '.join(f'{x:g}' for x in q)})",
        )
        for q, matrix in zip(labels.q, labels.matrices, strict=True)
    ]


def _structure(path: str) -> Atoms:
    try:
        file = locate(path)
    except InputError as error:
        raise InputError(error.problem, file=path, key="primitive", mend=error.mend) from None
    try:
        return ase.io.read(file)
    except Exception as error:
        raise InputError(f"ASE cannot read this structure: {error!r}", file=file, key="primitive") from error


def _force_differences(entry: CurvatureEntry, graph: BuildGraph, data: CurvatureData) -> list[Target]:
    path = _file(entry)
    if not is_force_sets(path):
        raise InputError("is no phonopy file of force sets", file=path, key="target")
    sets = read_force_sets(path)
    rest = graph(sets.supercell)
    targets: list[Target] = []
    for number, (move, forces) in enumerate(zip(sets.displacements, sets.forces, strict=True)):
        moved = sets.supercell.copy()
        moved.positions += move
        data.frames.append(LabelledFrame(moved, forces=forces, file=Path(path), index=number))
        length = float(np.linalg.norm(move))
        if length == 0:
            raise InputError("displaces nothing", file=path, frame=number)
        label = torch.as_tensor(forces)
        targets.append(DifferenceTarget(graph(moved), rest, length, label, entry.weight, data.frames[-1].name))
    data.lines.append(f"{path}: F(u) − F(0) of {len(targets)} displaced supercells of {len(sets.supercell)} atoms")
    return targets


READERS: dict[str, Callable[[CurvatureEntry, BuildGraph, CurvatureData], list[Target]]] = {
    "hessian": _hessians,
    "dynamical_matrix": _dynamical_matrices,
    "force_differences": _force_differences,
}


def _some(targets: Sequence[Target], size: int, seed: int) -> list[Target]:
    """A fixed choice, in their order; whole matrices before differences, which have no columns."""
    matrices = [k for k, target in enumerate(targets) if isinstance(target, MatrixTarget)]
    pool = matrices or list(range(len(targets)))
    chosen = np.random.default_rng([seed, 1]).permutation(len(pool))[:size]
    return [targets[pool[k]] for k in sorted(chosen)]


def _count(targets: Sequence[Target]) -> str:
    waves = [t for t in targets if isinstance(t, MatrixTarget)]
    parts: list[tuple[int, Any]] = [
        (sum(1 for t in waves if not bool(t.q.any())), "Hessians (or D at Γ)"),
        (sum(1 for t in waves if bool(t.q.any())), "D(q) at q ≠ 0"),
        (len(targets) - len(waves), "force differences"),
    ]
    return ", ".join(f"{number} {name}" for number, name in parts if number)
